//! A process is killed at every instruction of acquiring recursive locks, mutexes and arrays, of creating them, and of
//! waiting on a condition variable.

use crate::support;
use std::time::Duration;

use crate::support::scene::crash;
use crate::support::stepping::{self, ends_if_woken, leaked};
use crate::support::{Before, Diary, OTHER, VICTIM, arena, assert_finished, nothing_in, open};
use procession::internals::{self, Rule};
use procession::state::Array;
use procession::sync::{Condvar, LockError, Mutex, RLock};
use procession_testkit::{Child, Gate, Report, freeze, isolated, proc, run_until, spawn_parked};

fn step(operation: impl Fn(), check: impl Fn(i32) -> Result<(), String>) -> Report {
    arena();
    stepping::step(crash(), support::own_a_span, operation, check)
}

/// Checks that the lock is free, or poisoned by the victim, and never held. Also checks that it can still be
/// used.
fn is_whole(lock: &RLock, victim: i32) -> Result<(), String> {
    match lock.try_lock() {
        Ok(held) => drop(held),
        Err(LockError::OwnerDied(who)) if who.pid.cast_signed() == victim => {}
        Err(other) => return Err(other.to_string()),
    }
    let held = lock.lock_or_recover().map_err(|e| e.to_string())?;
    drop(held);
    let elsewhere = lock.clone();
    let free = std::thread::spawn(move || elsewhere.try_lock().is_ok()).join();
    ensure!(free.is_ok_and(|free| free), "the lock counts what the dead process held");
    Ok(())
}

#[test]
fn a_recursive_lock_can_be_held_three_times() {
    isolated!({
        let lock = leaked(RLock::new());
        let use_it = || {
            let outer = lock.lock().unwrap();
            let inner = lock.lock().unwrap();
            let third = lock.try_lock().unwrap();
            drop(outer);
            drop(third);
            drop(inner);
        };
        assert_finished(&step(use_it, |victim| is_whole(lock, victim)));
    });
}

/// The two numbers in the mutex are equal unless the mutex is poisoned.
#[test]
fn a_mutex_is_poisoned_wherever_its_value_is_half_written() {
    isolated!({
        let pair = leaked(Mutex::new([0u64; 2]));
        let array = leaked(Array::from_slice(&[0u64; 2]));
        let use_it = || {
            let mut held = pair.lock().unwrap();
            held[0] += 1;
            held[1] += 1;
            drop(held);
            let mut held = array.lock().unwrap();
            held[0] += 1;
            held[1] += 1;
        };
        let check = |victim| {
            let torn = |a: u64, b: u64, from: Option<i32>| {
                ensure!(from.is_none_or(|pid| pid == victim), "recovered from {from:?}");
                ensure!(a == b || from.is_some(), "torn, and the mutex is not poisoned: {a} {b}");
                Ok(())
            };
            let held = pair.lock_or_recover().map_err(|e| e.to_string())?;
            torn(held[0], held[1], held.recovered_from().map(|who| who.pid.cast_signed()))?;
            let held = array.lock_or_recover().map_err(|e| e.to_string())?;
            torn(held[0], held[1], held.recovered_from().map(|who| who.pid.cast_signed()))
        };
        assert_finished(&step(use_it, check));
    });
}

/// The control: without the journal, recovery misses the mutex that the dead process holds.
#[test]
fn without_the_journal_a_dead_process_keeps_a_mutex() {
    isolated!({
        internals::break_rule(Rule::Journal);
        let pair = leaked(Mutex::new([0u64; 2]));
        let held = |_| pair.try_lock_or_recover().map(drop).map_err(|e| e.to_string());
        step(|| drop(pair.lock().unwrap()), held).assert_broken();
    });
}

#[test]
fn mutexes_and_arrays_can_be_created_and_dropped() {
    isolated!({
        let use_it = || {
            let mutex = Mutex::labeled("made", 5u64).unwrap();
            let array = Array::<u8>::new(100_000).unwrap();
            drop(mutex);
            drop(array);
        };
        assert_finished(&step(use_it, |_| Ok(())));
    });
}

