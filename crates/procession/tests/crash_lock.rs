//! A process is killed at every instruction of taking and releasing a lock, in every state of the lock.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use procession::Lock;
use procession::internals::{self, Rule, word};
use procession::sync::{LockError, LockGuard};
use procession_testkit::{Child, CrashStep, Gate, Outcome, Point, Report, isolated};
use support::{
    Before, Diary, OTHER, State, VICTIM, arena, heir, id, lock, open, owner, pass_through, state, watched,
};

type Taken = Result<LockGuard<'static>, LockError>;

/// `lock()` has been called.
const COMING: u64 = 1;
/// It has returned with the lock.
const INSIDE: u64 = 2;
/// The release has begun.
const LEAVING: u64 = 3;
/// The release has returned.
const OUT: u64 = 4;

/// Some locks, and how far the victim has come with each.
struct Scene {
    locks: Vec<&'static Lock>,
    diary: Diary,
    before: Before,
}

impl Scene {
    fn with(locks: Vec<&'static Lock>) -> Scene {
        open([VICTIM, OTHER]);
        internals::recover(OTHER);
        Scene { locks, diary: Diary::new(), before: Before::now() }
    }

    fn of(locks: usize) -> Scene {
        arena();
        Scene::with((0..locks).map(|_| lock()).collect())
    }

    fn enter(&self, which: usize, take: fn(&'static Lock) -> Taken) -> Option<LockGuard<'static>> {
        self.diary.write(which, COMING);
        let held = take(self.locks[which]).ok()?;
        self.diary.write(which, INSIDE);
        Some(held)
    }

    fn leave(&self, which: usize, held: Option<LockGuard<'static>>) {
        if let Some(held) = held {
            self.diary.write(which, LEAVING);
            drop(held);
            self.diary.write(which, OUT);
        }
    }

    /// Kills at every instruction of `operation`, which is done by the victim.
    fn step(&self, step: CrashStep, operation: impl Fn(&Scene)) -> Report {
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            operation(self);
            gate.end();
        };
        step.run(victim, |point| self.verdict(point))
    }

    /// After the victim's death: every lock is whose it should be, and nothing is left of the victim.
    fn verdict(&self, point: &Point) -> Result<(), String> {
        let victim = id(VICTIM);
        let asleep = internals::waits_for(VICTIM) != 0;
        let was: Vec<_> = self.locks.iter().map(|lock| (owner(lock), state(lock))).collect();
        internals::recover(VICTIM);
        for (which, (&lock, (had, state_before))) in self.locks.iter().zip(was).enumerate() {
            let (now, last) = (state(lock), self.diary.read(which));
            ensure!(owner(lock) != victim && heir(lock) != victim, "lock {which} names the dead");
            ensure!(last != INSIDE || had == victim, "lock {which}: inside and not the owner");
            ensure!(last != OUT || had != victim, "lock {which}: outside and the owner");
            let expected = match state_before {
                State::Held if had == victim && asleep && last == COMING => State::Free,
                State::Held if had == victim => State::Died(point.victim_pid),
                other => other,
            };
            ensure!(
                now == expected,
                "lock {which} is {now:?} and was {state_before:?}, expected {expected:?}"
            );
            self.can_be_recovered(which, now)?;
        }
        internals::recover(OTHER);
        ensure!(self.locks.iter().all(|lock| owner(lock) != id(OTHER)), "the other is dead too, and named");
        support::nothing_in(VICTIM)?;
        self.before.is_back()
    }

    fn can_be_recovered(&self, which: usize, state_now: State) -> Result<(), String> {
        let lock = self.locks[which];
        if let State::Died(pid) | State::Panicked(pid) = state_now {
            let held = lock.lock_or_recover().map_err(|e| e.to_string())?;
            let told = held.recovered_from().map(|who| who.pid);
            ensure!(told == Some(pid), "lock {which} was recovered from {told:?} and not from {pid}");
            drop(held);
            ensure!(state(lock) == State::Free, "lock {which} stays marked");
        }
        Ok(())
    }
}

fn crash() -> CrashStep {
    CrashStep::new(arena())
}

#[track_caller]
fn assert_finished(report: &Report) {
    report.assert_sound();
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(report.points > 3, "{report}");
    println!("{report}");
}

const TAKES: [fn(&'static Lock) -> Taken; 4] = [
    |lock| lock.lock(),
    |lock| lock.try_lock(),
    |lock| lock.lock_timeout(Duration::from_millis(2)),
    |lock| lock.lock_or_recover(),
];

#[test]
fn a_free_lock_is_taken_and_released() {
    isolated!({
        let _dog = watched();
        for take in TAKES {
            let scene = Scene::of(1);
            let report = scene.step(crash(), |scene| scene.leave(0, scene.enter(0, take)));
            assert_finished(&report);
            assert_eq!(scene.diary.read(0), OUT);
        }
    });
}

#[test]
fn a_lock_that_is_held_is_not_taken() {
    isolated!({
        let _dog = watched();
        for take in [TAKES[1], |lock: &'static Lock| lock.lock_timeout(Duration::ZERO)] {
            let scene = Scene::of(1);
            let _held = scene.locks[0].lock().unwrap();
            assert_finished(&scene.step(crash(), |scene| assert!(scene.enter(0, take).is_none())));
        }
    });
}

/// The victim waits for a lock of main's until main lets it go, once `when` says so.
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
fn a_waiter_takes_the_lock_when_it_is_released() {
    isolated!({
        let _dog = watched();
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
        let _dog = watched();
        let scene = Scene::of(1);
        assert_finished(&wait_for_main(&scene, TAKES[0], |lock| heir(lock) == id(VICTIM)));
        assert_eq!(scene.diary.read(0), OUT);
    });
}

#[test]
fn a_promise_to_a_dead_heir_that_is_not_struck_is_found() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::HeirStruck);
        wait_for_main(&Scene::of(1), TAKES[0], |lock| heir(lock) == id(VICTIM)).assert_broken();
    });
}

