//! Sleeping on a word where others can see it.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::event;
use crate::arena::Arena;
use crate::arena::records::Record;
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;

/// In the offset of the word that a thread waits for: the word counts events.
pub(crate) const EVENT: u64 = 1;

/// Announces in a thread's record that it waits for `word`, from now until this is dropped. Then what was
/// announced before holds again: who looks once more before it sleeps may have to wait for its turn to look.
pub(crate) struct Wait<'a> {
    record: &'a Record,
    /// What was announced before, and since when; 0 for nothing.
    before: (u64, u64),
}

impl<'a> Wait<'a> {
    pub(crate) fn announce(arena: &Arena, record: &'a Record, word: &AtomicU32) -> Wait<'a> {
        Wait::announce_since(arena, record, word, now_ns())
    }

    /// As [`announce`](Wait::announce), of a wait that may have begun earlier: see `Watch::stamp` in
    /// `deadlock.rs`.
    pub(crate) fn announce_since(
        arena: &Arena,
        record: &'a Record,
        word: &AtomicU32,
        since: u64,
    ) -> Wait<'a> {
        Wait::begin(record, arena.offset_of(word), since)
    }

    /// As [`announce`](Wait::announce), for a word that counts events: who wakes on behalf of the dead
    /// counts one more, because the dead may have died between what happened and its count.
    pub(crate) fn announce_event(arena: &Arena, record: &'a Record, word: &AtomicU32) -> Wait<'a> {
        Wait::announce_event_since(arena, record, word, now_ns())
    }

    /// As [`announce_event`](Wait::announce_event), of a wait that began earlier.
    pub(crate) fn announce_event_since(
        arena: &Arena,
        record: &'a Record,
        word: &AtomicU32,
        since: u64,
    ) -> Wait<'a> {
        Wait::begin(record, arena.offset_of(word) | EVENT, since)
    }

    /// As [`announce`](Wait::announce), for a process that has nothing to do yet: nobody asks since
    /// when, and looking at the clock would cost each new process two page faults.
    pub(crate) fn announce_idle(arena: &Arena, record: &'a Record, word: &AtomicU32) -> Wait<'a> {
        record.waits_for.store(arena.offset_of(word), Ordering::SeqCst);
        Wait { record, before: (0, 0) }
    }

    fn begin(record: &'a Record, at: u64, since: u64) -> Wait<'a> {
        let before =
            (record.waits_for.load(Ordering::Relaxed), record.waits_since_ns.load(Ordering::Relaxed));
        if before.0 != 0 {
            // ORDERING: the wait before is taken back before this one's beginning is written: see `deadlock.rs`.
            record.waits_for.store(0, Ordering::SeqCst);
        }
        record.waits_since_ns.store(since, Ordering::SeqCst);
        // ORDERING: SeqCst. The death sweep reads this after the dead's last store: either it sees
        // the announcement and wakes us, or we see the word changed and do not sleep.
        record.waits_for.store(at, Ordering::SeqCst);
        Wait { record, before }
    }

    /// Sleeps while `word` is `expected`.
    pub(crate) fn sleep(&self, word: &AtomicU32, expected: u32, deadline: Deadline) {
        if word.load(Ordering::SeqCst) == expected {
            futex::wait(word, expected, deadline);
        }
    }

    /// As [`sleep`](Wait::sleep), as a sleeper of this class, which can be woken apart from others.
    /// Says whether it was the time that ended the sleep.
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
        // ORDERING: a sleeper's look at what it waits for is no SeqCst load; it must not come before this.
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
        // ORDERING: SeqCst, before the thread goes on: see `deadlock.rs`.
        self.record.waits_for.store(0, Ordering::SeqCst);
        if let (at @ 1.., since) = self.before {
            self.record.waits_since_ns.store(since, Ordering::SeqCst);
            // ORDERING: SeqCst: either the death sweep sees this, or we look at what we wait for after it.
            self.record.waits_for.store(at, Ordering::SeqCst);
        }
    }
}

/// How many threads sleep on this event count. A snapshot.
pub(crate) fn sleepers_on(arena: &Arena, word: &AtomicU32) -> usize {
    let here = arena.offset_of(word) | EVENT;
    arena.records_in_use().filter(|&id| arena.record(id).waits_for.load(Ordering::Relaxed) == here).count()
}

/// Counts an event for every thread of the family that sleeps until one, and wakes all who sleep on anything
/// in the arena. Legal at any time, and owed after every unclean death: the dead may have been woken on behalf
/// of another, or been about to wake one, or have died between what happened and its count.
///
/// Only one at a time: the supervisor does it, or main when there is none.
///
/// A sleeper may leave while we are at it, and let go of the object in which its word lies. So no object is
/// freed meanwhile but by the collector, which does not run beside us.
///
/// ORDERING: SeqCst. `sweeping` is set before an announcement is read; a sleeper takes its announcement back
/// before it lets go of anything; and whoever frees looks at `sweeping` after the last one has let go. So
/// either that one sees it set, or we do not see the announcement.
pub(crate) fn wake_everybody(arena: &Arena) {
    let sweeping = &arena.header().sweeping;
    sweeping.store(1, Ordering::SeqCst);
    for (word, counts_events) in announced(arena) {
        if counts_events {
            word.fetch_add(event::ONE, Ordering::SeqCst);
        }
        futex::wake_all(word);
    }
    // CRASH: until this store the collector frees what others would have; the next sweep gets here again.
    sweeping.store(0, Ordering::SeqCst);
}

/// Wakes all who sleep on anything in the arena, where nobody owes them anything: they look again.
pub(crate) fn rouse_everybody(arena: &Arena) {
    announced(arena).for_each(|(word, _)| _ = futex::wake_all(word));
}

/// The words that threads have announced to sleep on, and whether each counts events. A snapshot.
fn announced(arena: &Arena) -> impl Iterator<Item = (&AtomicU32, bool)> {
    arena.records_in_use().filter_map(|id| {
        let at = arena.record(id).waits_for.load(Ordering::SeqCst);
        Some((arena.futex_word(at & !EVENT)?, at & EVENT != 0))
    })
}
