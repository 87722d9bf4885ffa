//! Inspection of rings by the crash tests.

use std::sync::atomic::Ordering;

use super::{RawGuard, Refusal, Ring, walk};
use crate::arena::blocks::{self, HEADER};
use crate::os::clock::Deadline;

/// One of the two ends of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end where messages go in.
    Producers,
    /// The end where messages come out.
    Consumers,
}

/// The lock of one end. Dropping it releases the lock.
pub struct Occupied {
    _guard: RawGuard,
}

impl Ring {
    /// Acquires the lock of one end, like a process in the middle of an operation.
    pub(crate) fn occupy(&self, end: End) -> Result<Occupied, Refusal> {
        Ok(Occupied { _guard: self.lock(self.side(end), Deadline::NEVER)? })
    }

    /// Returns the lock word of one end.
    pub(crate) fn lock_word(&self, end: End) -> u64 {
        self.side(end).lock.load()
    }

    /// Returns the position of one end: the offsets of its segment and of its record.
    pub(crate) fn place(&self, end: End) -> (u64, u64) {
        let at = self.side(end).cursor().offset();
        (self.segment(at).0, at)
    }

    /// Returns how many records recovery would search for blocks that a dead consumer was taking.
    pub(crate) fn claim(&self) -> u64 {
        self.control.consumers.taking.load(Ordering::Acquire)
    }

    /// Returns the blocks that can be reached from the control lines: the lines' own block, segments and
    /// messages. The caller makes sure that no operation is in progress.
    pub(crate) fn reachable(&self) -> Vec<u64> {
        let consumers = &self.control.consumers;
        let at = consumers.side.cursor().offset();
        let mut found = vec![self.segment(at).0 - HEADER];
        found.extend(blocks::around(self.arena, self.arena.offset_of(self.control)).map(|(block, _)| block));
        found.extend(Some(consumers.left.load(Ordering::Acquire)).filter(|&left| left != 0));
        walk(self, at, self.header(at), |at, header| {
            found.extend(self.block_named(at, header));
            true
        });
        found.sort_unstable();
        found
    }

    fn side(&self, end: End) -> &'static super::control::Side {
        match end {
            End::Producers => &self.control.producers.side,
            End::Consumers => &self.control.consumers.side,
        }
    }
}
