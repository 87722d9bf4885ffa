//! The lock word in the arena, with the owner's journal, the announced waits, and recovery after a death.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::park::Wait;
use super::word;
use super::word::{Outcome, Waiter, Wake, Word};
use crate::arena::records::Record;
use crate::arena::thread::{Entry, Me};
use crate::arena::{Arena, member, thread};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;
use crate::rules::Rule;
use crate::sync::error::LockError;
use crate::sync::raw::deadlock::Watch;
use crate::{Result, rules};

/// A release reserves the lock for a waiter that has slept this long.
const STARVING_NS: u64 = 1_000_000;
/// How long the lock stays reserved for its heir. An heir that was woken runs within 50 µs, or within a few
/// milliseconds on a busy machine. A stopped heir does not run.
pub(crate) const RESERVED_NS: u64 = 10_000_000;

/// A lock in shared memory that outlives its owner. All zeros are a free lock.
#[repr(C)]
pub(crate) struct RawLock {
    word: AtomicU64,
    /// When the lock was last reserved for an heir.
    reserved_at_ns: AtomicU64,
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        // ORDERING: Acquire pairs with the Release of the previous owner's exchange, so that we see what that
        // owner wrote. Release also keeps the store of the journal entry before the exchange of the word.
        self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }
}

impl RawLock {
    /// Acquires the lock at `offset` if one exchange is enough.
    #[inline]
    pub(crate) fn try_acquire_fast(&self, offset: u64) -> Option<Entry> {
        // INVARIANT 6: a word that names a thread is listed in that thread's journal.
        let (me, entry) = thread::journal_fast(offset)?;
        if !rules::holds(Rule::Journal) {
            thread::clear_entry(entry);
        }
        if self.word.exchange(0, me.into()).is_ok() {
            return Some(entry);
        }
        thread::clear_entry(entry);
        None
    }

    /// Tries to acquire the lock at `offset` until `deadline`. Returns the outcome, and the journal entry if
    /// the lock was acquired.
    #[cold]
    pub(crate) fn acquire(
        &'static self,
        me: &Me,
        offset: u64,
        recover: bool,
        deadline: Deadline,
    ) -> Result<(Outcome, Option<Entry>)> {
        let arena = member::arena()?;
        let entry = me.journal(offset)?;
        if !rules::holds(Rule::Journal) {
            thread::clear_entry(entry);
        }
        let mut sleeper = Sleeper {
            lock: self,
            me: me.owner(),
            arena,
            record: me.record(),
            deadline,
            watch: None,
            refusal: None,
        };
        match word::acquire(&self.word, me.owner(), recover, &mut sleeper) {
            taken @ (Outcome::Acquired | Outcome::Recovered) => Ok((taken, Some(entry))),
            refused => {
                // CRASH: if we die before the entry is cleared, the death sweep wakes the lock's sleepers.
                self.wake_next_watcher();
                thread::clear_entry(entry);
                sleeper.refusal.map_or(Ok((refused, None)), |error| Err(error.into()))
            }
        }
    }

    /// Releases the lock, and wakes a waiter if there may be one.
    #[inline]
    pub(crate) fn release(&self, entry: Entry) {
        // CRASH: if we die before this exchange, the word names us, and recovery releases the lock. If we die
        // between the exchange and the wake, the journal still names the lock, and the death sweep wakes its
        // sleepers.
        if !thread::clear_entry_if(entry, |me| self.word.exchange(me.into(), 0).is_ok()) {
            self.release_slow(entry, false);
        }
    }

    /// Releases a lock that has waiters, or must be poisoned, or whose thread has already returned its
    /// record. Does nothing in a process that was created by a plain `fork()`.
    #[cold]
    pub(crate) fn release_slow(&self, entry: Entry, poison: bool) {
        let Some(arena) = member::mapped() else { return };
        // A thread that is ending may have a different record than the one that holds the lock.
        let me = match thread::owner() {
            me if me != 0 && word::owner(self.load()) == me => Some(me),
            _ => thread::owner_of(arena, entry),
        };
        if let Some(me) = me {
            let store_time = || self.reserved_at_ns.store(now_ns(), Ordering::Relaxed);
            self.wake(word::release(&self.word, me, poison, store_time));
        }
        thread::clear_entry(entry);
    }

    /// Sets or clears PENDING in the word of a lock that this thread holds. PENDING says that this thread's
    /// turn has not begun and can be withdrawn. Returns false if the turn was withdrawn. Then another thread
    /// may own the lock.
    pub(crate) fn set_pending(&self, pending: bool) -> bool {
        // CRASH: the word names us with and without PENDING.
        word::set_pending(&self.word, thread::owner(), pending)
    }

    /// Returns whether this thread holds the lock.
    pub(crate) fn is_mine(&self) -> bool {
        word::owner(self.load()) == thread::owner()
    }

