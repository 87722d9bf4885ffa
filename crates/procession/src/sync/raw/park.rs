//! Announced waits: a thread's record names the word on which the thread sleeps, so that other processes can
//! find it.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::event;
use crate::arena::Arena;
use crate::arena::records::Record;
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;

/// Bit in the offset of an announced word: the word is an event count.
pub(crate) const EVENT: u64 = 1;

/// Announces in a thread's record that the thread waits for a word. Dropping this value restores the previous
/// announcement, if there was one. For example, a thread that has announced a wait checks its condition
/// before it sleeps, and this check may have to wait for a lock.
pub(crate) struct Wait<'a> {
    record: &'a Record,
    /// The previous announcement and its start time; 0 for none.
    before: (u64, u64),
}

impl<'a> Wait<'a> {
    pub(crate) fn announce(arena: &Arena, record: &'a Record, word: &AtomicU32) -> Wait<'a> {
        Wait::announce_since(arena, record, word, now_ns())
    }

    /// Announces a wait that may have begun earlier. See `Watch::stamp` in `deadlock.rs`.
    pub(crate) fn announce_since(
        arena: &Arena,
        record: &'a Record,
        word: &AtomicU32,
        since: u64,
    ) -> Wait<'a> {
        Wait::begin(record, arena.offset_of(word), since)
    }

    /// Announces a wait for an event count. The death sweep counts an event on it, because a process may have
    /// died between its change and its notification.
    pub(crate) fn announce_event(arena: &Arena, record: &'a Record, word: &AtomicU32) -> Wait<'a> {
        Wait::announce_event_since(arena, record, word, now_ns())
    }

    /// Announces a wait for an event count. The wait may have begun earlier.
    pub(crate) fn announce_event_since(
        arena: &Arena,
        record: &'a Record,
        word: &AtomicU32,
        since: u64,
    ) -> Wait<'a> {
        Wait::begin(record, arena.offset_of(word) | EVENT, since)
    }

    /// Announces the wait of a process that has nothing to do yet. The start time is not needed, and reading the
    /// clock would cost each new process two page faults.
    pub(crate) fn announce_idle(arena: &Arena, record: &'a Record, word: &AtomicU32) -> Wait<'a> {
        record.waits_for.store(arena.offset_of(word), Ordering::SeqCst);
        Wait { record, before: (0, 0) }
    }

    fn begin(record: &'a Record, at: u64, since: u64) -> Wait<'a> {
        let before =
            (record.waits_for.load(Ordering::Relaxed), record.waits_since_ns.load(Ordering::Relaxed));
        if before.0 != 0 {
            // ORDERING: the previous announcement is taken back before the new start time is written: see
            // `deadlock.rs`.
            record.waits_for.store(0, Ordering::SeqCst);
        }
        record.waits_since_ns.store(since, Ordering::SeqCst);
        // ORDERING: SeqCst. The death sweep reads this after the dead process's last store. Either the sweep
        // sees the announcement and wakes us, or we see that the word has changed and do not sleep.
        record.waits_for.store(at, Ordering::SeqCst);
        Wait { record, before }
    }

    /// Sleeps while `word` is `expected`.
    pub(crate) fn sleep(&self, word: &AtomicU32, expected: u32, deadline: Deadline) {
        if word.load(Ordering::SeqCst) == expected {
            futex::wait(word, expected, deadline);
        }
    }

    /// Sleeps like [`sleep`](Wait::sleep), as a sleeper of this futex class, which can be woken separately. Returns
    /// whether the deadline ended the sleep.
    pub(crate) fn sleep_as(&self, word: &AtomicU32, expected: u32, deadline: Deadline, class: u32) -> bool {
        word.load(Ordering::SeqCst) == expected && futex::wait_as(word, expected, deadline, class)
    }
}

impl event::Word for AtomicU32 {
    #[inline]
    fn load(&self) -> u32 {
        self.load(Ordering::SeqCst)
    }

    fn set(&self, bits: u32) -> u32 {
        let now = self.fetch_or(bits, Ordering::SeqCst) | bits;
        // ORDERING: the sleeper then checks its condition by a load that is not SeqCst. The fence keeps that
        // load after the store above.
        fence(Ordering::SeqCst);
        now
    }

    fn count(&self) {
        self.fetch_add(event::ONE, Ordering::SeqCst);
    }

    fn exchange(&self, old: u32, new: u32) -> bool {
        self.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn wake(&self, count: i32) -> usize {
        futex::wake(self, count)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // ORDERING: SeqCst, and before the thread continues: see `deadlock.rs`.
        self.record.waits_for.store(0, Ordering::SeqCst);
        if let (at @ 1.., since) = self.before {
            self.record.waits_since_ns.store(since, Ordering::SeqCst);
            // ORDERING: SeqCst. Either the death sweep sees this store, or we check our condition after the
            // sweep.
            self.record.waits_for.store(at, Ordering::SeqCst);
        }
    }
}

/// Returns how many threads sleep on this event count. The answer may be out of date when this returns.
pub(crate) fn sleepers_on(arena: &Arena, word: &AtomicU32) -> usize {
    let here = arena.offset_of(word) | EVENT;
    arena.records_in_use().filter(|&id| arena.record(id).waits_for.load(Ordering::Relaxed) == here).count()
}

/// Counts an event on every event count with sleepers, and wakes every sleeper of the family. May be called
/// at any time, and must be called after every unclean death. The dead process may have used up a wake that
/// was meant for others, or died before its wake or its notification.
///
/// Runs in one process at a time: in the supervisor, or in main if there is none.
///
/// A sleeper may wake up during the sweep and drop the object that contains its word. So until the sweep
/// ends, only the collector frees objects, and the collector does not run during a sweep.
///
/// ORDERING: SeqCst. We set `sweeping` before we read an announcement. A sleeper takes its announcement back before
/// it drops a handle. A process that frees an object reads `sweeping` after the last handle was dropped. So either
/// that process sees `sweeping` set, or we do not see the announcement.
pub(crate) fn notify_all_sleepers(arena: &Arena) {
    let sweeping = &arena.header().sweeping;
    sweeping.store(1, Ordering::SeqCst);
    for (word, counts_events) in announced(arena) {
        if counts_events {
            word.fetch_add(event::ONE, Ordering::SeqCst);
        }
        futex::wake_all(word);
    }
    // CRASH: if we die before this store, only the collector frees objects until the next sweep clears
    // `sweeping`.
    sweeping.store(0, Ordering::SeqCst);
}

/// Wakes every sleeper of the family, so that each checks its condition again. Counts no events.
pub(crate) fn wake_all_sleepers(arena: &Arena) {
    announced(arena).for_each(|(word, _)| _ = futex::wake_all(word));
}

/// Returns the words that threads have announced, and whether each is an event count. The answer may be out
/// of date immediately.
fn announced(arena: &Arena) -> impl Iterator<Item = (&AtomicU32, bool)> {
    arena.records_in_use().filter_map(|id| {
        let at = arena.record(id).waits_for.load(Ordering::SeqCst);
        Some((arena.futex_word(at & !EVENT)?, at & EVENT != 0))
    })
}
