//! The ring: messages as bytes, between producers and consumers any of whom may die. The theory is in
//! `README.md`.
//!
//! | file         | what it holds                                                        |
//! |--------------|----------------------------------------------------------------------|
//! | `record.rs`  | what a segment holds                                                 |
//! | `control.rs` | the two sides, their cursors and locks                               |
//! | `make.rs`    | making a ring, finding its parts again                               |
//! | `produce.rs` | putting messages in: one commit a batch                              |
//! | `consume.rs` | taking messages out                                                  |
//! | `cells.rs`   | where messages stand that are being worked on                        |
//! | `leases.rs`  | which messages are being worked on, by whom                          |
//! | `recover.rs`    | what recovery does to a side whose lock the dead held                |
//! | `inspect.rs` | what the crash tests ask                                             |
#![allow(unsafe_code)] // Makes references to words of segments, from offsets.

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

use std::sync::atomic::AtomicU64;

pub(crate) use consume::{Buffer, Taken};
pub(crate) use control::Control;
#[cfg(feature = "internals")]
pub use inspect::{End, Occupied};
pub(crate) use make::{LARGE_FIRST, PlainBody, SMALL_FIRST, make};
pub(crate) use produce::Piece;
pub(crate) use record::INLINE_MAX;

use crate::Error;
use crate::arena::blocks::{self, HEADER, Tag};
use crate::arena::thread::Entry;
use crate::arena::thread::with_me;
use crate::arena::{Arena, member};
use crate::os::clock::{Deadline, now_ns};
use crate::sync::raw::lock::RawLock;
use control::Side;
use record::{Header, WORD};

/// A ring, as this process sees it.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    arena: &'static Arena,
    control: &'static Control,
    /// Index of the object that owns control lines, segments and blocks.
    object: u32,
    /// Every message lies in a block of its own, because it may have to be taken again.
    blocks_only: bool,
}

/// Why a message was not put or taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is no room now.
    Full,
    /// There is no shared memory left for it.
    NoMemory,
    /// There is nothing now.
    Empty,
    /// There will be no more.
    Closed,
    /// The time was up before one's turn came.
    TimedOut,
    /// The ring cannot be used from here. (A pointer, so that an outcome is two registers.)
    Unusable(Box<Error>),
}

/// How long a call waits for its turn at least.
const PATIENCE_NS: u64 = 1_000_000_000;

/// One side's lock, held until this is dropped. No code of the user's runs meanwhile.
struct Turn {
    lock: &'static RawLock,
    held: Entry,
}

impl Drop for Turn {
    #[inline]
    fn drop(&mut self) {
        self.lock.release(self.held);
    }
}

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
        // SAFETY: cursors, headers and segments are written by this module alone and lie in the arena;
        // record words are aligned, and read and written as atomics.
        unsafe { self.arena.at(offset) }
    }

    #[inline]
    fn header(&self, offset: u64) -> Header {
        // ORDERING: Acquire pairs with the Release that committed the record.
        match Header::read(self.word(offset).load(std::sync::atomic::Ordering::Acquire)) {
            // Written by somebody who wrote where he must not.
            Header::Go { to, .. } if !self.is_place(to) => Header::Nothing,
            header => header,
        }
    }

    /// Whether a record may lie there.
    fn is_place(&self, offset: u64) -> bool {
        offset.is_multiple_of(WORD) && self.arena.layout.span_of(offset).is_some()
    }

    /// Where records may lie in the segment around `offset`: from, to.
    fn segment(&self, offset: u64) -> (u64, u64) {
        let around = blocks::around(self.arena, offset);
        around.map_or((offset, offset), |(at, bytes)| (at + HEADER, at + bytes))
    }

    /// Waits for this side's turn.
    #[inline]
    fn turn(&self, side: &'static Side, deadline: Deadline) -> Result<Turn, Refusal> {
        let lock = &side.lock;
        match lock.try_acquire_fast(self.arena.offset_of(lock)) {
            Some(held) => Ok(Turn { lock, held }),
            None => self.await_turn(lock, deadline),
        }
    }

    /// Who has the lock lets go of it within a microsecond, or when it runs again, or is buried: so also who
    /// does not want to wait waits for that. Only a holder that was stopped takes longer.
    #[cold]
    fn await_turn(&self, lock: &'static RawLock, deadline: Deadline) -> Result<Turn, Refusal> {
        let deadline = deadline.max_ns(now_ns() + PATIENCE_NS);
        let taken = with_me(|me| lock.acquire(me, self.arena.offset_of(lock), true, deadline));
        match taken.and_then(|taken| taken) {
            Ok((_, Some(held))) => Ok(Turn { lock, held }),
            Ok((_, None)) => Err(Refusal::TimedOut),
            Err(error) => Err(Refusal::Unusable(error.into())),
        }
    }
}

/// Calls `visit` with each record from `at` on whose header is `first`, and where it lies, until there is
/// none or `visit` says to stop. Gives where it stopped.
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
