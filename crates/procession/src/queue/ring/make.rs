//! Making a ring, and finding its parts again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::control::{Control, Cursor, Passed};
use super::record::WORD;
use super::{Refusal, Ring};
use crate::arena::blocks::{self, HEADER, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind, Object};
use crate::arena::{Arena, heap, member};
use crate::{Error, Result};

/// The smallest segment. It grows when it has to.
const SMALLEST: u64 = 1 << 10;
/// The largest first segment of a queue, in a block of 2 KiB: a queue that has few messages at a time needs no more, and
/// another one grows in a few steps.
pub(crate) const SMALL_FIRST: u64 = (2 << 10) - HEADER;
/// The largest first segment of a ring of which there are few, and in which room should be there already.
pub(crate) const LARGE_FIRST: u64 = 256 << 10;

/// A plain queue in its object: all that there is of it is in blocks.
#[repr(C)]
pub(crate) struct PlainBody(AtomicU64);

// SAFETY: an atomic, and zero is valid.
unsafe impl Body for PlainBody {
    const KIND: Kind = Kind::Queue;
}

/// A ring and an object that owns it, made for a queue of the kind of `B`.
pub(crate) fn make<B: Body>(items: u64, bytes: u64, guess: u64, first: u64) -> Result<(Handle, Ring)> {
    let parts = Parts::new(items, bytes, guess, first)?;
    match Handle::create::<B>(|object| parts.attach(object)) {
        Ok(handle) => {
            let ring = parts.hand_over(handle.id().index())?;
            Ok((handle, ring))
        }
        Err(error) => {
            parts.give_up();
            Err(error)
        }
    }
}

/// The memory of a ring that is being made, which belongs to this process until an object owns it.
struct Parts {
    control: u64,
    segment: u64,
}

impl Parts {
    /// Takes memory for a ring with these limits, whose messages take some `guess` bytes each, and whose first segment
    /// has at most `first` bytes.
    fn new(items: u64, bytes: u64, guess: u64, first: u64) -> Result<Parts> {
        let (arena, slot) = (member::arena()?, member::slot());
        let room = items.saturating_mul(guess.saturating_add(WORD)).min(bytes.saturating_add(WORD));
        let alignment = align_of::<Control>() as u64;
        let control = heap::allocate(arena, slot, size_of::<Control>() as u64 + alignment)?;
        let segment = heap::allocate(arena, slot, room.clamp(SMALLEST, first))
            .inspect_err(|_| _ = blocks::free(arena, slot, control, Tag::process(slot)))?;
        arena.write(control, &vec![0; (HEADER + size_of::<Control>() as u64 + alignment) as usize]);
        let first = segment + HEADER;
        arena.write(first, &[0; WORD as usize]);
        let made = control_at(arena, control);
        made.limits.items.store(items, Ordering::Relaxed);
        made.limits.bytes.store(bytes, Ordering::Relaxed);
        made.leases.most_attempts.store(u64::from(u32::MAX), Ordering::Relaxed);
        let cursor = Cursor::new(first, 0, 0).0;
        made.producers.side.cursor.store(cursor, Ordering::Relaxed);
        made.consumers.side.cursor.store(cursor, Ordering::Release);
        Ok(Parts { control, segment })
    }

    /// Puts them where they will be found. While the object is filled in.
    fn attach(&self, object: &Object) {
        object.blocks[0].store(self.control, Ordering::Relaxed);
    }

    /// Gives them to the object that they were attached to, when it is there.
    fn hand_over(self, index: u32) -> Result<Ring> {
        let arena = member::arena()?;
        let (from, to) = (Tag::process(member::slot()), Tag::object(index));
        // CRASH: what is not handed over is swept with us, and the object goes with its only handle.
        for part in [self.control, self.segment] {
            blocks::hand_over(arena, part, from, to);
        }
        Ring::of(index)
    }

    /// Gives the memory back, when no object came of it.
    fn give_up(&self) {
        if let Ok(arena) = member::arena() {
            let slot = member::slot();
            for part in [self.control, self.segment] {
                blocks::free(arena, slot, part, Tag::process(slot));
            }
        }
    }
}

fn control_at(arena: &Arena, block: u64) -> &'static Control {
    let at = (block + HEADER).next_multiple_of(align_of::<Control>() as u64);
    // SAFETY: aligned just now, in a block that has room for it behind the alignment; atomics only.
    unsafe { arena.at(at) }
}

impl Ring {
    /// The ring that an object owns. The caller holds the object.
    pub(crate) fn of(index: u32) -> Result<Ring> {
        member::arena()?;
        Ring::find(index).ok_or_else(|| Error::StaleHandle("this queue no longer exists".into()))
    }

    /// As [`of`](Ring::of), for recovery.
    pub(crate) fn find(index: u32) -> Option<Ring> {
        let arena = member::mapped()?;
        let block = arena.object(index).blocks[0].load(Ordering::Acquire);
        arena.layout.span_of(block)?;
        let blocks_only = arena.object(index).is_any(Kind::JoinableQueue);
        Some(Ring { arena, control: control_at(arena, block), object: index, blocks_only })
    }

    /// What has been put, and what has been taken: a snapshot.
    pub(crate) fn passed(&self) -> (Passed, Passed) {
        // Taken first, so that it is never more than what was put.
        let taken = self.control.consumers.side.snapshot().1;
        (self.control.producers.side.snapshot().1, taken)
    }

    /// How many messages were put, mod 2²⁴.
    pub(crate) fn has_put(&self) -> u64 {
        self.control.producers.side.cursor().items()
    }

    /// How many messages were taken, mod 2²⁴.
    pub(crate) fn has_taken(&self) -> u64 {
        self.control.consumers.side.cursor().items()
    }

    /// How many messages are there: a snapshot.
    pub(crate) fn len(&self) -> u64 {
        let (put, taken) = self.passed();
        put.items.saturating_sub(taken.items)
    }

    /// The most messages, and the most bytes, at a time.
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
