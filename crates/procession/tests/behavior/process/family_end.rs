//! The end of a family: main is killed, the supervisor is killed, or main ends normally. No process is left.
#![allow(unsafe_code, reason = "stops processes")]

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::family::*;
use procession::{Lock, Process};
use procession_testkit::proc;

/// Spawns one child of this process in each state that a child can be in.
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
        // No test waits for this sleep. It is one of the system calls that the end of the family must interrupt.
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
    until("the last child is stopped", || proc::state(last) == Some('T'));
    let unborn = sleeper().pid().unwrap();
    send(unborn, libc::SIGSTOP);
    post(board, "ready", supervisor());
    thread::spawn(|| {
        loop {
            drop(sleeper())
        }
    });
}

#[test]
fn killing_main_kills_children_in_every_state() {
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
        until_dead(&[supervisor]);
    }
}

#[test]
fn killing_main_while_it_spawns_leaves_no_process() {
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
        // Each round kills main at a later moment. The first kill comes before the supervisor has started.
        until("as many processes have started", || members(&board).len() > round as usize);
        send(main.pid(), libc::SIGKILL);
        main.end();
        until_nothing_is_left(&board);
    }
}

#[test]
fn a_child_can_end_the_family() {
    let _dog = watched();
    if let Some(role) = role() {
        let others: Vec<_> = (0..4).map(|_| sleeper()).collect();
        let ends = |role: String| {
            let main = procession::parent_process().unwrap().expect("main spawned this process");
            match role.as_str() {
                "kill" => main.kill().unwrap(),
                "terminate" => main.terminate().unwrap(),
                _ => main.interrupt().unwrap(),
            }
            forever();
        };
        Process::spawn(ends, (role,)).unwrap().join().unwrap_err();
        drop(others);
        return forever();
    }
    for (role, signal) in [("kill", libc::SIGKILL), ("terminate", libc::SIGTERM), ("interrupt", libc::SIGINT)]
    {
        let board = Board::new();
        let mut main = Running::start(program(role, &board).stdout(Stdio::null()).stderr(Stdio::null()));
        assert_eq!(main.end().signal(), Some(signal), "{role}");
        until_nothing_is_left(&board);
    }
}

#[test]
fn a_main_that_executes_another_program_ends_the_family() {
    let _dog = watched();
    if role().is_some() {
        let child = sleeper();
        post(&my_board(), "child", child.pid().unwrap());
        panic!("{}", Command::new("sleep").arg("1000").exec());
    }
    let board = Board::new();
    let main = Running::start(program("main", &board).stdout(Stdio::null()));
    let child = board.number("child");
    until_dead(&[child]);
    until("only main is left", || members(&board) == [main.pid()]);
    assert_eq!(proc::comm(main.pid()).as_deref(), Some("sleep"));
}

#[test]
fn a_main_without_descriptors_keeps_its_family() {
    let _dog = watched();
    if role().is_some() {
        let before = sleeper();
        // SAFETY: closes descriptors that this process no longer uses.
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
        let board = my_board();
        let begins = |board: String| {
            post(&board, "begun", "");
            forever();
        };
        let child = Process::builder().daemon(true).spawn(begins, (board.clone(),)).unwrap();
        ignore_signals();
        let deaf = || {
            ignore_signals();
            post(&my_board(), "deaf", "");
            wait_for(&my_board(), "go").len()
        };
        let deaf = Process::spawn(deaf, ()).unwrap();
        wait_for(&board, "begun");
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
        // A shell without job control may have made this process ignore the signal.
        // SAFETY: a valid disposition.
        unsafe { libc::signal(libc::SIGTSTP, libc::SIG_DFL) };
        let waits = |board: String| {
            post(&board, "begun", "");
            wait_for(&board, "go").len()
        };
        let child = Process::spawn(waits, (my_board(),)).unwrap();
        wait_for(&my_board(), "begun");
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

/// Either the whole group, including the supervisor, is stopped, or only the supervisor. Then main is killed,
/// and no process sends SIGCONT. A plain fork of main lives on, but does not keep the family alive.
#[test]
fn killing_main_while_its_family_is_stopped_leaves_no_process() {
    let _dog = watched();
    if role().is_some() {
        let child = sleeper();
        // SAFETY: the fork does nothing but wait for the end of the test.
        let fork = unsafe { libc::fork() };
        if fork == 0 {
            forever();
        }
        post(&my_board(), "fork", fork);
        post(&my_board(), "child", child.pid().unwrap());
        post(&my_board(), "supervisor", supervisor());
        return forever();
    }
    let cases: [fn(i32, i32); 2] =
        [|group, _| send(-group, libc::SIGSTOP), |_, supervisor| send(supervisor, libc::SIGSTOP)];
    for stop in cases {
        let board = Board::new();
        // This child of the test is in main's group. Otherwise main's end would orphan the group, and the
        // kernel would continue it.
        let companion = Running::start(Command::new("sleep").arg("1000").process_group(0));
        let mut program = program("main", &board);
        program.process_group(companion.pid()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut main = Running::start(&mut program);
        let [supervisor, child, fork] = ["supervisor", "child", "fork"].map(|name| board.number(name));
        stop(companion.pid(), supervisor);
        until("the supervisor is stopped", || proc::state(supervisor) == Some('T'));
        send(main.pid(), libc::SIGKILL);
        main.end();
        until_dead(&[supervisor, child]);
        send(fork, libc::SIGKILL);
        until_nothing_is_left(&board);
    }
}
