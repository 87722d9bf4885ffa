//! A process is killed at every instruction of meeting at a barrier, counting a latch down, and running a `Once`. It is
//! also killed at the exact places where another process would wait for ever.

use crate::support;
use std::time::Duration;

use crate::support::scene::crash;
use crate::support::stepping::{ends_if_woken, leaked, step, with_record};
use crate::support::{Diary, OTHER, VICTIM, arena, assert_finished, nothing_in, open};
use procession::internals::{self, Rule};
use procession::sync::{Barrier, Broken, Latch, LockError, Once, WaitError};
use procession_testkit::{Gate, Report, isolated, proc, run_until, spawn_parked};

/// Checks that the victim's death broke the barrier, and that no party has to wait.
fn nobody_waits_at(barrier: &Barrier, victim: i32) -> Result<(), String> {
    let soon = Duration::from_millis(200);
    ensure!(barrier.is_broken(), "the barrier does not know of the death");
    match barrier.wait_timeout(soon) {
        Err(WaitError::Broken(Broken::ProcessDied { pid })) if pid.cast_signed() == victim => {}
        other => return Err(format!("{other:?}")),
    }
    barrier.reset().map_err(|e| e.to_string())?;
    ensure!(!barrier.is_broken(), "a reset does not repair the barrier");
    Ok(())
}

/// The victim times out, which breaks the barrier too. The barrier reports whichever cause came first.
#[test]
fn a_party_runs_out_of_time() {
    isolated!({
        arena();
        let barrier = leaked(Barrier::new(2));
        open([VICTIM]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            internals::hold(barrier);
            gate.begin();
            assert_eq!(barrier.wait_timeout(Duration::from_millis(1)), Err(WaitError::TimedOut));
            gate.end();
        };
        let report = crash().run(victim, |point| {
            internals::recover(VICTIM);
            match barrier.wait_timeout(Duration::from_secs(1)) {
                Err(WaitError::Broken(Broken::TimedOut)) => {}
                Err(WaitError::Broken(Broken::ProcessDied { pid }))
                    if pid.cast_signed() == point.victim_pid => {}
                other => return Err(format!("{other:?}")),
            }
            nothing_in(VICTIM)
        });
        assert_finished(&report);
    });
}

/// The victim is the only party, so each of its arrivals completes a round. Its death breaks the current
/// round.
#[test]
fn a_party_of_one_passes() {
    isolated!({
        arena();
        let barrier = leaked(Barrier::new(1));
        open([VICTIM]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            internals::hold(barrier);
            gate.begin();
            barrier.wait().unwrap();
            barrier.wait().unwrap();
            gate.end();
        };
        let report = crash().run(victim, |point| {
            internals::recover(VICTIM);
            nobody_waits_at(barrier, point.victim_pid)?;
            nothing_in(VICTIM)
        });
        assert_finished(&report);
    });
}

/// At each instruction of a party that arrives, another party arrives, and then the first is killed. The other party
/// passes, or gets an error.
fn another_arrives_meanwhile(limit: Duration) -> Report {
    arena();
    let barrier = leaked(Barrier::new(2));
    open([VICTIM, OTHER]);
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        internals::hold(barrier);
        gate.begin();
        let _ = barrier.wait();
        gate.end();
    };
    let other = || {
        internals::open_slot(OTHER);
        internals::become_member(OTHER);
        internals::hold(barrier);
        match barrier.wait() {
            Ok(_) | Err(WaitError::Broken(Broken::ProcessDied { .. })) => {}
            Err(other) => panic!("{other}"),
        }
    };
    let step = crash().checker_limit(limit);
    step.run_pairwise(victim, other, || internals::recover(VICTIM), |_| nothing_in(VICTIM))
}

#[test]
fn another_party_passes_or_gets_an_error() {
    isolated!({
        let report = another_arrives_meanwhile(Duration::from_secs(3));
        report.assert_sound();
        assert!(report.points > 3, "{report}");
    });
}

