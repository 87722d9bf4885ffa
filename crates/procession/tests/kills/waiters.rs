//! One process is killed at one exact place that random kills hardly ever hit. It is a process that makes an
//! event happen, before its wake; an heir, before it runs; or a party that was woken.

use crate::support;
use crate::support::stepping::leaked;
use crate::support::{
    Diary, LONG, OTHER, State, THIRD, VICTIM, arena, came_through, heir, id, lock, open, owner, state,
};
use procession::Lock;
use procession::internals::{self, Rule};
use procession::sync::{Barrier, Broken, Latch, LockError, Once, Semaphore, WaitError};
use procession_testkit::{Child, Gate, freeze, isolated, proc, run_until, spawn_parked};

/// Starts a process in `slot` that sleeps until it acquires the lock, and releases it.
fn waiter(slot: u32, lock: &'static Lock) -> Child {
    spawn_parked(move || {
        internals::become_member(slot);
        drop(lock.lock().expect("the lock, sound"));
    })
}

/// Starts a process in `slot` that sleeps as the lock's heir.
fn sleeping_heir(slot: u32, lock: &'static Lock) -> Child {
    let child = waiter(slot, lock);
    proc::wait_until("the process is the heir", LONG, || heir(lock) == id(slot));
    procession_testkit::wait_until_parked(child.pid);
    child
}

/// The owner is killed after it has released the lock and before it has woken the heir.
fn kill_an_unlocker_before_its_wake() -> bool {
    internals::break_rule(Rule::DeadlockSearch);
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
            proc::wait_until("the lock is reserved", LONG, || heir(lock) == id(OTHER));
            procession_testkit::wait_until_parked(next.pid);
            gate.begin();
            drop(held);
            gate.end();
        },
        |_| owner(lock) != id(VICTIM),
    );
    unlocker.kill();
    assert_eq!((owner(lock), heir(lock)), (0, id(OTHER)), "the lock is reserved");
    assert!(proc::is_parked(next.pid));
    internals::recover(VICTIM);
    came_through(lock, &mut next)
}

#[test]
fn an_unlocker_killed_before_its_wake_leaves_no_heir_asleep() {
    isolated!({
        assert!(kill_an_unlocker_before_its_wake());
    });
}

#[test]
fn without_the_sweep_the_heir_of_a_killed_unlocker_sleeps_on() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_an_unlocker_before_its_wake());
    });
}

#[test]
fn an_heir_killed_before_it_runs_does_not_poison() {
    isolated!({
        internals::break_rule(Rule::DeadlockSearch);
        arena();
        open([VICTIM, OTHER]);
        let lock = lock();
        let held = lock.lock().unwrap();
        let mut dead = sleeping_heir(VICTIM, lock);
        let frozen = freeze(dead.pid);
        let mut next = waiter(OTHER, lock);
        drop(held);
        frozen.wait_until_woken();
        assert_eq!((owner(lock), heir(lock)), (0, id(VICTIM)), "the lock is reserved");
        frozen.kill();
        dead.wait();
        internals::recover(VICTIM);
        assert_eq!(next.wait(), 0, "{}", next.text());
        assert_eq!(state(lock), State::Free);
    });
}

