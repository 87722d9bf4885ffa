//! Checks what recovery must have cleared, and what the indexes must show.

use std::sync::atomic::Ordering;

use super::arena;
use super::census::census;
use super::requests::{request, request_options};
use crate::arena::blocks::{Tag, Use};

/// Returns everything that recovery should have cleared but did not, in a slot, its records, its bitmaps and
/// the tags of all blocks. Reads the bitmaps bit by bit, and ignores the marks of their lines.
pub fn residue(slot: u32) -> Vec<String> {
    let (arena, mut found) = (arena(), Vec::new());
    let mut look = |what: &str, value: u64| {
        if value != 0 {
            found.push(format!("{what} = {value:#x}"));
        }
    };
    for id in arena.records_of(slot) {
        let record = arena.record(id);
        look("waits_for", record.waits_for.load(Ordering::Acquire));
        look("object_intent", record.object_intent.load(Ordering::Acquire));
        look("thread", record.thread.load(Ordering::Acquire) as u64);
        look("chunk", record.chunk.load(Ordering::Acquire));
        record.for_each_held(arena, |held| look("held", held.load(Ordering::Acquire)));
    }
    let (entry, args, cwd, process) = request(slot);
    look("entry", entry);
    look("args", args);
    look("cwd", cwd);
    look("options", request_options(slot));
    look("process", process);
    look("panic_text", arena.slot(slot).panic_text.load(Ordering::Acquire));
    look("early_signals", u64::from(arena.slot(slot).early_signals()));
    let objects = arena.header().objects_used.load(Ordering::Acquire);
    arena
        .held_objects(slot)
        .for_each_of_all(objects, |object, _| look("holds object", u64::from(object) + 1));
    arena.touched_spans(slot).for_each_of_all(u32::MAX, |span, _| look("touched span", u64::from(span) + 1));
    let owner = Tag::process(slot);
    let owned = census().blocks.into_iter().filter(|&(_, tag)| Tag(tag).same_owner(owner));
    owned.for_each(|(at, _)| look("owns block", at));
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Init { by } | Use::Small { by, .. } | Use::Leaving { by, .. } if by == slot => {
                look("owns span", u64::from(span) + 1)
            }
            Use::Cont { by, head } if by == slot && head == span => {
                look("unfinished run", u64::from(span) + 1)
            }
            _ => {}
        }
    }
    found
}

/// Returns what the indexes fail to show: bits in lines without a mark, and blocks in spans that are not
/// marked for the block's owner. Also returns spans and objects that are in use above the hints. Reads the
/// tags and words themselves.
pub fn hidden() -> Vec<String> {
    let (arena, header, mut found) = (arena(), arena().header(), Vec::new());
    for slot in 0..header.slots_used.load(Ordering::Acquire).min(arena.layout.slots) {
        let mut look = |what: &str, bit: u32, marked: bool| {
            if !marked {
                found.push(format!("{what} {bit} of slot {slot} is set in a line without a mark"));
            }
        };
        let objects = header.objects_used.load(Ordering::Acquire);
        arena.held_objects(slot).for_each_of_all(objects, |object, marked| look("object", object, marked));
        let spans = header.spans_used.load(Ordering::Acquire);
        arena.touched_spans(slot).for_each_of_all(spans, |span, marked| look("span", span, marked));
    }
    for (at, tag) in census().blocks {
        let span = arena.layout.span_of(at).expect("a block lies in a span");
        let (process, object) = (Tag(tag).process_slot(), Tag(tag).object_index());
        let noted = process.is_none_or(|slot| arena.touched_spans(slot).has(span))
            && object.is_none_or(|index| arena.object(index).may_be_in(span));
        if !noted {
            found.push(format!("block {at:#x} lies in a span that its owner {tag:#x} has not noted"));
        }
    }
    let beyond = |used: u32, all: u32| used.min(all)..used.saturating_add(BEYOND).min(all);
    for span in beyond(header.spans_used.load(Ordering::Acquire), arena.layout.spans) {
        if arena.span_use(span) != Use::Free {
            found.push(format!("span {span} is in use and lies above the hint"));
        }
    }
    for index in beyond(header.objects_used.load(Ordering::Acquire), arena.layout.objects) {
        if !arena.object(index).is_free() {
            found.push(format!("object {index} is in use and lies above the hint"));
        }
    }
    found
}

/// How many entries above a hint [`hidden`] examines.
const BEYOND: u32 = 1024;