/// The control: if the barrier is not notified of deaths, the other party waits for ever.
#[test]
fn without_the_rule_other_parties_wait_for_ever() {
    isolated!({
        internals::break_rule(Rule::BarrierNotified);
        another_arrives_meanwhile(Duration::from_millis(500)).assert_broken();
    });
}

/// The last party is killed after it has closed the round and before its wake.
fn kill_the_last_party_before_its_wake() -> bool {
    arena();
    open([VICTIM, OTHER]);
    let barrier = leaked(Barrier::new(2));
    let mut first = spawn_parked(|| {
        internals::become_member(OTHER);
        internals::hold(barrier);
        barrier.wait().expect("all parties have arrived");
    });
    let mut last = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            internals::hold(barrier);
            gate.begin();
            let _ = barrier.wait();
            gate.end();
        },
        |_| barrier.waiting() == 0,
    );
    last.kill();
    assert!(proc::is_parked(first.pid));
    internals::recover(VICTIM);
    ends_if_woken(&mut first)
}

#[test]
fn a_last_party_killed_before_its_wake_leaves_no_party_asleep() {
    isolated!({
        assert!(kill_the_last_party_before_its_wake());
    });
}

#[test]
fn a_barrier_can_shrink_at_every_instruction() {
    isolated!({
        arena();
        let barrier = leaked(Barrier::builder(2).shrink(true).build());
        open([VICTIM]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            internals::hold(barrier);
            gate.begin();
            let _ = barrier.wait();
            gate.end();
        };
        let report = crash().run(victim, |_| {
            internals::recover(VICTIM);
            ensure!(barrier.parties() == 1, "{} parties are left of 2", barrier.parties());
            barrier.wait_timeout(Duration::from_secs(1)).map_err(|e| e.to_string())?;
            nothing_in(VICTIM)
        });
        report.assert_sound();
    });
}

#[test]
fn latch_and_once_can_be_used() {
    isolated!({
        arena();
        let (latch, once, diary) = (leaked(Latch::new(2)), leaked(Once::new()), Diary::new());
        let use_it = || {
            latch.count_down().unwrap();
            once.call_once(|| diary.write(0, 1)).unwrap();
            latch.count_down().unwrap();
            latch.wait().unwrap();
        };
        let check = |victim| {
            let (left, done) = (latch.count(), once.is_completed());
            ensure!(left <= 2, "{left} counts are left");
            ensure!(!done || diary.read(0) == 1, "the `Once` is completed, but its function has not run");
            (0..left).try_for_each(|_| latch.count_down().map_err(|e| e.to_string()))?;
            latch.try_wait().map_err(|e| e.to_string())?;
            match once.try_call_once(|| ()) {
                Ok(()) => return Ok(()),
                Err(LockError::OwnerDied(who)) if who.pid.cast_signed() == victim && !done => {}
                Err(other) => return Err(other.to_string()),
            }
            once.call_once_or_recover(|_| ()).map_err(|e| e.to_string())
        };
        assert_finished(&step(crash(), with_record, use_it, check));
    });
}

/// A function that a `Once` runs panics. Its process is killed after it has released the `Once` and before it
/// has woken the waiters.
#[test]
fn a_failed_once_killed_before_its_wake_leaves_no_waiter_asleep() {
    isolated!({
        arena();
        open([VICTIM, OTHER]);
        let once = leaked(Once::new());
        let mut waits = spawn_parked(|| {
            internals::become_member(OTHER);
            assert!(matches!(once.wait(), Err(LockError::Panicked(_))));
        });
        let mut does = run_until(
            |gate: &Gate| {
                internals::become_member(VICTIM);
                std::panic::set_hook(Box::new(|_| ()));
                gate.begin();
                let _ =
                    std::panic::catch_unwind(|| once.call_once(|| std::panic::resume_unwind(Box::new(()))));
                gate.end();
            },
            |_| matches!(once.try_wait(), Err(LockError::Panicked(_))),
        );
        does.kill();
        assert!(proc::is_parked(waits.pid));
        internals::recover(VICTIM);
        assert_eq!(waits.wait(), 0, "{}", waits.text());
    });
}

