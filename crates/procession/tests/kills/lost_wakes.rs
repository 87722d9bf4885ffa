//! A release wakes one of several waiters. Whatever happens to that waiter, the wake is not lost.

use std::time::{Duration, Instant};

use crate::support::{LONG, OTHER, THIRD, VICTIM, arena, came_through, heir, id, lock, open, state};
use procession::Lock;
use procession::internals::{self, Rule, word};
use procession::sync::{LockError, LockGuard, Semaphore, WaitError};
use procession_testkit::{Child, Frozen, freeze, isolated, proc, spawn_parked};

/// Main holds a lock, and two processes sleep until it is released. They sleep without a timeout, and the
/// lock has no reservation. So main's release wakes only the first of them, which is frozen.
struct Queue {
    held: LockGuard<'static>,
    first: Child,
    frozen: Frozen,
    second: Child,
}

/// A waiter wakes up after a millisecond unless there is an heir. So both waiters go to sleep behind an heir,
/// and then the heir times out.
fn queue(lock: &'static Lock, first: impl Fn() + Copy, second: impl Fn() + Copy) -> Queue {
    internals::break_rule(Rule::DeadlockSearch);
    arena();
    open([VICTIM, OTHER, THIRD]);
    for timeout_ms in [100, 500, 2500, 12_500] {
        let held = lock.lock().expect("the lock, sound");
        let mut impatient = spawn_parked(|| {
            internals::become_member(THIRD);
            assert_eq!(lock.lock_timeout(Duration::from_millis(timeout_ms)).err(), Some(LockError::TimedOut));
        });
        proc::wait_until("there is an heir", LONG, || heir(lock) != 0);
        let first = spawn_parked(|| (internals::become_member(VICTIM), first()).1);
        let frozen = freeze(first.pid);
        let second = spawn_parked(|| (internals::become_member(OTHER), second()).1);
        let in_time = heir(lock) == id(THIRD);
        assert_eq!(impatient.wait(), 0, "{}", impatient.text());
        // The heir's process has ended, but its death is not declared, because that would wake every sleeper.
        if in_time && !frozen.woken() {
            assert_eq!(internals::lock_word(lock), u64::from(id(0)) | word::WAITERS);
            return Queue { held, first, frozen, second };
        }
        // The machine was too slow: the heir had timed out before both waiters slept.
        frozen.kill();
        drop((first, second, held));
        [VICTIM, OTHER, THIRD].into_iter().for_each(internals::recover);
        open([VICTIM, OTHER, THIRD]);
    }
    panic!("the two waiters do not fall asleep within ten seconds");
}

/// The first of two waiters is woken and killed before it runs. Returns whether the second waiter acquires the lock.
fn kill_a_woken_waiter() -> bool {
    let lock = lock();
    let take = || drop(lock.lock().expect("the lock, sound"));
    let Queue { held, mut first, frozen, mut second } = queue(lock, take, take);
    drop(held);
    frozen.wait_until_woken();
    frozen.kill();
    first.wait();
    assert!(proc::is_parked(second.pid), "the dead process was woken");
    internals::recover(VICTIM);
    came_through(lock, &mut second)
}

#[test]
fn a_waiter_killed_after_its_wake_takes_no_wake() {
    isolated!({
        assert!(kill_a_woken_waiter());
    });
}

#[test]
fn without_the_sweep_a_killed_waiter_takes_the_wake() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_woken_waiter(), "either the sweep is unnecessary, or this test does not cover it");
    });
}

