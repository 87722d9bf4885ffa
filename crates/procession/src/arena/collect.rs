//! The collector: frees shared objects that no process holds.
//!
//! An object that was never sent is freed by the process that releases it last (`objects::release_handle`). An object
//! that was sent may be held by any process, and by any block that carries a handle to it. So the collector
//! examines all processes and blocks. The supervisor makes one pass at a time. Without a supervisor, main is
//! the only process and makes the pass.
//!
//! During a pass, handles may move from a block to a process, and back. A process that moves a handle
//!
//! 1. lets the destination hold the object (sets its bit, or announces its block),
//! 2. touches the object,
//! 3. releases the source.
//!
//! The pass reads each object's count of moves, then scans the blocks, then scans the processes, and then
//! reads the counts again. Suppose the pass found no holder of an object and an unchanged count, although
//! something holds the object. The holder got the object by a move. If step 2 of the move came between the
//! two readings, the second reading differs. If step 2 came after both readings, there are two cases. Either
//! the source held the object during both scans and was seen, or the source got the object by an earlier
//! move, to which the same argument applies. If step 2 came before the first reading, so did step 1, and the
//! destination was seen. (Steps and readings are SeqCst.)
//!
//! A block that belongs to an object counts as a holder only while that object itself can be reached.
//! Otherwise two queues that contain each other would never be freed. So a scan notes which objects such a
//! block carries, and marks them when the block's owner is marked. Taking a block out of an object is a move,
//! too. The process first becomes the block's owner, then touches the objects that the block carries, and
//! only then may release the object that owned the block.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::{Tag, Use};
use super::classes::CLASSES;
use super::layout::SPAN;
use super::mark::Marks;
use super::objects::{self, Id, Object, SUPERVISOR};
use super::{Arena, member, payload, slots, sweep};

/// Requests a pass.
pub(crate) fn want(arena: &'static Arena) {
    let wanted_already = arena.header().collect_wanted.swap(1, Ordering::SeqCst) != 0;
    match arena.header().supervisor_pid.load(Ordering::Acquire) {
        0 if member::is_main() => {
            if SKIPPED.fetch_add(1, Ordering::Relaxed) >= SKIP.load(Ordering::Relaxed) {
                alone(arena);
            }
        }
        _ if wanted_already => {}
        _ => member::wake_supervisor(arena),
    }
}

/// When main is alone, it skips `SKIP` requests between two passes, and `SKIPPED` counts them. A pass over
/// many objects takes long, and the release of each handle requests a pass.
static SKIP: AtomicU64 = AtomicU64::new(0);
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// Makes a pass in main when there is no supervisor. Leaves the pass to the supervisor if one has started in
/// the meantime.
pub(crate) fn alone(arena: &Arena) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let header = arena.header();
    header.main_collects.store(1, Ordering::SeqCst);
    if header.supervisor_pid.load(Ordering::SeqCst) == 0 {
        let _ = super::thread::with_me(|me| while pass(arena, member::slot(), me.record(), &|_, _| ()) {});
    }
    header.main_collects.store(0, Ordering::SeqCst);
    if header.collect_wanted.load(Ordering::SeqCst) != 0 {
        member::wake_supervisor(arena);
    }
    let used = arena.header().objects_used.load(Ordering::Acquire).min(arena.layout.objects);
    let left = (0..used).filter(|&index| arena.object(index).is_embedded()).count() as u64;
    // This keeps the cost of passes proportional to their benefit, and at most an eighth of the objects waits
    // to be freed.
    SKIP.store(left / 8 + u64::from(arena.spans_in_use().end) / 256, Ordering::Relaxed);
    SKIPPED.store(0, Ordering::Relaxed);
}

/// Makes a pass in main if there is no supervisor and a pass was requested. Called before an error reports a
/// full arena. Returns whether it made a pass.
pub(crate) fn alone_if_wanted(arena: &Arena) -> bool {
    let header = arena.header();
    let wanted = member::is_main()
        && header.supervisor_pid.load(Ordering::Acquire) == 0
        && header.collect_wanted.load(Ordering::SeqCst) != 0;
    if wanted {
        alone(arena);
    }
    wanted
}

