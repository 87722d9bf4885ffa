//! The tables of the arena, and the entries in them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::bits::Bits;
use super::header::Header;
use super::layout::SPAN;
use super::objects::Object;
use super::records::Record;
use super::slots::Slot;
use super::{Arena, blocks};

impl Arena {
    pub(crate) fn header(&self) -> &'static Header {
        // SAFETY: the header is the first page.
        unsafe { self.at(0) }
    }

    pub(crate) fn slot(&self, index: u32) -> &'static Slot {
        assert!(index < self.layout.slots, "INVARIANT: slot {index} is within the table");
        // SAFETY: the slot lies within the table, which is page-aligned.
        unsafe { self.at(self.layout.slots_at + u64::from(index) * size_of::<Slot>() as u64) }
    }

    /// Returns the record with this id.
    pub(crate) fn record(&self, id: u32) -> &'static Record {
        if id < self.layout.slots {
            return &self.slot(id).home;
        }
        let index = id - self.layout.slots;
        assert!(index < self.layout.extra_records, "INVARIANT: record {id} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.records_at + u64::from(index) * size_of::<Record>() as u64) }
    }

    /// Returns the word that names the process of an extra record: the process's slot + 1, or 0.
    pub(crate) fn record_owner(&self, extra: u32) -> &'static AtomicU32 {
        assert!(extra < self.layout.extra_records, "INVARIANT: record {extra} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.record_owners_at + u64::from(extra) * 4) }
    }

    pub(crate) fn object(&self, index: u32) -> &'static Object {
        assert!(index < self.layout.objects, "INVARIANT: object {index} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.objects_at + u64::from(index) * size_of::<Object>() as u64) }
    }

    /// Returns the bitmap of the objects that the process of `slot` holds.
    pub(crate) fn held_objects(&self, slot: u32) -> Bits {
        let at = self.layout.object_bits_at + u64::from(slot) * self.layout.object_bits_stride;
        // SAFETY: within the table; the words are atomics.
        let words = unsafe { self.at::<AtomicU64>(at) };
        Bits::new(words, self.layout.objects, &self.slot(slot).object_lines)
    }

    /// Returns the bitmap of the spans in which the process of `slot` may own blocks.
    pub(crate) fn touched_spans(&self, slot: u32) -> Bits {
        let at = self.layout.span_bits_at + u64::from(slot) * self.layout.span_bits_stride;
        // SAFETY: within the table; the words are atomics.
        let words = unsafe { self.at::<AtomicU64>(at) };
        Bits::new(words, self.layout.spans, &self.slot(slot).span_lines)
    }

    /// Returns the word that says what a span is used for.
    #[inline]
    pub(crate) fn span_word(&self, span: u32) -> &'static AtomicU64 {
        assert!(span < self.layout.spans, "INVARIANT: span {span} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.span_words_at + u64::from(span) * 8) }
    }

    #[inline]
    pub(crate) fn span_offset(&self, span: u32) -> u64 {
        self.layout.spans_at + u64::from(span) * SPAN
    }

    /// Returns the slot of the process that a record belongs to.
    pub(crate) fn slot_of_record(&self, id: u32) -> Option<u32> {
        if id < self.layout.slots {
            return Some(id);
        }
        let extra = id - self.layout.slots;
        if extra >= self.layout.extra_records {
            return None;
        }
        self.record_owner(extra).load(Ordering::Acquire).checked_sub(1).filter(|&s| s < self.layout.slots)
    }

    /// Returns the records of one process: its home record, and those of its other threads.
    pub(crate) fn records_of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let arena = *self;
        let extras = arena.header().records_used.load(Ordering::Acquire).min(arena.layout.extra_records);
        let further = (0..extras)
            .filter(move |&extra| arena.record_owner(extra).load(Ordering::Acquire) == slot + 1)
            .map(move |extra| arena.layout.slots + extra);
        std::iter::once(slot).chain(further)
    }

    /// Returns every record that a thread may be using.
    pub(crate) fn records_in_use(&self) -> impl Iterator<Item = u32> {
        let arena = *self;
        let extras = arena.header().records_used.load(Ordering::Acquire).min(arena.layout.extra_records);
        let slots = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
        let further = (0..extras)
            .filter(move |&extra| arena.record_owner(extra).load(Ordering::Acquire) != 0)
            .map(move |extra| arena.layout.slots + extra);
        (0..slots).chain(further)
    }

    /// Returns whether a recovery may be about to write to words that sleepers have announced. While it may,
    /// no memory is freed in which such a word may lie: see `sync/raw/park.rs`.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.header().sweeping.load(Ordering::SeqCst) != 0
    }

    /// Returns the futex word at `offset`, if the offset is valid. A record names the word that its thread
    /// waits on by such an offset.
    pub(crate) fn futex_word(&self, offset: u64) -> Option<&'static AtomicU32> {
        let sound = offset != 0 && offset.is_multiple_of(4) && offset + 4 <= self.layout.bytes;
        // SAFETY: the word lies in the arena and is aligned, and any four such bytes can be read as an
        // atomic.
        sound.then(|| unsafe { self.at(offset) })
    }

    /// Returns the object that `offset` belongs to, with its index. The offset lies in the object itself or
    /// in one of its blocks.
    pub(crate) fn object_around(&self, offset: u64) -> Option<(u32, &'static Object)> {
        let place = offset.checked_sub(self.layout.objects_at)? / size_of::<Object>() as u64;
        let index = match u32::try_from(place).ok().filter(|&index| index < self.layout.objects) {
            Some(index) => index,
            None => blocks::owner(self, blocks::around(self, offset)?.0).object_index()?,
        };
        (index < self.layout.objects).then(|| (index, self.object(index)))
    }
}
