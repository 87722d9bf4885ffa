//! A process is killed at every instruction of releasing a lock with waiters, several locks, many locks, and
//! poisoned locks.

use crate::support;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::support::scene::{INSIDE, LEAVING, OUT, Scene, TAKES, crash};
use crate::support::{OTHER, State, VICTIM, assert_finished, heir, id, open, owner, state};
use procession::Lock;
use procession::internals::{self, word};
use procession_testkit::{Child, Gate, Report, isolated};

/// The place in the diary that says that the stepping is over.
const OVER: usize = 1;

/// The victim holds the lock when a waiter calls `wait`. Once `ready` returns true, the victim releases the
/// lock, and is stepped. The waiter keeps the result of `wait` until the stepping is over. Otherwise the
/// waiter would run while the memory is copied for the checker. A copy that mixes older and newer memory
/// would show a state that never existed.
fn release_to_a_waiter<T>(scene: &Scene, wait: fn(&'static Lock) -> T, ready: fn(&Lock) -> bool) -> Report {
    let lock = scene.locks[0];
    open([OTHER]);
    let mut waiter = Child::spawn(|| {
        internals::become_member(OTHER);
        while owner(lock) != id(VICTIM) {
            std::thread::yield_now();
        }
        let held = wait(lock);
        scene.diary.wait(OVER, 1);
        drop(held);
    });
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        let held = scene.enter(0, TAKES[0]);
        while !ready(lock) {
            std::thread::yield_now();
        }
        gate.begin();
        scene.leave(0, held);
        gate.end();
    };
    let report = crash().run(victim, |point| scene.verdict(point));
    scene.diary.write(OVER, 1);
    assert_eq!(waiter.wait(), 0, "{}", waiter.text());
    report
}

#[test]
fn a_waiter_is_woken() {
    isolated!({
        // The waiter times out, and leaves its mark on the lock. So the victim must issue a wake, although
        // there is no heir.
        let give_up = |lock: &Lock| assert!(lock.lock_timeout(Duration::from_millis(1)).is_err());
        let given_up = |lock: &Lock| {
            internals::lock_word(lock) == word::WAITERS | u64::from(id(VICTIM))
                && internals::waits_for(OTHER) == 0
        };
        let scene = Scene::of(1);
        assert_finished(&release_to_a_waiter(&scene, give_up, given_up));
        assert_eq!(state(scene.locks[0]), State::Free);
    });
}

#[test]
fn the_lock_can_be_handed_to_an_heir() {
    isolated!({
        let scene = Scene::of(1);
        let promised = |lock: &Lock| heir(lock) == id(OTHER);
        assert_finished(&release_to_a_waiter(&scene, |lock| lock.lock().expect("its turn comes"), promised));
        assert_eq!(state(scene.locks[0]), State::Free);
    });
}

#[test]
fn locks_can_be_nested_and_released_in_any_order() {
    isolated!({
        for order in [[2, 1, 0], [0, 1, 2], [1, 0, 2]] {
            let scene = Scene::of(3);
            let report = scene.step(crash(), |scene| {
                let mut held = [0, 1, 2].map(|which| scene.enter(which, TAKES[0]));
                order.into_iter().for_each(|which| scene.leave(which, held[which].take()));
            });
            assert_finished(&report);
            assert!((0..3).all(|which| scene.diary.read(which) == OUT));
        }
    });
}

/// A thread's journal has room for 32 locks. After that, the journal gets a block of its own.
#[test]
fn more_locks_can_be_held_than_fit_into_a_record() {
    isolated!({
        let scene = Scene::of(34);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            let mut held: Vec<_> = (0..31).map(|which| scene.enter(which, TAKES[0])).collect();
            gate.begin();
            held.extend((31..34).map(|which| scene.enter(which, TAKES[0])));
            scene.leave(32, held[32].take());
            scene.leave(5, held[5].take());
            held.push(scene.enter(5, TAKES[0]));
            gate.end();
            std::mem::forget(held);
        };
        let report = crash().run(victim, |point| scene.verdict(point));
        assert_finished(&report);
        scene.before.is_back().expect_err("the journal's block is there until the end of the victim");
        scene.before.is_back_without(VICTIM).unwrap();
    });
}

/// The process's first thread has the record in the slot, and the stepped thread uses another record.
#[test]
fn two_threads_of_the_victim_can_hold_locks() {
    isolated!({
        let scene = Scene::of(2);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            let (lock, diary) = (scene.locks[1], scene.diary);
            std::thread::spawn(move || {
                std::mem::forget(lock.lock());
                diary.write(2, INSIDE);
                loop {
                    std::thread::park();
                }
            });
            scene.diary.wait(2, INSIDE);
            gate.begin();
            scene.leave(0, scene.enter(0, TAKES[0]));
            gate.end();
        };
        let report = crash().run(victim, |point| {
            let inside = scene.diary.read(0) == INSIDE;
            let had = state(scene.locks[0]) == State::Held;
            ensure!(had || !inside, "inside, and the lock is free");
            internals::recover(VICTIM);
            let expected = if had { State::Died(point.victim_pid) } else { State::Free };
            ensure!(state(scene.locks[0]) == expected, "the stepped thread's is {:?}", state(scene.locks[0]));
            ensure!(state(scene.locks[1]) == State::Died(point.victim_pid), "{:?}", state(scene.locks[1]));
            support::nothing_in(VICTIM)?;
            scene.before.is_back()
        });
        assert_finished(&report);
    });
}

#[test]
fn a_lock_can_be_poisoned_explicitly_and_by_a_panic() {
    isolated!({
        let by_hand = |scene: &Scene| {
            if let Some(held) = scene.enter(0, TAKES[0]) {
                scene.diary.write(0, LEAVING);
                held.poison();
            }
        };
        // A panic hook would report to the testkit that the victim has failed. So the panic bypasses the
        // hook.
        let by_panic = |scene: &Scene| {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _held = scene.enter(0, TAKES[0]);
                scene.diary.write(0, LEAVING);
                resume_unwind(Box::new(()));
            }));
            assert!(panicked.is_err());
        };
        for poison in [&by_hand as &dyn Fn(&Scene), &by_panic] {
            let scene = Scene::of(1);
            assert_finished(&scene.step(crash(), poison));
            assert!(matches!(state(scene.locks[0]), State::Panicked(_)));
        }
    });
}
