//! Ctrl-C: a SIGINT to the process group of main.
#![allow(unsafe_code, reason = "signals")]

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::family::*;
use procession::pool::TaskError;
use procession::process::{Interrupts, StartMethod};
use procession::{Pool, Process};

/// Starts main in the role `role`, sends SIGINT to its group once it is ready, then posts `go`. Returns what
/// main printed.
#[track_caller]
fn interrupted(role: &str) -> String {
    let board = Board::new();
    let mut main = Running::start(program(role, &board).stdout(Stdio::piped()));
    board.wait("ready");
    send(-main.pid(), libc::SIGINT);
    post(&board.path(), "go", "");
    let mut text = String::new();
    main.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(main.end().success(), "{text}");
    until_nothing_is_left(&board);
    text
}

/// A task that has begun, and is done when `go` is posted.
fn task(name: String) -> usize {
    post(&my_board(), &name, "");
    wait_for(&my_board(), "go");
    name.len()
}

/// A task that executes a program, which is done when `go` is posted.
fn program_of_a_task(name: String) -> bool {
    let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    post(&my_board(), &name, "");
    wait_for(&my_board(), "go");
    drop(cat.stdin.take());
    cat.wait().unwrap().success()
}

#[test]
fn tasks_continue_if_main_handles_ctrl_c() {
    let _dog = watched();
    if role().is_some() {
        let pool = Pool::new(2).unwrap();
        ignore_signals(); // only main: the supervisor has already started
        let task = pool.submit(task, ("task".into(),)).unwrap();
        let program = pool.submit(program_of_a_task, ("program".into(),)).unwrap();
        wait_for(&my_board(), "task");
        wait_for(&my_board(), "program");
        post(&my_board(), "ready", "");
        println!("{:?} {:?} {}", task.get(), program.get(), pool.stats().deaths);
        return;
    }
    let text = interrupted("main");
    assert!(text.contains("Ok(4) Ok(true) 0"), "{text}");
}

#[test]
fn main_can_end_its_pool_at_ctrl_c() {
    let _dog = watched();
    if role().is_some() {
        let pool = Pool::new(1).unwrap();
        ignore_signals();
        let endless = pool.submit(
            || {
                post(&my_board(), "ready", "");
                forever();
            },
            (),
        );
        wait_for(&my_board(), "go");
        pool.terminate().unwrap();
        println!("{:?} {:?}", endless.unwrap().get(), pool.join());
        return;
    }
    let text = interrupted("main");
    assert!(text.contains("Err(Terminated) Ok(())"), "{text}");
}

#[test]
fn ctrl_c_without_a_handler_ends_a_family_with_a_pool() {
    let _dog = watched();
    if role().is_some() {
        let pool = Pool::new(2).unwrap();
        let tasks = ["task", "program"];
        let _task = pool.submit(task, (tasks[0].into(),)).unwrap();
        let _program = pool.submit(program_of_a_task, (tasks[1].into(),)).unwrap();
        _ = tasks.map(|name| wait_for(&my_board(), name));
        post(&my_board(), "ready", "");
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
fn workers_can_share_ctrl_c_with_main() {
    let _dog = watched();
    if role().is_some() {
        let pool = Pool::builder().workers(1).interrupts(Interrupts::Shared).build().unwrap();
        let endless = pool.submit(
            || {
                post(&my_board(), "begun", "");
                forever();
            },
            (),
        );
        ignore_signals();
        wait_for(&my_board(), "begun");
        post(&my_board(), "ready", "");
        let error = endless.unwrap().get().unwrap_err();
        println!("{}", matches!(error, TaskError::WorkerDied { signal: Some(libc::SIGINT), .. }));
        return;
    }
    assert!(interrupted("main").contains("true"));
}

#[test]
fn a_process_can_leave_ctrl_c_to_main() {
    let _dog = watched();
    if role().is_some() {
        let shielded = Process::builder().interrupts(Interrupts::MainOnly);
        let executed = shielded.clone().start_method(StartMethod::Spawn);
        let both = [shielded.spawn(task, ("forked".into(),)), executed.spawn(task, ("fresh".into(),))];
        _ = ["forked", "fresh"].map(|name| wait_for(&my_board(), name));
        ignore_signals();
        post(&my_board(), "ready", "");
        println!("{:?}", both.map(|p| p.unwrap().join()));
        return;
    }
    let text = interrupted("main");
    assert!(text.contains("[Ok(6), Ok(5)]"), "{text}");
}

#[test]
fn a_shielded_process_ignores_interrupts_at_any_time() {
    let _dog = watched();
    let shielded = Process::builder().interrupts(Interrupts::MainOnly);
    for builder in [shielded.clone(), shielded.start_method(StartMethod::Spawn)] {
        for n in 0..25 {
            let p = builder.spawn(|n: u32| n, (n,)).unwrap();
            p.interrupt().unwrap();
            assert_eq!(p.join(), Ok(n));
        }
    }
}
