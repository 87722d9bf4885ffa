//! How a family ends: main killed, the supervisor killed, or in an orderly way; and that nothing is left.
#![allow(unsafe_code, reason = "stops processes")]

mod family;

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use family::*;
use procession::{Lock, Process};
use procession_testkit::proc;

/// Children of this process in every state that a child can be in.
fn children_in_every_state(board: &str) {
    let lock = Lock::new().unwrap();
    std::mem::forget(lock.lock().unwrap());
    let spawned = [
        Process::spawn(
            || -> () {
                loop {
                    std::hint::spin_loop()
                }
            },
            (),
        ),
        Process::spawn(|lock: Lock| drop(lock.lock()), (lock.clone(),)),
        Process::spawn(|| thread::sleep(Duration::from_secs(1000)), ()),
        Process::spawn(|| drop(std::io::stdin().read_line(&mut String::new())), ()),
        Process::spawn(
            || {
                thread::spawn(forever);
                thread::spawn(forever);
                forever()
            },
            (),
        ),
        Process::spawn(|| drop(Command::new("sleep").arg("1000").status()), ()),
        Process::spawn(
            |lock: Lock| drop(Process::spawn(|lock: Lock| drop(lock.lock()), (lock,)).unwrap().join()),
            (lock.clone(),),
        ),
        Process::spawn(
            || {
                ignore_signals();
                forever()
            },
            (),
        ),
        Process::spawn(forever, ()),
    ];
    let spawned = spawned.map(|p| p.unwrap());
    until("two wait for the lock", || format!("{lock:?}").contains("waiters: 2"));
    let last = spawned.last().and_then(|p| p.pid()).unwrap();
    send(last, libc::SIGSTOP);
    until("the last one is stopped", || proc::state(last) == Some('T'));
    let unborn = sleeper().pid().unwrap();
    send(unborn, libc::SIGSTOP);
    post(board, "ready", supervisor());
    thread::spawn(|| {
        loop {
            drop(sleeper())
        }
    });
}

fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: ignoring is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

#[test]
fn who_kills_main_kills_every_child_in_whatever_state() {
    let _dog = watched();
    if role().is_some() {
        children_in_every_state(&my_board());
        return forever();
    }
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT] {
        let board = Board::new();
        let mut main = Running::start(program("main", &board).stdout(Stdio::null()).stderr(Stdio::null()));
        let supervisor = board.number("ready");
        assert!(members(&board).len() > 12);
        send(main.pid(), signal);
        assert_eq!(main.end().signal(), Some(signal));
        until_nothing_is_left(&board);
        until_gone(&[supervisor]);
    }
}

#[test]
fn who_kills_main_while_it_spawns_leaves_nothing() {
    let _dog = watched();
    if role().is_some() {
        for _ in 0..4 {
            thread::spawn(|| {
                loop {
                    drop(Process::spawn(forever, ()))
                }
            });
        }
        post(&my_board(), "spawning", "");
        return forever();
    }
    for round in 0..12u32 {
        let board = Board::new();
        let mut main = Running::start(program("main", &board).stdout(Stdio::null()).stderr(Stdio::null()));
        board.wait("spawning");
        // Each round at another moment, the first ones before the supervisor is there.
        until("there are as many", || members(&board).len() > round as usize);
        send(main.pid(), libc::SIGKILL);
        main.end();
        until_nothing_is_left(&board);
    }
}

#[test]
fn main_that_becomes_another_program_ends_the_family() {
    let _dog = watched();
    if role().is_some() {
        let child = sleeper();
        post(&my_board(), "child", child.pid().unwrap());
        panic!("{}", Command::new("sleep").arg("1000").exec());
    }
    let board = Board::new();
    let main = Running::start(program("main", &board).stdout(Stdio::null()));
    let child = board.number("child");
    until_gone(&[child]);
    until("main alone is left", || members(&board) == [main.pid()]);
    assert_eq!(proc::comm(main.pid()).as_deref(), Some("sleep"));
}

#[test]
fn main_without_descriptors_keeps_its_family() {
    let _dog = watched();
    if role().is_some() {
        let before = sleeper();
        // SAFETY: closes what nobody here uses any more.
        unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        assert!(before.is_alive());
        before.kill().unwrap();
        post(&my_board(), "told", before.join().unwrap_err());
        return;
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::null()));
    assert!(board.wait("told").contains("signal 9"));
    main.end();
    until_nothing_is_left(&board);
}

#[test]
fn main_without_descriptors_waits_for_its_children() {
    let _dog = watched();
    if let Some(role) = role() {
        let slow = |board: String| {
            wait_for(&board, "go");
            post(&board, "done", "");
        };
        Process::spawn(slow, (my_board(),)).unwrap();
        // SAFETY: closes what nobody here uses any more.
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
        thread::sleep(Duration::from_millis(50)); // gives a main that does not wait the time to end
        assert!(!proc::gone(main.pid()), "{role}: main has not waited");
        post(&board.path(), "go", "");
        assert_eq!(main.end().code(), Some(0));
        assert!(posted(&board.path(), "done"), "{role}: the child was not waited for");
        until_nothing_is_left(&board);
    }
}