#[test]
fn a_waiter_gives_up() {
    isolated!({
        let _dog = watched();
        // Stepped as slowly as it is, the first one may be late before it can sleep.
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
            assert_eq!(heir(lock), 0, "the promise was taken back");
            was_heir.get()
        });
        assert!(was_heir);
    });
}

/// A lock whose last owner died.
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
fn a_marked_lock_is_refused() {
    isolated!({
        let _dog = watched();
        for take in &TAKES[..3] {
            let scene = Scene::with(vec![marked()]);
            assert_finished(&scene.step(crash(), |scene| assert!(scene.enter(0, *take).is_none())));
        }
    });
}

#[test]
fn a_marked_lock_is_recovered() {
    isolated!({
        let _dog = watched();
        let scene = Scene::with(vec![marked()]);
        assert_finished(&scene.step(crash(), |scene| scene.leave(0, scene.enter(0, TAKES[3]))));
        assert_eq!(state(scene.locks[0]), State::Free);
    });
}

/// The victim holds the lock when a waiter comes that does `wait`, and releases it, stepped, once
/// `ready`.
fn release_to_a_waiter(scene: &Scene, wait: fn(&'static Lock), ready: fn(&Lock) -> bool) -> Report {
    let lock = scene.locks[0];
    open([OTHER]);
    let mut waiter = Child::spawn(|| {
        internals::become_member(OTHER);
        while owner(lock) != id(VICTIM) {
            std::thread::yield_now();
        }
        wait(lock);
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
    assert_eq!(waiter.wait(), 0, "{}", waiter.text());
    report
}

#[test]
fn a_waiter_is_woken() {
    isolated!({
        let _dog = watched();
        // It has given up, and leaves its wake-up to others: so there is one to be given, and no heir.
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
fn the_lock_is_handed_to_an_heir() {
    isolated!({
        let _dog = watched();
        let scene = Scene::of(1);
        let promised = |lock: &Lock| heir(lock) == id(OTHER);
        assert_finished(&release_to_a_waiter(&scene, |lock| drop(lock.lock()), promised));
        assert_eq!(state(scene.locks[0]), State::Free);
    });
}

#[test]
fn taking_a_lock_twice_is_refused() {
    isolated!({
        let _dog = watched();
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
fn locks_are_nested_and_released_in_any_order() {
    isolated!({
        let _dog = watched();
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

/// The journal of a thread has room for 32; then it gets a block of its own.
#[test]
fn more_locks_are_held_than_the_record_has_room_for() {
    isolated!({
        let _dog = watched();
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

/// The process's first thread has the record in its slot; the one that is stepped takes another.
#[test]
fn two_threads_of_the_victim_hold_locks() {
    isolated!({
        let _dog = watched();
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
fn a_lock_is_poisoned_by_hand_and_by_a_panic() {
    isolated!({
        let _dog = watched();
        let by_hand = |scene: &Scene| {
            if let Some(held) = scene.enter(0, TAKES[0]) {
                scene.diary.write(0, LEAVING);
                held.poison();
            }
        };
        // Without the panic hook, which tells the testkit that the victim has failed.
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

#[test]
fn a_lock_that_is_not_in_the_journal_is_found() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::Journal);
        let report = Scene::of(1).step(crash(), |scene| scene.leave(0, scene.enter(0, TAKES[0])));
        report.assert_broken();
        assert!(report.failures.iter().any(|failure| failure.why.contains("names the dead")), "{report}");
    });
}

/// At every instruction of the victim's, another process takes the lock and releases it, or waits until the
/// victim is dead.
#[test]
fn another_takes_the_lock_meanwhile() {
    isolated!({
        let _dog = watched();
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

/// At every instruction of a waiter's, the owner releases the lock; then the waiter is killed.
#[test]
fn the_owner_releases_the_lock_meanwhile() {
    isolated!({
        let _dog = watched();
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
            // A fork of main's: it has main's place, and its lock.
            let main_releases = || drop(held.take());
            let report = step.run_pairwise(
                victim,
                main_releases,
                || internals::recover(VICTIM),
                |point| {
                    let now = state(lock);
                    ensure!(matches!(now, State::Free | State::Died(_)), "{now:?}");
                    ensure!(!point.parked || now == State::Free, "it slept, and the lock is {now:?}");
                    support::nothing_in(VICTIM)
                },
            );
            assert_finished(&report);
        }
    });
}
