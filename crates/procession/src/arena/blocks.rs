//! Blocks of memory of any size, each tagged with its owner.
//!
//! ```text
//! small span:  tag[0] tag[1] ... tag[n-1] | block 0 | block 1 | ...      all of one size
//! large run:   HEAD(tag, n) CONT CONT ...   (in the span words)  | one block over n spans
//! ```
//!
//! A tag is the truth about its block: free, a process's, or an object's. Handing a block on is
//! one store of its tag. Only the process that owns a small span takes blocks from it, so taking
//! one needs no atomic read-modify-write; anybody gives one back by storing `FREE`.
//!
//! | span word        | meaning                              | who moves it                        |
//! |------------------|--------------------------------------|-------------------------------------|
//! | `FREE`           | not in use                           | a process → `INIT`, `CONT`          |
//! | `INIT` by p      | p is clearing the tags               | p → `SMALL`; its death → `FREE`     |
//! | `SMALL` by p     | p takes blocks from it               | p, or its death → `SMALL` by nobody, `FREE` |
//! | `CONT` by p of h | part of the run that starts at h     | whoever frees the run → `FREE`      |
//! | `HEAD` tag, n    | a run of n spans, owned as tagged    | its owner → kept, or `LEAVING`      |
//! | `HEAD` free, n   | kept: a free run whose pages are there | anybody → `HEAD` tag, `LEAVING`   |
//! | `LEAVING` by p   | p is freeing the run                 | p → `FREE`; after its death recovery|
//!
//! A run that is given back is kept as it is, so that whoever takes it next moves one word and finds
//! its pages there; but no more than `kept_most` spans in all, as far as a hint in the header tells.
//! What is beyond that, or needed for something else, goes back to the kernel span by span.
//!
//! INVARIANT 5: a process has marked the span in its `touched_spans`, and an object in its `spans`, before a tag
//! or span word there names it.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Arena;
use super::classes::{ALL, CLASSES, blocks_in};
use super::layout::SPAN;
use crate::rules::{self, Rule};

/// Bytes at the start of each block: its length and how many handles it carries.
pub(crate) const HEADER: u64 = 16;

/// The most spans in free runs that are kept: 64 MiB, and not too large a part of a small arena.
pub(crate) fn kept_most(arena: &Arena) -> u32 {
    const KEPT_MOST: u32 = 1024;
    KEPT_MOST.min(arena.layout.spans / 16)
}

/// Who owns a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) u32);

impl Tag {
    pub(crate) const FREE: Tag = Tag(0);
    const PROCESS: u32 = 1 << 28;
    const OBJECT: u32 = 2 << 28;
    const HANDLES: u32 = 1 << 27;
    const INDEX: u32 = (1 << 20) - 1;

    pub(crate) fn process(slot: u32) -> Tag {
        Tag(Tag::PROCESS | slot)
    }

    pub(crate) fn object(index: u32) -> Tag {
        Tag(Tag::OBJECT | index)
    }

    /// The same owner, of a block with handles in it.
    pub(crate) fn with_handles(self, yes: bool) -> Tag {
        if yes { Tag(self.0 | Tag::HANDLES) } else { Tag(self.0 & !Tag::HANDLES) }
    }

    pub(crate) fn has_handles(self) -> bool {
        self.0 & Tag::HANDLES != 0
    }

    /// Whether both name the same owner.
    pub(crate) fn same_owner(self, other: Tag) -> bool {
        (self.0 ^ other.0) & !Tag::HANDLES == 0
    }

    /// The slot of the process that owns the block, if one does.
    pub(crate) fn process_slot(self) -> Option<u32> {
        (self.0 & 7 << 28 == Tag::PROCESS).then_some(self.0 & Tag::INDEX)
    }

    /// The object that owns the block, if one does.
    pub(crate) fn object_index(self) -> Option<u32> {
        (self.0 & 7 << 28 == Tag::OBJECT).then_some(self.0 & Tag::INDEX)
    }
}

/// What a span is used for, as its word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Free,
    Init { by: u32 },
    Small { by: u32, class: u8 },
    Cont { by: u32, head: u32 },
    Head { tag: Tag, spans: u32 },
    Leaving { by: u32, spans: u32 },
}

