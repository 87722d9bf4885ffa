//! The orderly end of a family: main returns, exits or panics. Main waits for its children, daemons are
//! ended, and the locks that main holds are released.
#![allow(unsafe_code, reason = "stops processes")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;

use crate::family::*;
use procession::{Lock, Process};
use procession_testkit::proc;

#[test]
fn a_main_without_descriptors_waits_for_its_children() {
    let _dog = watched();
    if let Some(role) = role() {
        let slow = |board: String| {
            wait_for(&board, "go");
            post(&board, "done", "");
        };
        Process::spawn(slow, (my_board(),)).unwrap();
        // SAFETY: closes descriptors that this process no longer uses.
        unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        if role == "reused" {
            (0..64).for_each(|_| std::mem::forget(std::fs::File::open("/dev/null")));
        }
        // SAFETY: a function without arguments.
        unsafe { libc::atexit(exiting) };
        std::process::exit(0);
    }
    for role in ["closed", "reused"] {
        let board = Board::new();
        let mut main = Running::start(program(role, &board).stdout(Stdio::null()));
        board.wait("exiting");
        until("main waits, or has ended", || proc::is_parked(main.pid()) || proc::gone(main.pid()));
        assert!(!proc::gone(main.pid()), "{role}: main did not wait");
        post(&board.path(), "go", "");
        assert_eq!(main.end().code(), Some(0));
        assert!(posted(&board.path(), "done"), "{role}: main did not wait for the child");
        until_nothing_is_left(&board);
    }
}

extern "C" fn exiting() {
    post(&my_board(), "exiting", "");
}

#[test]
fn main_waits_for_its_children_and_ends_its_daemons() {
    let _dog = watched();
    if role().is_some() {
        let slow = |board: String| {
            wait_for(&board, "go");
            let grandchild = Process::spawn(|| println!("grandchild"), ()).unwrap();
            println!("child {:?}", grandchild.join());
            drop(Process::spawn(|board: String| post(&board, "detached", ""), (board,)));
        };
        Process::spawn(slow, (my_board(),)).unwrap();
        let daemon = sleeper();
        let stubborn = Process::builder().daemon(true).spawn(
            |board: String| {
                ignore_signals();
                post(&board, "deaf", "");
                forever();
            },
            (my_board(),),
        );
        wait_for(&my_board(), "deaf");
        post(&my_board(), "pids", format!("{} {}", daemon.pid().unwrap(), stubborn.unwrap().pid().unwrap()));
        println!("main");
        // Registered after the library's own handler, so it runs before that handler.
        // SAFETY: a function without arguments.
        unsafe { libc::atexit(exiting) };
        std::process::exit(7);
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let pids: Vec<i32> = board.wait("pids").split(' ').map(|pid| pid.parse().unwrap()).collect();
    board.wait("exiting");
    assert!(pids.iter().all(|&pid| !proc::gone(pid)), "daemons live while main waits for children");
    post(&board.path(), "go", "");
    let mut text = String::new();
    main.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("main\ngrandchild\nchild Ok(())\n"), "{text}");
    // Reading the output to its end waits until every process has ended.
    assert_eq!(members(&board).iter().filter(|&&pid| pid != main.pid()).count(), 0);
    assert_eq!(main.end().code(), Some(7), "main's own exit code");
    assert!(posted(&board.path(), "detached"), "main waits for grandchildren");
    until_dead(&pids);
}

/// Under `cargo test`, the thread has the name of the test.
#[test]
fn a_process_left_over_is_named_with_the_thread_that_spawned_it() {
    let _dog = watched();
    if role().is_some() {
        let waits = |board: String| drop(wait_for(&board, "go"));
        let spawns = move || Process::builder().name("left").spawn(waits, (my_board(),)).map(drop);
        let thread = thread::Builder::new().name("shop::sells_tickets".into()).spawn(spawns);
        return thread.unwrap().join().unwrap().unwrap();
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::null()).stderr(Stdio::piped()));
    let lines = BufReader::new(main.0.stderr.take().unwrap()).lines();
    let named = lines.map_while(Result::ok).find(|line| line.contains("main has ended")).expect("a line");
    assert!(named.contains("waits for: left (pid "), "{named}");
    assert!(named.ends_with("), spawned by thread `shop::sells_tickets`"), "{named}");
    post(&board.path(), "go", "");
    assert!(main.end().success());
}

