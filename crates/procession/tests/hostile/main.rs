//! Families in hostile surroundings. In each of them, a family runs a complete life and leaves nothing
//! behind.
//!
//! Each test runs this binary again as a separate program (`family::program`). The program runs as a certain
//! user, in a namespace or group, or under a limit. An ordinary user cannot set up all of these surroundings.
//! The tests report which ones they skip.
#![allow(unsafe_code, reason = "changes the user, locks memory, stops processes")]

#[path = "../family/mod.rs"]
mod family;
mod life;
mod places;

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use family::*;
use life::live;
use places::*;
use procession::pool::TaskError;
use procession::{Dict, Error, Lock, Pool, Process, Queue};
use procession_testkit::{Watchdog, proc, watchdog};

/// Returns a watchdog that times out before the watchdog of the test that started this program.
fn inner_dog() -> Watchdog {
    watchdog(Duration::from_secs(70))
}

/// The control: the life succeeds in ordinary surroundings. So if another test fails, its surroundings are
/// the cause.
#[test]
fn a_family_lives_in_ordinary_surroundings() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut program("here", &board), &board);
}

#[test]
fn a_family_lives_as_an_unprivileged_user() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    if !is_root("another user (every other test here runs as this one)") {
        return;
    }
    let program = program_at(copy_of_program(&board, "program"), "unprivileged", &board);
    let bare = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    lives(&mut by(&bare, &program), &board);
    let barer = [&bare[..], &["--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all"]].concat();
    lives(&mut by(&barer, &program), &board);
}

fn user() -> (u32, u32) {
    // SAFETY: system calls without arguments.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

#[test]
fn a_family_lives_after_dropping_privileges() {
    if let Some(role) = role() {
        let _dog = inner_dog();
        if role == "late" {
            assert_eq!(Process::spawn(user, ()).unwrap().join(), Ok((0, 0)));
        }
        // SAFETY: system calls; the list of groups is empty.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
            assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
        }
        assert_eq!(Process::spawn(user, ()).unwrap().join(), Ok((NOBODY, NOBODY)));
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    if !is_root("dropping privileges") {
        return;
    }
    let program = copy_of_program(&board, "program");
    for role in ["early", "late"] {
        lives(&mut program_at(&program, role, &board), &board);
    }
}

#[test]
fn a_family_lives_as_the_first_process_of_a_namespace() {
    if role().is_some() {
        let _dog = inner_dog();
        assert_eq!(std::process::id(), 1);
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let options = ["--pid", "--fork", "--mount-proc"];
    if can_unshare(&options) {
        lives(&mut by(&[&["unshare"], &options[..]].concat(), &program("first", &board)), &board);
    }
}

#[test]
fn a_family_lives_with_a_read_only_root_and_without_tmp() {
    if role().is_some() {
        let _dog = inner_dog();
        assert!(std::fs::write("/x", "x").is_err() && std::fs::write("/dev/shm/x", "x").is_err());
        assert!(std::fs::read_dir("/tmp").is_ok_and(|mut entries| entries.next().is_none()));
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    if !can_unshare(&["--mount"]) {
        return;
    }
    let script = "mount -t tmpfs -o ro none /dev/shm && mount --bind / / && mount -o remount,ro,bind / && \
                  mount -t tmpfs -o ro none /tmp";
    lives(&mut by(&["unshare", "--mount"], &after(script, &program("read-only", &board))), &board);
}

#[test]
fn a_family_lives_with_few_descriptors() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut after("ulimit -n 64", &program("few", &board)), &board);
}

#[test]
fn a_family_reports_that_it_has_no_descriptor() {
    if role().is_some() {
        let _dog = inner_dog();
        return live_without_descriptors();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut after("ulimit -n 256", &program("none", &board)), &board);
}

fn live_without_descriptors() {
    life::round();
    let (lock, queue, dict) = (Lock::new().unwrap(), Queue::unbounded().unwrap(), Dict::new().unwrap());
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.apply(|| 6 * 7, ()), Ok(42));
    let endless = pool.submit(forever, ()).unwrap();
    until("it runs", || endless.state() == procession::pool::TaskState::Running);
    let taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!taken.is_empty());
    assert!(lock.lock().is_ok());
    queue.put(1).unwrap();
    assert_eq!(queue.get(), Ok(1));
    dict.insert(&1, 2).unwrap();
    assert_eq!(dict.get(&1), Ok(Some(2)));
    // An operation that needs a descriptor succeeds, or its error names the reason. No operation waits for
    // ever.
    match Process::spawn(|| 7, ()) {
        Ok(p) => assert_eq!(p.join(), Ok(7)),
        Err(e) => assert!(matches!(e, Error::Os { .. }), "{e:?}"),
    }
    endless.cancel();
    drop(taken);
    assert!(matches!(endless.get(), Err(TaskError::Cancelled)));
    assert_eq!(pool.apply(|| 6 * 7, ()), Ok(42));
    drop((lock, queue, dict, pool, endless));
    live();
}

