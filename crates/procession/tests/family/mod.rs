//! Helpers for the tests of whole families: processes that wait until they are killed, and programs that run
//! this test binary again. Processes post messages on a board, without the library.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unsafe_code, reason = "kill, fork")]

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use procession::internals::{self, Rule};
use procession::process::{Builder, Entry, Stdio as Stream};
use procession::sync::{LockError, LockGuard};
use procession::{Error, Failure, Lock, Message, Process};
use procession_testkit::isolated::hears_the_keyboard;
use procession_testkit::{Watchdog, proc, watchdog};

/// A test fails if an event takes longer than this.
pub const LONG: Duration = Duration::from_secs(20);

/// Returns the watchdog of a test.
pub fn watched() -> Watchdog {
    watchdog(Duration::from_secs(100))
}

/// Waits until `f` returns true. Fails after [`LONG`].
#[track_caller]
pub fn until(what: &str, f: impl FnMut() -> bool) {
    proc::wait_until(what, LONG, f);
}

/// Returns how many times this thread has gone to sleep.
pub fn times_slept() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").expect("this thread's status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a count of voluntary switches")
}

/// Waits until another process ends this one.
pub fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// Calls [`park`]. Unlike `park`, this function returns `()`, so a process can run it.
pub fn forever() {
    park();
}

/// Ends this process with a signal.
pub fn die(signal: i32) -> ! {
    loop {
        send(std::process::id() as i32, signal);
    }
}

/// Returns a process that waits until it is killed. It is a daemon, so a test that fails still ends.
pub fn sleeper() -> Process<()> {
    Process::builder().daemon(true).spawn(forever, ()).expect("a process that sleeps")
}

/// Returns a process that already sleeps in `f`. It is a daemon, so a test that fails still ends.
pub fn asleep<F, A>(f: F, args: A) -> Process<F::Output>
where
    F: Entry<A>,
    A: Message,
    F::Output: Message,
{
    let p = Process::builder().name("asleep").daemon(true).spawn(f, args).expect("a process that sleeps");
    // The process may also sleep before the function starts, but then it has another name.
    let sleeps = |pid| proc::comm(pid).as_deref() == Some("asleep") && proc::is_parked(pid);
    until("the process sleeps", || p.pid().is_some_and(sleeps) || !p.is_alive());
    p
}

/// Kills a process, and waits until it has been recovered.
pub fn kill<R: Message>(p: &Process<R>) {
    p.kill().expect("a process to kill");
    assert!(p.join().is_err(), "the process was killed");
}

/// Sends a signal to a process, or to a group if `pid` is negative.
pub fn send(pid: impl proc::Pid, signal: i32) {
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(pid.raw(), signal) };
}

/// Returns the supervisor of this process's family.
pub fn supervisor() -> i32 {
    Process::spawn(|| std::os::unix::process::parent_id() as i32, ())
        .and_then(|p| Ok(p.join()?))
        .expect("a child knows its parent")
}

/// A directory where processes post messages to each other. Each message is a file. Dropping the board
/// removes the directory.
pub struct Board(PathBuf);

impl Board {
    /// Creates an empty board.
    pub fn new() -> Board {
        let template = std::env::temp_dir().join("board-XXXXXX");
        let name = CString::new(template.as_os_str().as_bytes()).expect("no zero byte in a path").into_raw();
        // SAFETY: a C string that this function owns. `mkdtemp` changes it in place and keeps its length.
        let (made, name) = unsafe { (!libc::mkdtemp(name).is_null(), CString::from_raw(name)) };
        assert!(made, "mkdtemp: {}", std::io::Error::last_os_error());
        Board(name.into_string().expect("the path is text").into())
    }

    /// Returns the path of the directory, so other processes can use the board.
    pub fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// Waits for a message, and returns its text.
    #[track_caller]
    pub fn wait(&self, name: &str) -> String {
        wait_for(&self.path(), name)
    }

    /// Waits for a message that is a number.
    #[track_caller]
    pub fn number(&self, name: &str) -> i32 {
        self.wait(name).parse().expect("a number")
    }