/// Does the same as [`kill_a_woken_waiter`] for a permit. Both waiters sleep without a timeout behind an heir that has
/// timed out, so the first of them is woken.
fn kill_a_woken_waiter_for_a_permit() -> bool {
    arena();
    for timeout_ms in [100, 500, 2500, 12_500] {
        open([VICTIM, OTHER, THIRD]);
        let semaphore: &'static Semaphore = Box::leak(Box::new(Semaphore::new(1).expect("a semaphore")));
        let held = semaphore.acquire().expect("the permit is free");
        let mut impatient = spawn_parked(|| {
            internals::become_member(THIRD);
            let late = semaphore.acquire_timeout(Duration::from_millis(timeout_ms)).err();
            assert_eq!(late, Some(WaitError::TimedOut));
        });
        let is_heir = || internals::semaphore_heir(semaphore) == id(THIRD);
        proc::wait_until("there is an heir", LONG, is_heir);
        let waits = |slot| {
            spawn_parked(move || {
                internals::become_member(slot);
                internals::hold(semaphore);
                drop(semaphore.acquire().expect("its turn comes"));
            })
        };
        let mut first = waits(VICTIM);
        let frozen = freeze(first.pid);
        let mut second = waits(OTHER);
        let in_time = is_heir();
        assert_eq!(impatient.wait(), 0, "{}", impatient.text());
        if in_time && !frozen.woken() {
            drop(held);
            frozen.wait_until_woken();
            frozen.kill();
            first.wait();
            assert!(proc::is_parked(second.pid), "the dead process was woken");
            internals::recover(VICTIM);
            return !proc::is_parked(second.pid) && second.wait() == 0;
        }
        frozen.kill();
        drop((first, second, held));
        [VICTIM, OTHER, THIRD].into_iter().for_each(internals::recover);
    }
    panic!("the two waiters do not fall asleep within ten seconds");
}

#[test]
fn a_permit_s_waiter_killed_after_its_wake_takes_no_wake() {
    isolated!({
        assert!(kill_a_woken_waiter_for_a_permit());
    });
}

#[test]
fn without_the_sweep_a_killed_waiter_for_a_permit_takes_the_wake() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_woken_waiter_for_a_permit());
    });
}

/// A waiter is woken, but it has timed out, and another process acquires the lock first. Returns whether the
/// next waiter acquires the lock.
fn time_out_with_a_wake() -> bool {
    let lock = lock();
    for timeout in [1000, 4000, 16_000].map(Duration::from_millis) {
        let give_up =
            || assert_eq!(lock.lock_timeout(timeout).err(), Some(LockError::TimedOut), "the first waiter");
        let take = || drop(lock.lock().expect("the lock, sound"));
        let Queue { held, mut first, frozen, mut second } = queue(lock, give_up, take);
        let late = Instant::now() + timeout;
        let in_time = !frozen.woken();
        drop(held);
        frozen.wait_until_woken();
        let again = lock.try_lock().expect("the lock is free");
        let first_was_woken = in_time && proc::is_parked(second.pid);
        proc::wait_until("the waiter has timed out", LONG, || Instant::now() > late);
        frozen.thaw();
        assert_eq!(first.wait(), 0, "{}", first.text());
        drop(again);
        if first_was_woken {
            return came_through(lock, &mut second);
        }
        drop((first, second));
        [VICTIM, OTHER, THIRD].into_iter().for_each(internals::recover);
    }
    panic!("the first waiter is never woken in time");
}

#[test]
fn a_waiter_that_times_out_passes_its_wake_on() {
    isolated!({
        assert!(time_out_with_a_wake());
    });
}

#[test]
fn without_the_rule_the_wake_is_lost() {
    isolated!({
        internals::break_rule(Rule::WakePassedOn);
        assert!(!time_out_with_a_wake());
    });
}

/// A waiter is woken, but another process acquires the lock first and leaves it poisoned. The waiter gets an
/// error and leaves. The next waiter must get the error too.
#[test]
fn a_waiter_that_finds_the_lock_poisoned_wakes_the_next() {
    isolated!({
        let lock = lock();
        let hear = || assert!(matches!(lock.lock().err(), Some(LockError::Panicked(_))), "poisoned");
        let Queue { held, mut first, frozen, mut second } = queue(lock, hear, hear);
        drop(held);
        frozen.wait_until_woken();
        lock.try_lock().expect("the lock is free").poison();
        frozen.thaw();
        assert_eq!(first.wait(), 0, "{}", first.text());
        assert!(!proc::is_parked(second.pid), "the second sleeps on, and the lock is {:?}", state(lock));
        assert_eq!(second.wait(), 0, "{}", second.text());
    });
}
