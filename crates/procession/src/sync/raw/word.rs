//! The lock word's transitions, free of shared memory, futexes and clocks, so that they can be
//! model-checked. See `README.md` for the states and the proofs.

use crate::rules::{self, Rule};

/// Somebody may sleep on the word.
pub const WAITERS: u64 = 1 << 31;
/// The last owner died or panicked inside.
pub const POISONED: u64 = 1 << 30;
/// The owner waits for something else before it begins: its turn can be withdrawn.
pub const PENDING: u64 = 1 << 29;
const OWNER: u64 = PENDING - 1;
const HEIR_SHIFT: u32 = 32;
/// How often a waiter looks at the word again before it sleeps: after 16 and 32 pauses. To look takes the
/// word's cache line from the holder, who needs it for the next release; looking sooner and more often
/// made both slower.
const SPIN_ROUNDS: u32 = 2;

/// The thread that holds the lock, or 0.
pub fn owner(word: u64) -> u32 {
    (word & OWNER) as u32
}

/// The thread that gets it next, or 0.
pub fn heir(word: u64) -> u32 {
    (word >> HEIR_SHIFT) as u32
}

fn without_heir(word: u64) -> u64 {
    word & u64::from(u32::MAX)
}

/// A 64-bit atomic word.
pub trait Word {
    /// Reads it; ordering at least Acquire.
    fn load(&self) -> u64;
    /// Moves it from `old` to `new` (AcqRel), or says what it is.
    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64>;
}

/// What a waiting thread can do besides looking at the word.
pub trait Waiter {
    /// Passes a little time, twice as much as in the round before.
    fn pause(&mut self, round: u32);
    /// Whether it has waited long enough.
    fn expired(&mut self) -> bool;
    /// Whether it has been passed over for so long that it should become the heir.
    fn starving(&mut self) -> bool;
    /// Whether the heir for which the lock is reserved has not come for too long.
    fn heir_is_late(&mut self) -> bool;
    /// Sleeps while the lower half of the word is that of `expected`, and no longer than a reservation
    /// lasts. May return at any time.
    fn park(&mut self, expected: u64);
}

/// Whether the lock is free, but reserved for its heir.
pub fn is_reserved(word: u64) -> bool {
    owner(word) == 0 && heir(word) != 0
}

/// How an attempt to take the lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is ours.
    Taken,
    /// It is ours, and was poisoned.
    Recovered,
    /// It is free but poisoned, and we did not ask to recover it.
    Poisoned,
    /// Time is up.
    TimedOut,
    /// It was ours before.
    Relocked,
}

/// Takes the lock for `me`, waiting as long as `waiter` lets us. Takes a poisoned one only to
/// `recover` it.
pub fn acquire(word: &impl Word, me: u32, recover: bool, waiter: &mut impl Waiter) -> Outcome {
    let (mut round, mut slept) = (0, false);
    loop {
        let now = word.load();
        match owner(now) {
            0 if now & POISONED != 0 && !recover => return Outcome::Poisoned,
            0 if [0, me].contains(&heir(now)) || waiter.heir_is_late() => {
                // We may not be the only one who slept, so the next release has to wake one more.
                let new = u64::from(me) | if slept { WAITERS } else { now & WAITERS };
                if word.exchange(now, new).is_ok() {
                    return if now & POISONED != 0 { Outcome::Recovered } else { Outcome::Taken };
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
            // The promise is taken back; and a wake-up that we may have used up is passed on.
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

/// Whom to wake after a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nobody sleeps.
    Nobody,
    /// One of those who sleep.
    One,
    /// All, because only one of them can go on, or all must hear the news.
    All,
    /// The heir, for which the lock is reserved. If it does not sleep, it may be stopped: then one of the
    /// others, to see whether the heir comes.
    Heir(u32),
}

/// Lets go of a lock that `me` holds; a word that does not name `me` is left alone. `poison` tells the
/// next ones that what it guards may be broken. `before_reserving` runs before the word may say that it is
/// reserved for its heir.
pub fn release(word: &impl Word, me: u32, poison: bool, mut before_reserving: impl FnMut()) -> Wake {
    loop {
        let now = word.load();
        if owner(now) != me {
            return Wake::Nobody; // it was handed on in our name: this thread is ending its process
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
            // A poison is news for all who sleep, also for those whose bit was lost to a barging owner.
            return if now & WAITERS == 0 && !poison { Wake::Nobody } else { wake };
        }
    }
}

/// What a death did to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The dead thread neither held it nor was to get it.
    Untouched,
    /// It was to get it.
    HeirRemoved,
    /// It held it: the lock is free now.
    Released,
}

/// Repairs a word after the death of thread `dead`. `before_release` runs while the word still
/// names the dead, when only the caller may touch what the lock guards; it says whether to poison.
pub fn recover(word: &impl Word, dead: u32, mut before_release: impl FnMut() -> bool) -> Repair {
    loop {
        let now = word.load();
        let (new, done) = if owner(now) == dead {
            (if before_release() { POISONED } else { 0 }, Repair::Released)
        } else if heir(now) == dead && rules::holds(Rule::HeirRemoved) {
            // The lower half of a lock that was reserved changes, so that nobody falls asleep on it: all who
            // sleep are woken.
            (if owner(now) == 0 { now & POISONED } else { without_heir(now) }, Repair::HeirRemoved)
        } else {
            return Repair::Untouched;
        };
        if word.exchange(now, new).is_ok() {
            return done;
        }
    }
}

/// Notes that the owner `me` has not begun, or that it begins now. Returns false if its turn was withdrawn.
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

/// Releases a lock whose owner `id` has not begun, as that owner would; `poison` as in [`release`].
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
