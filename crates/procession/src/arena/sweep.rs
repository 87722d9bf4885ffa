//! What a dead process held goes back: objects, blocks, spans, records.
//!
//! Every step writes absolute values and can be begun anew, because whoever sweeps may die too.

use std::sync::atomic::Ordering;

use super::Arena;
use super::blocks::{self, NOBODY, Tag, Use, blocks_in};
use super::objects::{self, SUPERVISOR};
use crate::rules::{self, Rule};

/// Lets go every object of the dead process `slot`, and ends what its threads were doing to some.
/// Says whether the collector should look.
pub(crate) fn objects(arena: &Arena, slot: u32) -> bool {
    let mut collect = false;
    for id in arena.records_of(slot) {
        collect |= objects::recover_intent(arena, arena.record(id), slot);
    }
    let home = arena.record(slot);
    let held = arena.held_objects(slot);
    held.for_each(|index| {
        if index < arena.layout.objects {
            collect |= objects::let_go(arena, home, slot, index);
        }
    });
    held.forget_lines();
    collect
}

/// Frees every block and run that belongs to the dead process `slot`, and gives its spans up. Says
/// whether the collector should look.
pub(crate) fn blocks(arena: &Arena, slot: u32) -> bool {
    let touched = arena.touched_spans(slot);
    let mut collect = false;
    touched.for_each(|span| {
        if span < arena.layout.spans {
            collect |= sweep_span(arena, span, slot);
            touched.clear(span);
        }
    });
    touched.forget_lines();
    collect
}

/// Frees small spans that lost their owner while others had blocks in them, and are empty now; counts the
/// spans in runs that are kept. Only the supervisor does this.
pub(crate) fn empty_orphans(arena: &Arena) {
    let mut kept = 0;
    for span in arena.spans_in_use() {
        if let Use::Head { tag: Tag::FREE, spans } = arena.span_use(span) {
            kept += spans;
        }
        if let Use::Small { by: NOBODY, class } = arena.span_use(span)
            && is_empty(arena, span, class)
            // CRASH: main gives it back to nobody (`after_supervisor`).
            && arena.move_span(span, Use::Small { by: NOBODY, class }, Use::Small { by: SUPERVISOR, class })
        {
            // Only its owner takes blocks from a span, so now that we own it, empty stays empty.
            release_small(arena, span, class);
        }
    }
    arena.header().kept_spans.store(kept, Ordering::Relaxed);
}

/// Frees every block that belongs to an object, in the name of process `by`. Says whether the
/// collector should look.
pub(super) fn belongings(arena: &Arena, by: u32, object: u32) -> bool {
    let (owner, mut collect) = (Tag::object(object), false);
    for span in arena.spans_in_use() {
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

/// Whether no block of a small span is taken.
pub(super) fn is_empty(arena: &Arena, span: u32, class: u8) -> bool {
    (0..blocks_in(class)).all(|index| arena.tag(span, index).load(Ordering::Acquire) == Tag::FREE.0)
}

/// Gives up a small span that the supervisor owns.
fn release_small(arena: &Arena, span: u32, class: u8) {
    let empty = is_empty(arena, span, class);
    if empty {
        arena.punch(arena.span_offset(span), super::layout::SPAN);
    }
    let to = if empty { Use::Free } else { Use::Small { by: NOBODY, class } };
    arena.move_span(span, Use::Small { by: SUPERVISOR, class }, to);
}

/// Ends what a dead supervisor was doing: freeing objects and spans that nobody held.
pub(crate) fn after_supervisor(arena: &Arena) {
    for index in 0..arena.header().objects_used.load(Ordering::Acquire).min(arena.layout.objects) {
        objects::recover_object(arena, index, SUPERVISOR);
    }
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Leaving { by: SUPERVISOR, spans } => blocks::finish_free_run(arena, span, spans),
            Use::Small { by: SUPERVISOR, class } => release_small(arena, span, class),
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
            // Whether it carried handles is no longer known.
            return true;
        }
        _ => {}
    }
    false
}

fn sweep_small(arena: &Arena, span: u32, by: u32, class: u8, slot: u32) -> bool {
    let (empty, collect) = sweep_tags(arena, span, class, Tag::process(slot));
    if by == slot {
        // Nobody else takes blocks from this span, so one that is empty stays so.
        let to = if empty { Use::Free } else { Use::Small { by: NOBODY, class } };
        if empty {
            arena.punch(arena.span_offset(span), super::layout::SPAN);
        }
        arena.move_span(span, Use::Small { by, class }, to);
    }
    collect
}

/// Frees the blocks of a small span that belong to `owner`. Says whether the span is empty then, and
/// whether the collector should look.
///
/// The span may be given up by its process meanwhile, and be another's large run: then what is read here as a tag
/// is that one's data. Where a tag is `owner`'s the span is not empty and stays what it is, since `owner` is dead
/// or being freed and nobody else frees what it owns. So a word that says `owner` is a tag if the span's use is the
/// same *after* it was read. (If the span had become something else and small again in between, its tags were
/// written anew, none of them `owner`'s, and the exchange fails.)
fn sweep_tags(arena: &Arena, span: u32, class: u8, owner: Tag) -> (bool, bool) {
    let (mut empty, mut collect) = (true, false);
    let is_small = || matches!(arena.span_use(span), Use::Small { class: now, .. } if now == class);
    for index in 0..blocks_in(class) {
        let tag = arena.tag(span, index);
        // ORDERING: Acquire: the span's use is read after it.
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

/// A run that got no head: its spans are taken from the first on, so they are freed from the last.
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
            // CRASH: the owner is struck out last, so that a second attempt finds the record.
            arena.record_owner(id - arena.layout.slots).store(0, Ordering::Release);
        }
    }
}
