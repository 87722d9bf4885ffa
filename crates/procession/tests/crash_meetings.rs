//! A process is killed at every instruction of meeting at a barrier, of reading and writing under a
//! read-write lock, of counting a latch down and of doing something once.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use procession::internals::{self, Rule};
use procession::sync::{Barrier, Broken, Latch, LockError, Once, RwLock, WaitError};
use procession_testkit::{CrashStep, Gate, Report, freeze, isolated, proc, run_until, spawn_parked};
use support::scene::crash;
use support::{Before, Diary, OTHER, THIRD, VICTIM, arena, assert_finished, nothing_in, open, watched};

fn leaked<T>(made: procession::Result<T>) -> &'static T {
    Box::leak(Box::new(made.expect("an object")))
}

fn step_with(step: CrashStep, operation: impl Fn(), check: impl Fn(i32) -> Result<(), String>) -> Report {
    open([VICTIM]);
    let stock = Before::now();
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        drop(procession::Lock::new()); // so that it has a record
        gate.begin();
        operation();
        gate.end();
    };
    step.run(victim, |point| {
        internals::recover(VICTIM);
        check(point.victim_pid)?;
        nothing_in(VICTIM)?;
        stock.is_back()
    })
}

fn step(operation: impl Fn(), check: impl Fn(i32) -> Result<(), String>) -> Report {
    step_with(crash(), operation, check)
}

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
        let _dog = watched();
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
        let _dog = watched();
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
fn another_arrives_meanwhile() -> Report {
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
    let step = crash().checker_limit(Duration::from_secs(3));
    step.run_pairwise(victim, other, || internals::recover(VICTIM), |_| nothing_in(VICTIM))
}

#[test]
fn another_party_comes_through_or_is_told() {
    isolated!({
        let _dog = watched();
        let report = another_arrives_meanwhile();
        report.assert_sound();
        assert!(report.points > 3, "{report}");
    });
}

/// The control: a barrier that does not hear of deaths lets the other wait for ever.
#[test]
fn a_barrier_that_is_not_told_lets_others_wait() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::BarrierTold);
        another_arrives_meanwhile().assert_broken();
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
    if proc::is_parked(first.pid) {
        return false;
    }
    assert_eq!(first.wait(), 0, "{}", first.text());
    true
}

#[test]
fn a_last_party_that_is_killed_before_its_wake_leaves_nobody_asleep() {
    isolated!({
        let _dog = watched();
        assert!(kill_the_last_party_before_its_wake());
    });
}

#[test]
fn a_barrier_shrinks_at_every_instruction() {
    isolated!({
        let _dog = watched();
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

/// Nobody reads or writes; a mark is from the victim, and then the value may be torn, otherwise not.
fn is_whole(lock: &RwLock<[u64; 2]>, victim: i32) -> Result<(), String> {
    let marked = match lock.try_read() {
        Ok(now) => {
            ensure!(now[0] == now[1], "torn, and nobody is told: {:?}", *now);
            false
        }
        Err(LockError::OwnerDied(who)) if who.pid == victim => true,
        Err(other) => return Err(format!("to read: {other}")),
    };
    let mut write = lock.try_write_or_recover().map_err(|e| format!("to write: {e}"))?;
    ensure!(write.recovered_from().is_some() == marked, "who reads and who writes hear different news");
    write[1] = write[0];
    drop(write);
    lock.try_read().map(drop).map_err(|e| e.to_string())
}

#[test]
fn a_lock_is_read_and_written() {
    isolated!({
        let _dog = watched();
        arena();
        let lock = leaked(RwLock::new([0u64; 2]));
        let use_it = || {
            let (read, again) = (lock.read().unwrap(), lock.try_read().unwrap());
            assert!(matches!(lock.write().err(), Some(LockError::Deadlock { .. })));
            drop((read, again));
            let mut write = lock.write().unwrap();
            write[0] += 1;
            write[1] += 1;
        };
        assert_finished(&step(use_it, |victim| is_whole(lock, victim)));
    });
}

/// Every cell is taken, and the victim adds a block of them.
#[test]
fn more_read_than_there_are_cells() {
    isolated!({
        let _dog = watched();
        arena();
        let lock = leaked(RwLock::new([0u64; 2]));
        let all = Cell::new(Some((0..512).map(|_| lock.read().unwrap()).collect::<Vec<_>>()));
        open([VICTIM]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            support::own_a_span();
            gate.begin();
            drop(lock.read().unwrap());
            gate.end();
        };
        let report = crash().max_steps(20_000_000).run(victim, |point| {
            internals::recover(VICTIM);
            let more = lock.try_read().map_err(|e| format!("one more: {e}"))?;
            drop((more, all.take())); // in this copy
            is_whole(lock, point.victim_pid)?;
            nothing_in(VICTIM)
        });
        assert_finished(&report);
    });
}

#[test]
fn a_dead_reader_that_stays_is_found() {
    isolated!({
        let _dog = watched();
        arena();
        internals::break_rule(Rule::ReadersLeave);
        let lock = leaked(RwLock::new([0u64; 2]));
        step(|| drop(lock.read().unwrap()), |victim| is_whole(lock, victim)).assert_broken();
    });
}

/// The victim waits for main, which reads or writes, and comes in when main leaves.
#[test]
fn waiters_for_a_read_write_lock_come_in() {
    isolated!({
        let _dog = watched();
        arena();
        for (victim_writes, main_writes) in [(true, false), (false, true), (true, true)] {
            let lock = leaked(RwLock::new([0u64; 2]));
            let read = Rc::new(Cell::new((!main_writes).then(|| lock.read().unwrap())));
            let write = Rc::new(Cell::new(main_writes.then(|| lock.write().unwrap())));
            let (reads, writes) = (Rc::clone(&read), Rc::clone(&write));
            let step = crash().when_parked(move |_| drop((reads.take(), writes.take())));
            let use_it = || {
                if victim_writes {
                    let mut write = lock.write().unwrap();
                    write[0] += 1;
                    write[1] += 1;
                } else {
                    drop(lock.read().unwrap());
                }
            };
            let check = |victim| {
                drop((read.take(), write.take())); // in this copy
                is_whole(lock, victim)
            };
            assert_finished(&step_with(step, use_it, check));
        }
    });
}

/// A reader is killed after it has left its cell and before it has woken the writer.
fn kill_a_reader_before_its_wake() -> bool {
    internals::break_rule(Rule::Looks);
    arena();
    open([VICTIM, OTHER]);
    let lock = leaked(RwLock::new([0u64; 2]));
    let diary = Diary::new();
    let mut writer = procession_testkit::Child::spawn(|| {
        internals::become_member(OTHER);
        diary.wait(0, 1);
        drop(lock.write().unwrap());
    });
    let mut reader = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            let read = lock.read().unwrap();
            diary.write(0, 1);
            procession_testkit::wait_until_parked(writer.pid);
            gate.begin();
            drop(read);
            gate.end();
        },
        |_| !internals::has_readers(lock),
    );
    reader.kill();
    assert!(proc::is_parked(writer.pid));
    internals::recover(VICTIM);
    if proc::is_parked(writer.pid) {
        return false;
    }
    assert_eq!(writer.wait(), 0, "{}", writer.text());
    true
}

#[test]
fn a_reader_that_is_killed_before_its_wake_leaves_no_writer_asleep() {
    isolated!({
        let _dog = watched();
        assert!(kill_a_reader_before_its_wake());
    });
}

#[test]
fn without_the_sweep_the_writer_behind_a_killed_reader_sleeps_on() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::SweepWakes);
        internals::break_rule(Rule::ReadersLeave);
        assert!(!kill_a_reader_before_its_wake());
    });
}