#[test]
fn an_heir_killed_in_its_sleep_loses_its_reservation() {
    isolated!({
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

/// The heir is stopped when the lock is released, and another waiter sleeps behind it. Returns whether that waiter is
/// woken.
fn release_to_a_stopped_heir() -> bool {
    internals::break_rule(Rule::DeadlockSearch);
    arena();
    open([VICTIM, OTHER]);
    let lock = lock();
    let held = lock.lock().unwrap();
    let mut stopped = sleeping_heir(VICTIM, lock);
    let mut next = waiter(OTHER, lock);
    support::stop(&mut stopped);
    drop(held);
    let ended = std::time::Instant::now() + support::RESERVED;
    proc::wait_until("the reservation ends, and what follows", LONG, || {
        ended < std::time::Instant::now() && (proc::is_parked(next.pid) || next.try_wait().is_some())
    });
    if next.try_wait().is_none() {
        assert_eq!((owner(lock), heir(lock)), (0, id(VICTIM)));
        return false;
    }
    assert_eq!(state(lock), State::Free);
    support::go_on_from_stop(&stopped);
    assert_eq!(stopped.wait(), 0, "{}", stopped.text());
    true
}

#[test]
fn a_release_to_a_stopped_heir_wakes_another_waiter() {
    isolated!({
        assert!(release_to_a_stopped_heir());
    });
}

#[test]
fn without_the_wake_a_stopped_heir_leaves_the_others_asleep() {
    isolated!({
        internals::break_rule(Rule::HeirWatched);
        assert!(!release_to_a_stopped_heir());
    });
}

#[test]
fn without_a_time_limit_a_stopped_heir_leaves_the_others_asleep() {
    isolated!({
        internals::break_rule(Rule::HeirBypassed);
        assert!(!release_to_a_stopped_heir());
    });
}

#[test]
fn fifty_waiters_are_notified_of_the_owner_s_death() {
    isolated!({
        internals::break_rule(Rule::DeadlockSearch);
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
                    Some(LockError::OwnerDied(who)) => assert_eq!(who.pid.cast_signed(), dead),
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
        assert_eq!(
            lock.lock_or_recover().unwrap().recovered_from().map(|who| who.pid.cast_signed()),
            Some(dead)
        );
        assert_eq!(state(lock), State::Free);
    });
}

/// A process is killed after it has published its end and before it has woken its joiner.
#[test]
fn a_process_killed_before_it_wakes_its_joiner_can_be_joined() {
    isolated!({
        internals::break_rule(Rule::DeadlockSearch);
        arena();
        open([OTHER]);
        internals::open_spare(VICTIM);
        let process = procession::Process::spawn(|| (), ()).expect("the spare takes it");
        let mut joiner = spawn_parked(|| {
            internals::become_member(OTHER);
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
        assert!(proc::is_parked(joiner.pid));
        internals::recover(VICTIM);
        assert_eq!(joiner.wait(), 0, "{}", joiner.text());
    });
}

/// A process sleeps in `waits`. Once `is_awaited` returns true, the victim calls `makes_it_happen`. The
/// victim is killed when `has_happened` returns true, which is before its wake. Returns whether recovery
/// wakes the sleeper.
fn is_woken<P>(
    waits: impl Fn(),
    prepares: impl Fn() -> P,
    is_awaited: impl Fn() -> bool,
    makes_it_happen: impl Fn(P),
    has_happened: impl Fn() -> bool,
) -> bool {
    open([VICTIM, OTHER]);
    let diary = Diary::new();
    let mut waiter = Child::spawn(|| {
        internals::become_member(OTHER);
        diary.wait(0, 1);
        waits();
    });
    let mut victim = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            let prepared = prepares();
            diary.write(0, 1);
            proc::wait_until("the sleeper waits", LONG, &is_awaited);
            procession_testkit::wait_until_parked(waiter.pid);
            gate.begin();
            makes_it_happen(prepared);
            gate.end();
        },
        |_| has_happened(),
    );
    victim.kill();
    assert!(proc::is_parked(waiter.pid));
    internals::recover(VICTIM);
    let woken = !proc::is_parked(waiter.pid);
    if woken {
        assert_eq!(waiter.wait(), 0, "{}", waiter.text());
    } else {
        waiter.kill();
    }
    internals::recover(OTHER);
    woken
}

/// Runs [`is_woken`] for each kind of wait. Returns which of the sleepers are woken.
fn kill_each_before_its_wake() -> [bool; 6] {
    arena();
    let latch = leaked(Latch::new(1));
    let opens = || latch.count_down().unwrap();
    let (once, here) = (leaked(Once::new()), || true);
    let does = || once.call_once(|| ()).unwrap();
    let (aborted, reset) = (leaked(Barrier::new(2)), leaked(Barrier::new(2)));
    let told = |barrier: &Barrier, why| assert_eq!(barrier.wait(), Err(WaitError::Broken(why)));
    let (held, none) = (leaked(Semaphore::new(1)), leaked(Semaphore::new(0)));
    let takes = |semaphore: &Semaphore| {
        internals::hold(semaphore);
        drop(semaphore.acquire().unwrap());
    };
    let has = || {
        internals::hold(held);
        held.acquire().unwrap()
    };
    // A waiter for a permit wakes up after a millisecond to become the heir.
    let promised = |semaphore: &Semaphore| internals::semaphore_heir(semaphore) != 0;
    let free = |semaphore: &Semaphore| semaphore.available_permits() == 1;
    [
        is_woken(|| latch.wait().unwrap(), || (), here, |()| opens(), || latch.is_open()),
        is_woken(|| once.wait().unwrap(), || (), here, |()| does(), || once.is_completed()),
        is_woken(
            || told(aborted, Broken::Aborted),
            || (),
            || aborted.waiting() == 1,
            |()| aborted.abort().unwrap(),
            || aborted.is_broken(),
        ),
        is_woken(
            || told(reset, Broken::Reset),
            || (),
            || reset.waiting() == 1,
            |()| reset.reset().unwrap(),
            || reset.waiting() == 0,
        ),
        is_woken(|| takes(held), has, || promised(held), drop, || free(held)),
        is_woken(|| takes(none), || (), || promised(none), |()| none.add_permits(1).unwrap(), || free(none)),
    ]
}

#[test]
fn a_process_killed_before_its_wake_leaves_no_waiter_asleep() {
    isolated!({
        assert_eq!(kill_each_before_its_wake(), [true; 6]);
    });
}

#[test]
fn without_the_sweep_every_waiter_sleeps_on() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert_eq!(kill_each_before_its_wake(), [false; 6]);
    });
}

