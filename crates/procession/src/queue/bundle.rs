//! [`Bundle`]: values that are put in one step.

use super::ring::{INLINE_MAX, Part, Piece, Refusal, Ring};
use super::sending::{PutFailure, wait_to_put};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::payload;
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

/// Values that are encoded one after the other, and put in one step.
pub(super) struct Bundle {
    /// The encodings of small values, one after the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The number of values.
    len: usize,
}

enum Entry {
    /// Values in a row whose encodings have the same length. An empty value is alone.
    Run { len: usize, count: usize },
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
        Bundle { bytes: Vec::with_capacity(items * WORD), entries: Vec::new(), len: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= BUNDLE_ITEMS || self.bytes.len() >= BUNDLE_BYTES
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
                self.add_small(bytes);
            } else {
                let packed = payload::pack_bytes_until(bytes, ids, deadline);
                let block = packed.map_err(|e| PutFailure::Refused(e.into()))?;
                self.entries.push(Entry::Block(block, bytes.len() as u64));
            }
            self.len += 1;
            Ok(())
        })
    }

    #[inline]
    fn add_small(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        match self.entries.last_mut() {
            Some(Entry::Run { len, count }) if *len == bytes.len() && *len > 0 => *count += 1,
            _ => self.entries.push(Entry::Run { len: bytes.len(), count: 1 }),
        }
    }

    /// Puts all values. Waits for room until the deadline. Returns how many were put, and why the others were not.
    pub(super) fn put(&mut self, ring: &Ring, deadline: Deadline) -> (usize, Option<Refusal>) {
        let (mut progress, mut done, mut refusal) = (Progress::default(), 0, None);
        while let Some(next) = self.entries.get(progress.entry) {
            let put = wait_to_put(ring, next.len(), deadline, || {
                ring.put_some(progress.rest(&self.entries, &self.bytes), deadline)
            });
            match put {
                Ok(count) => {
                    progress.advance(&mut self.entries, count);
                    done += count;
                }
                Err(why) => {
                    refusal = Some(why);
                    break;
                }
            }
        }
        // Frees the blocks of the values that were not put.
        self.entries.clear();
        self.bytes.clear();
        self.len = 0;
        (done, refusal)
    }
}

impl Entry {
    /// Returns the length of each value.
    fn len(&self) -> u64 {
        match self {
            Entry::Run { len, .. } => *len as u64,
            Entry::Block(_, len) => *len,
        }
    }

    fn count(&self) -> usize {
        match self {
            Entry::Run { count, .. } => *count,
            Entry::Block(..) => 1,
        }
    }
}

/// How far a bundle was put.
#[derive(Default)]
struct Progress {
    /// The first entry that has a value that was not put.
    entry: usize,
    /// The number of this entry's values that were put.
    put: usize,
    /// Where the first value that was not put begins in the bundle's bytes.
    offset: usize,
}

impl Progress {
    /// Returns what was not put yet.
    fn rest<'a>(&self, entries: &'a [Entry], bytes: &'a [u8]) -> impl Iterator<Item = Part<'a>> {
        let (mut put, mut rest) = (self.put, &bytes[self.offset..]);
        entries[self.entry..].iter().map(move |entry| match entry {
            Entry::Run { len: 0, .. } => Part::One(Piece::Inline(&[])),
            Entry::Run { len, count } => {
                let (run, later) = rest.split_at((count - std::mem::take(&mut put)) * len);
                rest = later;
                Part::Run { bytes: run, len: *len }
            }
            Entry::Block(block, len) => Part::One(Piece::Block { at: block.at(), len: *len }),
        })
    }

    /// Notes that `count` more values were put. Their blocks belong to the ring now.
    fn advance(&mut self, entries: &mut [Entry], mut count: usize) {
        while let Some(entry) = entries.get_mut(self.entry)
            && count > 0
        {
            let now = count.min(entry.count() - self.put);
            self.offset += match entry {
                Entry::Run { len, .. } => now * *len,
                Entry::Block(..) => 0,
            };
            (self.put, count) = (self.put + now, count - now);
            if self.put == entry.count() {
                if let Entry::Block(block, _) = std::mem::replace(entry, Entry::Run { len: 0, count: 0 }) {
                    block.into_raw();
                }
                (self.entry, self.put) = (self.entry + 1, 0);
            }
        }
    }
}
