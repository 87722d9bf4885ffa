//! One process is killed at one exact place, where random kills hardly ever land: a waiter that was just
//! woken, an unlocker before its wake, an heir before it runs.

mod support;

use std::time::{Duration, Instant};

use procession::Lock;
use procession::internals::{self, Rule, word};
use procession::sync::{LockError, LockGuard};
use procession_testkit::{Child, Frozen, Gate, freeze, isolated, proc, run_until, spawn_parked};
use support::{LONG, OTHER, State, THIRD, VICTIM, arena, heir, id, lock, open, owner, state, watched};

const FOURTH: u32 = 4;

/// A process of `slot` that sleeps until it gets the lock, and releases it.
fn waiter(slot: u32, lock: &'static Lock) -> Child {
    spawn_parked(move || {
        internals::become_member(slot);
        drop(lock.lock().expect("the lock, sound"));
    })
}

/// A process of `slot` that sleeps as the lock's heir.
fn sleeping_heir(slot: u32, lock: &'static Lock) -> Child {
    let child = waiter(slot, lock);
    proc::wait_until("it is the heir", LONG, || heir(lock) == id(slot));
    procession_testkit::wait_until_parked(child.pid);
    child
}

/// Main holds a lock for which two processes sleep, without a time limit and without a promise: so main's
/// release wakes the first of them, which is frozen, and nobody else.
struct Queue {
    held: LockGuard<'static>,
    first: Child,
    frozen: Frozen,
    second: Child,
}

/// A waiter wakes up after a millisecond, unless there is an heir. So both go to sleep behind an heir, and
/// then the heir gives up.
fn queue(lock: &'static Lock, first: impl Fn() + Copy, second: impl Fn() + Copy) -> Queue {
    arena();
    open([VICTIM, OTHER, THIRD]);
    for patience_ms in [100, 500, 2500, 12_500] {
        let held = lock.lock().expect("the lock, sound");
        let mut impatient = spawn_parked(|| {
            internals::become_member(THIRD);
            assert_eq!(
                lock.lock_timeout(Duration::from_millis(patience_ms)).err(),
                Some(LockError::TimedOut)
            );
        });
        proc::wait_until("there is an heir", LONG, || heir(lock) != 0);
        let first = spawn_parked(|| (internals::become_member(VICTIM), first()).1);
        let frozen = freeze(first.pid);
        let second = spawn_parked(|| (internals::become_member(OTHER), second()).1);
        let in_time = heir(lock) == id(THIRD);
        assert_eq!(impatient.wait(), 0, "{}", impatient.text());
        // Its death is not declared: that would wake everybody.
        if in_time && !frozen.woken() {
            assert_eq!(internals::lock_word(lock), u64::from(id(0)) | word::WAITERS);
            return Queue { held, first, frozen, second };
        }
        // The machine was too slow: the heir had gone before both slept.
        frozen.kill();
        drop((first, second, held));
        [VICTIM, OTHER, THIRD].into_iter().for_each(internals::recover);
        open([VICTIM, OTHER, THIRD]);
    }
    panic!("two waiters do not get to sleep in ten seconds");
}

/// The first of two waiters is woken and killed before it runs. Does the second get the lock?
fn kill_a_woken_waiter() -> bool {
    let lock = lock();
    let take = || drop(lock.lock().expect("the lock, sound"));
    let Queue { held, mut first, frozen, mut second } = queue(lock, take, take);
    drop(held);
    frozen.wait_until_woken();
    frozen.kill();
    first.wait();
    assert!(proc::is_parked(second.pid), "the wake went to the dead");
    internals::recover(VICTIM);
    came_through(lock, &mut second)
}

/// A process that was woken comes to its end. One that was not sleeps on, and the lock is free or its own.
fn came_through(lock: &Lock, sleeper: &mut Child) -> bool {
    if proc::is_parked(sleeper.pid) {
        assert!([0, id(OTHER)].contains(&owner(lock)));
        return false;
    }
    assert_eq!(sleeper.wait(), 0, "{}", sleeper.text());
    internals::recover(OTHER);
    assert_eq!(state(lock), State::Free);
    true
}

#[test]
fn a_waiter_that_is_killed_when_just_woken_takes_no_wake_with_it() {
    isolated!({
        let _dog = watched();
        assert!(kill_a_woken_waiter());
    });
}

#[test]
fn without_the_sweep_a_killed_waiter_takes_the_wake_with_it() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_woken_waiter(), "the sweep is not needed, or this test does not test it");
    });
}

/// The owner is killed after it has released the lock and before it has woken the heir.
fn kill_an_unlocker_before_its_wake() -> bool {
    arena();
    open([VICTIM, OTHER]);
    let lock = lock();
    let mut next = Child::spawn(|| {
        internals::become_member(OTHER);
        proc::wait_until("the lock is taken", LONG, || owner(lock) == id(VICTIM));
        drop(lock.lock().expect("the lock, sound"));
    });
    let mut unlocker = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            let held = lock.lock();
            proc::wait_until("it is promised", LONG, || heir(lock) == id(OTHER));
            procession_testkit::wait_until_parked(next.pid);
            gate.begin();
            drop(held);
            gate.end();
        },
        |_| owner(lock) != id(VICTIM),
    );
    unlocker.kill();
    assert_eq!(owner(lock), id(OTHER));
    assert!(proc::is_parked(next.pid));
    internals::recover(VICTIM);
    came_through(lock, &mut next)
}

#[test]
fn an_unlocker_that_is_killed_before_its_wake_leaves_nobody_asleep() {
    isolated!({
        let _dog = watched();
        assert!(kill_an_unlocker_before_its_wake());
    });
}

