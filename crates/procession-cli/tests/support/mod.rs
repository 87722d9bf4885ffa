//! Helpers that the tests of `procession map` share.
#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// The output of a run, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { out: text(output.stdout), err: text(output.stderr), code: code(output.status) }
    }
}

/// Returns the exit code as a shell sees it, which is 128+N for a process that signal N has killed.
pub fn code(status: ExitStatus) -> Option<i32> {
    status.code().or(status.signal().map(|signal| 128 + signal))
}

pub fn map(flags: &[&str]) -> Command {
    watch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.arg("map").args(flags).env_remove("TERM");
    command
}

/// Starts a run with this input.
pub fn start(mut command: Command, input: &[u8]) -> Child {
    let pipe = || Stdio::piped();
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The run may end without having read all of its input.
    thread::spawn(move || stdin.write_all(&input));
    child
}

pub fn run_bytes(flags: &[&str], input: &[u8]) -> Output {
    start(map(flags), input).wait_with_output().unwrap()
}

pub fn run(flags: &[&str], input: &str) -> Said {
    run_bytes(flags, input.as_bytes()).into()
}

/// Runs a shell script for each line, which is its `$1`.
pub fn run_script(flags: &[&str], script: &str, input: &str) -> Said {
    run(&with_script(flags, script), input)
}

pub fn with_script<'a>(flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [flags, &["--", "sh", "-c", script, "sh"]].concat()
}

/// Starts a watchdog, so that a run that hangs fails the test. Two minutes are many times longer than all
/// runs take.
fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(120));
            eprintln!("the tests have not ended after two minutes");
            std::process::abort();
        });
    });
}

/// Waits until the condition holds. If it never does, the watchdog ends the wait.
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    watch();
    while !is_so() {
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

/// A directory for files that commands write and the test reads.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn lines(&self, name: &str) -> Vec<String> {
        self.text(name).lines().map(str::to_owned).collect()
    }

    /// Waits until a file has `count` lines, and returns them.
    pub fn await_lines(&self, name: &str, count: usize) -> Vec<String> {
        wait_until(|| self.text(name).ends_with('\n') && self.lines(name).len() >= count);
        self.lines(name)
    }

    /// Returns a script in which `@` stands for this directory.
    pub fn script(&self, text: &str) -> String {
        text.replace('@', self.0.path().to_str().unwrap())
    }
}

/// Returns the state of a process, such as `S` or `Z`, or `None` if there is no such process.
pub fn state(pid: i32) -> Option<char> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    text.rsplit(") ").next()?.chars().next()
}

/// Returns whether a process exists and has not ended.
pub fn lives(pid: i32) -> bool {
    state(pid).is_some_and(|state| !"ZX".contains(state))
}

pub fn kill(pid: i32) {
    let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

pub fn number(text: &str) -> i32 {
    text.trim().parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

/// Returns whether `unshare` can create new namespaces with these options. If not, reports that the test is
/// skipped.
pub fn can_unshare(options: &[&str]) -> bool {
    let output = Command::new("unshare").args(options).arg("true").output();
    let is_allowed = output.as_ref().is_ok_and(|output| output.status.success());
    if !is_allowed {
        eprintln!("SKIPPED: `unshare {}` is not allowed here: {output:?}", options.join(" "));
    }
    is_allowed
}
