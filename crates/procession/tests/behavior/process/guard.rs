//! The guard kills the processes that a dead supervisor leaves behind. It also wakes the supervisor for
//! members that may not signal the supervisor.
#![allow(unsafe_code, reason = "changes the user")]

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::family::*;
use procession::Process;
use procession::internals::Rule;
use procession_testkit::proc;

/// Runs a main that is stopped while its supervisor is killed. Returns whether a process started by a child
/// outlives the guard.
fn outlives_the_guard(rule: Option<Rule>) -> Option<bool> {
    let _dog = watched();
    if role().is_some() {
        let starts = |board: String| {
            let started = std::process::Command::new("sleep").arg("1000").spawn().unwrap().id();
            post(&board, "started", started);
            forever()
        };
        let _child = Process::spawn(starts, (my_board(),)).unwrap();
        wait_for(&my_board(), "started");
        post(&my_board(), "supervisor", supervisor());
        forever();
        return None;
    }
    let board = Board::new();
    let mut main = Running::start(breaking(&mut program("main", &board), rule));
    let (supervisor, started) = (board.number("supervisor"), board.number("started"));
    let guard = proc::ppid(supervisor).expect("it lives");
    // Main is stopped, so it cannot help to end the other processes.
    send(main.pid(), libc::SIGSTOP);
    send(supervisor, libc::SIGKILL);
    until_dead(&[supervisor, guard]);
    let outlives = !proc::gone(started);
    send(main.pid(), libc::SIGKILL);
    main.end();
    if outlives {
        send(started, libc::SIGKILL);
    }
    until_nothing_is_left(&board);
    Some(outlives)
}

#[test]
fn a_program_started_by_a_child_does_not_outlive_the_guard() {
    assert_ne!(outlives_the_guard(None), Some(true));
}

#[test]
fn without_the_rule_a_program_started_by_a_child_outlives_the_guard() {
    assert_ne!(outlives_the_guard(Some(Rule::GuardKills)), Some(false));
}

/// Spawns more processes than there are spares, as a user that may not signal the supervisor. Returns true if
/// all of them start. Returns false if the spawning thread sleeps and no process is about to wake it.
fn spawns_as_another_user() -> bool {
    const MANY: usize = 20;
    static SPAWNED: AtomicUsize = AtomicUsize::new(0);
    let supervisor = supervisor();
    let helpers = [supervisor, proc::ppid(supervisor).expect("it lives")];
    let sleeps = |pid: i32| proc::state(pid) == Some('S');
    // SAFETY: a plain call.
    assert_eq!(unsafe { libc::setuid(65534) }, 0);
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // SAFETY: a plain call.
        tell.send(unsafe { libc::gettid() }).unwrap();
        for _ in 0..MANY {
            // A supervisor that is awake would create spares without being called.
            until("the supervisor and its guard sleep", || helpers.into_iter().all(sleeps));
            std::mem::forget(sleeper());
            SPAWNED.fetch_add(1, SeqCst);
        }
    });
    let spawner = told.recv().unwrap();
    // Examines the spawner before the helpers. If the spawner wakes a helper and falls asleep, that helper
    // stays awake until it has served the request.
    let all_sleep = || sleeps(spawner) && helpers.into_iter().all(sleeps) && sleeps(spawner);
    let mut in_a_row = 0;
    until("all have started, or all sleep", || {
        let spawned = SPAWNED.load(SeqCst);
        in_a_row = if all_sleep() && SPAWNED.load(SeqCst) == spawned { in_a_row + 1 } else { 0 };
        spawned == MANY || in_a_row == 50
    });
    SPAWNED.load(SeqCst) == MANY
}

/// Runs a main that changes its user, and returns the result of [`spawns_as_another_user`].
fn wakes_supervisor_as_another_user(rule: Option<Rule>) -> Option<bool> {
    let _dog = watched();
    if role().is_some() {
        post(&my_board(), "all came", spawns_as_another_user());
        forever();
        return None;
    }
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: changing the user needs root");
        return None;
    }
    let board = Board::new();
    fs::set_permissions(board.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut main = Running::start(breaking(&mut program("main", &board), rule));
    let all_came = board.wait("all came") == "true";
    send(main.pid(), libc::SIGKILL);
    main.end();
    until_nothing_is_left(&board);
    Some(all_came)
}

#[test]
fn the_supervisor_serves_a_member_that_may_not_signal_it() {
    assert_ne!(wakes_supervisor_as_another_user(None), Some(false));
}

#[test]
fn without_the_rule_a_member_that_may_not_signal_is_not_served() {
    assert_ne!(wakes_supervisor_as_another_user(Some(Rule::WakesThroughGuard)), Some(true));
}
