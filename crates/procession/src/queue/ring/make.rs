//! Creating a ring, and finding the ring of an object.

use std::sync::atomic::{AtomicU64, Ordering};

use super::control::{Control, Cursor, Passed};
use super::record::WORD;
use super::{Refusal, Ring};
use crate::arena::blocks::{HEADER, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind, Object};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, member};
use crate::{Error, Result};

/// The minimum size of a segment. Segments grow when necessary.
const MIN_SEGMENT: u64 = 1 << 10;
/// The maximum size of a queue's first segment. It lies in a block of 2 KiB. A queue with few messages at a
/// time needs no more, and any other queue grows in a few steps.
pub(crate) const SMALL_FIRST: u64 = (2 << 10) - HEADER;
/// The maximum size of the first segment of a ring that should have much room from the beginning. Used for
/// kinds of objects of which there are few.
pub(crate) const LARGE_FIRST: u64 = 256 << 10;

/// The object of a plain queue. Everything else lies in blocks.
#[repr(C)]
pub(crate) struct PlainBody(AtomicU64);

// SAFETY: the field is an atomic, and zero is valid.
unsafe impl Body for PlainBody {
    const KIND: Kind = Kind::Queue;
}

/// Creates a ring, and the object of kind `B` that owns it.
pub(crate) fn make<B: Body>(items: u64, bytes: u64, guess: u64, first: u64) -> Result<(Handle, Ring)> {
    let parts = Parts::new(items, bytes, guess, first)?;
    let handle = Handle::create::<B>(|object| parts.attach(object))?;
    let ring = parts.give_to(handle.id().index())?;
    Ok((handle, ring))
}

/// The memory of a ring that is being created. It belongs to this process until an object owns it.
struct Parts {
    control: OwnedBlock,
    segment: OwnedBlock,
}

impl Parts {
    /// Allocates a ring with these limits, for messages of about `guess` bytes. The first segment has at most `first`
    /// bytes.
    fn new(items: u64, bytes: u64, guess: u64, first: u64) -> Result<Parts> {
        let arena = member::arena()?;
        let room = items.saturating_mul(guess.saturating_add(WORD)).min(bytes.saturating_add(WORD));
        let alignment = align_of::<Control>() as u64;
        let size = size_of::<Control>() as u64 + alignment;
        let mut control = OwnedBlock::allocate(size)?;
        let mut segment = OwnedBlock::allocate(room.clamp(MIN_SEGMENT, first))?;
        control.bytes_mut(HEADER + size).fill(0);
        segment.room_mut(WORD).fill(0);
        let first = segment.at() + HEADER;
        let made = control_at(arena, control.at());
        made.limits.items.store(items, Ordering::Relaxed);
        made.limits.bytes.store(bytes, Ordering::Relaxed);
        made.leases.max_attempts.store(u64::from(u32::MAX), Ordering::Relaxed);
        let cursor = Cursor::new(first, 0, 0).0;
        made.producers.side.cursor.store(cursor, Ordering::Relaxed);
        made.consumers.side.cursor.store(cursor, Ordering::Release);
        Ok(Parts { control, segment })
    }

    /// Stores the control block in an object that is being created.
    fn attach(&self, object: &Object) {
        object.blocks[0].store(self.control.at(), Ordering::Relaxed);
    }

    /// Transfers the memory to the object with this index, to which it was attached.
    fn give_to(self, index: u32) -> Result<Ring> {
        // CRASH: if we die in this loop, the parts that have not been handed over are swept with our other
        // blocks. The object is freed with its only handle.
        for part in [self.control, self.segment] {
            part.give_to(Tag::object(index));
        }
        Ring::of(index)
    }
}

fn control_at(arena: &Arena, block: u64) -> &'static Control {
    let at = (block + HEADER).next_multiple_of(align_of::<Control>() as u64);
    // SAFETY: the offset is aligned, and the block has room for the alignment. The type consists of atomics.
    unsafe { arena.at(at) }
}

impl Ring {
    /// Returns the ring of an object. The caller holds a handle to the object.
    pub(crate) fn of(index: u32) -> Result<Ring> {
        member::arena()?;
        Ring::find(index).ok_or_else(|| Error::StaleHandle("this queue no longer exists".into()))
    }

    /// Returns the ring of an object, for recovery.
    pub(crate) fn find(index: u32) -> Option<Ring> {
        let arena = member::mapped()?;
        let block = arena.object(index).blocks[0].load(Ordering::Acquire);
        arena.layout.span_of(block)?;
        let blocks_only = arena.object(index).is_any(Kind::JoinableQueue);
        Some(Ring { arena, control: control_at(arena, block), object: index, blocks_only })
    }

    /// Returns the totals that were put and taken. The answer may be out of date when this returns.
    pub(crate) fn passed(&self) -> (Passed, Passed) {
        // The total taken is read first, so that it is never more than the total put.
        let taken = self.control.consumers.side.snapshot().1;
        (self.control.producers.side.snapshot().1, taken)
    }

    /// Returns how many messages were put, mod 2²⁴.
    pub(crate) fn has_put(&self) -> u64 {
        self.control.producers.side.cursor().items()
    }

    /// Returns how many messages were taken, mod 2²⁴.
    pub(crate) fn has_taken(&self) -> u64 {
        self.control.consumers.side.cursor().items()
    }

    /// Returns how many messages the ring contains. The answer may be out of date when this returns.
    pub(crate) fn len(&self) -> u64 {
        let (put, taken) = self.passed();
        put.items.saturating_sub(taken.items)
    }

    /// Returns the maximum number of messages and of bytes at a time.
    pub(crate) fn limits(&self) -> Passed {
        self.control.limits()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::Full(_) => Refusal::NoMemory,
            other => Refusal::Unusable(other.into()),
        }
    }
}
