//! A value on its way out of a queue.

use std::fmt;

use super::error::GetError;
use super::ring::{Buffer, Refusal, Ring, Taken};
use super::waiting;
use crate::arena::blocks::Tag;
use crate::arena::{blocks, collect, heap, member, payload};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::sync::raw::park;
use crate::{Error, Result, codec};

/// Reads the value in a block of a queue's.
pub(super) fn read<T: Message>(block: u64) -> Result<T, GetError> {
    let arena = member::arena().map_err(|e| GetError::Unusable(e.to_string()))?;
    codec::unpack(arena, block).map_err(undecodable)
}

/// A block that this process took out of a queue; freed when it is dropped.
pub(super) struct Parcel(u64);

impl Parcel {
    pub(super) fn new(block: u64) -> Parcel {
        Parcel(block)
    }

    pub(super) fn bytes(&self) -> Result<&[u8], GetError> {
        let arena = member::arena().map_err(|e| GetError::Unusable(e.to_string()))?;
        payload::contents(arena, self.0).map_err(undecodable)
    }

    pub(super) fn value<T: Message>(&self) -> Result<T, GetError> {
        read(self.0)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let Some(arena) = member::mapped() else { return };
        let slot = member::slot();
        if blocks::free(arena, slot, self.0, Tag::process(slot)) {
            // It may have been the last that held what it carried.
            collect::want(arena);
        }
    }
}

#[cold]
fn undecodable(error: Error) -> GetError {
    GetError::Undecodable(error.to_string())
}

impl From<Refusal> for GetError {
    #[inline]
    fn from(refusal: Refusal) -> GetError {
        match refusal {
            Refusal::Closed => GetError::Closed,
            Refusal::Unusable(error) => *unusable(&error),
            Refusal::NoMemory => GetError::Full(heap::why_no_room("the note of who has the item")),
            Refusal::Empty | Refusal::TimedOut | Refusal::Full => GetError::Empty,
        }
    }
}

/// Takes a message, and waits for it until the deadline.
#[inline]
fn take(ring: &Ring, buffer: &mut Buffer, deadline: Deadline) -> Result<Taken, Refusal> {
    match ring.take(buffer, deadline) {
        Err(refusal @ Refusal::Empty) => take_later(ring, buffer, deadline, refusal),
        done => done,
    }
}

/// (A function of its own, so that what it remembers while it waits is not laid out where there is a message.)
#[cold]
#[inline(never)]
fn take_later(
    ring: &Ring,
    buffer: &mut Buffer,
    deadline: Deadline,
    refusal: Refusal,
) -> Result<Taken, Refusal> {
    wait_for_news(ring, deadline, || ring.take(buffer, deadline), refusal)
}

/// Attempts to take something until the deadline: again when there is something.
#[inline]
fn wait_to_take<T>(
    ring: &Ring,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match attempt() {
        Err(refusal @ Refusal::Empty) => wait_for_news(ring, deadline, attempt, refusal),
        done => done,
    }
}

/// As [`wait_to_take`], after a first attempt with this refusal.
fn wait_for_news<T>(
    ring: &Ring,
    deadline: Deadline,
    attempt: impl FnMut() -> Result<T, Refusal>,
    refusal: Refusal,
) -> Result<T, Refusal> {
    let filled = &ring.control().filled.word;
    let (passed, come) = (|| ring.has_taken(), || ring.has_news());
    waiting::wait_on(ring.arena(), filled, deadline, passed, come, attempt, refusal)
}

/// Takes a value, and waits for it until the deadline.
#[inline]
pub(super) fn get<T: Message>(ring: &Ring, deadline: Deadline) -> Result<T, GetError> {
    let mut buffer = Buffer::new();
    let got = match take(ring, &mut buffer, deadline) {
        Ok(Taken::Inline(_)) => encoding::from_bytes_or(buffer.bytes(), |error| Box::new(undecodable(error))),
        Ok(Taken::Block(block)) => in_block(block).map(|value| *value),
        Err(refusal) => return Err(refusal.into()),
    };
    got.map_err(|error| *error)
}

// Rare outcomes come as pointers, so that nobody else is told where the value will lie: then it need not lie
// anywhere, and its fields go to who asked for them.

#[cold]
fn unusable(error: &Error) -> Box<GetError> {
    Box::new(match error {
        Error::Full(why) => GetError::Full(why.clone()),
        other => GetError::Unusable(other.to_string()),
    })
}

#[inline(never)]
fn in_block<T: Message>(block: u64) -> Result<Box<T>, Box<GetError>> {
    Parcel(block).value().map(Box::new).map_err(Box::new)
}

