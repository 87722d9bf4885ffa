//! The lock word in the arena: journal, publication of waits, and repair after a death.

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

/// A waiter that has slept this long gets the lock next.
const PATIENCE_NS: u64 = 1_000_000;
/// For so long a lock stays reserved for an heir that does not come. One that was woken comes within 50 µs, or
/// some milliseconds where many want to run; one that is stopped does not come.
pub(crate) const RESERVED_NS: u64 = 10_000_000;

/// A lock in shared memory that outlives its owner. All zero is a free one.
#[repr(C)]
pub(crate) struct RawLock {
    word: AtomicU64,
    /// When the lock was last reserved for a waiter that had been passed over.
    handed_ns: AtomicU64,
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        // ORDERING: Acquire pairs with the Release of the previous owner's exchange, so that we
        // see what it wrote; Release also keeps the journal entry before the word.
        self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }
}

impl RawLock {
    /// Takes the lock, which lies at `offset`, if that takes no more than one exchange.
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

    /// Takes the lock, which lies at `offset`, or not; says how it went. A lock that is not taken
    /// leaves no trace.
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
            taken @ (Outcome::Taken | Outcome::Recovered) => Ok((taken, Some(entry))),
            refused => {
                // CRASH: until the entry is struck out, the death sweep wakes the sleepers of the lock.
                self.pass_watch_on();
                thread::clear_entry(entry);
                sleeper.refusal.map_or(Ok((refused, None)), |error| Err(error.into()))
            }
        }
    }

    /// Lets go, and wakes whom it concerns.
    #[inline]
    pub(crate) fn release(&self, entry: Entry) {
        // CRASH: until this exchange the word names us and recovery releases it; between it and
        // the wake the journal still names the lock, and the death sweep wakes its sleepers.
        if !thread::clear_entry_if(entry, |me| self.word.exchange(me.into(), 0).is_ok()) {
            self.release_slow(entry, false);
        }
    }

    /// Lets go of a lock that others wait for, or that is to be poisoned, or after the thread has
    /// given its record back. In a stray fork it does nothing.
    #[cold]
    pub(crate) fn release_slow(&self, entry: Entry, poison: bool) {
        let Some(arena) = member::mapped() else { return };
        // In its last moments a thread may have another record than the one that holds the lock.
        let me = match thread::owner() {
            me if me != 0 && word::owner(self.load()) == me => Some(me),
            _ => thread::owner_of(arena, entry),
        };
        if let Some(me) = me {
            let note_time = || self.handed_ns.store(now_ns(), Ordering::Relaxed);
            self.wake(word::release(&self.word, me, poison, note_time));
        }
        thread::clear_entry(entry);
    }

    /// Notes that this thread, which has the lock, has not begun yet to do what the lock is for, or that it begins
    /// now. Returns false if its turn was withdrawn meanwhile; then the lock is not its own any more.
    pub(crate) fn set_pending(&self, pending: bool) -> bool {
        // CRASH: with the note or without, the word names us.
        word::set_pending(&self.word, thread::owner(), pending)
    }

    /// Whether this thread has the lock.
    pub(crate) fn is_mine(&self) -> bool {
        word::owner(self.load()) == thread::owner()
    }

    /// Releases the lock for the thread with record `id`, which has it but has not begun and is stopped.
    pub(crate) fn withdraw(&self, id: u32, poison: bool) {
        self.wake(word::withdraw(&self.word, id + 1, poison));
    }

    /// Whether whoever has `entry` in its journal still holds the lock. Not so in the last exit handlers of main, when
    /// what the exiting thread held has been handed on.
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
                // Who is stopped does not sleep on a futex, and cannot come. Another waiter sees to it that the
                // reservation ends.
                if futex::wake_class(self.futex(), futex::class_of(heir)) == 0
                    && rules::holds(Rule::HeirWatched)
                {
                    futex::wake(self.futex(), 1);
                }
            }
        }
    }

    /// A waiter that leaves may have been the only one awake that sees to it that a reservation ends.
    fn pass_watch_on(&self) {
        if word::is_reserved(self.load()) {
            futex::wake(self.futex(), 1);
        }
    }

    /// When the present reservation ends.
    fn reserved_until_ns(&self) -> u64 {
        // ORDERING: written before the word said that it is reserved, which the caller has seen.
        self.handed_ns.load(Ordering::Relaxed).min(now_ns()) + RESERVED_NS
    }

    /// The lower half of the word, on which waiters sleep.
    pub(crate) fn futex(&self) -> &AtomicU32 {
        const { assert!(cfg!(target_endian = "little"), "the lower half comes first") };
        // SAFETY: the first four bytes of a live, aligned 64-bit atomic. The kernel and the tests
        // only read through it.
        unsafe { &*(&raw const self.word).cast::<AtomicU32>() }
    }

    /// The word, in one order with everything else that is sequentially consistent.
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
    /// From the first time that it sleeps.
    watch: Option<Watch>,
    /// Why waiting any longer makes no sense.
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
        if !rules::holds(Rule::HandedOn) {
            return false;
        }
        let handed = self.lock.handed_ns.load(Ordering::Relaxed);
        let since = self.watch.as_ref().map(|watch| watch.since_ns.max(handed));
        since.is_some_and(|since| now_ns().saturating_sub(since) >= PATIENCE_NS)
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
            // Wake up once to become the heir; from then on, or when there is one, sleep on.
            0 => until.min_ns(now_ns() + PATIENCE_NS),
            _ if word::is_reserved(expected) && rules::holds(Rule::HeirBypassed) => {
                until.min_ns(self.lock.reserved_until_ns())
            }
            _ => until,
        };
        wait.sleep_as(word, expected as u32, until, class);
        self.refusal = watch.look(self.arena, self.me - 1);
    }
}

/// Releases what the dead thread with record `id` held at `lock`. `repair` runs while only the
/// caller may touch what the lock guards; it says whether to poison the lock.
pub(crate) fn recover(id: u32, lock: &'static RawLock, repair: impl Fn() -> bool) {
    word::recover(&lock.word, id + 1, repair);
    // Also when the word does not name the dead: it may have let go, and died before its wake.
    if rules::holds(Rule::SweepWakes) {
        futex::wake_all(lock.futex());
    }
}
