//! Encodes values and puts them into a ring.

use super::bundle::{BUNDLE_BYTES, BUNDLE_ITEMS, Bundle};
use super::error::PutError;
use super::ring::{Buffer, INLINE_MAX, Part, Piece, Refusal, Ring};
use super::waiting;
use crate::arena::objects::Id;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{heap, payload};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// Puts a value. Waits for room until the deadline.
#[inline]
pub(super) fn put<T: Message>(ring: &Ring, item: T, deadline: Deadline) -> Result<(), PutError<T>> {
    let done = encoding::with_bytes_or(&item, PutFailure::unsendable, |bytes, ids| {
        encoding::check_arrival::<T>(bytes).map_err(PutFailure::unsendable)?;
        put_bytes(ring, bytes, ids, deadline).map_err(PutFailure::Refused)
    });
    match done {
        Ok(()) => Ok(()),
        Err(failed) => Err(failed.with(item)),
    }
}

/// Why a value was not put. The error is boxed, as in a [`Refusal`], so that a result fits into two
/// registers.
pub(super) enum PutFailure {
    Unsendable(Box<Error>),
    Refused(Refusal),
}

const _: () = assert!(size_of::<Result<(), PutFailure>>() == 16, "an outcome is two registers");

impl PutFailure {
    #[cold]
    pub(super) fn unsendable(error: Error) -> PutFailure {
        PutFailure::Unsendable(error.into())
    }

    #[cold]
    pub(super) fn with<T>(self, item: T) -> PutError<T> {
        match self {
            PutFailure::Unsendable(error) => PutError::Unsendable(item, error.to_string()),
            PutFailure::Refused(Refusal::Closed) => PutError::Closed(item),
            PutFailure::Refused(Refusal::Unusable(error)) => PutError::Unusable(item, error.to_string()),
            PutFailure::Refused(Refusal::NoMemory) => PutError::NoMemory(item, heap::why_no_room("the item")),
            PutFailure::Refused(_) => PutError::Full(item),
        }
    }
}

#[inline]
fn put_bytes(ring: &Ring, bytes: &[u8], ids: &[Id], deadline: Deadline) -> Result<(), Refusal> {
    if bytes.len() <= INLINE_MAX && ids.is_empty() && !ring.blocks_only() {
        return put_small(ring, bytes, deadline);
    }
    put_block(ring, payload::pack_bytes_until(bytes, ids, deadline)?, bytes.len() as u64, deadline)
}

/// Puts a block of this process. Waits for room until the deadline. Frees the block if it cannot be put.
pub(super) fn put_block(ring: &Ring, block: OwnedBlock, len: u64, deadline: Deadline) -> Result<(), Refusal> {
    let at = block.at();
    wait_to_put(ring, len, deadline, || ring.put(Piece::Block { at, len }, deadline))?;
    block.into_raw();
    Ok(())
}

/// Puts a small message. Waits for room until the deadline.
#[inline]
fn put_small(ring: &Ring, bytes: &[u8], deadline: Deadline) -> Result<(), Refusal> {
    match ring.put_small(bytes, deadline) {
        Err(refusal @ Refusal::Full) => wait_and_put_small(ring, bytes, deadline, refusal),
        done => done,
    }
}

/// Kept out of line so that the waiting state takes no stack space on the fast path.
#[cold]
#[inline(never)]
fn wait_and_put_small(
    ring: &Ring,
    bytes: &[u8],
    deadline: Deadline,
    refusal: Refusal,
) -> Result<(), Refusal> {
    wait_for_room(ring, bytes.len() as u64, deadline, || ring.put_small(bytes, deadline), refusal)
}