/// Takes a message and has `read` look at it in place.
#[inline]
pub(super) fn get_with<R>(
    ring: &Ring,
    read: impl FnOnce(&[u8]) -> R,
    deadline: Deadline,
) -> Result<R, GetError> {
    let mut buffer = Buffer::new();
    match take(ring, &mut buffer, deadline)? {
        Taken::Inline(_) => Ok(read(buffer.bytes())),
        Taken::Block(block) => Ok(read(Parcel(block).bytes()?)),
    }
}

/// Takes up to `max` values at once, and waits for the first until the deadline.
pub(super) fn get_many<T: Message>(
    ring: &Ring,
    max: usize,
    deadline: Deadline,
) -> Result<Vec<Result<T, GetError>>, GetError> {
    if max == 0 {
        return Ok(Vec::new());
    }
    let mut values = Vec::with_capacity(max.min(256));
    take_some(ring, max, deadline)?.for_each(|message| {
        values.push(match message {
            Arrival::Inline(bytes) => encoding::from_bytes_or(bytes, undecodable),
            Arrival::Block(parcel) => parcel.value(),
        });
    });
    Ok(values)
}

/// Takes up to `max` messages at once, has `read` look at each, and waits for the first until the deadline.
pub(super) fn get_many_with(
    ring: &Ring,
    max: usize,
    mut read: impl FnMut(&[u8]),
    deadline: Deadline,
) -> Result<usize, GetError> {
    if max == 0 {
        return Ok(0);
    }
    let arrived = take_some(ring, max, deadline)?;
    let (count, mut damaged) = (arrived.taken.len(), None);
    arrived.for_each(|message| match message {
        Arrival::Inline(bytes) => read(bytes),
        Arrival::Block(parcel) => match parcel.bytes() {
            Ok(bytes) => read(bytes),
            Err(error) => damaged = Some(error),
        },
    });
    damaged.map_or(Ok(count), Err)
}

fn take_some(ring: &Ring, max: usize, deadline: Deadline) -> Result<Arrived, Refusal> {
    let mut bytes = Vec::new();
    let taken = wait_to_take(ring, deadline, || ring.take_some(max, &mut bytes, deadline))?;
    Ok(Arrived { bytes, taken: taken.into_iter() })
}

/// Messages that were taken together. Those that nobody has looked at go when this is dropped.
struct Arrived {
    /// Of the small ones, one behind the other.
    bytes: Vec<u8>,
    taken: std::vec::IntoIter<Taken>,
}

/// One of them.
enum Arrival<'a> {
    Inline(&'a [u8]),
    Block(Parcel),
}

impl Arrived {
    fn for_each(mut self, mut look: impl FnMut(Arrival<'_>)) {
        let mut at = 0;
        for taken in self.taken.by_ref() {
            match taken {
                Taken::Inline(len) => {
                    look(Arrival::Inline(&self.bytes[at..at + len]));
                    at += len;
                }
                Taken::Block(block) => look(Arrival::Block(Parcel(block))),
            }
        }
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        for taken in self.taken.by_ref() {
            if let Taken::Block(block) = taken {
                drop(Parcel(block));
            }
        }
    }
}

pub(super) fn close(ring: &Ring) -> Result<()> {
    match ring.close(Deadline::NEVER) {
        Ok(_) => Ok(()),
        Err(Refusal::Unusable(error)) => Err(*error),
        Err(other) => unreachable!("INVARIANT: closing waits for its turn as long as it takes: {other:?}"),
    }
}

/// How full a queue is, and how many wait.
pub(super) fn describe(ring: &Ring, mut out: fmt::DebugStruct<'_, '_>) -> fmt::Result {
    let Some(arena) = member::mapped() else { return out.finish_non_exhaustive() };
    let limits = ring.limits();
    let (put, taken) = ring.passed();
    let bound = |limit: u64| Some(limit).filter(|&limit| limit != u64::MAX);
    out.field("len", &put.items.saturating_sub(taken.items)).field("capacity", &bound(limits.items));
    if let Some(limit) = bound(limits.bytes) {
        out.field("bytes", &put.bytes.saturating_sub(taken.bytes)).field("capacity_bytes", &limit);
    }
    let control = ring.control();
    out.field("closed", &ring.is_closed())
        .field("getters_waiting", &park::sleepers_on(arena, &control.filled.word))
        .field("putters_waiting", &park::sleepers_on(arena, &control.emptied.word))
        .finish()
}