#[test]
fn without_the_sweep_the_heir_of_a_killed_unlocker_sleeps_on() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_an_unlocker_before_its_wake());
    });
}

#[test]
fn an_heir_that_is_killed_before_it_runs_leaves_no_mark() {
    isolated!({
        let _dog = watched();
        arena();
        open([VICTIM, OTHER]);
        let lock = lock();
        let held = lock.lock().unwrap();
        let mut dead = sleeping_heir(VICTIM, lock);
        let frozen = freeze(dead.pid);
        let mut next = waiter(OTHER, lock);
        drop(held);
        frozen.wait_until_woken();
        assert_eq!(owner(lock), id(VICTIM));
        frozen.kill();
        dead.wait();
        internals::recover(VICTIM);
        assert_eq!(next.wait(), 0, "{}", next.text());
        assert_eq!(state(lock), State::Free);
    });
}

#[test]
fn an_heir_that_is_killed_asleep_is_forgotten() {
    isolated!({
        let _dog = watched();
        arena();
        open([VICTIM]);
        let lock = lock();
        let held = lock.lock().unwrap();
        sleeping_heir(VICTIM, lock).kill();
        internals::recover(VICTIM);
        assert_eq!((owner(lock), heir(lock)), (id(0), 0));
        drop(held);
        assert_eq!(state(lock), State::Free);
    });
}

#[test]
fn fifty_waiters_hear_that_the_owner_died() {
    isolated!({
        let _dog = watched();
        arena();
        open(VICTIM..VICTIM + 51);
        let lock = lock();
        let mut owner = run_until(
            |gate: &Gate| {
                internals::become_member(VICTIM);
                std::mem::forget(lock.lock());
                gate.begin();
                gate.end();
            },
            |_| true,
        );
        let dead = owner.pid;
        let waiters = (VICTIM + 1..VICTIM + 51).map(|slot| {
            spawn_parked(move || {
                internals::become_member(slot);
                match lock.lock().err() {
                    Some(LockError::OwnerDied(who)) => assert_eq!(who.pid, dead),
                    other => panic!("{other:?}"),
                }
            })
        });
        let waiters: Vec<Child> = waiters.collect();
        owner.kill();
        internals::recover(VICTIM);
        for mut waiter in waiters {
            assert_eq!(waiter.wait(), 0, "{}", waiter.text());
        }
        assert_eq!(state(lock), State::Died(dead));
        (VICTIM + 1..VICTIM + 51).for_each(internals::recover);
        assert_eq!(lock.lock_or_recover().unwrap().recovered_from().map(|who| who.pid), Some(dead));
        assert_eq!(state(lock), State::Free);
    });
}

/// A waiter is woken, but its time is up and somebody was faster. Does the one behind it get the lock?
fn time_out_with_a_wake() -> bool {
    let lock = lock();
    for patience in [1000, 4000, 16_000].map(Duration::from_millis) {
        let give_up =
            || assert_eq!(lock.lock_timeout(patience).err(), Some(LockError::TimedOut), "the first waiter");
        let take = || drop(lock.lock().expect("the lock, sound"));
        let Queue { held, mut first, frozen, mut second } = queue(lock, give_up, take);
        let late = Instant::now() + patience;
        let in_time = !frozen.woken();
        drop(held);
        frozen.wait_until_woken();
        let again = lock.try_lock().expect("it is free");
        let first_was_woken = in_time && proc::is_parked(second.pid);
        proc::wait_until("its time is up", LONG, || Instant::now() > late);
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
fn a_waiter_whose_time_is_up_passes_its_wake_on() {
    isolated!({
        let _dog = watched();
        assert!(time_out_with_a_wake());
    });
}

#[test]
fn a_wake_that_is_not_passed_on_is_lost() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::WakePassedOn);
        assert!(!time_out_with_a_wake());
    });
}

/// A waiter is woken, but somebody was faster and left the lock marked. It hears the news and leaves; the
/// one behind it has to hear them too.
#[test]
fn a_waiter_that_finds_the_lock_marked_does_not_keep_the_news() {
    isolated!({
        let _dog = watched();
        let lock = lock();
        let hear = || assert!(matches!(lock.lock().err(), Some(LockError::Panicked(_))), "poisoned");
        let Queue { held, mut first, frozen, mut second } = queue(lock, hear, hear);
        drop(held);
        frozen.wait_until_woken();
        lock.try_lock().expect("it is free").poison();
        frozen.thaw();
        assert_eq!(first.wait(), 0, "{}", first.text());
        assert!(!proc::is_parked(second.pid), "the second sleeps on, and the lock is {:?}", state(lock));
        assert_eq!(second.wait(), 0, "{}", second.text());
    });
}

/// A process is killed after its done word and before its wake.
fn kill_before_the_joiner_is_woken() -> bool {
    arena();
    open([FOURTH]);
    internals::open_spare(VICTIM);
    let process = procession::Process::spawn(|| (), ()).expect("the spare takes it");
    let mut joiner = spawn_parked(|| {
        internals::become_member(FOURTH);
        let _ = process.join();
    });
    let mut done = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            internals::finish(VICTIM);
            gate.end();
        },
        |_| !process.is_alive(),
    );
    done.kill();
    internals::recover(VICTIM);
    if proc::is_parked(joiner.pid) {
        return false;
    }
    assert_eq!(joiner.wait(), 0, "{}", joiner.text());
    true
}

#[test]
fn a_process_that_is_killed_before_it_wakes_its_joiner_is_joined() {
    isolated!({
        let _dog = watched();
        assert!(kill_before_the_joiner_is_woken());
    });
}

#[test]
fn without_the_sweep_a_joiner_sleeps_on() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_before_the_joiner_is_woken());
    });
}