/// A party reads the current round, and stops until that round is over and another party waits in the next
/// round. At whatever instruction the first party stopped, it must not take the other's place.
#[test]
fn a_late_party_takes_no_other_s_place() {
    isolated!({
        internals::break_rule(Rule::Spins);
        arena();
        let diary = Diary::new();
        let met = |barrier: &Barrier, place| match barrier.wait_timeout(Duration::from_secs(30)) {
            Ok(_) => diary.write(place, 1),
            Err(WaitError::Broken(Broken::Reset)) => diary.write(place, 2),
            Err(other) => panic!("{other}"),
        };
        for steps in (0..).step_by(if cfg!(debug_assertions) { 20 } else { 3 }) {
            let barrier = leaked(Barrier::new(2));
            open([VICTIM, OTHER]);
            let mut parked = false;
            let mut late = run_until(
                |gate: &Gate| {
                    internals::become_member(VICTIM);
                    internals::hold(barrier);
                    with_record();
                    gate.begin();
                    met(barrier, 0);
                    gate.end();
                },
                |point| {
                    parked = point.parked;
                    parked || point.step >= steps
                },
            );
            barrier.reset().unwrap();
            let mut first = spawn_parked(|| {
                internals::become_member(OTHER);
                internals::hold(barrier);
                met(barrier, 1);
            });
            support::go_on(&late);
            assert_eq!(late.wait(), 0, "{}", late.text());
            if diary.read(0) == 2 {
                let here = barrier.wait_timeout(Duration::from_secs(10));
                assert!(here.is_ok(), "after {steps} instructions: {here:?}");
            }
            assert_eq!((first.wait(), diary.read(1)), (0, 1), "{}", first.text());
            [VICTIM, OTHER].into_iter().for_each(internals::recover);
            if parked {
                assert!(steps > 20, "the party slept after {steps} instructions");
                return;
            }
        }
    });
}

/// A party dies before it has taken the handle out of its arguments.
fn a_party_dies_on_its_way() -> bool {
    arena();
    let barrier = leaked(Barrier::new(2));
    internals::open_spare(VICTIM);
    let comes = |barrier: Barrier| barrier.wait().map(drop);
    let _party = procession::Process::spawn(comes, (barrier.clone(),)).expect("the spare takes it");
    internals::recover(VICTIM);
    barrier.is_broken()
}

#[test]
fn a_party_that_dies_before_its_function_breaks_the_barrier() {
    isolated!({
        assert!(a_party_dies_on_its_way());
    });
}

#[test]
fn without_the_rule_a_dead_party_s_arguments_are_ignored() {
    isolated!({
        internals::break_rule(Rule::UndecodedBarrierNotified);
        assert!(!a_party_dies_on_its_way());
    });
}

/// A party cannot decode its arguments, and is killed at every instruction of reporting that. The barrier counts its
/// absence once.
#[test]
fn a_party_that_cannot_come_is_counted_once() {
    isolated!({
        arena();
        for shrinks in [true, false] {
            let barrier = leaked(Barrier::builder(3).shrink(shrinks).build());
            open([VICTIM]);
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                // The block is large so that it has few neighbors, because each neighbor is examined.
                internals::pack(&(barrier.clone(), "text".repeat(2500))).unwrap();
                gate.begin();
                internals::say_that_it_does_not_come();
                gate.end();
            };
            let report = crash().run(victim, |point| {
                internals::recover(VICTIM);
                let left = barrier.parties();
                ensure!(left == 3 - usize::from(shrinks), "{left} parties of 3 are left");
                if !shrinks {
                    nobody_waits_at(barrier, point.victim_pid)?;
                }
                nothing_in(VICTIM)
            });
            assert_finished(&report);
        }
    });
}
