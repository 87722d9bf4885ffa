//! [`Use`]: what a span is used for, as the span word says. For the states, see [`blocks`](super::blocks).

use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Arena;
use super::classes::{ALL, CLASSES, blocks_in};
use super::layout::SPAN;
use super::tag::Tag;

/// The use of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Free,
    Init { by: u32 },
    Small { by: u32, class: u8 },
    Cont { by: u32, head: u32 },
    Head { tag: Tag, spans: u32 },
    Leaving { by: u32, spans: u32 },
}

/// The owner in the word of a small span that no process owns and any process may adopt.
pub(crate) const NOBODY: u32 = 0xfffe;

impl Use {
    pub(crate) fn word(self) -> u64 {
        let pack = |kind: u64, a: u32, b: u32| kind | u64::from(b & 0xf_ffff) << 4 | u64::from(a) << 32;
        match self {
            Use::Free => 0,
            Use::Init { by } => pack(1, by, 0),
            Use::Small { by, class } => pack(2, by, class.into()),
            Use::Cont { by, head } => pack(3, by, head),
            Use::Head { tag, spans } => pack(4, tag.0, spans - 1),
            Use::Leaving { by, spans } => pack(5, by, spans - 1),
        }
    }

    /// Returns the class of a small span, from its word.
    #[inline]
    pub(super) fn small_class(word: u64) -> Option<u8> {
        let class = (word >> 4) as u32 & 0xf_ffff;
        (word & 0xf == 2 && (class as usize) < CLASSES.len()).then_some(class as u8)
    }

    #[inline]
    pub(crate) fn read(word: u64) -> Use {
        let (a, b) = ((word >> 32) as u32, (word >> 4) as u32 & 0xf_ffff);
        if let Some(class) = Use::small_class(word) {
            return Use::Small { by: a, class };
        }
        match word & 0xf {
            1 => Use::Init { by: a },
            3 => Use::Cont { by: a, head: b },
            4 => Use::Head { tag: Tag(a), spans: b + 1 },
            5 => Use::Leaving { by: a, spans: b + 1 },
            _ => Use::Free,
        }
    }
}

impl Arena {
    pub(crate) fn span_use(&self, span: u32) -> Use {
        Use::read(self.span_word(span).load(Ordering::Acquire))
    }

    /// Changes a span word from `from` to `to`. Returns false if the word was not `from`.
    pub(crate) fn move_span(&self, span: u32, from: Use, to: Use) -> bool {
        let word = self.span_word(span);
        word.compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Returns the tag of block `index` of a small span.
    pub(crate) fn tag(&self, span: u32, index: u32) -> &'static AtomicU32 {
        debug_assert!(u64::from(index) * 4 < SPAN);
        // SAFETY: the tag lies within the span. Tags are atomics, and the first block starts after them.
        unsafe { self.at(self.span_offset(span) + u64::from(index) * 4) }
    }

    /// Returns all tags of a small span of this class.
    pub(crate) fn tags(&self, span: u32, class: u8) -> &'static [AtomicU32] {
        let first: &'static AtomicU32 = self.tag(span, 0);
        // SAFETY: a span of this class has this many tags, and all lie within the span. If the span has
        // another use by now, the caller reads other data, but still as atomics.
        unsafe { slice::from_raw_parts(first, blocks_in(class) as usize) }
    }

    #[inline]
    pub(crate) fn block_offset(&self, span: u32, class: u8, index: u32) -> u64 {
        let class = ALL[class as usize];
        self.span_offset(span) + u64::from(class.first + index * class.size)
    }

    /// Returns the index of the block in which `offset` lies, in a small span of this class.
    #[inline]
    pub(super) fn block_index(&self, span: u32, class: u8, offset: u64) -> Option<u32> {
        let class = ALL[class as usize];
        let within = offset.checked_sub(self.span_offset(span) + u64::from(class.first))?;
        const { assert!(SPAN <= 1 << 16, "then the product of such an offset and a reciprocal is exact") };
        let index = ((within.min(SPAN) * class.reciprocal) >> 32) as u32;
        (index < class.count).then_some(index)
    }

    /// Returns the range of spans that were ever used.
    pub(crate) fn spans_in_use(&self) -> std::ops::Range<u32> {
        0..self.header().spans_used.load(Ordering::Acquire).min(self.layout.spans)
    }
}
