//! Receives values from a ring and decodes them.

use std::fmt;

use super::error::GetError;
use super::ring::{Buffer, Refusal, Ring, Taken, TakenRun};
use super::waiting;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{heap, member};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::sync::raw::park;
use crate::{Error, Result, codec};

/// Decodes the value in a block of a queue.
pub(super) fn read<T: Message>(block: u64) -> Result<T, GetError> {
    let arena = member::arena().map_err(|e| GetError::Unusable(e.to_string()))?;
    codec::unpack(arena, block).map_err(undecodable)
}

/// Decodes the value in a block that was taken out of a queue, and frees the block.
pub(super) fn value_in<T: Message>(block: OwnedBlock) -> Result<T, GetError> {
    read(block.at())
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
            Refusal::NoMemory => GetError::Full(heap::why_no_room("the lease of the item")),
            Refusal::Empty | Refusal::TimedOut | Refusal::Full => GetError::Empty,
        }
    }
}

/// Takes a message. Waits for one until the deadline.
#[inline]
fn take(ring: &Ring, buffer: &mut Buffer, deadline: Deadline) -> Result<Taken, Refusal> {
    match ring.take(buffer, deadline) {
        Err(refusal @ Refusal::Empty) => wait_and_take(ring, buffer, deadline, refusal),
        done => done,
    }
}

/// Kept out of line so that the waiting state takes no stack space on the fast path.
#[cold]
#[inline(never)]
fn wait_and_take(
    ring: &Ring,
    buffer: &mut Buffer,
    deadline: Deadline,
    refusal: Refusal,
) -> Result<Taken, Refusal> {
    wait_for_news(ring, deadline, || ring.take(buffer, deadline), refusal)
}

/// Calls `attempt`, and calls it again whenever a message has come, until it succeeds or the deadline passes.
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

/// Waits like [`wait_to_take`], after a first attempt that was refused with `refusal`.
fn wait_for_news<T>(
    ring: &Ring,
    deadline: Deadline,
    attempt: impl FnMut() -> Result<T, Refusal>,
    refusal: Refusal,
) -> Result<T, Refusal> {
    let filled = &ring.control().filled.word;
    let (passed, ready) = (|| ring.has_taken(), || ring.has_news());
    waiting::wait_on(ring.arena(), filled, deadline, passed, ready, attempt, refusal)
}

/// Receives a value. Waits for one until the deadline.
#[inline]
pub(super) fn get<T: Message>(ring: &Ring, deadline: Deadline) -> Result<T, GetError> {
    let mut buffer = Buffer::new();
    let got = match take(ring, &mut buffer, deadline) {
        Ok(Taken::Inline) => encoding::from_bytes_or(buffer.bytes(), |error| Box::new(undecodable(error))),
        Ok(Taken::Block(block)) => in_block(block).map(|value| *value),
        Err(refusal) => return Err(refusal.into()),
    };
    got.map_err(|error| *error)
}

// The functions below return rare outcomes in boxes, and are not inlined. So no other function needs the
// address of the value, and the caller gets the value's fields in registers.

#[cold]
fn unusable(error: &Error) -> Box<GetError> {
    Box::new(match error {
        Error::Full(why) => GetError::Full(why.clone()),
        other => GetError::Unusable(other.to_string()),
    })
}

#[inline(never)]
fn in_block<T: Message>(block: OwnedBlock) -> Result<Box<T>, Box<GetError>> {
    value_in(block).map(Box::new).map_err(Box::new)
}

/// Takes a message and calls `read` with its bytes in place. Waits for one until the deadline.
#[inline]
pub(super) fn get_with<R>(
    ring: &Ring,
    read: impl FnOnce(&[u8]) -> R,
    deadline: Deadline,
) -> Result<R, GetError> {
    let mut buffer = Buffer::new();
    match take(ring, &mut buffer, deadline)? {
        Taken::Inline => Ok(read(buffer.bytes())),
        Taken::Block(block) => Ok(read(block.payload().map_err(undecodable)?)),
    }
}

/// Receives up to `max` values in one step. Waits for the first one until the deadline.
pub(super) fn get_many<T: Message>(
    ring: &Ring,
    max: usize,
    deadline: Deadline,
) -> Result<Vec<Result<T, GetError>>, GetError> {
    if max == 0 {
        return Ok(Vec::new());
    }
    let batch = take_some(ring, max, deadline)?;
    let mut values = Vec::with_capacity(batch.len());
    batch.for_each(|message| {
        values.push(match message {
            TakenMessage::Inline(bytes) => encoding::from_bytes_or(bytes, undecodable),
            TakenMessage::Block(block) => value_in(block),
        });
    });
    Ok(values)
}

/// Takes up to `max` messages in one step, and calls `read` with the bytes of each. Waits for the first one
/// until the deadline.
pub(super) fn get_many_with(
    ring: &Ring,
    max: usize,
    mut read: impl FnMut(&[u8]),
    deadline: Deadline,
) -> Result<usize, GetError> {
    if max == 0 {
        return Ok(0);
    }
    let batch = take_some(ring, max, deadline)?;
    let (count, mut damaged) = (batch.len(), None);
    batch.for_each(|message| match message {
        TakenMessage::Inline(bytes) => read(bytes),
        TakenMessage::Block(block) => match block.payload() {
            Ok(bytes) => read(bytes),
            Err(error) => damaged = Some(undecodable(error)),
        },
    });
    damaged.map_or(Ok(count), Err)
}

fn take_some(ring: &Ring, max: usize, deadline: Deadline) -> Result<TakenBatch, Refusal> {
    let mut bytes = Vec::new();
    let taken = wait_to_take(ring, deadline, || ring.take_some(max, &mut bytes, deadline))?;
    Ok(TakenBatch { bytes, taken })
}

/// Messages that were taken in one step. Dropping the batch frees the blocks of the messages that were not
/// visited.
struct TakenBatch {
    /// The bytes of the small messages, one after the other.
    bytes: Vec<u8>,
    taken: Vec<TakenRun>,
}

/// One message of a batch that was taken.
enum TakenMessage<'a> {
    Inline(&'a [u8]),
    Block(OwnedBlock),
}

impl TakenBatch {
    /// Returns the number of messages.
    fn len(&self) -> usize {
        let len = |taken: &TakenRun| match taken {
            TakenRun::Inline { count, .. } => *count,
            TakenRun::Block(_) => 1,
        };
        self.taken.iter().map(len).sum()
    }

    fn for_each(self, mut look: impl FnMut(TakenMessage<'_>)) {
        let mut rest = &self.bytes[..];
        for taken in self.taken {
            match taken {
                TakenRun::Inline { len: 0, count } => {
                    (0..count).for_each(|_| look(TakenMessage::Inline(&[])));
                }
                TakenRun::Inline { len, count } => {
                    let (run, later) = rest.split_at(len * count);
                    run.chunks_exact(len).for_each(|bytes| look(TakenMessage::Inline(bytes)));
                    rest = later;
                }
                TakenRun::Block(block) => look(TakenMessage::Block(block)),
            }
        }
    }
}

pub(super) fn close(ring: &Ring) -> Result<()> {
    match ring.close(Deadline::NEVER) {
        Ok(_) => Ok(()),
        Err(Refusal::Unusable(error)) => Err(*error),
        Err(other) => unreachable!("INVARIANT: closing waits for the lock without a limit: {other:?}"),
    }
}

/// Writes how full a queue is and how many threads wait, for `Debug`.
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
