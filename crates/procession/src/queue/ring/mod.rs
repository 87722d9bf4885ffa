//! The ring: messages as bytes, between producers and consumers, any of which may die. `README.md` has the theory.
//!
//! | file         | what it holds                                                        |
//! |--------------|----------------------------------------------------------------------|
//! | `record.rs`  | the records in a segment                                             |
//! | `control.rs` | the two sides, their cursors and locks                               |
//! | `make.rs`    | creating a ring, and finding it again                                |
//! | `batch.rs`   | records that one store commits                                       |
//! | `run.rs`     | messages of one length in a row                                      |
//! | `produce.rs` | putting messages: one commit per batch                               |
//! | `buffer.rs`  | the bytes of a small message that is being put or taken              |
//! | `consume.rs` | taking messages                                                      |
//! | `cells.rs`   | the cells of leased messages                                         |
//! | `leases.rs`  | which process works on which message                                 |
//! | `recover.rs` | recovery of an end whose lock the dead process held                  |
//! | `inspect.rs` | inspection by the crash tests                                        |
#![allow(unsafe_code)] // Converts offsets to references to words of segments.

mod batch;
mod buffer;
mod cells;
mod consume;
mod control;
#[cfg(feature = "internals")]
mod inspect;
pub(crate) mod leases;
mod make;
mod produce;
mod record;
pub(crate) mod recover;
mod run;

use std::sync::atomic::AtomicU64;

pub(crate) use buffer::Buffer;
pub(crate) use consume::{Taken, TakenRun};
pub(crate) use control::Control;
#[cfg(feature = "internals")]
pub use inspect::{End, Occupied};
pub(crate) use make::{LARGE_FIRST, PlainBody, SMALL_FIRST, make};
pub(crate) use produce::{Part, Piece};
pub(crate) use record::INLINE_MAX;

use crate::Error;
use crate::arena::blocks::{self, HEADER, Tag};
use crate::arena::{Arena, member};
use crate::os::clock::{Deadline, now_ns};
use crate::sync::raw::guard::RawGuard;
use control::Side;
use record::{Header, WORD};

/// A ring, with this process's pointers to it.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    arena: &'static Arena,
    control: &'static Control,
    /// Index of the object that owns the control lines, the segments and the blocks.
    object: u32,
    /// Every message lies in its own block, because it may have to be leased again.
    blocks_only: bool,
}

/// Why a message was not put or taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is no room at the moment.
    Full,
    /// The shared memory is full.
    NoMemory,
    /// There is no message at the moment.
    Empty,
    /// There will be no more messages.
    Closed,
    /// The lock was not acquired in time.
    TimedOut,
    /// The ring cannot be used from this process. Boxed, so that a result fits into two registers.
    Unusable(Box<Error>),
}

/// The minimum time for which a call waits for the lock.
const MIN_LOCK_WAIT_NS: u64 = 1_000_000_000;

impl Ring {
    pub(crate) fn control(&self) -> &'static Control {
        self.control
    }

    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    #[inline]
    pub(crate) fn blocks_only(&self) -> bool {
        self.blocks_only
    }

    pub(crate) fn owner(&self) -> Tag {
        Tag::object(self.object)
    }

    fn me() -> Tag {
        Tag::process(member::slot())
    }

    #[inline]
    fn word(&self, offset: u64) -> &'static AtomicU64 {
        debug_assert!(self.arena.layout.span_of(offset).is_some() && offset.is_multiple_of(8));
        // SAFETY: only this module writes cursors, headers and segments, and they lie in the arena. Words of records
        // are aligned, and are accessed as atomics.
        unsafe { self.arena.at(offset) }
    }

    #[inline]
    fn header(&self, offset: u64) -> Header {
        // ORDERING: Acquire pairs with the Release that committed the record.
        match Header::read(self.word(offset).load(std::sync::atomic::Ordering::Acquire)) {
            // A faulty process has corrupted the ring.
            Header::Go { to, .. } if !self.is_place(to) => Header::Nothing,
            header => header,
        }
    }

    /// Returns whether a record can lie at this offset.
    fn is_place(&self, offset: u64) -> bool {
        offset.is_multiple_of(WORD) && self.arena.layout.span_of(offset).is_some()
    }

    /// Returns the range in which records can lie in the segment around `offset`.
    fn segment(&self, offset: u64) -> (u64, u64) {
        let around = blocks::around(self.arena, offset);
        around.map_or((offset, offset), |(at, bytes)| (at + HEADER, at + bytes))
    }

    /// Acquires the lock of this side. No user code runs while it is held.
    #[inline]
    fn lock(&self, side: &'static Side, deadline: Deadline) -> Result<RawGuard, Refusal> {
        match side.lock.try_lock_fast(self.arena.offset_of(&raw const side.lock)) {
            Some(guard) => Ok(guard),
            None => self.lock_slow(side, deadline),
        }
    }

    /// Waits for the lock, even if the call does not wait otherwise. The holder releases the lock within a
    /// microsecond, or when it runs again. If the holder is dead, recovery releases the lock. Only a stopped
    /// holder takes longer.
    #[cold]
    fn lock_slow(&self, side: &'static Side, deadline: Deadline) -> Result<RawGuard, Refusal> {
        let deadline = deadline.max_ns(now_ns() + MIN_LOCK_WAIT_NS);
        match side.lock.lock_slow(self.arena.offset_of(&raw const side.lock), deadline) {
            Ok(Ok(guard)) => Ok(guard),
            Ok(Err(_)) => Err(Refusal::TimedOut),
            Err(error) => Err(Refusal::Unusable(error.into())),
        }
    }
}

/// Calls `visit` with each record and its offset, starting with the record at `at`, whose header is `first`.
/// Ends behind the last record, or when `visit` returns false. Returns the offset at which it ended.
fn walk(ring: &Ring, at: u64, first: Header, mut visit: impl FnMut(u64, Header) -> bool) -> u64 {
    let (mut at, mut header) = (at, first);
    loop {
        if matches!(header, Header::Nothing | Header::Closed) || !visit(at, header) {
            return at;
        }
        at = match header {
            Header::Go { to, .. } => to,
            other => at + other.size(),
        };
        header = ring.header(at);
    }
}