/// Puts `len` bytes that `write` writes in place. Waits for room until the deadline.
#[inline]
pub(super) fn put_with(
    ring: &Ring,
    len: usize,
    write: impl FnOnce(&mut [u8]),
    deadline: Deadline,
) -> Result<(), PutError<()>> {
    let done = if len <= INLINE_MAX {
        let mut buffer = Buffer::new();
        write(buffer.zeros(len));
        put_small(ring, buffer.bytes(), deadline)
    } else {
        payload::pack_in_place(len, write, deadline)
            .map_err(Refusal::from)
            .and_then(|(block, ())| put_block(ring, block, len as u64, deadline))
    };
    done.map_err(|refusal| PutFailure::Refused(refusal).with(()))
}

/// Puts many values in bundles. Waits for room until the deadline.
pub(super) fn put_many<T: Message>(
    ring: &Ring,
    items: impl IntoIterator<Item = T>,
    deadline: Deadline,
) -> Result<usize, PutError<Vec<T>>> {
    let mut items = items.into_iter();
    // The first bundle will have at least this many items, unless the items turn out to be long.
    let together = items.size_hint().0.min(BUNDLE_ITEMS).min(BUNDLE_BYTES / size_of::<T>().max(1));
    let (mut bundle, mut held, mut done) = (Bundle::new(together), Vec::with_capacity(together), 0);
    loop {
        let mut failed = None;
        while let (false, None) = (bundle.is_full(), &failed) {
            let Some(item) = items.next() else { break };
            failed = bundle.add(ring, &item, deadline).err();
            held.push(item);
        }
        if held.is_empty() {
            return Ok(done);
        }
        let (put, refusal) = bundle.put(ring, deadline);
        done += put;
        held.drain(..put);
        if let Some(failed) = refusal.map(PutFailure::Refused).or(failed) {
            return Err(failed.with(held));
        }
    }
}

/// Puts `count` messages of `len` bytes each in bundles. Waits for room until the deadline.
pub(super) fn put_many_with(
    ring: &Ring,
    count: usize,
    len: usize,
    mut write: impl FnMut(usize, &mut [u8]),
    deadline: Deadline,
) -> Result<(), PutError<usize>> {
    if len > INLINE_MAX || ring.blocks_only() {
        for at in 0..count {
            put_with(ring, len, |bytes| write(at, bytes), deadline)
                .map_err(|error| error.map(|()| count - at))?;
        }
        return Ok(());
    }
    let together = BUNDLE_ITEMS.min(count);
    let (mut bytes, mut written, mut done) = (vec![0; together * len], 0, 0);
    while done < count {
        let end = count.min(done + together);
        while written < end {
            let at = (written - done) * len;
            write(written, &mut bytes[at..at + len]);
            written += 1;
        }
        let first = done;
        while done < end {
            let part = match len {
                0 => Part::One(Piece::Inline(&[])),
                _ => Part::Run { bytes: &bytes[(done - first) * len..(end - first) * len], len },
            };
            let put = wait_to_put(ring, len as u64, deadline, || ring.put_some([part].into_iter(), deadline));
            done += put.map_err(|refusal| PutFailure::Refused(refusal).with(count - done))?;
        }
    }
    Ok(())
}

/// Calls `attempt`, and calls it again whenever there is room for `len` bytes, until it succeeds or the
/// deadline passes.
#[inline]
pub(super) fn wait_to_put<T>(
    ring: &Ring,
    len: u64,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match attempt() {
        Err(refusal @ Refusal::Full) => wait_for_room(ring, len, deadline, attempt, refusal),
        done => done,
    }
}

/// Waits like [`wait_to_put`], after a first attempt that was refused with `refusal`.
fn wait_for_room<T>(
    ring: &Ring,
    len: u64,
    deadline: Deadline,
    attempt: impl FnMut() -> Result<T, Refusal>,
    refusal: Refusal,
) -> Result<T, Refusal> {
    let emptied = &ring.control().emptied.word;
    let (passed, ready) = (|| ring.has_put(), || ring.admits(len));
    waiting::wait_on(ring.arena(), emptied, deadline, passed, ready, attempt, refusal)
}