/// The owner of a small span whose process has died: anybody may adopt it.
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

    /// The class of a small span, from its word.
    #[inline]
    fn small_class(word: u64) -> Option<u8> {
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

    /// Moves a span word if it still says `from`.
    pub(crate) fn move_span(&self, span: u32, from: Use, to: Use) -> bool {
        let word = self.span_word(span);
        word.compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The tag of block `index` of a small span.
    pub(crate) fn tag(&self, span: u32, index: u32) -> &'static AtomicU32 {
        debug_assert!(u64::from(index) * 4 < SPAN);
        // SAFETY: within the span; tags are atomics, and the first block starts behind them.
        unsafe { self.at(self.span_offset(span) + u64::from(index) * 4) }
    }

    /// The tags of a small span of this class, all of them.
    pub(crate) fn tags(&self, span: u32, class: u8) -> &'static [AtomicU32] {
        let first: &'static AtomicU32 = self.tag(span, 0);
        // SAFETY: as many as such a span has, all within it. (If it is no longer a small one, what is read there are
        // no tags; but read as atomics.)
        unsafe { std::slice::from_raw_parts(first, blocks_in(class) as usize) }
    }

    #[inline]
    pub(crate) fn block_offset(&self, span: u32, class: u8, index: u32) -> u64 {
        let class = ALL[class as usize];
        self.span_offset(span) + u64::from(class.first + index * class.size)
    }

    /// The block of a small span of this class in which `offset` lies, by its number.
    #[inline]
    fn block_index(&self, span: u32, class: u8, offset: u64) -> Option<u32> {
        let class = ALL[class as usize];
        let within = offset.checked_sub(self.span_offset(span) + u64::from(class.first))?;
        const { assert!(SPAN <= 1 << 16, "then the product of such an offset and a reciprocal is exact") };
        let index = ((within.min(SPAN) * class.reciprocal) >> 32) as u32;
        (index < class.count).then_some(index)
    }

    /// The spans that were ever used.
    pub(crate) fn spans_in_use(&self) -> std::ops::Range<u32> {
        0..self.header().spans_used.load(Ordering::Acquire).min(self.layout.spans)
    }
}

/// Where a block's tag is.
enum Place {
    Small { tag: &'static AtomicU32 },
    Large { span: u32, tag: Tag, spans: u32 },
}

#[inline]
fn place(arena: &Arena, at: u64) -> Option<Place> {
    match small_tag(arena, at) {
        Some(tag) => Some(Place::Small { tag }),
        None => large(arena, at),
    }
}

/// The tag of the small block that starts at `at`, if one does.
#[inline(always)]
fn small_tag(arena: &Arena, at: u64) -> Option<&'static AtomicU32> {
    let span = arena.layout.span_of(at)?;
    let class = Use::small_class(arena.span_word(span).load(Ordering::Acquire))?;
    let index = arena.block_index(span, class, at)?;
    (arena.block_offset(span, class, index) == at).then(|| arena.tag(span, index))
}

#[cold]
fn large(arena: &Arena, at: u64) -> Option<Place> {
    let span = arena.layout.span_of(at)?;
    match arena.span_use(span) {
        Use::Head { tag, spans } if at == arena.span_offset(span) => Some(Place::Large { span, tag, spans }),
        _ => None,
    }
}

/// Who owns the block that starts at `at`.
pub(crate) fn owner(arena: &Arena, at: u64) -> Tag {
    match place(arena, at) {
        Some(Place::Small { tag }) => Tag(tag.load(Ordering::Acquire)),
        Some(Place::Large { tag, .. }) => tag,
        None => Tag::FREE,
    }
}

/// The block in which `offset` lies: where it begins, and how many bytes it has, header included.
pub(crate) fn around(arena: &Arena, offset: u64) -> Option<(u64, u64)> {
    let span = arena.layout.span_of(offset)?;
    let run = |head: u32| match arena.span_use(head) {
        Use::Head { spans, .. } => Some((arena.span_offset(head), u64::from(spans) * SPAN)),
        _ => None,
    };
    match arena.span_use(span) {
        Use::Small { class, .. } => {
            let index = arena.block_index(span, class, offset)?;
            Some((arena.block_offset(span, class, index), CLASSES[class as usize].into()))
        }
        Use::Head { .. } => run(span),
        Use::Cont { head, .. } if head < arena.layout.spans => run(head),
        _ => None,
    }
}