#[test]
fn a_family_lives_with_odd_paths() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    for (kind, path) in odd_paths() {
        eprintln!("a path with {kind}");
        let copy = copy_of_program(&board, path);
        let mut command = program_at(&copy, "odd", &board);
        command.arg0("program"); // libtest wants text there
        lives(command.current_dir(copy.parent().expect("the copy is in a directory")), &board);
        std::fs::remove_file(copy).expect("the copy can be removed");
    }
}

#[test]
fn a_family_lives_after_its_files_were_removed() {
    if role().is_some() {
        let _dog = inner_dog();
        std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        std::fs::remove_dir(std::env::current_dir().unwrap()).unwrap();
        assert!(std::env::current_dir().is_err());
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let copy = copy_of_program(&board, "bin/program");
    let directory = copy.with_file_name("directory");
    std::fs::create_dir(&directory).expect("a directory can be made");
    lives(program_at(&copy, "removed", &board).current_dir(directory), &board);
}

#[test]
fn a_family_lives_with_odd_mapped_files() {
    if role().is_some() {
        let _dog = inner_dog();
        map_files(&std::env::var_os("ODD_FILES").expect("a directory"));
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let directory = std::path::PathBuf::from(board.path()).join("mapped");
    for (_, path) in odd_paths() {
        let file = directory.join(path);
        std::fs::create_dir_all(file.parent().expect("the file is in a directory"))
            .expect("directories can be made");
        std::fs::write(file, [0; 8192]).expect("a file can be written");
    }
    lives(program("mapped", &board).env("ODD_FILES", directory), &board);
}

/// Maps each file with an odd path as executable memory, and removes half of the files.
fn map_files(directory: &std::ffi::OsStr) {
    use std::os::fd::AsRawFd;
    for (n, (_, path)) in odd_paths().into_iter().enumerate() {
        let path = std::path::Path::new(directory).join(path);
        let file = std::fs::File::open(&path).expect("the file is there");
        let (prot, private) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 8192, prot, private, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED);
        if n % 2 == 0 {
            std::fs::remove_file(path).expect("the file can be removed");
        }
    }
}

/// Returns the signals that a process can ignore, except SIGCHLD, SIGSEGV and SIGBUS. Children have handlers
/// for SIGSEGV and SIGBUS, which report a fault of the process.
fn signals() -> Vec<i32> {
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGCHLD];
    // The C library reserves the first two real-time signals.
    (1..=libc::SIGRTMAX()).filter(|n| !kept.contains(n) && !(32..libc::SIGRTMIN()).contains(n)).collect()
}

/// A program that runs rounds in its own process group until the test stops it.
struct Living {
    main: Running,
    board: Board,
}

impl Living {
    fn start(role: &str) -> Living {
        let board = Board::new();
        let mut command = program(role, &board);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let main = Running::start(&mut command);
        board.wait("rounds");
        Living { main, board }
    }

    fn send(&self, signal: i32) {
        send(-self.main.pid(), signal);
    }

    /// Waits until the program has completed another whole round.
    #[track_caller]
    fn lives_on(&self, since: &str) {
        let now = self.board.number("rounds");
        let next = || self.board.number("rounds") >= now + 2 || proc::gone(self.main.pid());
        until(&format!("the program runs a round after {since}"), next);
        assert!(!proc::gone(self.main.pid()), "the program died of {since}");
    }

    #[track_caller]
    fn stop(mut self) {
        post(&self.board.path(), "stop", "");
        let status = self.main.end();
        let output = std::io::read_to_string(self.main.0.stdout.take().expect("a pipe")).expect("text");
        assert!(status.success() && output.contains(life::LAST_WORD), "{status}: {output}");
        until_nothing_is_left(&self.board);
    }
}

