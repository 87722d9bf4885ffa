//! What recovery does to the pools that a dead process used or worked for. The states of the cells name the
//! dead process until recovery has finished with them, so no other process works on these cells. If recovery
//! itself dies, it can run again from the start.

use std::sync::atomic::Ordering;

use super::control::phase;
use super::task_recovery::TaskRecovery;
use super::view::PoolView;
use crate::arena::objects::Kind;
use crate::arena::recover::{Dead, Found, Journaled, Recover};
use crate::arena::{Arena, sweep};
use crate::queue::ring;
use crate::queue::ring::Ring;
use crate::sync::raw::event;

/// Recovers pools: the lock words of their rings, and the tasks of the dead process.
pub(crate) struct Pools;

impl Recover for Pools {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        ring::recover::release_end(dead, found, entry);
    }

    fn return_work(&self, dead: &Dead<'_>, found: &Found) {
        if let Some(pool) = PoolView::of(dead.arena, found.index) {
            return_tasks(dead, found.index, pool);
        }
    }
}

/// Returns to the workers the tasks on which the dead process worked. Abandons the tasks that it had
/// submitted. If it had created the pool, terminates the pool.
pub(crate) fn return_tasks(dead: &Dead<'_>, index: u32, pool: PoolView<'_>) {
    let (slot, control) = (dead.slot, pool.control);
    let recovery = TaskRecovery::new(dead, pool);
    control.adopt_blocks(pool.arena, recovery.dead_tag(), pool.tag);
    let pid = pool.arena.slot(slot).pid.load(Ordering::Relaxed);
    for worker in control.worker_pids().filter(|worker| worker.load(Ordering::Relaxed) == pid) {
        worker.store(0, Ordering::SeqCst);
    }
    let created_here = control.creator.load(Ordering::Acquire) == slot + 1;
    if created_here {
        control.phase.fetch_max(phase::TERMINATED, Ordering::SeqCst);
    }
    control.claims.of(slot).for_each(|index| recovery.return_reserved(index));
    // If a worker has submitted nothing, only the cells that it has claimed can name it.
    if created_here || control.claims.is_user(slot) {
        (0..control.used()).for_each(|index| recovery.recover_cell(index));
    } else {
        control.claims.of(slot).for_each(|index| recovery.recover_cell(index));
    }
    control.claims.forget(slot);
    control.returned_list.count_overflow();
    control.returned.word.store(1, Ordering::SeqCst);
    event::notify(&control.completed.word, i32::MAX);
    pool.notify_keeper_of_death();
    if created_here {
        control.shut_down.store(1, Ordering::SeqCst);
        event::notify(&control.ended.word, i32::MAX);
    }
    if let Some(ring) = Ring::find(index) {
        event::notify(&ring.control().filled.word, i32::MAX);
    }
}

/// Terminates the pools that the dead process in `slot` had created, and returns the process ids of their
/// workers. If a worker starts later, it sees that its pool is terminated.
pub(crate) fn workers_kept_by(arena: &Arena, slot: u32) -> Vec<i32> {
    let mut pids = Vec::new();
    for_each_pool(arena, slot, |PoolView { control, .. }| {
        if control.creator.load(Ordering::Acquire) == slot + 1 {
            control.phase.fetch_max(phase::TERMINATED, Ordering::SeqCst);
            pids.extend(control.worker_pids().map(|pid| pid.load(Ordering::SeqCst)).filter(|&pid| pid > 0));
        }
    });
    pids
}

/// Reports whether the process `pid` in `slot` is a worker of a pool.
pub(crate) fn is_worker(arena: &Arena, slot: u32, pid: i32) -> bool {
    let mut found = false;
    for_each_pool(arena, slot, |PoolView { control, .. }| {
        found |= control.worker_pids().any(|its| its.load(Ordering::SeqCst) == pid);
    });
    found
}

/// Notifies the keepers of the dead process's pools. The keepers look for missing workers, and can now see
/// that this process is dead. A worker that died before it decoded its arguments has no handle to its pool.
/// In that case, the block with its arguments carries the handle.
pub(crate) fn notify_keepers(arena: &Arena, slot: u32, clean: bool) {
    for_each_pool(arena, slot, |pool| pool.notify_keeper_of_death());
    if clean {
        return;
    }
    sweep::for_each_carried(arena, slot, &mut |id| {
        if id.index() < arena.layout.objects
            && arena.object(id.index()).is(id, Kind::PoolShared)
            && let Some(pool) = PoolView::of(arena, id.index())
        {
            pool.notify_keeper_of_death();
        }
    });
}

fn for_each_pool<'a>(arena: &'a Arena, slot: u32, mut f: impl FnMut(PoolView<'a>)) {
    arena.held_objects(slot).for_each(|index| {
        if index < arena.layout.objects
            && arena.object(index).is_any(Kind::PoolShared)
            && let Some(pool) = PoolView::of(arena, index)
        {
            f(pool);
        }
    });
}
