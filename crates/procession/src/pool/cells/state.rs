//! [`State`]: the word of a cell that says which phase its task is in, and which process works on it.
//!
//! ```text
//!  63          32 31      24 23           8 7     4 3     0
//! ┌──────────────┬──────────┬──────────────┬───────┬───────┐
//! │  generation  │  ending  │   slot + 1   │ flags │ phase │
//! └──────────────┴──────────┴──────────────┴───────┴───────┘
//! ```
//!
//! The slot belongs to the process that works on the cell, if any. Freeing a cell increments the generation.
//! So a task number that is still in the ring cannot be mistaken for the number of the cell's next task.
//!
//! | phase       | meaning                                         | which process moves it where                     |
//! |-------------|-------------------------------------------------|--------------------------------------------------|
//! | `FREE`      | there is no task                                | a submitter → `NEW`                              |
//! | `NEW`       | the submitter fills the cell in                 | the submitter → `QUEUED`; recovery → `FREE`  |
//! | `QUEUED`    | the task is in the ring, or is about to be      | a worker → `TAKEN`; a canceller → `DONE`         |
//! | `TAKEN`     | a worker has claimed the task but not begun it  | the worker → `RUNNING`; recovery → `RETURNED`; a canceller → `KILLING` |
//! | `RUNNING`   | the user's function runs in that worker         | the worker → `DONE`; recovery → `RETURNED` or `DONE`; the keeper or a canceller → `KILLING` |
//! | `KILLING`   | as `RUNNING`, but the keeper kills the worker   | recovery → `RETURNED` or `DONE`; the keeper → `RUNNING`, if the task was in time |
//! | `RETURNED`  | a worker has died; the next worker takes the task before any in the ring | a worker → `TAKEN`; a canceller → `DONE`         |
//! | `DONE`      | the ending and the result are in the cell       | the process that drops the last handle → `FREEING` |
//! | `FREEING`   | the process in the slot frees the cell's blocks | that process → `FREE`; recovery → `FREE`     |

pub(crate) const FREE: u64 = 0;
pub(crate) const NEW: u64 = 1;
pub(crate) const QUEUED: u64 = 2;
pub(crate) const TAKEN: u64 = 3;
pub(crate) const RUNNING: u64 = 4;
pub(crate) const KILLING: u64 = 5;
pub(crate) const RETURNED: u64 = 6;
pub(crate) const DONE: u64 = 7;
pub(crate) const FREEING: u64 = 8;

/// The submitter has dropped its last handle, so the process that completes the task frees the cell.
pub(crate) const ABANDONED: u64 = 1 << 4;
/// A handle to the task was sent to another process, so the cell is not freed before the pool.
pub(crate) const SHARED: u64 = 1 << 5;
/// A process waits until any of several tasks is done, and this task is one of them.
pub(crate) const WATCHED: u64 = 1 << 6;
/// The results are no longer needed, so the task ends before its next item.
pub(crate) const UNWANTED: u64 = 1 << 7;
const FLAGS: u64 = 0xf0;

/// How a task ended, or why the keeper kills its worker.
pub(crate) mod ending {
    /// The result is in the cell. A chunk has one result for each item.
    pub(crate) const RETURNED: u64 = 1;
    /// The cell's note holds the error.
    pub(crate) const FAILED: u64 = 2;
    /// The worker died: see [`Attempt`](super::super::attempt::Attempt).
    pub(crate) const DIED: u64 = 3;
    /// The task exceeded its time limit.
    pub(crate) const TIMED_OUT: u64 = 4;
    pub(crate) const CANCELLED: u64 = 5;
    /// The pool was terminated, or its creator has ended.
    pub(crate) const TERMINATED: u64 = 6;
    /// The pool has stopped replacing its workers.
    pub(crate) const BROKEN: u64 = 7;
}

/// A value of the state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u64);

impl State {
    /// Returns the state of a task that is in this phase and on which no process works.
    #[inline]
    pub(crate) fn of(generation: u32, phase: u64) -> State {
        State(u64::from(generation) << 32 | phase)
    }

    #[inline]
    pub(crate) fn phase(self) -> u64 {
        self.0 & 0xf
    }

    /// Returns the slot of the process that works on the cell.
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

    /// Returns the state of the same task in another phase. The new state has no process and no ending.
    #[inline]
    pub(crate) fn to(self, phase: u64) -> State {
        State(self.0 & (u64::MAX << 32 | FLAGS) | phase)
    }

    /// Returns the same state, but with `slot` as the slot of the process that works on the cell.
    #[inline]
    pub(crate) fn by(self, slot: u32) -> State {
        State(self.0 & !(0xffff << 8) | u64::from(slot + 1) << 8)
    }

    #[inline]
    pub(crate) fn ended(self, ending: u64) -> State {
        State(self.to(DONE).0 | ending << 24)
    }

    /// Returns the state of a task whose worker the keeper is to kill. `why` is the reason.
    pub(crate) fn killing(self, why: u64) -> State {
        State(self.to(KILLING).by(self.slot().unwrap_or(0)).0 | why << 24)
    }

    #[inline]
    pub(crate) fn with(self, flag: u64) -> State {
        State(self.0 | flag)
    }

    /// Returns the state in which the process in `slot` frees the cell. The bits of the ending record whether
    /// the cell was `NEW`. Such a cell never became a task.
    pub(crate) fn freeing(self, slot: u32) -> State {
        State(self.to(FREEING).by(slot).0 | u64::from(self.phase() == NEW) << 24)
    }

    /// Returns the state of the free cell. Increments the generation if the cell had become a task.
    pub(crate) fn freed(self) -> State {
        let was_a_task = self.phase() == DONE || self.ending() == 0;
        State(u64::from(self.generation().wrapping_add(was_a_task.into())) << 32)
    }

    /// Reports whether both states are of the same task, in the same phase, with the same process.
    pub(crate) fn is_as(self, seen: State) -> bool {
        (self.phase(), self.slot(), self.generation()) == (seen.phase(), seen.slot(), seen.generation())
    }

    /// As [`is_as`](State::is_as), but also compares the endings.
    pub(crate) fn is_still(self, seen: State) -> bool {
        self.is_as(seen) && self.ending() == seen.ending()
    }

    /// Reports whether the task is done and only its submitter can have handles to it.
    #[inline]
    pub(crate) fn is_done_here(self) -> bool {
        self.is_done() && !self.has(SHARED)
    }

    /// Reports whether the task is done and no process has a handle to it.
    pub(crate) fn is_unreachable(self) -> bool {
        self.is_done() && self.has(ABANDONED) && !self.has(SHARED)
    }

    pub(crate) fn is_unfinished(self) -> bool {
        matches!(self.phase(), NEW..=RETURNED)
    }

    pub(crate) fn is_done(self) -> bool {
        self.phase() == DONE
    }

    /// Reports whether the cell holds a submitted task.
    pub(crate) fn is_task(self) -> bool {
        matches!(self.phase(), QUEUED..=DONE)
    }
}
