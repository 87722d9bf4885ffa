//! A cell: where a task stands until somebody has its result. One word of it says all:
//!
//! ```text
//!  63          32 31      24 23           8 7     4 3     0
//! ┌──────────────┬──────────┬──────────────┬───────┬───────┐
//! │  generation  │  ending  │   slot + 1   │ flags │ phase │
//! └──────────────┴──────────┴──────────────┴───────┴───────┘
//! ```
//!
//! | phase       | meaning                                    | who moves it                                       |
//! |-------------|--------------------------------------------|----------------------------------------------------|
//! | `FREE`      | nothing                                    | a submitter → `NEW` by itself                      |
//! | `NEW`       | that process is filling it in              | it → `QUEUED`; its death → `FREE`                  |
//! | `QUEUED`    | it is in the ring, or about to be          | a worker → `TAKEN`; a canceller → `DONE`           |
//! | `TAKEN`     | that worker has it, and has not begun      | it → `RUNNING`; its death → `RETURNED`; a canceller → `CONDEMNED` |
//! | `RUNNING`   | the user's function runs in that worker    | it → `DONE`; its death → `RETURNED` or `DONE`      |
//! | `CONDEMNED` | as `RUNNING`, and the worker is to be killed | its death → `RETURNED` or `DONE`                 |
//! | `RETURNED`  | to be taken again, before all others       | a worker → `TAKEN`; a canceller → `DONE`           |
//! | `DONE`      | the ending and the result are there        | who lets the last handle go → `FREEING`            |
//! | `FREEING`   | that process is giving its memory back     | it → `FREE`; after its death recovery              |
//!
//! The generation grows when the cell is freed, so that a number in the ring that outlived its task is told
//! from one of its successor.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use crate::arena::LARGEST;
use crate::os::memory;

pub(crate) const FREE: u64 = 0;
pub(crate) const NEW: u64 = 1;
pub(crate) const QUEUED: u64 = 2;
pub(crate) const TAKEN: u64 = 3;
pub(crate) const RUNNING: u64 = 4;
pub(crate) const CONDEMNED: u64 = 5;
pub(crate) const RETURNED: u64 = 6;
pub(crate) const DONE: u64 = 7;
pub(crate) const FREEING: u64 = 8;

/// Nobody wants the result: who completes the task frees the cell.
pub(crate) const ABANDONED: u64 = 1 << 4;
/// A handle to the task was sent somewhere: the cell stays as long as the pool.
pub(crate) const SHARED: u64 = 1 << 5;
/// Somebody waits for any of several tasks, this one among them.
pub(crate) const WATCHED: u64 = 1 << 6;
/// The task has ended at the next item: the rest of a map is not wanted any more.
pub(crate) const UNWANTED: u64 = 1 << 7;
const FLAGS: u64 = 0xf0;

/// How a task ended, or why its worker is to be killed.
pub(crate) mod ending {
    /// The result is there; of a chunk, one for each item.
    pub(crate) const RETURNED: u64 = 1;
    /// The note says what went wrong.
    pub(crate) const FAILED: u64 = 2;
    /// The worker died: see [`Fate`](crate::pool::Fate).
    pub(crate) const DIED: u64 = 3;
    /// It took longer than it may.
    pub(crate) const TIMED_OUT: u64 = 4;
    /// Somebody did not want it any more.
    pub(crate) const CANCELLED: u64 = 5;
    /// The pool was terminated, or its maker has ended.
    pub(crate) const TERMINATED: u64 = 6;
    /// The pool has no workers and gets no more.
    pub(crate) const BROKEN: u64 = 7;
}

/// Small arguments lie in the cell itself.
pub(crate) const INLINE_ARGS: usize = 24;
/// Small results, too.
pub(crate) const INLINE_RESULT: usize = 8;

