//! A process asks for its parent while the parent is dead and being recovered. It learns that it has no parent, or gets
//! a handle that reports how the parent ended.

use std::ops::Range;

use crate::support::{LONG, OTHER, VICTIM, arena, done_by, go_on, watched};
use procession::internals;
use procession::process::wait_any;
use procession::{AnyProcess, Process, parent_process};
use procession_testkit::{Gate, isolated, proc, run_until, spawn_parked};

/// Starts processes that run nothing yet: a child of main, and a child of that child.
fn parent_and_child() {
    internals::open_spare(OTHER);
    drop(Process::spawn(|| (), ()).expect("the spare takes it"));
    internals::open_slot(OTHER);
    internals::open_spare(VICTIM);
    done_by(OTHER, || {
        std::mem::forget(Process::spawn(|| (), ()).expect("the spare takes it"));
        0
    });
    internals::open_slot(VICTIM);
}

/// The child calls a function that asks for its parent, and stops at the `at`-th instruction of the call.
/// Meanwhile the recovery of the parent proceeds as far as it can without completing. Then both continue. Returns the number of the child's
/// instructions, and whether the child ends.
fn ask_during_recovery(at: u64) -> (u64, bool) {
    parent_and_child();
    let (objects, mut steps) = (internals::objects(), 0);
    let mut asking = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            let parent = parent_process().expect("an answer");
            gate.end();
            if let Some(parent) = parent {
                parent.wait().expect_err("the parent was killed");
            }
        },
        |point| {
            steps = point.step;
            point.finished || point.step >= at
        },
    );
    let mut burying = run_until(
        |gate: &Gate| {
            gate.begin();
            internals::recover(OTHER);
            gate.end();
        },
        |point| point.finished || (point.step % 16 == 0 && internals::objects() < objects),
    );
    go_on(&asking);
    proc::wait_until("the child has returned", LONG, || {
        asking.try_wait().is_some() || proc::is_parked(asking.pid)
    });
    go_on(&burying);
    assert_eq!(burying.wait(), 0, "{}", burying.text());
    let ended = !proc::is_parked(asking.pid);
    if ended {
        assert_eq!(asking.wait(), 0, "{}", asking.text());
    }
    drop(asking);
    internals::recover(VICTIM);
    internals::collect();
    (steps, ended)
}

/// A process waits until the first of several processes ends, and stops at its `at`-th instruction. Meanwhile
/// main recovers the ended process, as happens when the supervisor is lost. Returns the number of the
/// waiter's instructions, and whether the waiter ends.
fn wait_during_recovery(at: u64) -> (u64, bool) {
    internals::open_spare(OTHER);
    let process = Process::spawn(|| (), ()).expect("the spare takes it");
    internals::open_slot(OTHER);
    internals::open_slot(VICTIM);
    let mut steps = 0;
    let mut waiting = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            internals::inherit_handles(0);
            let any = [AnyProcess::from(&process)];
            gate.begin();
            let first = wait_any(&any);
            gate.end();
            assert_eq!(first, Ok(0));
        },
        |point| {
            steps = point.step;
            point.finished || point.parked || point.step >= at
        },
    );
    internals::recover(OTHER);
    go_on(&waiting);
    proc::wait_until("the waiter has returned", LONG, || {
        waiting.try_wait().is_some() || proc::is_parked(waiting.pid)
    });
    let ended = !proc::is_parked(waiting.pid);
    if ended {
        assert_eq!(waiting.wait(), 0, "{}", waiting.text());
    }
    drop(waiting);
    internals::recover(VICTIM);
    internals::collect();
    (steps, ended)
}

#[test]
fn a_wait_for_the_first_end_does_not_hang_during_recovery() {
    isolated!({
        arena();
        internals::adopt_working_directory();
        let (steps, ended) = wait_during_recovery(u64::MAX);
        assert!(steps > 100 && ended, "{steps} {ended}");
        let hang: Vec<u64> =
            (steps.saturating_sub(400)..steps).step_by(4).filter(|&at| !wait_during_recovery(at).1).collect();
        assert!(
            hang.is_empty(),
            "the waiter hangs when it is overtaken at one of the steps {hang:?} of {steps}"
        );
    });
}

/// The supervisor is dead, and its children have been reaped. The process id in a slot may now belong to a
/// foreign process.
#[test]
fn a_foreign_process_with_a_reused_pid_gets_no_signal() {
    isolated!({
        arena();
        internals::adopt_working_directory();
        internals::open_spare(OTHER);
        let process = Process::spawn(|| (), ()).expect("the spare takes it");
        assert!(
            process.pidfd().expect_err("no pidfd can be opened yet").to_string().contains("asked for again")
        );
        internals::open_slot(OTHER);
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().expect("a stranger");
        internals::say_pid(OTHER, stranger.id() as i32);
        for signal in [Process::kill, Process::terminate, Process::interrupt] {
            signal(&process).expect("nobody minds");
        }
        assert!(process.pidfd().is_err());
        assert!(
            stranger.try_wait().expect("the child can be waited for").is_none(),
            "the foreign process was killed"
        );
        stranger.kill().and_then(|()| stranger.wait()).expect("the child can be waited for");
        // A process of the family is killed.
        let mut relative = spawn_parked(|| {
            internals::become_member(OTHER);
            std::thread::park();
        });
        process.kill().expect("the process can be killed");
        assert_eq!(relative.wait(), libc::SIGKILL);
        internals::recover(OTHER);
        assert!(process.pidfd().expect_err("the process has ended").to_string().contains("has ended"));
    });
}

/// Runs [`ask_during_recovery`] at some of 24 evenly spaced instructions.
fn ask_at(places: Range<u64>) {
    let _dog = watched();
    arena();
    internals::adopt_working_directory();
    let (steps, ended) = ask_during_recovery(u64::MAX);
    assert!(steps > 100 && ended);
    let hang: Vec<u64> = places.map(|n| steps * n / 24).filter(|&at| !ask_during_recovery(at).1).collect();
    assert!(hang.is_empty(), "the child hangs when it is overtaken at one of the steps {hang:?} of {steps}");
    assert_eq!(internals::census().objects, 0);
}

// In debug builds, neighbors among the 24 instructions are thousands of steps apart.

#[test]
fn a_parent_may_die_early_in_the_search() {
    isolated!({ ask_at(0..8) });
}

#[test]
fn a_parent_may_die_in_the_middle_of_the_search() {
    isolated!({ ask_at(8..16) });
}

#[test]
fn a_parent_may_die_late_in_the_search() {
    isolated!({ ask_at(16..24) });
}