    /// Returns the names of all messages.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the board is there").flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| !n.starts_with('.')).collect()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Posts a message: `name` appears with all of `text` or not at all.
pub fn post(board: &str, name: &str, text: impl ToString) {
    let aside = Path::new(board).join(format!(".{name}.{}", std::process::id()));
    fs::write(&aside, text.to_string()).expect("the board can be written to");
    fs::rename(aside, Path::new(board).join(name)).expect("the board can be written to");
}

/// Reports whether a message was posted.
pub fn posted(board: &str, name: &str) -> bool {
    Path::new(board).join(name).exists()
}

/// Waits for a message, and returns its text.
#[track_caller]
pub fn wait_for(board: &str, name: &str) -> String {
    until(&format!("`{name}` is posted"), || posted(board, name));
    fs::read_to_string(Path::new(board).join(name)).expect("the board can be read")
}

const ROLE: &str = "FAMILY_ROLE";
const BOARD: &str = "FAMILY_BOARD";
const BROKEN: &str = "FAMILY_BREAKS";

/// Rules that [`breaking`] can break.
const BREAKABLE: [Rule; 8] = [
    Rule::FinishedNotAwaited,
    Rule::GuardKills,
    Rule::WakesThroughGuard,
    Rule::Reaps,
    Rule::ReleasedEarly,
    Rule::EveryThreadExits,
    Rule::WaitsForAny,
    Rule::ParentStays,
];

/// Makes every process of a program break these rules, including the supervisor and the guard.
pub fn breaking(command: &mut Command, rules: impl IntoIterator<Item = Rule>) -> &mut Command {
    let names = rules.into_iter().inspect(|rule| assert!(BREAKABLE.contains(rule)));
    command.env(BROKEN, names.map(|rule| format!("{rule:?}")).collect::<Vec<_>>().join(" "))
}

/// Runs before the library's own constructor, in helpers too.
#[used]
#[unsafe(link_section = ".init_array.00099")]
static BREAK_RULES: extern "C" fn() = break_rules;

extern "C" fn break_rules() {
    let broken = std::env::var(BROKEN).unwrap_or_default();
    for name in broken.split_whitespace() {
        BREAKABLE.into_iter().filter(|rule| format!("{rule:?}") == name).for_each(internals::break_rule);
    }
}

/// Returns the role of this run of the test binary, if it has one.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Returns the path of the board that the test passed to this run.
pub fn my_board() -> String {
    std::env::var(BOARD).expect("a board for the role")
}

/// Returns a command that runs only the current test, in the given role. `program` is this test binary or a
/// copy of it. The new process has its own family and its own process group.
pub fn program_at(program: impl AsRef<std::ffi::OsStr>, role: &str, board: &Board) -> Command {
    let thread = std::thread::current();
    let test = thread.name().expect("libtest names its threads");
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1", "--color=never"]);
    command.env(ROLE, role).env(BOARD, board.path()).stdin(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    hears_the_keyboard(&mut command);
    command
}

/// Copies this test binary. Another process writes the copy, because other tests may fork this process at any
/// time. Such a fork would keep the new file open for a moment, and a file that is open for writing cannot be
/// executed.
pub fn copy_program(to: impl AsRef<std::ffi::OsStr>) {
    let this = std::env::current_exe().expect("the test's binary has a path");
    let copied = Command::new("cp").arg(this).arg(to).status().expect("cp runs");
    assert!(copied.success(), "cp: {copied}");
}

/// Returns a command that runs only the current test of this test binary, in a role.
pub fn program(role: &str, board: &Board) -> Command {
    program_at(std::env::current_exe().expect("the test's binary has a path"), role, board)
}

/// Runs a program that must succeed, and returns its output.
#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    let text = text_of(&output);
    assert!(output.status.success(), "{}:\n{text}", output.status);
    text
}

/// Returns the standard output of a program, followed by its standard error.
pub fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until each of these processes is dead. A zombie counts as dead, because init reaps the zombies of a
/// supervisor that has ended.
#[track_caller]
pub fn until_dead(pids: &[impl proc::Pid + std::fmt::Debug]) {
    until(&format!("none of {pids:?} lives"), || pids.iter().all(|&pid| proc::gone(pid)));
}

/// Waits until none of these processes is left, not even as a zombie.
#[track_caller]
pub fn until_gone(pids: &[impl proc::Pid + std::fmt::Debug]) {
    until(&format!("none of {pids:?} is left"), || pids.iter().all(|&pid| proc::state(pid).is_none()));
}

/// Returns every process, except zombies, that has the board in its environment. These are the programs that
/// were started with the board, their supervisors and children, and the programs that the children started.
pub fn members(board: &Board) -> Vec<i32> {
    let mark = format!("{BOARD}={}", board.path());
    let has_mark = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let pids = fs::read_dir("/proc").expect("/proc can be read").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has_mark).collect()
}

