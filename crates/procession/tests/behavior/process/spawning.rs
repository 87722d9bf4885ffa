//! Spawns in unusual situations: from threads and children, with replaced or missing files, with closed
//! streams.
#![allow(unsafe_code, reason = "constructors, closes descriptors")]

use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::family::*;
use procession::{Error, Lock, Process};
use procession_testkit::isolated;

fn pid() -> i32 {
    std::process::id() as i32
}

#[test]
fn a_thread_can_spawn_and_end() {
    isolated!({
        // The thread's first spawn starts the supervisor, which must outlive the thread.
        let p = thread::spawn(sleeper).join().unwrap();
        let others: Vec<_> = (0..8).map(|_| thread::spawn(sleeper).join().unwrap()).collect();
        assert_eq!(thread::spawn(|| Process::spawn(|| 1, ()).unwrap().join()).join().unwrap(), Ok(1));
        assert!(others.iter().all(Process::is_alive) && p.is_alive());
        p.kill().unwrap();
        assert!(p.join().unwrap_err().to_string().contains("signal 9"));
    });
}

fn nested(depth: u32) -> Vec<i32> {
    if depth == 0 {
        return vec![pid()];
    }
    let inner = Process::spawn(nested, (depth - 1,)).unwrap().join().unwrap();
    [vec![pid()], inner].concat()
}

#[test]
fn children_spawn_children_four_deep() {
    let _dog = watched();
    let pids = nested(4);
    assert_eq!((pids.len(), pids[0]), (5, pid()));
    let mut distinct = pids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "{pids:?}");
}

#[test]
fn threads_of_a_child_spawn_too() {
    let _dog = watched();
    let p = Process::spawn(
        || {
            let spawns = |n: u64| Process::spawn(|n: u64| n * n, (n,)).unwrap().join().unwrap();
            let threads: Vec<_> = (0..8).map(|n| thread::spawn(move || spawns(n))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum::<u64>()
        },
        (),
    );
    assert_eq!(p.unwrap().join(), Ok(140));
}

#[test]
fn spawning_works_after_the_program_file_was_replaced() {
    let _dog = watched();
    if let Some(role) = role() {
        let me = std::env::current_exe().unwrap();
        let _before = (role == "late").then(|| nested(1));
        fs::remove_file(&me).unwrap();
        if role == "replaced" {
            fs::copy("/bin/false", &me).unwrap();
        }
        assert_eq!(nested(2).len(), 3);
        return;
    }
    for role in ["deleted", "replaced", "late"] {
        let board = Board::new();
        let copy = format!("{}/copy", board.path());
        copy_program(&copy);
        succeeds(&mut program_at(copy, role, &board));
    }
}

#[test]
fn a_program_started_by_the_dynamic_loader_is_refused() {
    let _dog = watched();
    if role().is_some() {
        let error = Process::spawn(|| 1, ()).expect_err("`ld.so program` is another executable");
        assert!(matches!(&error, Error::Unsupported(why) if why.contains("executable")), "{error:?}");
        assert!(Lock::new().unwrap().lock().is_ok(), "operations without another process work");
        return;
    }
    let Some(loader) = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
        .into_iter()
        .find(|path| fs::exists(path).unwrap_or(false))
    else {
        return eprintln!("SKIPPED: no dynamic loader at a place that is known");
    };
    let board = Board::new();
    let program = program("loaded", &board);
    let mut command = Command::new(loader);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let text = succeeds(&mut command);
    assert_eq!(text.matches("running 1 test").count(), 1, "main ran once: {text}");
}

#[test]
fn spawning_works_with_closed_standard_streams() {
    let _dog = watched();
    if let Some(role) = role() {
        if role == "closes them later" {
            // SAFETY: closes descriptors that this process no longer uses.
            unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        }
        let probe = || {
            println!("lost");
            eprintln!("lost");
            let mut line = String::new();
            let read = std::io::stdin().read_line(&mut line).map_err(|e| e.to_string());
            (read, fs::File::open("/dev/zero").unwrap().as_raw_fd())
        };
        let (read, fd) = Process::spawn(probe, ()).unwrap().join().unwrap();
        post(&my_board(), "probe", format!("{read:?} {}", fd > 2));
        post(&my_board(), "nested", nested(2).len());
        return;
    }
    for role in ["finds them closed", "closes them later"] {
        let board = Board::new();
        let program = program(role, &board);
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]).arg(program.get_program());
        shell.args(program.get_args());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.status().unwrap();
        assert_eq!(board.wait("probe"), "Ok(0) true", "{role}: nothing to read, and no file in their places");
        assert_eq!(board.wait("nested"), "3");
    }
}