#[test]
fn a_daemon_may_clean_up() {
    extern "C" fn tidy(_: i32) {
        // SAFETY: system calls; the name is a C string.
        unsafe {
            libc::close(libc::open(c"tidied".as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600));
            libc::_exit(0);
        }
    }
    let _dog = watched();
    if role().is_some() {
        let daemon = |board: String| {
            std::env::set_current_dir(&board).unwrap();
            // SAFETY: the handler makes system calls only.
            unsafe { libc::signal(libc::SIGTERM, tidy as extern "C" fn(i32) as libc::sighandler_t) };
            post(&board, "ready", "");
            forever();
        };
        Process::builder().daemon(true).spawn(daemon, (my_board(),)).unwrap();
        wait_for(&my_board(), "ready");
        return;
    }
    let board = Board::new();
    succeeds(&mut program("main", &board));
    assert!(posted(&board.path(), "tidied"));
    until_nothing_is_left(&board);
}

/// Acquires a lock by `hold`, spawns a child that waits for the lock, and ends the program.
fn ends_holding(hold: impl FnOnce(Lock)) {
    let lock = Lock::new().unwrap();
    hold(lock.clone());
    let waits = |lock: Lock| println!("told: {:?}", lock.lock().map(drop));
    Process::spawn(waits, (lock.clone(),)).unwrap();
    until("the child waits", || format!("{lock:?}").contains("waiters: 1"));
    // Returning from the test's thread would not end the program.
    std::process::exit(0);
}

fn is_told(role: &str, what: &str) {
    let board = Board::new();
    let mut main = Running::start(program(role, &board).stdout(Stdio::piped()));
    until(&format!("main ends that left a lock to its {role}"), || proc::gone(main.pid()));
    let mut text = String::new();
    main.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains(&format!("told: Err({what}")), "{role}: {text}");
    until_nothing_is_left(&board);
}

#[test]
fn locks_of_the_exiting_thread_are_released() {
    let _dog = watched();
    let forget = |lock: Lock| std::mem::forget(lock.lock().unwrap());
    match role().as_deref() {
        None => ["first thread", "ended thread"].into_iter().for_each(|role| is_told(role, "OwnerDied")),
        Some("first thread") => ends_holding(forget),
        Some(_) => ends_holding(|lock| thread::spawn(move || forget(lock)).join().unwrap()),
    }
}

#[test]
fn locks_of_other_threads_stay_held_at_the_end() {
    let _dog = watched();
    if role().is_none() {
        return is_told("other thread", "MainEnded");
    }
    ends_holding(|lock| {
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _held = lock.lock().unwrap();
            tell.send(()).unwrap();
            forever();
        });
        told.recv().unwrap();
    });
}

#[test]
fn a_main_that_panics_or_returns_early_waits_for_its_children() {
    let _dog = watched();
    if role().is_some() {
        let slow = |board: String| {
            wait_for(&board, "go");
            println!("child");
        };
        Process::spawn(slow, (my_board(),)).unwrap();
        post(&my_board(), "go", "");
        panic!("main panics");
    }
    let board = Board::new();
    let output = program("main", &board).output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    assert!(text_of(&output).contains("child\n"));
    until_nothing_is_left(&board);
}

#[test]
fn the_pipes_of_the_family_end_with_main() {
    let _dog = watched();
    if let Some(role) = role() {
        let _daemons: Vec<_> = (0..3).map(|_| sleeper()).collect();
        let says = || println!("child");
        Process::spawn(says, ()).unwrap().join().unwrap();
        if role == "killed" {
            send(std::process::id() as i32, libc::SIGKILL);
        }
        return;
    }
    for role in ["returns", "killed"] {
        let board = Board::new();
        let program = program(role, &board);
        let shell = |script: &str| {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", script])
                .arg(program.get_program())
                .args(program.get_args())
                .stdin(Stdio::null());
            shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
            String::from_utf8(shell.output().unwrap().stdout).unwrap()
        };
        let substituted = shell("x=$(\"$0\" \"$@\" 2>&1); echo \"[$x]\"");
        assert!(substituted.starts_with('[') && substituted.contains("child"), "{substituted}");
        let piped = shell("\"$0\" \"$@\" 2>&1 | cat; echo end");
        assert!(piped.contains("child\n") && piped.ends_with("end\n"), "{piped}");
        until_nothing_is_left(&board);
    }
}
