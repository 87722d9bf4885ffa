//! [`recover`]: repairs what a dead process left. The order of the steps matters.
//!
//! The function works without a supervisor, because the crash tests call it on a private copy of the memory
//! after every instruction of their victim. It can be interrupted at any point and called again, because the
//! supervisor may be killed too. In that case main calls it.

use std::sync::atomic::Ordering;

use super::kinds;
use super::spares::release_claims;
use crate::arena::objects::Kind;
use crate::arena::recover::{Dead, Found, Journaled, Recover};
use crate::arena::{Arena, process_body, slots, sweep};
use crate::os::futex;
use crate::os::process::Ended;
use crate::pool::cells;
use crate::rules;
use crate::rules::Rule;
use crate::sync::raw::park;

/// Repairs what the dead process in `slot` left, and frees the slot. `how` says how the process ended. It is
/// `None` if the whole family was lost.
pub(crate) fn recover(arena: &Arena, slot: u32, how: Option<Ended>) {
    let dead = arena.slot(slot);
    let clean = release(arena, slot, how);
    // The end of the process is published after its locks are released, so a joiner finds them free. From
    // then on a joiner may drop the last handle to the process's object.
    process_body::record(arena, slot, how);
    cells::recover::notify_keepers(arena, slot, clean);
    // CRASH: from now on the words that the dead process waited for may belong to other objects. So a
    // repeated recovery must not write to them.
    for id in arena.records_of(slot) {
        arena.record(id).waits_for.store(0, Ordering::SeqCst);
    }
    process_body::report_all_unobserved(arena, slot);
    let collect = sweep::objects(arena, slot) | sweep::blocks(arena, slot);
    sweep::records(arena, slot);
    if collect {
        arena.header().collect_wanted.store(1, Ordering::SeqCst);
    }
    dead.reset();
    // Wakes the processes that wait for the first of several processes to end, and those that wait for
    // memory. The wake is here and not where children are reaped, because main runs recovery, too. CRASH:
    // counting twice only causes an additional check.
    arena.header().ended.fetch_add(1, Ordering::SeqCst);
    futex::wake_all(&arena.header().ended);
    // CRASH: this store comes last. Until then the slot's state makes sure that an interrupted recovery runs
    // again.
    dead.state.store(slots::FREE, Ordering::Release);
}

/// Releases what the dead process in `slot` held, and notifies all others. Returns whether the process ended
/// in a way that leaves no wake-up missing.
///
/// This is the first half of [`recover`], which repeats it. The supervisor calls it alone as soon as no thread of the
/// process runs, while the kernel still frees the memory of the process.
pub(crate) fn release(arena: &Arena, slot: u32, how: Option<Ended>) -> bool {
    let dead = arena.slot(slot);
    dead.state.store(slots::DEAD, Ordering::SeqCst);
    // A thread that ends normally gives its record back. A thread that `exit` interrupts does not.
    let torn = arena.records_of(slot).any(|id| arena.record(id).thread.load(Ordering::Acquire) != 0);
    let leaving = dead.leaving.load(Ordering::Acquire);
    let left = leaving != 0 && matches!(how, Some(Ended::Exited(_)));
    // A thread without a record may also have been interrupted, between a store and the wake that follows it.
    let alone = leaving == slots::ALONE || !rules::holds(Rule::AloneAtExit);
    let clean = left && alone && !torn;

    if !clean {
        // The process, or a recovery that died here, may have been about to request a pass of the collector.
        arena.header().collect_wanted.store(1, Ordering::SeqCst);
    }
    // While the words still name the dead process, only this recovery may change what they guard.
    let returned = left && how == Some(Ended::Exited(0));
    let gone = Dead { arena, slot, how, returned };
    let was_inside = release_locks(&gone)
        | remove_from_objects(&gone)
        | (!clean && rules::holds(Rule::UndecodedBarrierNotified) && notify_barriers(arena, slot, returned));
    release_claims(arena, slot);
    // Work is returned before the dead process's blocks are swept, while its handles still show which queues
    // and pools it used.
    for_each_held(&gone, |recover, found| recover.return_work(&gone, found));
    if (!clean || was_inside) && rules::holds(Rule::SweepWakes) {
        // The dead process may have consumed another process's wake-up, or may have been about to wake
        // another process.
        park::notify_all_sleepers(arena);
        // A woken process may be queued on this processor. It has waited long enough, so let it run.
        std::thread::yield_now();
    }
    clean
}

fn release_locks(dead: &Dead<'_>) -> bool {
    let mut any = false;
    for record in dead.arena.records_of(dead.slot) {
        dead.arena.record(record).for_each_held(dead.arena, |entry| {
            let offset = entry.load(Ordering::Acquire);
            if offset != 0 {
                any = true;
                release_entry(dead, Journaled { record, offset });
            }
        });
    }
    any
}

/// Releases the lock or cell that an entry of a journal names.
fn release_entry(dead: &Dead<'_>, entry: Journaled) {
    let Some((index, object)) = dead.arena.object_around(entry.offset) else { return };
    if let Some(kind) = object.kind() {
        kinds::of(kind).release(dead, &Found { index, object }, entry);
    }
}

/// Calls `f` with each object to which the dead process has a handle.
fn for_each_held(dead: &Dead<'_>, mut f: impl FnMut(&'static dyn Recover, &Found)) {
    let arena = dead.arena;
    arena.held_objects(dead.slot).for_each(|index| {
        if index < arena.layout.objects {
            let object = arena.object(index);
            if let Some(kind) = object.kind() {
                f(kinds::of(kind), &Found { index, object });
            }
        }
    });
}

/// Takes the dead process out of the objects that it holds. Returns whether there was anything to do.
fn remove_from_objects(dead: &Dead<'_>) -> bool {
    let mut any = false;
    for_each_held(dead, |recover, found| any |= recover.remove_process(dead, found));
    any
}

/// Notifies barriers that a party will not come, because the process has died, or failed, before it took the handle
/// out of its arguments. Returns whether there was a barrier. Can be repeated.
pub(crate) fn notify_barriers(arena: &Arena, slot: u32, returned: bool) -> bool {
    let (dead, mut any) = (Dead { arena, slot, how: None, returned }, false);
    sweep::for_each_carried(arena, slot, &mut |id| {
        if id.index() < arena.layout.objects && arena.object(id.index()).is(id, Kind::Barrier) {
            let found = Found { index: id.index(), object: arena.object(id.index()) };
            any |= kinds::of(Kind::Barrier).remove_process(&dead, &found);
        }
    });
    any
}

/// Releases what is held by the threads of this process that have `ended`, because the process is exiting.
/// Unless the exiting thread is `alone`, other threads still run. They may have borrowed from a guard that
/// lends references to shared memory, so the locks of such guards stay held.
pub(crate) fn release_locks_of_ended_threads(
    arena: &Arena,
    slot: u32,
    ended: impl Fn(i32) -> bool,
    alone: bool,
) {
    let ending = Dead { arena, slot, how: None, returned: false };
    for id in arena.records_of(slot) {
        let record = arena.record(id);
        if !ended(record.thread.load(Ordering::Acquire)) {
            continue;
        }
        record.for_each_held(arena, |entry| {
            let lock = entry.load(Ordering::Acquire);
            let kept = |kind: Kind| kind.lends_memory() && !alone && rules::holds(Rule::KeptWhileRunning);
            if lock != 0 && !arena.object_around(lock).and_then(|(_, object)| object.kind()).is_some_and(kept)
            {
                release_entry(&ending, Journaled { record: id, offset: lock });
                entry.store(0, Ordering::Release);
            }
        });
    }
}
