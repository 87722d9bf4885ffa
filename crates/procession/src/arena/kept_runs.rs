//! Kept runs: free runs of spans that keep their pages. Also how a run goes back to the kernel.

use std::sync::atomic::Ordering;

use super::Arena;
use super::layout::SPAN;
use super::objects::SUPERVISOR;
use super::span_use::Use;
use super::tag::Tag;

/// Returns the largest number of spans in kept runs: 64 MiB, or a sixteenth of a small arena.
pub(crate) fn kept_most(arena: &Arena) -> u32 {
    const KEPT_MOST: u32 = 1024;
    KEPT_MOST.min(arena.layout.spans / 16)
}

/// Frees a run and keeps its pages. If too many spans would then be kept, releases other runs first. Returns
/// false if the run is too long to be kept, or if its head has changed.
pub(super) fn keep(arena: &Arena, by: u32, head: u32, tag: Tag, spans: u32) -> bool {
    let (kept, most) = (&arena.header().kept_spans, kept_most(arena));
    if spans > most {
        return false;
    }
    if kept.load(Ordering::Relaxed).saturating_add(spans) > most {
        release_kept(arena, by, spans);
    }
    // CRASH: before this store, the run belongs to its owner. After this store, the run is free. If a death
    // prevents the increment of the hint below, `release_kept` corrects the hint.
    let freed = arena.move_span(head, Use::Head { tag, spans }, Use::Head { tag: Tag::FREE, spans });
    if freed {
        kept.fetch_add(spans, Ordering::Relaxed);
    }
    freed
}

/// Takes a kept run for the process `slot`, which has already marked the head's span as touched. Returns
/// false if another process took the run first.
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

/// Releases kept runs to the kernel until `enough` spans are released. Returns the number of released spans.
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
    // Every span was examined, so no kept run is left and the hint can be reset.
    arena.header().kept_spans.store(0, Ordering::Relaxed);
    released
}

/// Frees a run with its pages. Returns false if the head has changed.
pub(super) fn give_back(arena: &Arena, by: u32, head: u32, tag: Tag, spans: u32) -> bool {
    if by != SUPERVISOR {
        arena.touched_spans(by).ensure_set(head);
    }
    let freed = arena.move_span(head, Use::Head { tag, spans }, Use::Leaving { by, spans });
    if freed {
        finish_free_run(arena, head, spans);
    }
    freed
}

/// Frees a run whose head is `LEAVING`. Recovery can repeat this after a death, because a span that was freed
/// and then taken by another process no longer names this head.
pub(crate) fn finish_free_run(arena: &Arena, head: u32, spans: u32) {
    let all = head.saturating_add(spans).min(arena.layout.spans);
    let continues = |span: u32| match arena.span_use(span) {
        used @ Use::Cont { head: h, .. } if h == head => Some(used),
        _ => None,
    };
    // The spans are freed from the last to the first, so the spans that are left are always the beginning of
    // the run.
    let end = (head + 1..all).find(|&span| continues(span).is_none()).unwrap_or(all);
    arena.punch(arena.span_offset(head), u64::from(end - head) * SPAN);
    for span in (head + 1..end).rev() {
        if let Some(used) = continues(span) {
            arena.move_span(span, used, Use::Free);
        }
    }
    arena.span_word(head).store(Use::Free.word(), Ordering::Release);
}
