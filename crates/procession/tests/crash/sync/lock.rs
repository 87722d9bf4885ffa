//! A process is killed at every instruction of acquiring a lock, in every state of the lock.

use crate::support;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::support::scene::{OUT, Scene, TAKES, Taken, crash};
use crate::support::{
    OTHER, RESERVED, State, THIRD, VICTIM, arena, assert_finished, heir, id, lock, open, owner, state,
};
use procession::Lock;
use procession::internals::{self, Rule};
use procession_testkit::{Child, Report, isolated, proc, spawn_parked};

#[test]
fn a_free_lock_can_be_acquired_and_released() {
    isolated!({
        for take in TAKES {
            let scene = Scene::of(1);
            let report = scene.step(crash(), |scene| scene.leave(0, scene.enter(0, take)));
            assert_finished(&report);
            assert_eq!(scene.diary.read(0), OUT);
        }
    });
}

#[test]
fn a_held_lock_is_not_acquired() {
    isolated!({
        for take in [TAKES[1], |lock: &'static Lock| lock.lock_timeout(Duration::ZERO)] {
            let scene = Scene::of(1);
            let _held = scene.locks[0].lock().unwrap();
            assert_finished(&scene.step(crash(), |scene| assert!(scene.enter(0, take).is_none())));
        }
    });
}

/// The victim waits for a lock that main holds. Main releases the lock once `when` returns true.
fn wait_for_main(scene: &Scene, take: fn(&'static Lock) -> Taken, when: fn(&Lock) -> bool) -> Report {
    let lock = scene.locks[0];
    let held = Rc::new(Cell::new(lock.lock().ok()));
    let step = crash().when_parked(move |_| {
        if when(lock) {
            drop(held.take());
        }
    });
    scene.step(step, |scene| scene.leave(0, scene.enter(0, take)))
}

#[test]
fn a_waiter_may_die_while_it_acquires_a_released_lock() {
    isolated!({
        for take in [TAKES[0], TAKES[3]] {
            let scene = Scene::of(1);
            assert_finished(&wait_for_main(&scene, take, |_| true));
            assert_eq!(scene.diary.read(0), OUT);
        }
    });
}

#[test]
fn a_waiter_becomes_the_heir_and_the_owner() {
    isolated!({
        let scene = Scene::of(1);
        assert_finished(&wait_for_main(&scene, TAKES[0], |lock| heir(lock) == id(VICTIM)));
        assert_eq!(scene.diary.read(0), OUT);
    });
}

/// The lock is reserved for a stopped process. The victim waits behind it, or arrives when the reservation has ended.
#[test]
fn a_lock_is_acquired_past_its_stopped_heir() {
    isolated!({
        for waits in [true, false] {
            arena();
            let lock = lock();
            let held = Rc::new(Cell::new(lock.lock().ok()));
            open([THIRD]);
            let mut stopped = spawn_parked(|| {
                internals::become_member(THIRD);
                drop(lock.lock());
            });
            proc::wait_until("the process is the heir", support::LONG, || heir(lock) == id(THIRD));
            support::stop(&mut stopped);
            let scene = Scene::with(vec![lock]);
            let step = match waits {
                true => crash().when_parked(move |_| drop(held.take())),
                false => {
                    drop(held.take());
                    let ended = Instant::now() + RESERVED;
                    proc::wait_until("the reservation ends", support::LONG, || ended < Instant::now());
                    crash()
                }
            };
            assert_finished(&scene.step(step, |scene| scene.leave(0, scene.enter(0, TAKES[0]))));
            assert_eq!((scene.diary.read(0), owner(lock)), (OUT, 0));
            stopped.kill();
            internals::recover(THIRD);
        }
    });
}

#[test]
fn without_the_rule_a_lock_stays_reserved_for_a_dead_heir() {
    isolated!({
        internals::break_rule(Rule::HeirRemoved);
        wait_for_main(&Scene::of(1), TAKES[0], |lock| heir(lock) == id(VICTIM)).assert_broken();
    });
}

#[test]
fn a_waiter_can_time_out() {
    isolated!({
        // Stepping makes the victim so slow that the first timeout may pass before it can sleep.
        let gives_up: [fn(&'static Lock) -> Taken; 3] = [
            |lock| lock.lock_timeout(Duration::from_millis(200)),
            |lock| lock.lock_timeout(Duration::from_secs(1)),
            |lock| lock.lock_timeout(Duration::from_secs(5)),
        ];
        let was_heir = gives_up.into_iter().any(|take| {
            let (scene, was_heir) = (Scene::of(1), Rc::new(Cell::new(false)));
            let _held = scene.locks[0].lock().unwrap();
            let (lock, heard) = (scene.locks[0], Rc::clone(&was_heir));
            let step = crash().when_parked(move |_| heard.set(heard.get() || heir(lock) == id(VICTIM)));
            assert_finished(&scene.step(step, |scene| assert!(scene.enter(0, take).is_none())));
            assert_eq!(heir(lock), 0, "the reservation was withdrawn");
            was_heir.get()
        });
        assert!(was_heir);
    });
}

/// Creates a lock whose last owner died.
fn marked() -> &'static Lock {
    arena();
    let lock = lock();
    open([OTHER]);
    let mut dead = Child::spawn(|| {
        internals::become_member(OTHER);
        std::mem::forget(lock.lock());
    });
    assert_eq!(dead.wait(), 0);
    internals::recover(OTHER);
    assert_eq!(state(lock), State::Died(dead.pid));
    lock
}

#[test]
fn a_poisoned_lock_is_refused() {
    isolated!({
        for take in &TAKES[..3] {
            let scene = Scene::with(vec![marked()]);
            assert_finished(&scene.step(crash(), |scene| assert!(scene.enter(0, *take).is_none())));
        }
    });
}

#[test]
fn a_poisoned_lock_can_be_recovered() {
    isolated!({
        let scene = Scene::with(vec![marked()]);
        assert_finished(&scene.step(crash(), |scene| scene.leave(0, scene.enter(0, TAKES[3]))));
        assert_eq!(state(scene.locks[0]), State::Free);
    });
}

#[test]
fn acquiring_a_lock_twice_is_refused() {
    isolated!({
        let scene = Scene::of(1);
        let report = scene.step(crash(), |scene| {
            let held = scene.enter(0, TAKES[0]);
            assert_eq!(state(scene.locks[0]), State::Mine);
            scene.leave(0, held);
        });
        assert_finished(&report);
    });
}

#[test]
fn without_the_journal_a_dead_process_keeps_a_lock() {
    isolated!({
        internals::break_rule(Rule::Journal);
        let report = Scene::of(1).step(crash(), |scene| scene.leave(0, scene.enter(0, TAKES[0])));
        report.assert_broken();
        assert!(report.failures.iter().any(|failure| failure.why.contains("names the dead")), "{report}");
    });
}
