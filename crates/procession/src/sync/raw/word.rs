//! The lock word's transitions, without shared memory, futexes or clocks, so that they can be model-checked.
//! `README.md` describes the states and has the proofs.

use crate::rules::{self, Rule};

/// A thread may sleep on the word.
pub const WAITERS: u64 = 1 << 31;
/// The last owner died or panicked while it held the lock.
pub const POISONED: u64 = 1 << 30;
/// The owner's turn has not begun. The owner first waits for something else, and its turn can be withdrawn.
pub const PENDING: u64 = 1 << 29;
const OWNER: u64 = PENDING - 1;
const HEIR_SHIFT: u32 = 32;
/// How many times a waiter checks the word again before it sleeps: after 16 and after 32 pauses. Each check
/// takes the word's cache line away from the owner, which needs the line for its release. Checking sooner or
/// more often made both threads slower.
const SPIN_ROUNDS: u32 = 2;

/// Returns the thread that holds the lock, or 0.
pub fn owner(word: u64) -> u32 {
    (word & OWNER) as u32
}

/// Returns the thread for which the next release reserves the lock, or 0.
pub fn heir(word: u64) -> u32 {
    (word >> HEIR_SHIFT) as u32
}

fn without_heir(word: u64) -> u64 {
    word & u64::from(u32::MAX)
}

/// A 64-bit atomic word.
pub trait Word {
    /// Returns the word. The ordering is at least Acquire.
    fn load(&self) -> u64;
    /// Replaces `old` by `new` (AcqRel). Returns the current word as an error if it is not `old`.
    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64>;
}

/// The operations of a waiting thread, besides reading the word.
pub trait Waiter {
    /// Spins for a moment, twice as long as in the round before.
    fn pause(&mut self, round: u32);
    /// Returns whether the wait must end.
    fn expired(&mut self) -> bool;
    /// Returns whether this thread was passed over for so long that it should become the heir.
    fn starving(&mut self) -> bool;
    /// Returns whether the reservation of the lock has ended because the heir did not come.
    fn heir_is_late(&mut self) -> bool;
    /// Sleeps while the lower half of the word equals that of `expected`, but no longer than a reservation
    /// lasts. May return at any time.
    fn park(&mut self, expected: u64);
}

/// Returns whether the lock is free but reserved for its heir.
pub fn is_reserved(word: u64) -> bool {
    owner(word) == 0 && heir(word) != 0
}

/// The outcome of an attempt to acquire the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The thread acquired the lock.
    Acquired,
    /// The thread acquired the lock, which was poisoned.
    Recovered,
    /// The lock is free but poisoned, and the thread did not ask to recover it.
    Poisoned,
    /// The wait ended without the lock.
    TimedOut,
    /// The thread already held the lock.
    Relocked,
}

/// Acquires the lock for the thread `me`. Waits until `waiter` expires. Acquires a poisoned lock only if
/// `recover` is set.
pub fn acquire(word: &impl Word, me: u32, recover: bool, waiter: &mut impl Waiter) -> Outcome {
    let (mut round, mut slept) = (0, false);
    loop {
        let now = word.load();
        match owner(now) {
            0 if now & POISONED != 0 && !recover => return Outcome::Poisoned,
            0 if [0, me].contains(&heir(now)) || waiter.heir_is_late() => {
                // Other threads may sleep too, so the next release has to wake another one.
                let new = u64::from(me) | if slept { WAITERS } else { now & WAITERS };
                if word.exchange(now, new).is_ok() {
                    return if now & POISONED != 0 { Outcome::Recovered } else { Outcome::Acquired };
                }
                continue;
            }
            holder if holder == me => return Outcome::Relocked,
            _ => {}
        }
        if round < SPIN_ROUNDS && !slept && now & WAITERS == 0 && !waiter.expired() {
            waiter.pause(round);
            round += 1;
            continue;
        }
        if waiter.expired() {
            // Gives up the heirship, and passes on a wake-up that this thread may have used up.
            let mut new = if heir(now) == me { without_heir(now) } else { now };
            if slept && rules::holds(Rule::WakePassedOn) {
                new |= WAITERS;
            }
            if new == now || word.exchange(now, new).is_ok() {
                return Outcome::TimedOut;
            }
            continue;
        }
        let mut asleep = now | WAITERS;
        if heir(now) == 0 && waiter.starving() {
            asleep |= u64::from(me) << HEIR_SHIFT;
        }
        if asleep == now || word.exchange(now, asleep).is_ok() {
            waiter.park(asleep);
            slept = true;
        }
    }
}

