//! Several locks, a victim that acquires and releases them, and checks of the locks after its death.

use std::time::Duration;

use procession::Lock;
use procession::internals;
use procession::sync::LockError;
use procession::sync::LockGuard;
use procession_testkit::{CrashStep, Gate, Point, Report};

use super::{Before, Diary, OTHER, State, VICTIM, arena, heir, id, lock, open, owner, state};
use crate::ensure;

/// The result of acquiring a lock.
pub type Taken = Result<LockGuard<'static>, LockError>;

/// `lock()` has been called.
pub const COMING: u64 = 1;

/// `lock()` has returned with the lock.
pub const INSIDE: u64 = 2;

/// The release has begun.
pub const LEAVING: u64 = 3;

/// The release has returned.
pub const OUT: u64 = 4;

/// Several locks, and the victim's progress with each.
pub struct Scene {
    pub locks: Vec<&'static Lock>,
    pub diary: Diary,
    pub before: Before,
}

impl Scene {
    /// Creates a scene with these locks. The victim finds the locks in their present state.
    pub fn with(locks: Vec<&'static Lock>) -> Scene {
        open([VICTIM, OTHER]);
        internals::recover(OTHER);
        Scene { locks, diary: Diary::new(), before: Before::now() }
    }

    /// Creates a scene with this many fresh locks.
    pub fn of(locks: usize) -> Scene {
        arena();
        Scene::with((0..locks).map(|_| lock()).collect())
    }

    /// Acquires a lock as the victim, and records the progress in the diary.
    pub fn enter(&self, which: usize, take: fn(&'static Lock) -> Taken) -> Option<LockGuard<'static>> {
        self.diary.write(which, COMING);
        let held = take(self.locks[which]).ok()?;
        self.diary.write(which, INSIDE);
        Some(held)
    }

    /// Releases a lock as the victim, and records the progress in the diary.
    pub fn leave(&self, which: usize, held: Option<LockGuard<'static>>) {
        if let Some(held) = held {
            self.diary.write(which, LEAVING);
            drop(held);
            self.diary.write(which, OUT);
        }
    }

    /// Kills the victim at every instruction of `operation`.
    pub fn step(&self, step: CrashStep, operation: impl Fn(&Scene)) -> Report {
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            operation(self);
            gate.end();
        };
        step.run(victim, |point| self.verdict(point))
    }

    /// Checks after the victim's death that every lock has the right owner, and that the victim left nothing behind.
    pub fn verdict(&self, point: &Point) -> Result<(), String> {
        let victim = id(VICTIM);
        let reserved: Vec<_> = self.locks.iter().map(|lock| owner(lock) == 0 && heir(lock) != 0).collect();
        let was: Vec<_> = self.locks.iter().map(|lock| (owner(lock), state(lock))).collect();
        internals::recover(VICTIM);
        for (which, (&lock, (had, state_before))) in self.locks.iter().zip(was).enumerate() {
            let (now, last) = (state(lock), self.diary.read(which));
            ensure!(owner(lock) != victim && heir(lock) != victim, "lock {which} names the dead");
            ensure!(last != INSIDE || had == victim, "lock {which}: inside and not the owner");
            ensure!(last != OUT || had != victim, "lock {which}: outside and the owner");
            let expected = match state_before {
                // The reservation lasts until it times out or its heir is dead.
                State::Held if reserved[which] && now == State::Free => now,
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
        super::nothing_in(VICTIM)?;
        self.before.is_back()
    }

    fn can_be_recovered(&self, which: usize, state_now: State) -> Result<(), String> {
        let lock = self.locks[which];
        if let State::Died(pid) | State::Panicked(pid) = state_now {
            let held = lock.lock_or_recover().map_err(|e| e.to_string())?;
            let told = held.recovered_from().map(|who| who.pid.cast_signed());
            ensure!(told == Some(pid), "lock {which} was recovered from {told:?} and not from {pid}");
            drop(held);
            ensure!(state(lock) == State::Free, "lock {which} stays marked");
        }
        Ok(())
    }
}

/// Creates a crash-stepping run on the arena.
pub fn crash() -> CrashStep {
    CrashStep::new(arena())
}

/// The ways to acquire a lock.
pub const TAKES: [fn(&'static Lock) -> Taken; 4] = [
    |lock| lock.lock(),
    |lock| lock.try_lock(),
    |lock| lock.lock_timeout(Duration::from_millis(2)),
    |lock| lock.lock_or_recover(),
];