#[test]
fn ctrl_c_ends_the_family() {
    let _dog = watched();
    if role().is_some() {
        children_in_every_state(&my_board());
        return forever();
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::null()).stderr(Stdio::null()));
    board.wait("ready");
    send(-main.pid(), libc::SIGINT);
    assert_eq!(main.end().signal(), Some(libc::SIGINT));
    until_nothing_is_left(&board);
}

#[test]
fn ctrl_c_reaches_children_of_a_main_that_handles_it() {
    let _dog = watched();
    if role().is_some() {
        let (child, board) = (sleeper(), my_board());
        ignore_signals();
        let deaf = || {
            ignore_signals();
            post(&my_board(), "deaf", "");
            wait_for(&my_board(), "go").len()
        };
        let deaf = Process::spawn(deaf, ()).unwrap();
        wait_for(&board, "deaf");
        post(&board, "ready", "");
        println!("told: {}", child.join().unwrap_err());
        println!("later: {:?}", Process::spawn(|| 1, ()).unwrap().join());
        post(&board, "go", "four");
        println!("deaf: {:?}", deaf.join());
        return;
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::piped()));
    board.wait("ready");
    send(-main.pid(), libc::SIGINT);
    let mut text = String::new();
    main.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    for expected in ["killed by signal 2", "later: Ok(1)", "deaf: Ok(4)"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(main.end().success());
    until_nothing_is_left(&board);
}

#[test]
fn ctrl_z_stops_the_family_and_fg_continues_it() {
    let _dog = watched();
    if role().is_some() {
        // A shell without job control may have had it ignored.
        // SAFETY: a valid disposition.
        unsafe { libc::signal(libc::SIGTSTP, libc::SIG_DFL) };
        let waits = |board: String| wait_for(&board, "go").len();
        let child = Process::spawn(waits, (my_board(),)).unwrap();
        until("it waits", || child.pid().is_some_and(|pid| proc::comm(pid).as_deref() != Some("procession")));
        post(&my_board(), "child", child.pid().unwrap());
        println!("told: {:?}", child.join());
        println!("later: {:?}", Process::spawn(|| 1, ()).unwrap().join());
        return;
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::piped()));
    let both = [main.pid(), board.number("child")];
    send(-main.pid(), libc::SIGTSTP);
    until("both are stopped", || both.iter().all(|&pid| proc::state(pid) == Some('T')));
    post(&board.path(), "go", "four");
    send(-main.pid(), libc::SIGCONT);
    let mut text = String::new();
    main.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("told: Ok(4)\nlater: Ok(1)"), "{text}");
    assert!(main.end().success());
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
        // Registered after the library's own, so it runs before it.
        // SAFETY: a function without arguments.
        unsafe { libc::atexit(exiting) };
        std::process::exit(7);
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let pids: Vec<i32> = board.wait("pids").split(' ').map(|pid| pid.parse().unwrap()).collect();
    board.wait("exiting");
    assert!(pids.iter().all(|&pid| !proc::gone(pid)), "daemons live as long as anybody is waited for");
    post(&board.path(), "go", "");
    let mut text = String::new();
    main.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("main\ngrandchild\nchild Ok(())\n"), "{text}");
    // The end of the output is the end of everybody.
    assert_eq!(members(&board).iter().filter(|&&pid| pid != main.pid()).count(), 0);
    assert_eq!(main.end().code(), Some(7), "main's own exit code");
    assert!(posted(&board.path(), "detached"), "children of children are waited for");
    until_gone(&pids);
}

#[test]
fn a_daemon_may_tidy_up() {
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

/// A program that takes a lock by `hold`, has a child wait for it, and ends.
fn ends_holding(hold: impl FnOnce(Lock)) {
    let lock = Lock::new().unwrap();
    hold(lock.clone());
    let waits = |lock: Lock| println!("told: {:?}", lock.lock().map(drop));
    Process::spawn(waits, (lock.clone(),)).unwrap();
    until("the child waits", || format!("{lock:?}").contains("waiters: 1"));
    // The end of the thread that runs the test would not be the end of the program.
    std::process::exit(0);
}

fn hands_on(role: &str) {
    let board = Board::new();
    let mut main = Running::start(program(role, &board).stdout(Stdio::piped()));
    until(&format!("main ends that left a lock to its {role}"), || proc::gone(main.pid()));
    let mut text = String::new();
    main.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("told: Err(OwnerDied("), "{role}: {text}");
    until_nothing_is_left(&board);
}

#[test]
fn what_main_holds_at_its_end_is_handed_on() {
    let _dog = watched();
    let forget = |lock: Lock| std::mem::forget(lock.lock().unwrap());
    match role().as_deref() {
        None => ["first thread", "ended thread"].into_iter().for_each(hands_on),
        Some("first thread") => ends_holding(forget),
        Some(_) => ends_holding(|lock| thread::spawn(move || forget(lock)).join().unwrap()),
    }
}

#[test]
fn what_another_thread_holds_at_the_end_is_handed_on() {
    let _dog = watched();
    if role().is_none() {
        return hands_on("other thread");
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
fn main_that_panics_or_returns_early_waits_all_the_same() {
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
fn pipes_end_with_main() {
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
