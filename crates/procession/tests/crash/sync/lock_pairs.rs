//! At every instruction of a process that acquires or releases a lock, another process does the opposite. Then the
//! first process is killed.

use crate::support;
use std::cell::Cell;
use std::rc::Rc;

use crate::support::scene::{Scene, TAKES, crash};
use crate::support::{OTHER, State, VICTIM, assert_finished, heir, id, pass_through, state};
use procession::internals;
use procession_testkit::{Gate, isolated};

/// At every instruction of the victim, another process acquires the lock and releases it, or waits until the victim is
/// dead.
#[test]
fn another_process_can_acquire_the_lock_meanwhile() {
    isolated!({
        for (which, take) in TAKES.into_iter().enumerate() {
            let scene = Scene::of(1);
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                gate.begin();
                scene.leave(0, scene.enter(0, take));
                gate.end();
            };
            let other = || {
                internals::open_slot(OTHER);
                internals::become_member(OTHER);
                pass_through(scene.locks[0]);
            };
            let recover = || internals::recover(VICTIM);
            let report = crash().run_pairwise(victim, other, recover, |_| {
                internals::recover(OTHER);
                ensure!(
                    state(scene.locks[0]) == State::Free,
                    "taken, released, and {:?}",
                    state(scene.locks[0])
                );
                support::nothing_in(VICTIM)?;
                scene.before.is_back()
            });
            println!("{which}");
            assert_finished(&report);
        }
    });
}

/// At every instruction of a waiter, the owner releases the lock. Then the waiter is killed.
#[test]
fn the_owner_can_release_the_lock_meanwhile() {
    isolated!({
        for promised in [false, true] {
            let scene = Scene::of(1);
            let lock = scene.locks[0];
            let held = Rc::new(Cell::new(lock.lock().ok()));
            let mine = Rc::clone(&held);
            let step = crash().when_parked(move |_| {
                if !promised || heir(lock) == id(VICTIM) {
                    drop(mine.take());
                }
            });
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                gate.begin();
                scene.leave(0, scene.enter(0, TAKES[0]));
                gate.end();
            };
            // This runs in a fork of main, which acts with main's slot and main's lock.
            let main_releases = || drop(held.take());
            let report = step.run_pairwise(
                victim,
                main_releases,
                || internals::recover(VICTIM),
                |point| {
                    let now = state(lock);
                    ensure!(matches!(now, State::Free | State::Died(_)), "{now:?}");
                    ensure!(!point.parked || now == State::Free, "the waiter slept, and the lock is {now:?}");
                    support::nothing_in(VICTIM)
                },
            );
            assert_finished(&report);
        }
    });
}
