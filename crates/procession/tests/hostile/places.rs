//! Surroundings in which a test can run a program: users, namespaces, limits and control groups.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use procession_testkit::proc;

use crate::family::*;
use crate::life::LAST_WORD;

/// The user id of `nobody`, which has no privileges.
pub const NOBODY: u32 = 65534;

/// Returns whether this process is root. If not, reports what the test skips.
pub fn is_root(left_out: &str) -> bool {
    // SAFETY: a system call without arguments.
    let yes = unsafe { libc::geteuid() } == 0;
    if !yes {
        eprintln!("SKIPPED: {left_out} needs root");
    }
    yes
}

/// Returns a command that runs `command` through another program, such as `unshare`. The other program takes
/// `command` as its last arguments.
pub fn by(wrapper: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.stdin(std::process::Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut outer, 0);
    outer
}

/// Returns a command that runs `command` from a shell that executes `script` first.
pub fn after(script: &str, command: &Command) -> Command {
    by(&["sh", "-c", &format!("{script} && exec \"$0\" \"$@\"")], command)
}

/// Runs the program, and asserts that it completes its life and leaves nothing behind. Returns its output.
#[track_caller]
pub fn lives(command: &mut Command, board: &Board) -> String {
    let text = succeeds(command);
    assert!(text.contains(LAST_WORD), "{text}");
    until_nothing_is_left(board);
    text
}

/// Returns whether `unshare` can create new namespaces with these options. If not, reports that the test is
/// skipped.
pub fn can_unshare(options: &[&str]) -> bool {
    let output = Command::new("unshare").args(options).arg("true").output();
    let yes = output.as_ref().is_ok_and(|output| output.status.success());
    if !yes {
        eprintln!("SKIPPED: `unshare {}` is not allowed here: {output:?}", options.join(" "));
    }
    yes
}

/// Copies this test binary to another path below the board, and makes the copy executable for every user.
pub fn copy_of_program(board: &Board, path: impl AsRef<OsStr>) -> PathBuf {
    let root = PathBuf::from(board.path());
    let copy = root.join(Path::new(path.as_ref()));
    fs::create_dir_all(copy.parent().expect("the copy is below the board")).expect("directories can be made");
    let program = std::env::current_exe().expect("the test's binary has a path");
    fs::copy(program, &copy).expect("the binary can be copied");
    let everybody = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    everybody(&root).and_then(|()| everybody(&copy)).expect("permissions can be set");
    copy
}

/// Returns parts of paths that programs often mishandle.
pub fn odd_paths() -> Vec<(&'static str, OsString)> {
    let bytes = |bytes: &[u8]| <OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes.to_vec());
    let long = vec![vec![b'x'; 250]; 15].join(&b'/');
    vec![
        ("no UTF-8", bytes(b"caf\xe9/na\xefve")),
        ("spaces", bytes(b" two  words /a program (deleted)")),
        ("a newline", bytes(b"one\ntwo/three\nfour")),
        ("symbols", bytes(b"$HOME;'\"`*?[a]#%\\012/-rf")),
        ("very long", bytes(&long)),
    ]
}

/// A control group of version 1 or 2, for one program. Dropping it removes the group.
pub struct Group(PathBuf);

impl Group {
    /// Creates a group of a version 1 controller, below the group of this process. Returns `None` if this is
    /// not possible here.
    pub fn of_version_1(controller: &str) -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let line = own.lines().find(|line| line.split(':').nth(1) == Some(controller))?;
        let path = line.splitn(3, ':').nth(2)?.trim_start_matches('/');
        let root = Path::new("/sys/fs/cgroup").join(controller);
        Group::below(&root.join(path)).or_else(|| Group::below(&root))
    }

    /// Creates a group of version 2, below the group of this process. Returns `None` if this is not possible
    /// here.
    pub fn of_version_2() -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        Group::below(&root.join(path))
    }

    fn below(directory: &Path) -> Option<Group> {
        let path = directory.join(format!("procession-{}-{}", std::process::id(), unique()));
        fs::create_dir(&path).ok()?;
        Some(Group(path))
    }

    /// Writes a limit or a state to a file of the group. Returns false if the write fails.
    pub fn set(&self, file: &str, value: &str) -> bool {
        fs::write(self.0.join(file), value).is_ok()
    }

    /// Returns the content of a file of the group.
    pub fn get(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    /// Returns a command that runs inside the group.
    pub fn enter(&self, command: &Command) -> Command {
        after(&format!("echo $$ > '{}/cgroup.procs'", self.0.display()), command)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        proc::eventually(LONG, || fs::remove_dir(&self.0).is_ok());
    }
}

fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