/// In [`Cell::args`] and [`Cell::result`]: the bytes lie in the cell, and the rest of the word is how many.
pub(crate) const INLINE: u64 = 1;
/// In [`Cell::result`]: the block holds records (see `output.rs`), and not numbers side by side.
pub(crate) const RECORDS: u64 = 2;
const TAGS: u64 = 7;

/// The block that a word of a cell names; 0 for none.
pub(crate) fn block_in(word: u64) -> u64 {
    if word & INLINE != 0 { 0 } else { word & !TAGS }
}

/// A task: two cache lines.
#[repr(C, align(128))]
pub(crate) struct Cell {
    state: AtomicU64,
    /// An event count: who waits for the task sleeps here.
    pub(crate) done: AtomicU32,
    /// The process that submitted the task: its slot + 1.
    pub(crate) submitter: AtomicU32,
    /// How many handles that process has.
    pub(crate) handles: AtomicU32,
    /// How many items it has; 0 says that it is a single call and no chunk of a map.
    pub(crate) count: AtomicU32,
    /// The function: see `supervisor/entrypoint.rs`.
    pub(crate) entry: AtomicU64,
    pub(crate) type_hash: AtomicU64,
    /// The arguments: a block, or so many bytes in the cell.
    pub(crate) args: AtomicU64,
    /// How long one item may take, in µs; 0 for as long as it likes.
    pub(crate) timeout_us: AtomicU64,
    /// How often an item that failed is tried again.
    pub(crate) retries: AtomicU32,
    /// Who died last working on it.
    pub(crate) pid: AtomicI32,

    /// What came of it: a block, or so many bytes in the cell.
    pub(crate) result: AtomicU64,
    /// Of a chunk: how many items are finished, and how many bytes their records take: see [`Filled`]. Of a
    /// single call: its small result.
    pub(crate) filled: AtomicU64,
    /// See [`Fate`].
    pub(crate) fate: AtomicU64,
    /// When the item began, on its worker's own clock (see `arena/awake.rs`), if there is a limit; when it is done,
    /// how long all took.
    pub(crate) clock_ns: AtomicU64,
    /// A block with a [`TaskError`](crate::pool::TaskError), when the task failed.
    pub(crate) note: AtomicU64,
    pub(crate) inline: [AtomicU64; INLINE_ARGS / 8],
}

/// What the word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u64);

impl State {
    /// That of a task in this phase, in nobody's hands.
    #[inline]
    pub(crate) fn of(generation: u32, phase: u64) -> State {
        State(u64::from(generation) << 32 | phase)
    }

    #[inline]
    pub(crate) fn phase(self) -> u64 {
        self.0 & 0xf
    }

    /// The process that has the cell in its hands.
    #[inline]
    pub(crate) fn slot(self) -> Option<u32> {
        ((self.0 >> 8) as u32 & 0xffff).checked_sub(1)
    }