/// Makes the supervisor's pass if one was requested. Calls `last_look` with each object that is about to be freed.
pub(crate) fn if_wanted(arena: &Arena, intent: &super::records::Record, last_look: impl Fn(&Arena, &Object)) {
    let header = arena.header();
    // If main is making a pass, main wakes the supervisor when that pass has ended.
    if header.collect_wanted.load(Ordering::SeqCst) != 0 && header.main_collects.load(Ordering::SeqCst) == 0 {
        while pass(arena, SUPERVISOR, intent, &last_look) {}
        // The freed blocks may have been the last ones in spans whose owners are dead.
        sweep::empty_orphans(arena, SUPERVISOR);
        sweep::recount_kept(arena);
    }
}

/// Makes one pass. Returns whether it freed blocks that carried handles to other objects.
fn pass(
    arena: &Arena,
    by: u32,
    record: &super::records::Record,
    last_look: &impl Fn(&Arena, &Object),
) -> bool {
    arena.header().collect_wanted.store(0, Ordering::SeqCst);
    let used = arena.header().objects_used.load(Ordering::Acquire).min(arena.layout.objects);
    let candidates: Vec<(Id, u32)> = (0..used)
        .filter_map(|index| {
            let object = arena.object(index);
            let id = object.live_id(index).filter(|_| object.is_embedded())?;
            Some((id, object.touched.load(Ordering::SeqCst)))
        })
        .collect();
    if candidates.is_empty() {
        return false;
    }
    let mut marks = Marks::new(used, candidates.iter().map(|(id, _)| id.index()));
    mark_blocks(arena, &mut |owner, id| match owner.object_index() {
        Some(object) => marks.note(object, id.index()),
        None => marks.mark(id.index()),
    });
    let slots = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    for slot in
        (0..slots).filter(|&s| slots::phase(arena.slot(s).state.load(Ordering::SeqCst)) != slots::FREE)
    {
        arena.held_objects(slot).for_each(|index| marks.mark(index));
    }
    // The header holds the dict of the family's names.
    match arena.header().names.load(Ordering::SeqCst) {
        0 => {}
        names => marks.mark(Id(names).index()),
    }
    for (id, touched) in &candidates {
        if arena.object(id.index()).touched.load(Ordering::SeqCst) != *touched {
            marks.mark(id.index());
        }
    }
    marks.spread();
    let mut garbage = candidates;
    garbage.retain(|(id, _)| !marks.has(id.index()));
    if by != SUPERVISOR && arena.is_sweeping() {
        // After the loss of the supervisor, another thread of main is sweeping. That thread makes a pass when
        // the sweep has finished.
        return false;
    }
    // Notifies all waiters first, because their words may lie in other objects that are freed in this pass.
    for (id, _) in &garbage {
        last_look(arena, arena.object(id.index()));
        arena.object(id.index()).notify_end(arena);
    }
    garbage.into_iter().fold(false, |again, (id, _)| objects::free(arena, record, by, id) | again)
}

/// Calls `mark` with every handle that a block carries, and with the block's owner.
fn mark_blocks(arena: &Arena, mark: &mut impl FnMut(Tag, Id)) {
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Small { class, .. } => {
                for (index, tag) in arena.tags(span, class).iter().enumerate() {
                    let (index, tag) = (index as u32, Tag(tag.load(Ordering::SeqCst)));
                    if tag.has_handles() {
                        let (at, size) = (arena.block_offset(span, class, index), CLASSES[class as usize]);
                        payload::for_each_handle(arena, at, size.into(), &mut |id| mark(tag, id));
                    }
                }
            }
            Use::Head { tag, spans } if tag.has_handles() => {
                let size = u64::from(spans) * SPAN;
                payload::for_each_handle(arena, arena.span_offset(span), size, &mut |id| mark(tag, id));
            }
            _ => {}
        }
    }
}
