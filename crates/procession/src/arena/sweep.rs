//! Frees what a dead process held: objects, blocks, spans, records.
//!
//! The process that sweeps may die too. So every step writes absolute values and can be repeated.

use std::sync::atomic::Ordering;

use super::blocks::{self, NOBODY, Tag, Use};
use super::classes::{CLASSES, blocks_in};
use super::layout::SPAN;
use super::objects::{self, Id, SUPERVISOR};
use super::{Arena, payload};
use crate::rules::{self, Rule};

/// Completes or undoes what the threads of the dead process `slot` were doing to objects. Then releases every
/// object that the process held. Returns whether the collector should look.
pub(crate) fn objects(arena: &Arena, slot: u32) -> bool {
    let mut collect = false;
    for id in arena.records_of(slot) {
        collect |= objects::recover_intent(arena, arena.record(id), slot);
    }
    let home = arena.record(slot);
    arena.held_objects(slot).drain(|index| {
        if index < arena.layout.objects {
            collect |= objects::release_handle(arena, home, slot, index);
        }
    });
    collect
}

/// Calls `f` with every object to which a block of the dead process `slot` carries a handle. Such a block
/// holds arguments or a message that the process had not decoded yet or was about to send.
pub(crate) fn for_each_carried(arena: &Arena, slot: u32, f: &mut impl FnMut(Id)) {
    let carries = |tag: Tag| tag.has_handles() && tag.same_owner(Tag::process(slot));
    arena.touched_spans(slot).for_each(|span| {
        if span >= arena.layout.spans {
            return;
        }
        match arena.span_use(span) {
            Use::Small { class, .. } => {
                for index in 0..blocks_in(class) {
                    if carries(Tag(arena.tag(span, index).load(Ordering::Acquire))) {
                        let at = arena.block_offset(span, class, index);
                        payload::for_each_handle(arena, at, CLASSES[class as usize].into(), f);
                    }
                }
            }
            Use::Head { tag, spans } if carries(tag) => {
                payload::for_each_handle(arena, arena.span_offset(span), u64::from(spans) * SPAN, f);
            }
            _ => {}
        }
    });
}

/// Frees every block and run of the dead process `slot`, and gives up its spans. Returns whether the
/// collector should look.
pub(crate) fn blocks(arena: &Arena, slot: u32) -> bool {
    let mut collect = false;
    // Freeing a run can release another run in the name of `slot`, and this can mark a span that was already
    // swept.
    arena.touched_spans(slot).drain(|span| {
        if span < arena.layout.spans {
            collect |= sweep_span(arena, span, slot);
        }
    });
    collect
}

/// Releases empty small spans without an owner to the kernel, in the name of process `by` or of the
/// supervisor. Returns the number of released spans.
pub(super) fn empty_orphans(arena: &Arena, by: u32) -> u32 {
    let all = arena.spans_in_use();
    all.filter(|&span| empty_orphan(arena, by, span)).count() as u32
}

/// How many spans without an owner the supervisor examines after a death.
const INSPECTED: usize = 512;

/// Counts the spans in kept runs, and returns some empty spans to the kernel, beginning at `from`. The
/// supervisor calls this after each death.
pub(crate) fn inspect_spans(arena: &Arena, from: &mut u32) {
    recount_kept(arena);
    let used = arena.spans_in_use().end;
    let orphans = (0..used).map(|i| (*from + i) % used).filter(|&span| is_orphan(arena, span));
    let mut last = *from;
    for span in orphans.take(INSPECTED) {
        last = span;
        empty_orphan(arena, SUPERVISOR, span);
    }
    *from = last;
}

fn is_orphan(arena: &Arena, span: u32) -> bool {
    matches!(arena.span_use(span), Use::Small { by: NOBODY, .. })
}

fn empty_orphan(arena: &Arena, by: u32, span: u32) -> bool {
    let Use::Small { by: NOBODY, class } = arena.span_use(span) else { return false };
    if !is_empty(arena, span, class) {
        return false;
    }
    if by != SUPERVISOR {
        arena.touched_spans(by).ensure_set(span);
    }
    // Only the owner of a span allocates in it, so once the span is ours, it stays empty.
    arena.move_span(span, Use::Small { by: NOBODY, class }, Use::Small { by, class })
        && leave(arena, by, span, class)
}

/// Releases a small span of `by` to the kernel if the span is empty. Otherwise leaves the span without an
/// owner. Returns whether the span was empty.
pub(super) fn leave(arena: &Arena, by: u32, span: u32, class: u8) -> bool {
    // CRASH: until the span word changes, the span belongs to `by`, and recovery gives it up in the same way
    // (`sweep_small`, `after_supervisor`).
    let empty = is_empty(arena, span, class);
    if empty {
        arena.punch(arena.span_offset(span), super::layout::SPAN);
    }
    let to = if empty { Use::Free } else { Use::Small { by: NOBODY, class } };
    arena.move_span(span, Use::Small { by, class }, to);
    empty
}

/// Counts the spans in kept runs, and corrects the hint.
pub(super) fn recount_kept(arena: &Arena) {
    let kept = arena.spans_in_use().map(|span| match arena.span_use(span) {
        Use::Head { tag: Tag::FREE, spans } => spans,
        _ => 0,
    });
    arena.header().kept_spans.store(kept.sum(), Ordering::Relaxed);
}

