//! Blocks of memory of any size, each tagged with its owner.
//!
//! ```text
//! small span:  tag[0] tag[1] ... tag[n-1] | block 0 | block 1 | ...      all of one size
//! large run:   HEAD(tag, n) CONT CONT ...   (in the span words)  | one block over n spans
//! ```
//!
//! A tag names the owner of its block: none, a process, or an object. One store of the tag gives the block to
//! another owner. Only the process that owns a small span allocates blocks in it, so allocating needs no
//! atomic read-modify-write. Any process can free a block by storing `FREE`.
//!
//! | span word        | meaning                              | who moves it                        |
//! |------------------|--------------------------------------|-------------------------------------|
//! | `FREE`           | not in use                           | a process → `INIT`, `CONT`          |
//! | `INIT` by p      | p is clearing the tags               | p → `SMALL`; recovery → `FREE`      |
//! | `SMALL` by p     | p allocates blocks in it             | p or recovery → `SMALL` by no process, `FREE` |
//! | `CONT` by p of h | part of the run that starts at h     | the process that frees the run → `FREE` |
//! | `HEAD` tag, n    | a run of n spans, with its owner     | its owner → kept, or `LEAVING`      |
//! | `HEAD` free, n   | a free run that is kept with its pages | any process → `HEAD` tag, `LEAVING` |
//! | `LEAVING` by p   | p is freeing the run                 | p or recovery → `FREE`              |
//!
//! A freed run is kept as it is: the process that takes it next changes one word, and the run's pages are
//! still allocated. A hint in the header counts the kept spans, and by this count at most `kept_most` spans
//! are kept. Other freed runs go back to the kernel. Kept runs also go back to the kernel when their spans
//! are needed for something else.
//!
//! INVARIANT 5: before a tag or span word names a process, the span is marked in that process's
//! `touched_spans`. Before a tag or span word names an object, the span is marked in that object's `spans`.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Arena;
use super::classes::CLASSES;
use super::kept_runs::{give_back, keep};
use super::layout::SPAN;
use crate::rules::{self, Rule};

pub(crate) use super::kept_runs::finish_free_run;
#[cfg(feature = "internals")]
pub(crate) use super::kept_runs::{kept_most, release_kept};
pub(crate) use super::span_use::{NOBODY, Use};
pub(crate) use super::tag::Tag;

/// The size of a block's header in bytes. The header holds the length of the payload and the number of
/// handles.
pub(crate) const HEADER: u64 = 16;

/// The place of a block's tag.
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

/// Returns the tag of the small block that starts at `at`, or `None` if no small block starts there.
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

/// Returns the tag of the block that starts at `at`, or `FREE` if no block starts there.
pub(crate) fn owner(arena: &Arena, at: u64) -> Tag {
    match place(arena, at) {
        Some(Place::Small { tag }) => Tag(tag.load(Ordering::Acquire)),
        Some(Place::Large { tag, .. }) => tag,
        None => Tag::FREE,
    }
}

/// Returns the offset and the size, header included, of the block in which `offset` lies.
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

/// Changes a tag from `old` to `to`. Returns false if the tag is no longer `old`.
#[inline]
fn move_tag(tag: &AtomicU32, old: Tag, to: Tag) -> bool {
    if old.process_slot().is_some_and(|slot| slot == super::member::slot()) {
        // This process owns the block, so no other process changes its tag.
        // ORDERING: Release pairs with the Acquire of the process that next allocates the block or looks into
        // it.
        tag.store(to.0, Ordering::Release);
        return true;
    }
    tag.compare_exchange(old.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Transfers a block from one owner to another with one store. Returns false if `from` does not own it.
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

/// Marks a span for the future owner of one of its blocks. Sweeps look only at marked spans.
#[inline]
fn note_owner(arena: &Arena, span: u32, to: Tag) {
    if let Some(slot) = to.process_slot() {
        arena.touched_spans(slot).ensure_set(span);
    }
    if let Some(index) = to.object_index().filter(|&index| index < arena.layout.objects)
        && rules::holds(Rule::TouchedFirst)
    {
        arena.object(index).mark_span(span);
    }
}

/// Marks a block of `owner` as carrying handles. From now on the collector looks into the block.
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

/// Frees a block if `owner` owns it. `by` is the slot of the calling process. Returns whether a block with
/// handles was freed. If so, an object may have lost its last holder.
#[inline]
pub(crate) fn free(arena: &Arena, by: u32, at: u64, owner: Tag) -> bool {
    match place(arena, at) {
        Some(Place::Small { tag }) => {
            let old = Tag(tag.load(Ordering::Acquire));
            // ORDERING: Release pairs with the Acquire of the process that allocates the block next.
            old.same_owner(owner) && move_tag(tag, old, Tag::FREE) && old.has_handles()
        }
        Some(Place::Large { span, tag, spans }) if tag.same_owner(owner) => {
            let freed = keep(arena, by, span, tag, spans) || give_back(arena, by, span, tag, spans);
            freed && tag.has_handles()
        }
        _ => false,
    }
}
