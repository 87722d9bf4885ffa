//! A count of everything that exists in the arena.

use std::sync::atomic::Ordering;

use super::arena;
use crate::arena::blocks::{Tag, Use};
use crate::arena::classes::blocks_in;
use crate::arena::{Arena, blocks};

/// Stands for the owner of a small span that has no owner. See [`Census::small_spans`].
pub const NOBODY: u32 = blocks::NOBODY;

/// Everything that exists in the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The number of objects that are not free.
    pub objects: u32,
    /// The number of objects that are being created or freed.
    pub unfinished_objects: u32,
    /// The blocks that belong to a process or an object, as (offset, tag).
    pub blocks: Vec<(u64, u32)>,
    /// The number of spans in runs that are not kept, complete or not.
    pub large_spans: u32,
    /// The small spans with the slots of their owners. A span of [`NOBODY`] is listed only if it is not
    /// empty.
    pub small_spans: Vec<(u32, u32)>,
    /// The number of extra records that belong to a process.
    pub records: u32,
    /// A pair (slot, object) for each object that a process holds.
    pub holdings: Vec<(u32, u32)>,
}

/// Returns how many objects are not free.
pub fn objects() -> u32 {
    let used = arena().header().objects_used.load(Ordering::Acquire).min(arena().layout.objects);
    (0..used).filter(|&index| !arena().object(index).is_free()).count() as u32
}

/// Counts everything that exists in the arena.
pub fn census() -> Census {
    let arena = arena();
    let header = arena.header();
    let mut census = Census::default();
    let objects = header.objects_used.load(Ordering::Acquire).min(arena.layout.objects);
    for index in (0..objects).filter(|&index| !arena.object(index).is_free()) {
        census.objects += 1;
        census.unfinished_objects += u32::from(arena.object(index).live_id(index).is_none());
    }
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Free => {}
            Use::Small { by, class } => {
                let blocks_before = census.blocks.len();
                for index in 0..blocks_in(class) {
                    let tag = arena.tag(span, index).load(Ordering::Acquire);
                    if tag != 0 {
                        census.blocks.push((arena.block_offset(span, class, index), tag));
                    }
                }
                if by != blocks::NOBODY || census.blocks.len() > blocks_before {
                    census.small_spans.push((span, by));
                }
            }
            // Kept runs are free.
            Use::Head { tag: Tag::FREE, .. } => {}
            Use::Cont { head, .. } if is_kept(arena, head) => {}
            Use::Head { tag, .. } => {
                census.large_spans += 1;
                census.blocks.push((arena.span_offset(span), tag.0));
            }
            _ => census.large_spans += 1,
        }
    }
    // Records above the hint must be free. So this also looks at some of these.
    let extras = header.records_used.load(Ordering::Acquire).saturating_add(64);
    census.records = (0..extras.min(arena.layout.extra_records))
        .filter(|&r| arena.record_owner(r).load(Ordering::Acquire) != 0)
        .count() as u32;
    for slot in 0..header.slots_used.load(Ordering::Acquire).min(arena.layout.slots) {
        arena.held_objects(slot).for_each_of_all(objects, |object, _| census.holdings.push((slot, object)));
    }
    census
}

fn is_kept(arena: &Arena, head: u32) -> bool {
    head < arena.layout.spans && matches!(arena.span_use(head), Use::Head { tag: Tag::FREE, .. })
}
