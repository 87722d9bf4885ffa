//! The size and the start of each table of the arena.
//!
//! Everything follows from the length of the file, so every process that maps it computes the same layout. The tables
//! are generous because the kernel allocates no pages for unused parts.

use super::objects::Object;
use super::records::Record;
use super::slots::Slot;

/// The size of a span in bytes: the unit in which processes take memory.
pub(crate) const SPAN: u64 = 64 << 10;
/// The size of the smallest usable arena, in bytes.
pub(crate) const SMALLEST: u64 = 1 << 20;
/// The largest number of spans that a span word can count.
const MOST_SPANS: u64 = 1 << 20;
const PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) bytes: u64,
    pub(crate) slots: u32,
    pub(crate) extra_records: u32,
    pub(crate) objects: u32,
    pub(crate) spans: u32,
    pub(crate) slots_at: u64,
    pub(crate) records_at: u64,
    pub(crate) record_owners_at: u64,
    pub(crate) objects_at: u64,
    pub(crate) object_bits_at: u64,
    pub(crate) object_bits_stride: u64,
    pub(crate) span_bits_at: u64,
    pub(crate) span_bits_stride: u64,
    pub(crate) span_words_at: u64,
    pub(crate) spans_at: u64,
}

/// The smallest arena, in bytes, for which the other numbers apply. These are the number of processes, of
/// threads beyond the first one of each process, and of objects.
const TIERS: [(u64, u32, u32, u32); 4] = [
    (4 << 30, 4096, 65_536, 1 << 20),
    (256 << 20, 1536, 8192, 1 << 16),
    (16 << 20, 256, 1024, 1 << 12),
    (SMALLEST, 24, 64, 512),
];

impl Layout {
    /// Returns the layout of an arena of `bytes` bytes, or `None` when that is too small.
    pub(crate) fn fitting(bytes: u64) -> Option<Layout> {
        let (_, slots, extra_records, objects) = TIERS.into_iter().find(|tier| bytes >= tier.0)?;
        let most_spans = (bytes / SPAN).min(MOST_SPANS);
        let mut end = PAGE;
        let mut table = |entries: u64, size: u64| {
            let at = end;
            end = (end + entries * size).next_multiple_of(PAGE);
            at
        };
        let (s, r, o) = (u64::from(slots), u64::from(extra_records), u64::from(objects));
        let object_bits_stride = (o / 8).next_multiple_of(PAGE.min(o / 8).max(64));
        let span_bits_stride =
            (most_spans / 8).next_multiple_of(if most_spans > 8 * PAGE { PAGE } else { 64 });
        let mut layout = Layout {
            bytes,
            slots,
            extra_records,
            objects,
            spans: 0,
            slots_at: table(s, size_of::<Slot>() as u64),
            records_at: table(r, size_of::<Record>() as u64),
            record_owners_at: table(r, 4),
            objects_at: table(o, size_of::<Object>() as u64),
            object_bits_at: table(s, object_bits_stride),
            object_bits_stride,
            span_bits_at: table(s, span_bits_stride),
            span_bits_stride,
            span_words_at: table(most_spans, 8),
            spans_at: 0,
        };
        layout.spans_at = end.next_multiple_of(SPAN);
        layout.spans = (bytes.checked_sub(layout.spans_at)? / SPAN).min(most_spans) as u32;
        (layout.spans > 0).then_some(layout)
    }

    /// Returns the span that an offset lies in.
    #[inline]
    pub(crate) fn span_of(&self, offset: u64) -> Option<u32> {
        let span = offset.checked_sub(self.spans_at)? / SPAN;
        u32::try_from(span).ok().filter(|&span| span < self.spans)
    }

    /// Returns whether `bytes` bytes at `offset` lie in spans.
    pub(crate) fn has_room_for(&self, offset: u64, bytes: u64) -> bool {
        let end = offset.checked_add(bytes);
        offset >= self.spans_at && end.is_some_and(|end| end <= self.bytes)
    }
}