/// Which threads to wake after a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// No thread sleeps.
    Nobody,
    /// One of the sleepers.
    One,
    /// All sleepers, because only one of them can continue, or because all must see the poison.
    All,
    /// The heir, for which the lock is reserved. If the heir is not asleep, it may be stopped. Then wake
    /// another sleeper, which watches until the reservation ends.
    Heir(u32),
}

/// Releases a lock that `me` holds. Does nothing if the word does not name `me`. `poison` says that what the lock
/// guards may be half-done. `before_reserving` runs before the word says that the lock is reserved for its heir.
pub fn release(word: &impl Word, me: u32, poison: bool, mut before_reserving: impl FnMut()) -> Wake {
    loop {
        let now = word.load();
        if owner(now) != me {
            return Wake::Nobody; // recovery released it on our behalf: this thread is ending its process
        }
        let (new, wake) = match (poison, heir(now)) {
            (true, _) => (POISONED, Wake::All),
            (false, 0) => (0, Wake::One),
            (false, heir) => {
                before_reserving();
                (u64::from(heir) << HEIR_SHIFT | WAITERS, Wake::Heir(heir))
            }
        };
        if word.exchange(now, new).is_ok() {
            // Every sleeper must see the poison, even if the WAITERS bit was lost because the owner acquired
            // the lock without it.
            return if now & WAITERS == 0 && !poison { Wake::Nobody } else { wake };
        }
    }
}

/// What recovery changed in a lock word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The dead thread was neither the owner nor the heir.
    Untouched,
    /// The dead thread was the heir.
    HeirRemoved,
    /// The dead thread held the lock. The lock is free now.
    Released,
}

/// Repairs a word after the death of thread `dead`. `before_release` runs while the word still names the dead
/// thread, so only the caller may touch what the lock guards. `before_release` returns whether to poison the
/// lock.
pub fn recover(word: &impl Word, dead: u32, mut before_release: impl FnMut() -> bool) -> Repair {
    loop {
        let now = word.load();
        let (new, done) = if owner(now) == dead {
            // A living heir is removed, too. Every sleeper wakes, and the first one to run gets the lock or the error.
            (if before_release() { POISONED } else { 0 }, Repair::Released)
        } else if heir(now) == dead && rules::holds(Rule::HeirRemoved) {
            // Changes the lower half of the word of a reserved lock, so that no more threads fall asleep on
            // it. The caller wakes the threads that already sleep.
            (if owner(now) == 0 { now & POISONED } else { without_heir(now) }, Repair::HeirRemoved)
        } else {
            return Repair::Untouched;
        };
        if word.exchange(now, new).is_ok() {
            return done;
        }
    }
}

/// Sets or clears PENDING for the owner `me`. Returns false if its turn was withdrawn.
pub fn set_pending(word: &impl Word, me: u32, pending: bool) -> bool {
    loop {
        let now = word.load();
        if owner(now) != me {
            return false;
        }
        let new = if pending { now | PENDING } else { now & !PENDING };
        if word.exchange(now, new).is_ok() {
            return true;
        }
    }
}

/// Releases a lock whose owner `id` has not begun its turn, on behalf of that owner. `poison` is as in
/// [`release`].
pub fn withdraw(word: &impl Word, id: u32, poison: bool) -> Wake {
    loop {
        let now = word.load();
        if owner(now) != id || now & PENDING == 0 {
            return Wake::Nobody;
        }
        if word.exchange(now, if poison { POISONED } else { 0 }).is_ok() {
            return Wake::All;
        }
    }
}