/// A party was woken because all parties had arrived, and is killed before it runs. For the other parties
/// this round has succeeded, and they get an error in the next round.
#[test]
fn a_party_killed_after_its_wake_has_met_the_others() {
    isolated!({
        arena();
        open([VICTIM, OTHER, THIRD]);
        let barrier = leaked(Barrier::new(3));
        let party = |slot| {
            spawn_parked(move || {
                internals::become_member(slot);
                internals::hold(barrier);
                barrier.wait().expect("all parties have arrived");
            })
        };
        let mut dead = party(VICTIM);
        let frozen = freeze(dead.pid);
        let mut other = party(OTHER);
        assert!(barrier.wait().is_ok_and(|met| met.is_leader()));
        frozen.wait_until_woken();
        frozen.kill();
        let pid = dead.pid;
        dead.wait();
        assert_eq!(other.wait(), 0, "{}", other.text());
        internals::recover(VICTIM);
        assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::ProcessDied { pid: pid.cast_unsigned() })));
    });
}

/// A greedy owner releases a lock and acquires it again, each time before the waiter can run. Returns the
/// number of turns after which the lock is handed to the waiter. Returns `None` if that does not happen for a
/// long time.
fn pass_over(lock: &'static Lock) -> Option<u32> {
    arena();
    open([OTHER]);
    let mut held = lock.lock().ok();
    let mut patient = waiter(OTHER, lock);
    let (mut times, began) = (0, std::time::Instant::now());
    let handed = loop {
        held = support::while_stopped(&mut patient, || {
            drop(held.take());
            lock.try_lock().ok()
        });
        if held.is_none() {
            break Some(times);
        }
        times += 1;
        if times >= 20 && began.elapsed() > 50 * HANDOVER_AFTER {
            break None;
        }
    };
    drop(held);
    assert_eq!(patient.wait(), 0, "{}", patient.text());
    internals::recover(OTHER);
    assert_eq!(state(lock), State::Free);
    handed
}

/// After this time, a waiter must be handed the lock.
const HANDOVER_AFTER: std::time::Duration = std::time::Duration::from_millis(1);

#[test]
fn a_starving_waiter_is_handed_the_lock_in_time() {
    isolated!({
        assert!(pass_over(lock()).is_some());
    });
}

/// The control: without the hand-over, the waiter never acquires the lock.
#[test]
fn without_the_hand_over_a_waiter_for_a_lock_starves() {
    isolated!({
        internals::break_rule(Rule::LockHandedOver);
        assert_eq!(pass_over(lock()), None);
    });
}