static EARLY: AtomicU32 = AtomicU32::new(0);
static NORMAL: AtomicU32 = AtomicU32::new(0);
static ARGUMENTS: AtomicU32 = AtomicU32::new(0);

extern "C" fn construct_early() {
    EARLY.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn construct(argc: i32, _argv: *const *const u8, _envp: *const *const u8) {
    NORMAL.fetch_add(1, Ordering::SeqCst);
    ARGUMENTS.store(argc as u32, Ordering::SeqCst);
}

#[used]
#[unsafe(link_section = ".init_array.00150")]
static CONSTRUCT_EARLY: extern "C" fn() = construct_early;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCT: extern "C" fn(i32, *const *const u8, *const *const u8) = construct;

#[test]
fn constructors_run_once_before_the_function() {
    let _dog = watched();
    let seen = || [&EARLY, &NORMAL, &ARGUMENTS].map(|n| n.load(Ordering::SeqCst));
    assert_eq!(seen(), [1, 1, std::env::args().count() as u32]);
    assert_eq!(Process::spawn(seen, ()).unwrap().join(), Ok(seen()));
    let arguments = || std::env::args().collect::<Vec<_>>();
    assert_eq!(Process::spawn(arguments, ()).unwrap().join(), Ok(arguments()));
}

#[test]
fn every_kind_of_function_can_be_spawned() {
    fn twice<T: std::ops::Add<Output = T> + Copy>(x: T) -> T {
        x + x
    }
    trait Shout {
        fn shout(text: String) -> String;
    }
    impl Shout for u8 {
        fn shout(text: String) -> String {
            text.to_uppercase()
        }
    }
    let _dog = watched();
    assert_eq!(Process::spawn(twice::<u8>, (4,)).unwrap().join(), Ok(8));
    assert_eq!(Process::spawn(twice::<f64>, (0.25,)).unwrap().join(), Ok(0.5));
    assert_eq!(Process::spawn(u8::shout, ("a".into(),)).unwrap().join().as_deref(), Ok("A"));
    assert_eq!(Process::spawn(Some::<u8>, (4,)).unwrap().join(), Ok(Some(4)));
    // All closures of one function have the same name.
    let (one, two) = (|| 1, || 2);
    assert_eq!(
        (Process::spawn(one, ()).unwrap().join(), Process::spawn(two, ()).unwrap().join()),
        (Ok(1), Ok(2))
    );
}

/// Destructors of thread-locals have run before exit handlers do.
#[test]
fn handles_can_be_sent_in_an_exit_handler() {
    let _dog = watched();
    fn holds(lock: Lock) -> bool {
        lock.lock().is_ok()
    }
    extern "C" fn at_exit() {
        let spawned = Process::spawn(holds, (Lock::new().unwrap(),)).map(|p| p.join());
        post(&my_board(), "at exit", format!("{spawned:?}"));
    }
    if role().is_some() {
        assert_eq!(Process::spawn(holds, (Lock::new().unwrap(),)).unwrap().join(), Ok(true));
        // Registered after the library's own handler, so it runs before that handler.
        // SAFETY: a function without arguments.
        unsafe { libc::atexit(at_exit) };
        return;
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::null()));
    assert!(main.end().success());
    assert_eq!(board.wait("at exit"), "Ok(Ok(true))");
}

#[test]
fn a_spawn_in_a_late_exit_handler_is_an_error() {
    let _dog = watched();
    extern "C" fn late() {
        let said = Process::spawn(|| (), ()).map(|p| p.join()).map_err(|e| e.to_string());
        post(&my_board(), "late", format!("{said:?}"));
    }
    if role().is_some() {
        // Registered before the library's own handler, so it runs after that handler.
        // SAFETY: a function without arguments.
        unsafe { libc::atexit(late) };
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        return;
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::null()));
    assert!(main.end().success());
    let said = board.wait("late");
    assert!(said.contains("Err") && said.contains("ending"), "{said}");
}