    #[inline]
    pub(crate) fn ending(self) -> u64 {
        self.0 >> 24 & 0xff
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// The same task in another phase, in nobody's hands.
    #[inline]
    pub(crate) fn to(self, phase: u64) -> State {
        State(self.0 & (u64::MAX << 32 | FLAGS) | phase)
    }

    /// The same in the hands of the process in `slot`.
    #[inline]
    pub(crate) fn by(self, slot: u32) -> State {
        State(self.0 & !(0xffff << 8) | u64::from(slot + 1) << 8)
    }

    #[inline]
    pub(crate) fn ended(self, ending: u64) -> State {
        State(self.to(DONE).0 | ending << 24)
    }

    /// In the same hands, which are to be killed, and why.
    pub(crate) fn condemned(self, why: u64) -> State {
        State(self.to(CONDEMNED).by(self.slot().unwrap_or(0)).0 | why << 24)
    }

    #[inline]
    pub(crate) fn with(self, flag: u64) -> State {
        State(self.0 | flag)
    }

    /// On its way to be free, by the process in `slot`. That it never was a task is noted where endings are.
    pub(crate) fn freeing(self, slot: u32) -> State {
        State(self.to(FREEING).by(slot).0 | u64::from(self.phase() == NEW) << 24)
    }

    /// The next task's; or as if there had been none, if nobody has heard of it.
    pub(crate) fn freed(self) -> State {
        let was_a_task = self.phase() == DONE || self.ending() == 0;
        State(u64::from(self.generation().wrapping_add(was_a_task.into())) << 32)
    }

    /// Whether it is the same task in the same phase and hands.
    pub(crate) fn is_as(self, seen: State) -> bool {
        (self.phase(), self.slot(), self.generation()) == (seen.phase(), seen.slot(), seen.generation())
    }

    /// The same, and to come to the same end.
    pub(crate) fn is_still(self, seen: State) -> bool {
        self.is_as(seen) && self.ending() == seen.ending()
    }

    /// Whether it is done, and nobody but this process can have a handle.
    #[inline]
    pub(crate) fn is_done_here(self) -> bool {
        self.is_done() && !self.has(SHARED)
    }

    /// Whether it is done and nobody will ever ask for it.
    pub(crate) fn is_unreachable(self) -> bool {
        self.is_done() && self.has(ABANDONED) && !self.has(SHARED)
    }

    /// Whether somebody still has to do something.
    pub(crate) fn is_unfinished(self) -> bool {
        matches!(self.phase(), NEW..=RETURNED)
    }

    pub(crate) fn is_done(self) -> bool {
        self.phase() == DONE
    }

    /// Whether somebody has submitted it, and it is not free again.
    pub(crate) fn is_task(self) -> bool {
        matches!(self.phase(), QUEUED..=DONE)
    }
}

impl Cell {
    /// A hint that it will be written to.
    #[inline]
    pub(crate) fn prefetch(&self) {
        memory::prefetch_to_write(self, 0);
        memory::prefetch_to_write(self, size_of::<Cell>() / 2);
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State(self.state.load(Ordering::SeqCst))
    }

    /// Moves the word from a phase in which nobody else does: `NEW` or `FREEING` by this process.
    ///
    /// ORDERING: Release: who sees it sees what was written before it.
    #[inline]
    pub(crate) fn store_release(&self, next: State) {
        self.state.store(next.0, Ordering::Release);
    }

    /// The same, before all that this thread looks at next.
    #[inline]
    pub(crate) fn store_seq_cst(&self, next: State) {
        self.state.store(next.0, Ordering::SeqCst);
    }

    /// Moves the word as long as `to` says where; gives what it was, or is when `to` says no.
    #[inline]
    pub(crate) fn fetch_update(&self, to: impl Fn(State) -> Option<State>) -> Result<State, State> {
        let mut now = self.state();
        loop {
            let Some(next) = to(now) else { return Err(now) };
            match self.state.compare_exchange_weak(now.0, next.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(now),
                Err(other) => now = State(other),
            }
        }
    }
}

/// In [`Cell::args`] of a free cell: which one the same process had freed before, as a number or 0. Nobody takes it
/// for a block.
pub(crate) fn link(to: u32) -> u64 {
    u64::from(to) << 8 | INLINE
}

/// What [`link`] says, if it is one.
#[inline]
pub(crate) fn linked(word: u64) -> u32 {
    (word >> 8) as u32
}

/// How far a chunk is: one word, so that a death finds both numbers as they belong together.
///
/// ```text
///  63        40 39                  0
/// ┌────────────┬─────────────────────┐
/// │   items    │        bytes        │
/// └────────────┴─────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) items: u32,
    pub(crate) bytes: u64,
}

impl Filled {
    const BYTES: u32 = 40;
    /// The word can count no more: larger than any arena.
    pub(crate) const MOST_BYTES: u64 = (1 << Filled::BYTES) - 1;
    /// Nor more items.
    pub(crate) const MOST_ITEMS: u32 = (1 << (64 - Filled::BYTES)) - 1;