/// Frees every block of an object, in the name of process `by`. Returns whether the collector should look.
pub(super) fn free_blocks_of(arena: &Arena, by: u32, object: u32) -> bool {
    let (owner, mut collect) = (Tag::object(object), false);
    let owned = arena.object(object);
    for span in arena.spans_in_use().filter(|&span| owned.may_be_in(span)) {
        match arena.span_use(span) {
            Use::Small { class, .. } => collect |= sweep_tags(arena, span, class, owner).1,
            Use::Head { tag, .. } if tag.same_owner(owner) => {
                collect |= blocks::free(arena, by, arena.span_offset(span), owner);
            }
            _ => {}
        }
    }
    collect
}

/// Returns whether no block of a small span is in use.
pub(super) fn is_empty(arena: &Arena, span: u32, class: u8) -> bool {
    arena.tags(span, class).iter().all(|tag| tag.load(Ordering::Acquire) == Tag::FREE.0)
}

/// Completes what a dead supervisor was doing when it freed objects and spans that no process held.
pub(crate) fn after_supervisor(arena: &Arena) {
    for index in 0..arena.header().objects_used.load(Ordering::Acquire).min(arena.layout.objects) {
        objects::recover_object(arena, index, SUPERVISOR);
    }
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Leaving { by: SUPERVISOR, spans } => blocks::finish_free_run(arena, span, spans),
            Use::Small { by: SUPERVISOR, class } => _ = leave(arena, SUPERVISOR, span, class),
            _ => {}
        }
    }
}

fn sweep_span(arena: &Arena, span: u32, slot: u32) -> bool {
    match arena.span_use(span) {
        Use::Init { by } if by == slot => drop(arena.move_span(span, Use::Init { by }, Use::Free)),
        Use::Small { by, class } => return sweep_small(arena, span, by, class, slot),
        Use::Cont { by, head } if by == slot && head == span && rules::holds(Rule::UnfinishedRunSwept) => {
            sweep_unfinished_run(arena, span, slot);
        }
        Use::Head { tag, .. } if tag.same_owner(Tag::process(slot)) => {
            return blocks::free(arena, slot, arena.span_offset(span), tag);
        }
        Use::Leaving { by, spans } if by == slot => {
            blocks::finish_free_run(arena, span, spans);
            // Whether the run carried handles is no longer known.
            return true;
        }
        _ => {}
    }
    false
}

fn sweep_small(arena: &Arena, span: u32, by: u32, class: u8, slot: u32) -> bool {
    let (empty, collect) = sweep_tags(arena, span, class, Tag::process(slot));
    match by {
        // If the span belongs to the supervisor, an earlier recovery died here.
        _ if by == slot || by == SUPERVISOR => _ = leave(arena, by, span, class),
        NOBODY if empty => _ = empty_orphan(arena, SUPERVISOR, span),
        _ => {}
    }
    collect
}

/// Frees the blocks of `owner` in a small span. Returns whether the span is then empty, and whether the
/// collector should look.
///
/// Meanwhile the process that owns the span may give it up, and another process may make it part of a large
/// run. Then this function reads data as tags. But while a tag names `owner`, the span is not empty and keeps
/// its use: `owner` is dead or being freed, so no other process frees its blocks. So a word that names
/// `owner` is a tag if the span has the same use *after* the word was read. If the span changed and became
/// small again in between, then its tags were cleared, no tag names `owner`, and the exchange fails.
fn sweep_tags(arena: &Arena, span: u32, class: u8, owner: Tag) -> (bool, bool) {
    let (mut empty, mut collect) = (true, false);
    let is_small = || matches!(arena.span_use(span), Use::Small { class: now, .. } if now == class);
    for tag in arena.tags(span, class) {
        // ORDERING: Acquire, so that the span's use is read after the tag.
        let old = Tag(tag.load(Ordering::Acquire));
        if !old.same_owner(owner) {
            empty &= old == Tag::FREE;
        } else if is_small() {
            let _ = tag.compare_exchange(old.0, Tag::FREE.0, Ordering::AcqRel, Ordering::Relaxed);
            collect |= old.has_handles();
        }
    }
    (empty, collect)
}

/// Frees a run that has no head yet. Its spans were taken in ascending order, so they are freed in descending
/// order.
fn sweep_unfinished_run(arena: &Arena, head: u32, slot: u32) {
    let part = Use::Cont { by: slot, head };
    let end = (head..arena.layout.spans).find(|&s| arena.span_use(s) != part).unwrap_or(arena.layout.spans);
    for span in (head..end).rev() {
        arena.move_span(span, part, Use::Free);
    }
}

/// Empties the records of the dead process `slot`.
pub(crate) fn records(arena: &Arena, slot: u32) {
    for id in arena.records_of(slot) {
        arena.record(id).reset();
        if id >= arena.layout.slots {
            // CRASH: the owner is cleared last, so that a repetition still finds the record.
            arena.record_owner(id - arena.layout.slots).store(0, Ordering::Release);
        }
    }
}
