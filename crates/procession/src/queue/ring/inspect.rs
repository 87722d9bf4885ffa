//! What the crash tests ask a ring.

use std::sync::atomic::Ordering;

use super::{Refusal, Ring, Turn, walk};
use crate::arena::blocks::{self, HEADER};
use crate::os::clock::Deadline;

/// One of the two ends of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where messages go in.
    Producers,
    /// Where they come out.
    Consumers,
}

/// A side's lock, held until this is dropped.
pub struct Occupied {
    _turn: Turn,
}

impl Ring {
    /// Takes the lock of a side, as a process in the middle of an operation has it.
    pub(crate) fn occupy(&self, end: End) -> Result<Occupied, Refusal> {
        Ok(Occupied { _turn: self.turn(self.side(end), Deadline::NEVER)? })
    }

    /// Who holds the lock of a side, as its word says; 0 for nobody.
    pub(crate) fn lock_word(&self, end: End) -> u64 {
        self.side(end).lock.load()
    }

    /// Where a side stands: the offsets of its segment and of its record.
    pub(crate) fn place(&self, end: End) -> (u64, u64) {
        let at = self.side(end).cursor().offset();
        (self.segment(at).0, at)
    }

    /// At how many records recovery would look for blocks that a dead consumer was taking.
    pub(crate) fn claim(&self) -> u64 {
        self.control.consumers.taking.load(Ordering::Acquire)
    }

    /// The blocks that can be reached from the control lines: these, segments, messages. While nobody is
    /// in the middle of anything.
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
