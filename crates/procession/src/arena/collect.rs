//! Frees shared objects that nobody holds any more.
//!
//! An object that was never sent is freed by whoever lets it go last (`objects::let_go`). One that
//! was sent may be held by any process and by any block that carries a handle to it, so only a
//! look at all of them can tell. The supervisor looks, one pass at a time; without a supervisor
//! main is the only process, and does.
//!
//! Handles move while it looks: out of a block into a process, and back. Whoever moves one
//!
//! 1. lets the destination hold it (bit set, or block announced),
//! 2. touches the object,
//! 3. lets the source go.
//!
//! The pass reads how often each object was touched, then scans blocks, then processes, then reads
//! the counts again. Say it saw an object nowhere and its count unchanged, though something holds
//! it. The holder got it by a move. If step 2 came after the first reading, the second one differs,
//! unless step 2 came after that too; then the source still held it during both scans and was seen,
//! or got it by an earlier move, to which the same applies. If step 2 came before the first reading,
//! so did step 1, and the destination was seen. (Steps and readings are SeqCst.)
//!
//! A block that belongs to an object holds what is in it only as long as somebody can reach that
//! object; or two queues that lie in each other would live for ever. So what such blocks carry is
//! noted while scanning, and marked when their owner is. Whoever takes a block out of an object does it
//! as a move, too: the block is its own, it touches what the block carries, and only then may it let
//! the object go.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::{Tag, Use};
use super::classes::CLASSES;
use super::layout::SPAN;
use super::mark::Marks;
use super::objects::{self, Id, Object, SUPERVISOR};
use super::{Arena, member, payload, slots, sweep};

/// Asks for a pass.
pub(crate) fn want(arena: &'static Arena) {
    let wanted_already = arena.header().collect_wanted.swap(1, Ordering::SeqCst) != 0;
    match arena.header().supervisor_pid.load(Ordering::Acquire) {
        0 if member::is_main() => {
            if SKIPPED.fetch_add(1, Ordering::Relaxed) >= SKIP.load(Ordering::Relaxed) {
                alone(arena);
            }
        }
        _ if wanted_already => {}
        _ => member::ring(arena),
    }
}

/// So often main, when it is alone, does not look though it was asked to; and how often it has not. A look at very
/// much takes long, and each handle that is let go asks for one.
static SKIP: AtomicU64 = AtomicU64::new(0);
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// A pass by main, when there is no supervisor. Leaves it to the supervisor if there is one by now.
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
        member::ring(arena);
    }
    let used = arena.header().objects_used.load(Ordering::Acquire).min(arena.layout.objects);
    let left = (0..used).filter(|&index| arena.object(index).is_embedded()).count() as u64;
    // So a look pays for itself, and no more than an eighth of what there is waits to be freed.
    SKIP.store(left / 8 + u64::from(arena.spans_in_use().end) / 256, Ordering::Relaxed);
    SKIPPED.store(0, Ordering::Relaxed);
}

/// A pass by main if there is no supervisor, and one is wanted: before somebody is told that all is full. Says
/// whether there was one.
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

/// The supervisor's pass, when somebody asked for one. `last_look` is called with what is about to be freed.
pub(crate) fn if_wanted(arena: &Arena, intent: &super::records::Record, last_look: impl Fn(&Arena, &Object)) {
    let header = arena.header();
    // Main rings when it has ended.
    if header.collect_wanted.load(Ordering::SeqCst) != 0 && header.main_collects.load(Ordering::SeqCst) == 0 {
        while pass(arena, SUPERVISOR, intent, &last_look) {}
        // What was freed may have been the last in spans whose owners are dead.
        sweep::empty_orphans(arena, SUPERVISOR);
        sweep::recount_kept(arena);
    }
}

/// Looks at everything once. Says whether that set free what held other objects.
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
    // The header holds the dict of all names.
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
        // Main sweeps after the loss of the supervisor, from another thread, and collects when it has done so.
        return false;
    }
    // Told first: the words that hear of it may lie in what is garbage too.
    for (id, _) in &garbage {
        last_look(arena, arena.object(id.index()));
        arena.object(id.index()).send_obituaries(arena);
    }
    garbage.into_iter().fold(false, |again, (id, _)| objects::free(arena, record, by, id) | again)
}

/// Calls `mark` with every handle that a block carries, and the owner of the block.
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