#[test]
fn a_family_lives_in_a_group_that_ignores_signals() {
    if role().is_some() {
        let _dog = inner_dog();
        for signal in signals() {
            // SAFETY: ignoring is a valid disposition.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        return life::live_until_told();
    }
    let (_dog, living) = (watched(), Living::start("ignores"));
    for signal in signals() {
        living.send(signal);
        living.lives_on(&format!("signal {signal}"));
    }
    living.stop();
}

static HEARD: AtomicI32 = AtomicI32::new(0);

extern "C" fn hear(signal: i32) {
    HEARD.store(signal, SeqCst);
}

/// Makes this process handle all signals. Executing a program resets handlers, but not ignored signals.
fn handle_signals() {
    for signal in signals() {
        // SAFETY: the handler only stores a number.
        unsafe { libc::signal(signal, hear as *const () as usize) };
    }
}

#[test]
fn a_family_lives_in_a_group_that_handles_signals() {
    if role().is_some() {
        let _dog = inner_dog();
        handle_signals();
        return handle_each();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut program("handles", &board), &board);
}

/// Sends each signal to the group. Meanwhile, the supervisor, the spares and a child that handles the signal
/// exist.
fn handle_each() {
    let (ready, go_on) = (Queue::<()>::bounded(1).unwrap(), Queue::<bool>::bounded(1).unwrap());
    let listen = |ready: Queue<()>, go_on: Queue<bool>| {
        handle_signals();
        let mut heard = Vec::new();
        ready.put(()).unwrap();
        while go_on.get().unwrap() {
            until("the child receives the signal", || HEARD.load(SeqCst) != 0);
            heard.push(HEARD.swap(0, SeqCst));
            ready.put(()).unwrap();
        }
        heard
    };
    let child = Process::builder().daemon(true).spawn(listen, (ready.clone(), go_on.clone())).unwrap();
    ready.get().unwrap();
    for signal in signals() {
        send(0, signal);
        until("main receives the signal", || HEARD.load(SeqCst) != 0);
        assert_eq!(HEARD.swap(0, SeqCst), signal);
        go_on.put(true).unwrap();
        ready.get_timeout(LONG).unwrap();
        life::round();
    }
    go_on.put(false).unwrap();
    assert_eq!(child.join(), Ok(signals()));
    drop((child, ready, go_on));
    live();
}

#[test]
fn a_family_continues_after_every_process_was_stopped() {
    if role().is_some() {
        let _dog = inner_dog();
        return life::live_until_told();
    }
    let (_dog, living) = (watched(), Living::start("stopped"));
    for n in 0..20 {
        until("the group is stopped", || {
            // A spare joins the group when it gets work, perhaps right after the signal. So this sends the
            // signal repeatedly.
            living.send(libc::SIGSTOP);
            let mut group = members(&living.board);
            // SAFETY: a system call.
            group.retain(|&pid| unsafe { libc::getpgid(pid) } == living.main.pid());
            group.iter().all(|&pid| proc::gone(pid) || proc::state(pid) == Some('T'))
        });
        living.send(libc::SIGCONT);
        living.lives_on(&format!("stop {n}"));
    }
    living.stop();
}

/// A way to suspend and resume a whole program.
enum Freezer {
    Version1(Group),
    Version2(Group),
    Signals,
}

impl Freezer {
    fn any() -> Freezer {
        let first = Group::of_version_1("freezer").map(Freezer::Version1);
        let second = || Group::of_version_2().filter(|group| group.set("cgroup.freeze", "0"));
        first.or_else(|| second().map(Freezer::Version2)).unwrap_or_else(|| {
            eprintln!("NOTE: no freezer here, so the group is stopped by SIGSTOP instead");
            Freezer::Signals
        })
    }

    fn enter(&self, command: Command) -> Command {
        match self {
            Freezer::Version1(group) | Freezer::Version2(group) => group.enter(&command),
            Freezer::Signals => command,
        }
    }

    fn freeze(&self, main: i32) {
        match self {
            Freezer::Version1(group) => {
                assert!(group.set("freezer.state", "FROZEN"));
                until("it is frozen", || group.get("freezer.state").trim() == "FROZEN");
            }
            Freezer::Version2(group) => {
                assert!(group.set("cgroup.freeze", "1"));
                until("it is frozen", || group.get("cgroup.events").contains("frozen 1"));
            }
            Freezer::Signals => {
                send(-main, libc::SIGSTOP);
                until("it is stopped", || proc::state(main) == Some('T'));
            }
        }
    }

    fn thaw(&self, main: i32) {
        match self {
            Freezer::Version1(group) => assert!(group.set("freezer.state", "THAWED")),
            Freezer::Version2(group) => assert!(group.set("cgroup.freeze", "0")),
            Freezer::Signals => send(-main, libc::SIGCONT),
        }
    }
}

#[test]
fn a_family_continues_after_a_freeze_of_five_seconds() {
    if role().is_some() {
        let _dog = inner_dog();
        // A time limit counts only time in which the task can run, so it has not expired when the family
        // thaws.
        let pool = Pool::builder().workers(1).task_timeout(Duration::from_secs(3)).build().unwrap();
        let runs = |board: String| {
            post(&board, "begun", "");
            wait_for(&board, "thawed");
        };
        assert_eq!(pool.apply(runs, (my_board(),)), Ok(()));
        drop(pool);
        return live();
    }
    let (_dog, board, freezer) = (watched(), Board::new(), Freezer::any());
    let mut command = freezer.enter(program("frozen", &board));
    let mut main = Running::start(command.stdout(Stdio::piped()));
    board.wait("begun");
    freezer.freeze(main.pid());
    // The freeze must outlast the time limit of the task.
    std::thread::sleep(Duration::from_secs(5));
    freezer.thaw(main.pid());
    post(&board.path(), "thawed", "");
    let status = main.end();
    let output = std::io::read_to_string(main.0.stdout.take().expect("a pipe")).expect("text");
    assert!(status.success() && output.contains(life::LAST_WORD), "{status}: {output}");
    until_nothing_is_left(&board);
}

/// Returns the number of KiB in this line of `/proc/self/status`.
fn status_kib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process's status");
    let line = status.lines().find_map(|l| l.strip_prefix(line)).expect("the line is there");
    line.trim_start_matches(':')
        .split_ascii_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

#[test]
fn a_family_lives_with_all_memory_locked() {
    if role().is_some() {
        let _dog = inner_dog();
        // SAFETY: a system call.
        if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
            eprintln!("SKIPPED: so much memory may not be locked here");
            return println!("{}", life::LAST_WORD);
        }
        let before = status_kib("VmRSS");
        drop(Lock::new().unwrap());
        let more = status_kib("VmRSS") - before;
        assert!(more < 32 << 10, "the first handle took {more} KiB of memory");
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut after("ulimit -v 1200000", &program("locked", &board)), &board);
}