#[test]
fn a_waiter_on_a_condition_can_time_out() {
    isolated!({
        let (mutex, condvar) = (leaked(Mutex::new(0u64)), leaked(Condvar::new()));
        let use_it = || {
            let held = mutex.lock().unwrap();
            let (held, _) = condvar.wait_timeout(held, Duration::from_millis(1)).unwrap();
            drop(held);
            condvar.notify_one().unwrap();
        };
        let check = |victim| match mutex.try_lock_or_recover() {
            Ok(held) => {
                ensure!(
                    held.recovered_from().is_none_or(|who| who.pid.cast_signed() == victim),
                    "poisoned by another process"
                );
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        assert_finished(&step(use_it, check));
    });
}

/// The victim sleeps until main notifies it, and then acquires the mutex again.
#[test]
fn a_waiter_on_a_condition_can_be_notified() {
    isolated!({
        arena();
        open([VICTIM]);
        let (mutex, condvar) = (leaked(Mutex::new(0u64)), leaked(Condvar::new()));
        let stock = Before::now();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            let held = condvar.wait_while(mutex.lock().unwrap(), |go| **go == 0).unwrap();
            gate.end();
            drop(held);
        };
        let notify = || {
            *mutex.lock().unwrap() = 1;
            condvar.notify_one().unwrap();
        };
        let report = crash().when_parked(move |_| notify()).run(victim, |point| {
            internals::recover(VICTIM);
            let held = mutex.try_lock_or_recover().map_err(|e| e.to_string())?;
            ensure!(
                held.recovered_from().is_none_or(|who| who.pid.cast_signed() == point.victim_pid),
                "poisoned by another process"
            );
            drop(held);
            condvar.notify_all().map_err(|e| e.to_string())?;
            nothing_in(VICTIM)?;
            stock.is_back()
        });
        assert_finished(&report);
    });
}

/// The victim notifies a sleeping process. It is killed after it has incremented the event count, and before
/// the wake.
fn kill_a_notifier_before_its_wake() -> bool {
    arena();
    open([VICTIM, OTHER]);
    let (mutex, condvar) = (leaked(Mutex::new(0u64)), leaked(Condvar::new()));
    let diary = Diary::new();
    let mut sleeper = spawn_parked(|| {
        internals::become_member(OTHER);
        drop(condvar.wait(mutex.lock().unwrap()).unwrap());
    });
    let before = internals::condvar_events(condvar);
    let mut notifier = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            *mutex.lock().unwrap() = 1;
            diary.write(0, 1);
            gate.begin();
            condvar.notify_one().unwrap();
            gate.end();
        },
        |_| internals::condvar_events(condvar) != before,
    );
    notifier.kill();
    assert!(proc::is_parked(sleeper.pid));
    internals::recover(VICTIM);
    ends_if_woken(&mut sleeper)
}

#[test]
fn a_notifier_killed_before_its_wake_leaves_no_waiter_asleep() {
    isolated!({
        assert!(kill_a_notifier_before_its_wake());
    });
}

#[test]
fn without_the_sweep_the_sleeper_of_a_killed_notifier_sleeps_on() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_notifier_before_its_wake());
    });
}

/// The waiter that `notify_one` has woken is killed before it runs. Another waiter is woken in its place.
fn kill_a_woken_sleeper() -> bool {
    arena();
    open([VICTIM, OTHER]);
    let (mutex, condvar) = (leaked(Mutex::new(0u64)), leaked(Condvar::new()));
    let wait = |slot| {
        spawn_parked(move || {
            internals::become_member(slot);
            drop(condvar.wait(mutex.lock().unwrap()).unwrap());
        })
    };
    let mut first = wait(VICTIM);
    let frozen = freeze(first.pid);
    let mut second = wait(OTHER);
    condvar.notify_one().unwrap();
    frozen.wait_until_woken();
    frozen.kill();
    first.wait();
    assert!(proc::is_parked(second.pid), "the dead process was notified");
    internals::recover(VICTIM);
    ends_if_woken(&mut second)
}

#[test]
fn a_waiter_killed_after_its_notification_passes_it_on() {
    isolated!({
        assert!(kill_a_woken_sleeper());
    });
}

#[test]
fn without_the_sweep_a_killed_waiter_s_notification_is_lost() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_woken_sleeper());
    });
}

/// The program is ending, and a lock that a running thread holds was handed on to a new owner. When the
/// thread finally releases the lock, the new owner must keep it.
#[test]
fn a_late_release_of_what_was_handed_on_touches_nobody() {
    isolated!({
        arena();
        open([VICTIM]);
        let (lock, diary) = (leaked(RLock::new()), Diary::new());
        let mut late = Child::spawn(|| {
            internals::become_member(VICTIM);
            let (held, again) = (lock.lock().unwrap(), lock.lock().unwrap());
            diary.write(0, 1);
            diary.wait(1, 1);
            drop((again, held));
        });
        diary.wait(0, 1);
        internals::recover(VICTIM);
        let (held, again) = (lock.lock_or_recover().unwrap(), lock.lock().unwrap());
        diary.write(1, 1);
        assert_eq!(late.wait(), 0, "{}", late.text());
        drop(again);
        let elsewhere = lock.clone();
        let refused = std::thread::spawn(move || elsewhere.try_lock().map(drop));
        assert_eq!(refused.join().unwrap(), Err(LockError::WouldBlock));
        drop(held);
        assert!(lock.try_lock().is_ok());
    });
}