/// Waits until the board has no [`members`] left.
#[track_caller]
pub fn until_nothing_is_left(board: &Board) {
    until("no process of the family is left", || members(board).is_empty());
}

/// A program in the background. It is killed if the test fails.
pub struct Running(pub std::process::Child);

impl Running {
    /// Starts the program.
    pub fn start(command: &mut Command) -> Running {
        Running(command.spawn().expect("the program runs"))
    }

    /// Returns the program's process id.
    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Waits until the program has ended, and returns its exit status.
    #[track_caller]
    pub fn end(&mut self) -> std::process::ExitStatus {
        until("the program has ended", || proc::gone(self.pid()));
        self.0.wait().expect("the program can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a process that holds the lock until it is killed, or until `release` is posted.
pub fn holder(name: &str, lock: &Lock, board: &Board) -> Process<()> {
    let hold = |lock: Lock, board: String| {
        let held = lock.lock_or_recover().unwrap();
        post(&board, "held", std::process::id());
        wait_for(&board, "release");
        drop(held);
    };
    let p = Process::builder().name(name).daemon(true).spawn(hold, (lock.clone(), board.path())).unwrap();
    board.wait("held");
    p
}

/// Returns a lock that a killed process left poisoned, and that process.
pub fn orphaned(name: &str) -> (Lock, Process<()>) {
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let p = holder(name, &lock, &board);
    p.kill().unwrap();
    p.join().unwrap_err();
    (lock, p)
}

/// Returns the error of an acquisition that must fail.
pub fn refusal(result: Result<LockGuard<'_>, LockError>) -> LockError {
    result.expect_err("the lock is refused")
}

/// Kills the supervisor, and returns its process id.
pub fn lose_it() -> i32 {
    let old = supervisor();
    send(old, libc::SIGKILL);
    old
}

/// Spawns repeatedly until a new family serves a spawn. Right after the loss, the old family may still serve
/// a spawn, or the spawn may fail.
pub fn spawn_again(old: i32) {
    until("another family serves", || {
        let parent = Process::spawn(|| std::os::unix::process::parent_id() as i32, ());
        match parent.and_then(|p| Ok(p.join()?)) {
            Ok(pid) => pid != old,
            Err(Error::FamilyLost) => false,
            Err(Error::Process(e)) if *e.failure() == Failure::FamilyLost => false,
            Err(e) => panic!("{e}"),
        }
    });
    assert_eq!(Process::spawn(|| 8, ()).unwrap().join(), Ok(8), "the new family keeps serving");
}

/// Ignores the signals that ask a process to end.
pub fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: ignoring is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Forks this process. The fork runs `f` and its exit handlers, and passes the result of `f` by its exit
/// code. Returns that result.
pub fn holds_in_a_fork(f: impl FnOnce() -> bool) -> bool {
    let f = std::mem::ManuallyDrop::new(f);
    // SAFETY: the other threads of this process hold nothing that `f` needs, and only the fork takes `f` out.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let holds = std::mem::ManuallyDrop::into_inner(f)();
            libc::exit(if holds { 17 } else { 1 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 17
    }
}

/// Returns a builder with many options and pipes.
pub fn everything() -> Builder {
    let all = Process::builder().stdin(Stream::piped()).stdout(Stream::piped()).stderr(Stream::null());
    all.env("A", "1").current_dir("/").nice(1).memory_limit(1 << 30).cpu_affinity(&[0])
}

/// Asserts that a spawn fails with an error that contains `word`, and that the function never runs.
#[track_caller]
pub fn refused(builder: &Builder, word: &str) -> Error {
    let ran = |board: String| post(&board, "ran", "");
    let board = Board::new();
    let error = builder.spawn(ran, (board.path(),)).expect_err("the spawn is refused");
    assert!(error.to_string().contains(word), "{error}");
    assert!(board.names().is_empty(), "the function did not run");
    error
}