#[test]
fn a_family_lives_with_a_small_limit_on_locked_memory() {
    if role().is_some() {
        let _dog = inner_dog();
        // SAFETY: a system call. From now on, every mapping counts against the limit.
        assert_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE) }, 0);
        let lock = Lock::new().unwrap();
        drop(lock.lock().unwrap());
        let (_, bytes, _) = procession::internals::mapping();
        assert!(bytes > 64 << 20, "the limit on locked memory made the shared memory small: {bytes} bytes");
        // A family also needs threads, and their stacks may exceed the limit.
        match Process::spawn(|| 7, ()) {
            Ok(p) => assert_eq!(p.join(), Ok(7)),
            Err(e) => assert!(matches!(e, Error::Os { .. }), "{e:?}"),
        }
        return println!("{}", life::LAST_WORD);
    }
    let (_dog, board) = (watched(), Board::new());
    let little = program_at(copy_of_program(&board, "program"), "little", &board);
    // The limit does not bind root.
    let nobody = by(&["setpriv", "--reuid", "65534", "--clear-groups"], &little);
    let mut limited = after("ulimit -l 8000", if is_root("another user") { &nobody } else { &little });
    lives(&mut limited, &board);
}

const GROUP_BYTES: u64 = 250 << 20;

#[test]
fn a_family_lives_in_a_small_memory_group() {
    if role().is_some() {
        let _dog = inner_dog();
        fill_up();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let bytes = GROUP_BYTES.to_string();
    let first = || Group::of_version_1("memory").filter(|group| group.set("memory.limit_in_bytes", &bytes));
    let second = || Group::of_version_2().filter(|group| group.set("memory.max", &bytes));
    match first().or_else(second) {
        Some(group) => drop(lives(&mut group.enter(&program("small", &board)), &board)),
        None => eprintln!("SKIPPED: no memory group can be made here"),
    }
}

/// Fills the arena. This must fail with an error before the kernel kills this process.
fn fill_up() {
    let dict = Dict::<u64, Vec<u8>>::new().unwrap();
    let full = (0..).find_map(|n| dict.insert(&n, vec![1; 1 << 20]).err());
    assert!(matches!(full, Some(Error::Full(_))), "{full:?}");
}
