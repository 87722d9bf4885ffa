//! A main that adopts orphans, because it is the first process of a container or a subreaper. It waits for
//! all its children.
#![allow(unsafe_code, reason = "system calls")]

use std::process::Command;
use std::ptr::null_mut;

use crate::family::*;
use procession::Process;
use procession::internals::Rule;
use procession_testkit::{isolated, proc};

/// Waits until no child is left, and returns the process ids that `waitpid` reported.
fn found_by_waiting_for_all() -> Vec<i32> {
    // SAFETY: no status is asked for.
    let next = || unsafe { libc::waitpid(-1, null_mut(), 0) };
    std::iter::from_fn(|| Some(next()).filter(|&pid| pid > 0)).collect()
}

/// Returns whether `waitpid(-1)` finds a child that has not ended.
fn has_a_child_to_wait_for() -> bool {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(-1, null_mut(), libc::WNOHANG) == 0 }
}

fn adopt_orphans() {
    // SAFETY: a system call without pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Returns the process ids of the guard's parent, the guard and the supervisor.
fn helpers() -> [i32; 3] {
    let supervisor = supervisor();
    let guard = proc::ppid(supervisor).expect("it lives");
    [proc::ppid(guard).expect("it lives"), guard, supervisor]
}

/// Kills the helpers of a family one after the other, and waits for all children before and after each kill.
#[allow(clippy::zombie_processes, reason = "`found_by_waiting_for_all` reaps it")]
fn lives_and_waits_for_all() {
    for victim in 0..3 {
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        assert!(found_by_waiting_for_all().is_empty());
        let own = Command::new("true").spawn().unwrap();
        assert_eq!(found_by_waiting_for_all(), [own.id() as i32]);
        let (child, helpers) = (sleeper(), helpers());
        assert_eq!(
            proc::ppid(helpers[0]),
            Some(std::process::id() as i32),
            "the guard's parent is main's child"
        );
        send(helpers[victim], libc::SIGKILL);
        child.join().unwrap_err();
        // Main adopts only the guard, and only if the guard's parent was killed.
        assert!(found_by_waiting_for_all().iter().all(|&pid| victim == 0 && pid == helpers[1]));
        until("a new family serves", || Process::spawn(|| 1, ()).is_ok_and(|p| p.join() == Ok(1)));
        assert!(found_by_waiting_for_all().is_empty());
        until("the helpers are reaped", || helpers.iter().all(|&pid| proc::state(pid).is_none()));
    }
    println!("all went well");
}

#[test]
fn a_subreaper_waits_for_all_its_children() {
    isolated!({
        adopt_orphans();
        lives_and_waits_for_all();
    });
}

#[test]
fn the_first_process_of_a_container_waits_for_all_its_children() {
    let _dog = watched();
    if role().is_some() {
        assert_eq!(std::process::id(), 1);
        return lives_and_waits_for_all();
    }
    let board = Board::new();
    let program = program("first", &board);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().expect("unshare runs");
    let text = text_of(&output);
    until_nothing_is_left(&board);
    if text.contains("unshare failed") {
        eprintln!("SKIPPED: no namespaces here: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("all went well"), "{}: {text}", output.status);
}

/// Runs a subreaper that spawns a process, and returns whether the subreaper then has a child to wait for.
fn is_left_with_a_child(rule: Option<Rule>) -> Option<bool> {
    let _dog = watched();
    if role().is_some() {
        adopt_orphans();
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        println!("has a child: {}", has_a_child_to_wait_for());
        return None;
    }
    let board = Board::new();
    let text = succeeds(breaking(&mut program("main", &board), rule));
    until_nothing_is_left(&board);
    Some(text.contains("has a child: true"))
}

#[test]
fn a_subreaper_is_left_with_no_child() {
    assert_ne!(is_left_with_a_child(None), Some(true));
}

#[test]
fn without_the_rule_a_subreaper_is_left_with_the_guard() {
    assert_ne!(is_left_with_a_child(Some(Rule::ParentStays)), Some(false));
}

#[test]
fn nothing_is_left_of_a_subreaper_that_is_killed() {
    let _dog = watched();
    if role().is_some() {
        adopt_orphans();
        let _child = sleeper();
        post(&my_board(), "helpers", helpers().map(|pid| pid.to_string()).join(" "));
        return forever();
    }
    let board = Board::new();
    let mut main = Running::start(&mut program("main", &board));
    let helpers: Vec<i32> = board.wait("helpers").split(' ').map(|pid| pid.parse().unwrap()).collect();
    send(main.pid(), libc::SIGKILL);
    main.end();
    until_dead(&helpers);
    until_nothing_is_left(&board);
}

/// A main that has become an ordinary user still reaps the guard's parent.
#[test]
fn a_subreaper_that_has_changed_its_user_waits_for_all_its_children() {
    isolated!({
        adopt_orphans();
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        // SAFETY: a plain call.
        if unsafe { libc::setuid(65534) } != 0 {
            return eprintln!("SKIPPED: changing the user needs root");
        }
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        assert!(found_by_waiting_for_all().is_empty());
    });
}