/// Moves a tag from `old`, which it was when last looked at. False when it no longer is.
#[inline]
fn move_tag(tag: &AtomicU32, old: Tag, to: Tag) -> bool {
    if old.process_slot().is_some_and(|slot| slot == super::member::slot()) {
        // Our own block: nobody else moves its tag.
        // ORDERING: Release pairs with the Acquire of whoever takes, or looks into, the block next.
        tag.store(to.0, Ordering::Release);
        return true;
    }
    tag.compare_exchange(old.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Hands a block from one owner to another: one store. False when `from` does not own it.
pub(crate) fn hand_over(arena: &Arena, at: u64, from: Tag, to: Tag) -> bool {
    if let Some(span) = arena.layout.span_of(at) {
        note_owner(arena, span, to);
    }
    match place(arena, at) {
        Some(Place::Small { tag }) => {
            let old = Tag(tag.load(Ordering::Acquire));
            if !old.same_owner(from) {
                return false;
            }
            move_tag(tag, old, to.with_handles(old.has_handles()))
        }
        Some(Place::Large { span, tag, spans }) if tag.same_owner(from) => {
            let to = to.with_handles(tag.has_handles());
            arena.move_span(span, Use::Head { tag, spans }, Use::Head { tag: to, spans })
        }
        _ => false,
    }
}

/// Who is to have a block in a span is noted first: whoever sweeps looks nowhere else.
#[inline]
fn note_owner(arena: &Arena, span: u32, to: Tag) {
    if let Some(slot) = to.process_slot() {
        arena.touched_spans(slot).see_to(span);
    }
    if let Some(index) = to.object_index().filter(|&index| index < arena.layout.objects)
        && rules::holds(Rule::TouchedFirst)
    {
        arena.object(index).see_to_span(span);
    }
}

/// Says of a block that we own that it carries handles: the collector looks into it from now on.
pub(crate) fn announce_handles(arena: &Arena, at: u64, owner: Tag) {
    match place(arena, at) {
        Some(Place::Small { tag }) => tag.store(owner.with_handles(true).0, Ordering::SeqCst),
        Some(Place::Large { span, tag, spans }) => {
            let to = Use::Head { tag: owner.with_handles(true), spans };
            arena.move_span(span, Use::Head { tag, spans }, to);
        }
        None => {}
    }
}

/// Gives a block back, if `owner` owns it. `by` is the slot of the process that does it. Says
/// whether the block carried handles: then an object may have lost its last holder.
#[inline]
pub(crate) fn free(arena: &Arena, by: u32, at: u64, owner: Tag) -> bool {
    match place(arena, at) {
        Some(Place::Small { tag }) => {
            let old = Tag(tag.load(Ordering::Acquire));
            // ORDERING: Release pairs with the Acquire of whoever takes the block next.
            old.same_owner(owner) && move_tag(tag, old, Tag::FREE) && old.has_handles()
        }
        Some(Place::Large { span, tag, spans }) if tag.same_owner(owner) => {
            let freed = keep(arena, by, span, tag, spans) || give_back(arena, by, span, tag, spans);
            freed && tag.has_handles()
        }
        _ => false,
    }
}

/// Frees a run, and keeps it for whoever needs one next, in the place of others if there are too many.
fn keep(arena: &Arena, by: u32, head: u32, tag: Tag, spans: u32) -> bool {
    let (kept, most) = (&arena.header().kept_spans, kept_most(arena));
    if spans > most {
        return false;
    }
    if kept.load(Ordering::Relaxed).saturating_add(spans) > most {
        release_kept(arena, by, spans);
    }
    // CRASH: before this store the run is its owner's, from it on it is free. The hint that was not
    // changed is put right when `release_kept` has looked at everything.
    let freed = arena.move_span(head, Use::Head { tag, spans }, Use::Head { tag: Tag::FREE, spans });
    if freed {
        kept.fetch_add(spans, Ordering::Relaxed);
    }
    freed
}

/// Takes a run that is kept, for process `slot`, which has marked the span as touched.
pub(crate) fn take_kept(arena: &Arena, head: u32, spans: u32, slot: u32) -> bool {
    let tag = Tag::process(slot);
    let taken = arena.move_span(head, Use::Head { tag: Tag::FREE, spans }, Use::Head { tag, spans });
    if taken {
        forget_kept(arena, spans);
    }
    taken
}

fn forget_kept(arena: &Arena, spans: u32) {
    let less = |kept: u32| Some(kept.saturating_sub(spans));
    let _ = arena.header().kept_spans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

/// Gives runs that are kept back to the kernel, until these were `enough` spans. Says how many they were.
pub(crate) fn release_kept(arena: &Arena, by: u32, enough: u32) -> u32 {
    let mut released = 0;
    for span in arena.spans_in_use() {
        if let Use::Head { tag: Tag::FREE, spans } = arena.span_use(span)
            && give_back(arena, by, span, Tag::FREE, spans)
        {
            forget_kept(arena, spans);
            released += spans;
            if released >= enough {
                return released;
            }
        }
    }
    // Everything was looked at: whatever the hint says beyond this is not so.
    arena.header().kept_spans.store(0, Ordering::Relaxed);
    released
}

/// Frees a run whose head says so, and its pages.
fn give_back(arena: &Arena, by: u32, head: u32, tag: Tag, spans: u32) -> bool {
    if by != super::objects::SUPERVISOR {
        arena.touched_spans(by).see_to(head);
    }
    let freed = arena.move_span(head, Use::Head { tag, spans }, Use::Leaving { by, spans });
    if freed {
        finish_free_run(arena, head, spans);
    }
    freed
}

/// Frees a run whose head is `LEAVING`. Can be begun anew after a death: a span that was freed
/// and taken by others no longer says that it continues this head.
pub(crate) fn finish_free_run(arena: &Arena, head: u32, spans: u32) {
    let all = head.saturating_add(spans).min(arena.layout.spans);
    let continues = |span: u32| match arena.span_use(span) {
        used @ Use::Cont { head: h, .. } if h == head => Some(used),
        _ => None,
    };
    // Freed from the last to the first, so what is left is always the beginning.
    let end = (head + 1..all).find(|&span| continues(span).is_none()).unwrap_or(all);
    arena.punch(arena.span_offset(head), u64::from(end - head) * SPAN);
    for span in (head + 1..end).rev() {
        if let Some(used) = continues(span) {
            arena.move_span(span, used, Use::Free);
        }
    }
    arena.span_word(head).store(Use::Free.word(), Ordering::Release);
}