    #[inline]
    pub(crate) fn word(self) -> u64 {
        const { assert!(LARGEST <= Filled::MOST_BYTES, "the word can count the bytes of any block") };
        debug_assert!(self.items <= Filled::MOST_ITEMS && self.bytes <= Filled::MOST_BYTES);
        u64::from(self.items) << Filled::BYTES | self.bytes
    }

    #[inline]
    pub(crate) fn read(word: u64) -> Filled {
        Filled { items: (word >> Filled::BYTES) as u32, bytes: word & Filled::MOST_BYTES }
    }
}

/// What has become of the item that the task is at: one word.
///
/// ```text
///  63        48 47     40 39          24 23             0
/// ┌────────────┬─────────┬──────────────┬────────────────┐
/// │  attempt   │ ending  │     how      │      item      │
/// └────────────┴─────────┴──────────────┴────────────────┘
/// ```
///
/// The ending is 0 unless a worker has died at it, and nobody has looked at that yet. A word that speaks of
/// another item says that this one is begun for the first time: so nothing is stored for most items. (A chunk
/// has fewer items than 24 bits can count.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// How often it was begun.
    pub(crate) attempt: u32,
    pub(crate) ending: u64,
    /// The signal that ended the worker, or -1 - its exit code.
    pub(crate) how: i32,
    /// It had run out of memory. (In the word, a bit that no signal has.)
    pub(crate) no_memory: bool,
}

const ITEM: u64 = 0xff_ffff;
/// The most attempts that the word can count, and so the most retries: the last of them is one more.
const MOST_ATTEMPTS: u32 = 0xffff;
pub(crate) const MOST_RETRIES: u32 = MOST_ATTEMPTS - 1;
const NO_MEMORY: u16 = 1 << 8;

impl Attempt {
    pub(crate) fn word(self, item: u32) -> u64 {
        let no_memory = if self.no_memory && self.how > 0 { NO_MEMORY } else { 0 };
        let how = u64::from(self.how as u16 | no_memory) << 24;
        u64::from(self.attempt.min(MOST_ATTEMPTS)) << 48 | self.ending << 40 | how | u64::from(item) & ITEM
    }

    pub(crate) fn read(word: u64, item: u32) -> Attempt {
        if word & ITEM != u64::from(item) & ITEM {
            return Attempt { attempt: 1, ..Attempt::default() };
        }
        let (attempt, ending) = (((word >> 48) as u32).max(1), word >> 40 & 0xff);
        let how = (word >> 24) as u16;
        let no_memory = how.cast_signed() > 0 && how & NO_MEMORY != 0;
        let how = i32::from(if no_memory { how & !NO_MEMORY } else { how }.cast_signed());
        Attempt { attempt, ending, how, no_memory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_items_do_not_run_into_each_other() {
        let near = |limit: u64| [limit - 1, limit, limit + 1];
        let bytes = [0, 1].into_iter().chain(near(1 << 31)).chain(near(1 << 32)).chain(near(1 << 36));
        for bytes in bytes.chain([Filled::MOST_BYTES]) {
            for items in [0, 1, 0xffff, 1 << 23, Filled::MOST_ITEMS] {
                let filled = Filled { items, bytes };
                assert_eq!(Filled::read(filled.word()), filled);
            }
        }
    }

    #[test]
    fn a_fate_is_of_one_item() {
        let fate = Attempt { attempt: 2, ending: ending::DIED, how: 9, no_memory: true };
        for item in [0, 1, 0xffff, Filled::MOST_ITEMS] {
            assert_eq!(Attempt::read(fate.word(item), item), fate);
            let other = Attempt::read(fate.word(item), item ^ 1);
            assert_eq!((other.attempt, other.ending), (1, 0));
        }
        let often = Attempt { attempt: u32::MAX, ..fate };
        assert!(Attempt::read(often.word(3), 3).attempt > MOST_RETRIES, "no task is tried again without end");
    }
}
