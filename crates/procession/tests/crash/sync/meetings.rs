//! A process is killed at every instruction of meeting at a barrier, of counting a latch down and of doing
//! something once; and at the exact places where somebody would wait for ever.

use crate::support;
use std::time::Duration;

use crate::support::scene::crash;
use crate::support::stepping::{ends_if_woken, leaked, step, with_record};
use crate::support::{Diary, OTHER, VICTIM, arena, assert_finished, nothing_in, open};
use procession::internals::{self, Rule};
use procession::sync::{Barrier, Broken, Latch, LockError, Once, WaitError};
use procession_testkit::{Gate, Report, isolated, proc, run_until, spawn_parked};

/// It is broken by the victim, or the round was over: nobody has to wait.
fn nobody_waits_at(barrier: &Barrier, victim: i32) -> Result<(), String> {
    let soon = Duration::from_millis(200);
    ensure!(barrier.is_broken(), "it does not know of the death");
    match barrier.wait_timeout(soon) {
        Err(WaitError::Broken(Broken::ProcessDied { pid })) if pid == victim => {}
        other => return Err(format!("{other:?}")),
    }
    barrier.reset().map_err(|e| e.to_string())?;
    ensure!(!barrier.is_broken(), "a reset does not help");
    Ok(())
}

/// It runs out of time, which breaks the barrier too: whichever came first is told.
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
                Err(WaitError::Broken(Broken::ProcessDied { pid })) if pid == point.victim_pid => {}
                other => return Err(format!("{other:?}")),
            }
            nothing_in(VICTIM)
        });
        assert_finished(&report);
    });
}

/// The only party: every round is its own, and its death breaks whatever round there is.
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

/// At each instruction of a party that arrives, another one arrives, and then the first is killed: the other
/// comes through, or is told.
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
fn another_party_comes_through_or_is_told() {
    isolated!({
        let report = another_arrives_meanwhile(Duration::from_secs(3));
        report.assert_sound();
        assert!(report.points > 3, "{report}");
    });
}

/// The control: a barrier that does not hear of deaths lets the other wait for ever.
#[test]
fn a_barrier_that_is_not_told_lets_others_wait() {
    isolated!({
        internals::break_rule(Rule::BarrierTold);
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
        barrier.wait().expect("all were there");
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
fn a_last_party_that_is_killed_before_its_wake_leaves_nobody_asleep() {
    isolated!({
        assert!(kill_the_last_party_before_its_wake());
    });
}

#[test]
fn a_barrier_shrinks_at_every_instruction() {
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
fn a_latch_is_counted_down_and_something_is_done_once() {
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
            ensure!(!done || diary.read(0) == 1, "it says that it is done, and it is not");
            (0..left).try_for_each(|_| latch.count_down().map_err(|e| e.to_string()))?;
            latch.try_wait().map_err(|e| e.to_string())?;
            match once.try_call_once(|| ()) {
                Ok(()) => return Ok(()),
                Err(LockError::OwnerDied(who)) if who.pid == victim && !done => {}
                Err(other) => return Err(other.to_string()),
            }
            once.call_once_or_recover(|_| ()).map_err(|e| e.to_string())
        };
        assert_finished(&step(crash(), with_record, use_it, check));
    });
}

/// Who does something once fails, and is killed after it has let go and before it has woken who waits for that.
#[test]
fn who_fails_and_is_killed_before_its_wake_leaves_nobody_asleep() {
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

/// A party sees which round it is, and stands still until that round is over and somebody waits in the next.
/// It must not take that one's place, at whatever instruction it stood.
#[test]
fn who_arrives_late_takes_nobodys_place() {
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
                assert!(steps > 20, "it slept after {steps} instructions");
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
fn a_party_that_dies_before_it_looks_at_its_arguments_is_missed_by_nobody() {
    isolated!({
        assert!(a_party_dies_on_its_way());
    });
}

#[test]
fn without_a_look_at_its_arguments_a_party_that_is_to_come_is_waited_for() {
    isolated!({
        internals::break_rule(Rule::ArgumentsTold);
        assert!(!a_party_dies_on_its_way());
    });
}

/// A party cannot read its arguments, and is killed at every instruction of saying so: it is missed once.
#[test]
fn a_party_that_does_not_come_is_missed_once_at_every_instruction() {
    isolated!({
        arena();
        for shrinks in [true, false] {
            let barrier = leaked(Barrier::builder(3).shrink(shrinks).build());
            open([VICTIM]);
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                // In a block with few neighbours: it looks at each.
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