    /// Releases the lock on behalf of the thread with record `id`, which is stopped and whose turn is pending.
    pub(crate) fn withdraw(&self, id: u32, poison: bool) {
        self.wake(word::withdraw(&self.word, id + 1, poison));
    }

    /// Returns whether the thread whose journal has `entry` still holds the lock. The answer is false in
    /// main's last exit handlers, after recovery has released what the exiting thread held.
    pub(crate) fn is_still_held(&self, entry: Entry) -> bool {
        let holder = word::owner(self.load());
        holder != 0
            && (holder == thread::owner()
                || member::mapped().is_some_and(|arena| thread::owner_of(arena, entry) == Some(holder)))
    }

    fn wake(&self, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::One => drop(futex::wake(self.futex(), 1)),
            Wake::All => drop(futex::wake_all(self.futex())),
            Wake::Heir(heir) => {
                // A stopped heir does not sleep on the futex, and this wake does not reach it. So wake
                // another waiter, which watches until the reservation ends.
                if futex::wake_class(self.futex(), futex::class_of(heir)) == 0
                    && rules::holds(Rule::HeirWatched)
                {
                    futex::wake(self.futex(), 1);
                }
            }
        }
    }

    /// Wakes another waiter if the lock is reserved. The calling waiter leaves, and may be the only awake one
    /// that watches the reservation.
    fn wake_next_watcher(&self) {
        if word::is_reserved(self.load()) {
            futex::wake(self.futex(), 1);
        }
    }

    /// Returns when the current reservation ends.
    fn reserved_until_ns(&self) -> u64 {
        // ORDERING: the time is written before the word says that the lock is reserved, and the caller has
        // seen that word.
        self.reserved_at_ns.load(Ordering::Relaxed).min(now_ns()) + RESERVED_NS
    }

    /// Returns the lower half of the word, on which waiters sleep.
    pub(crate) fn futex(&self) -> &AtomicU32 {
        const { assert!(cfg!(target_endian = "little"), "the lower half comes first") };
        // SAFETY: these are the first four bytes of a live, aligned 64-bit atomic. The kernel and the tests only read
        // them.
        unsafe { &*(&raw const self.word).cast::<AtomicU32>() }
    }

    /// Returns the word. The load is part of the single total order of all SeqCst operations.
    #[inline]
    pub(crate) fn load_in_order(&self) -> u64 {
        self.word.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }
}

struct Sleeper {
    lock: &'static RawLock,
    me: u32,
    arena: &'static Arena,
    record: &'static Record,
    deadline: Deadline,
    /// Created when the thread first sleeps.
    watch: Option<Watch>,
    /// Why the wait must end without the lock.
    refusal: Option<LockError>,
}

impl Waiter for Sleeper {
    fn pause(&mut self, round: u32) {
        (0..16 << round).for_each(|_| spin_loop());
    }

    fn expired(&mut self) -> bool {
        self.refusal.is_some() || self.deadline.passed()
    }

    fn starving(&mut self) -> bool {
        if !rules::holds(Rule::LockHandedOver) {
            return false;
        }
        let reserved_at = self.lock.reserved_at_ns.load(Ordering::Relaxed);
        let since = self.watch.as_ref().map(|watch| watch.since_ns.max(reserved_at));
        since.is_some_and(|since| now_ns().saturating_sub(since) >= STARVING_NS)
    }

    fn heir_is_late(&mut self) -> bool {
        rules::holds(Rule::HeirBypassed) && now_ns() >= self.lock.reserved_until_ns()
    }

    fn park(&mut self, expected: u64) {
        let watch = self.watch.get_or_insert_with(|| Watch::begin(self.deadline));
        let (word, class) = (self.lock.futex(), futex::class_of(self.me));
        let wait = Wait::announce_since(self.arena, self.record, word, watch.stamp());
        let until = watch.until(self.arena, self.deadline);
        let until = match word::heir(expected) {
            // If there is no heir, wake up once to become the heir. If there is one, sleep on.
            0 => until.min_ns(now_ns() + STARVING_NS),
            _ if word::is_reserved(expected) && rules::holds(Rule::HeirBypassed) => {
                until.min_ns(self.lock.reserved_until_ns())
            }
            _ => until,
        };
        wait.sleep_as(word, expected as u32, until, class);
        self.refusal = watch.check(self.arena, self.me - 1);
    }
}

/// Releases the lock if the dead thread with record `id` held it. `repair` runs while only the caller may touch what
/// the lock guards, and returns whether to poison the lock.
pub(crate) fn recover(id: u32, lock: &'static RawLock, repair: impl Fn() -> bool) {
    word::recover(&lock.word, id + 1, repair);
    // Wake even if the word does not name the dead thread. The thread may have died between its release and
    // its wake.
    if rules::holds(Rule::SweepWakes) {
        futex::wake_all(lock.futex());
    }
}
