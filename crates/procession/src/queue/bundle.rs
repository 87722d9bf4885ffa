//! [`Bundle`]: values that are put in one step.

use super::ring::{INLINE_MAX, Piece, Refusal, Ring};
use super::sending::{PutFailure, wait_to_put};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::payload;
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

/// Values that are encoded one after the other, and put in one step.
pub(super) struct Bundle {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

enum Part {
    Inline(usize),
    /// A block of this process, and the length of its payload.
    Block(OwnedBlock, u64),
}

/// A bundle is put when it has this many items or bytes.
pub(super) const BUNDLE_ITEMS: usize = 256;
pub(super) const BUNDLE_BYTES: usize = 64 << 10;
/// The bytes that are reserved for each item. Most items have at least that many.
const WORD: usize = 8;

impl Bundle {
    /// Creates a bundle with room for `items` items. It can grow.
    pub(super) fn new(items: usize) -> Bundle {
        Bundle { bytes: Vec::with_capacity(items * WORD), parts: Vec::with_capacity(items) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.parts.len() >= BUNDLE_ITEMS || self.bytes.len() >= BUNDLE_BYTES
    }

    pub(super) fn add<T: Message>(
        &mut self,
        ring: &Ring,
        item: &T,
        deadline: Deadline,
    ) -> Result<(), PutFailure> {
        encoding::with_bytes_or(item, PutFailure::unsendable, |bytes, ids| {
            encoding::check_arrival::<T>(bytes).map_err(PutFailure::unsendable)?;
            if bytes.len() <= INLINE_MAX && ids.is_empty() && !ring.blocks_only() {
                self.bytes.extend_from_slice(bytes);
                self.parts.push(Part::Inline(bytes.len()));
            } else {
                let packed = payload::pack_bytes_until(bytes, ids, deadline);
                let block = packed.map_err(|e| PutFailure::Refused(e.into()))?;
                self.parts.push(Part::Block(block, bytes.len() as u64));
            }
            Ok(())
        })
    }

    /// Puts all values. Waits for room until the deadline. Returns how many were put, and why the others were not.
    pub(super) fn put(&mut self, ring: &Ring, deadline: Deadline) -> (usize, Option<Refusal>) {
        let (mut done, mut offset) = (0, 0);
        while done < self.parts.len() {
            let put = wait_to_put(ring, self.parts[done].len(), deadline, || {
                ring.put_some(pieces(&self.bytes, offset, &self.parts[done..]), deadline)
            });
            match put {
                Ok(count) => {
                    offset += self.parts[done..done + count].iter_mut().map(Part::leave).sum::<usize>();
                    done += count;
                }
                Err(refusal) => {
                    self.clear();
                    return (done, Some(refusal));
                }
            }
        }
        self.clear();
        (done, None)
    }

    /// Empties the bundle, and frees the blocks of the values that were not put.
    fn clear(&mut self) {
        self.parts.clear();
        self.bytes.clear();
    }
}

impl Part {
    /// Releases a part that now belongs to the ring. Returns how many of the bundle's bytes the part took.
    fn leave(&mut self) -> usize {
        match std::mem::replace(self, Part::Inline(0)) {
            Part::Inline(len) => len,
            Part::Block(block, _) => {
                block.into_raw();
                0
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Part::Inline(len) => *len as u64,
            Part::Block(_, len) => *len,
        }
    }
}

fn pieces<'a>(bytes: &'a [u8], mut offset: usize, parts: &'a [Part]) -> impl Iterator<Item = Piece<'a>> {
    parts.iter().map(move |part| match part {
        Part::Inline(len) => {
            let piece = Piece::Inline(&bytes[offset..offset + len]);
            offset += len;
            piece
        }
        Part::Block(block, len) => Piece::Block { at: block.at(), len: *len },
    })
}