/// A writer that was woken by the last reader is killed before it runs: the next one comes in.
#[test]
fn a_writer_that_is_killed_when_just_woken_leaves_the_lock_to_others() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::Looks);
        arena();
        open([VICTIM, OTHER, THIRD]);
        let lock = leaked(RwLock::new([0u64; 2]));
        let read = lock.read().unwrap();
        let writer = |slot| {
            spawn_parked(move || {
                internals::become_member(slot);
                drop(lock.write().unwrap());
            })
        };
        let mut first = writer(VICTIM);
        let frozen = freeze(first.pid);
        let mut second = writer(OTHER);
        drop(read);
        frozen.wait_until_woken();
        frozen.kill();
        let victim = first.pid;
        first.wait();
        internals::recover(VICTIM);
        assert_eq!(second.wait(), 0, "{}", second.text());
        internals::recover(OTHER);
        is_whole(lock, victim).unwrap();
    });
}

#[test]
fn a_latch_is_counted_down_and_something_is_done_once() {
    isolated!({
        let _dog = watched();
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
        assert_finished(&step(use_it, check));
    });
}

/// Who does something once fails, and is killed after it has let go and before it has woken who waits for that.
#[test]
fn who_fails_and_is_killed_before_its_wake_leaves_nobody_asleep() {
    isolated!({
        let _dog = watched();
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
        let _dog = watched();
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
                    drop(procession::Lock::new()); // so that it has a record
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
        let _dog = watched();
        assert!(a_party_dies_on_its_way());
    });
}

#[test]
fn without_a_look_at_its_arguments_a_party_that_is_to_come_is_waited_for() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::ArgumentsTold);
        assert!(!a_party_dies_on_its_way());
    });
}

/// A party cannot read its arguments, and is killed at every instruction of saying so: it is missed once.
#[test]
fn a_party_that_does_not_come_is_missed_once_at_every_instruction() {
    isolated!({
        let _dog = watched();
        arena();
        for shrinks in [true, false] {
            let barrier = leaked(Barrier::builder(3).shrink(shrinks).build());
            open([VICTIM]);
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                internals::pack(barrier).unwrap();
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

/// The program is ending, and what a thread reads or writes that still runs was handed on. When it lets go at
/// last, another that reads in the same cell stays, and another that writes still leaves a mark.
#[test]
fn a_late_release_of_what_was_handed_on_touches_nobody() {
    isolated!({
        let _dog = watched();
        arena();
        // Threads of these two processes read in the same cell first.
        let (one, other) = (VICTIM, VICTIM + 512);
        for writes in [false, true] {
            open([one, other]);
            let (lock, diary) = (leaked(RwLock::new([0u64; 2])), Diary::new());
            let holds = |slot: u32, place: usize| {
                procession_testkit::Child::spawn(move || {
                    internals::become_member(slot);
                    let write = writes.then(|| lock.write_or_recover().unwrap());
                    let read = (!writes).then(|| lock.read().unwrap());
                    diary.write(place, 1);
                    diary.wait(place, 2);
                    drop((read, write));
                })
            };
            let mut late = holds(one, 0);
            diary.wait(0, 1);
            internals::recover(one);
            let mut here = holds(other, 1);
            diary.wait(1, 1);
            diary.write(0, 2);
            assert_eq!(late.wait(), 0, "{}", late.text());
            assert_eq!(lock.try_write().err(), Some(LockError::WouldBlock));
            here.kill();
            internals::recover(other);
            match (writes, lock.try_read().err()) {
                (false, None) => {}
                (true, Some(LockError::OwnerDied(who))) => assert_eq!(who.pid, here.pid),
                (_, told) => panic!("{told:?}"),
            }
        }
    });
}
