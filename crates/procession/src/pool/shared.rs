//! [`Shared`]: a pool as a process of the family sees it. Users and workers of the pool use the same type.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::cells::cell::Cell;
use super::cells::control::{self, Control, SharedBody, phase};
use super::cells::error::TaskError;
use super::cells::state::{ABANDONED, DONE, NEW, QUEUED, RETURNED, SHARED, State, ending};
use super::cells::view::PoolView;
use super::free_cells::FreeCells;
use super::watch::Watched;
use crate::arena::blocks::Tag;
use crate::arena::handle::Handle;
use crate::arena::objects::{Id, Kind};
use crate::arena::{Arena, heap, member, payload};
use crate::os::clock::Deadline;
use crate::queue::ring::{self, Refusal, Ring};
use crate::sync::raw::event;
use crate::{Error, Result};

/// A pool as this process sees it. Dereferences to a view of the pool's shared memory.
pub(super) struct Shared {
    handle: Handle,
    view: PoolView<'static>,
    pub(super) ring: Ring,
    pub(super) free_cells: FreeCells,
    /// The callbacks of this process: see `watch.rs`.
    pub(super) watched: Mutex<Watched>,
}

impl Deref for Shared {
    type Target = PoolView<'static>;

    #[inline]
    fn deref(&self) -> &PoolView<'static> {
        &self.view
    }
}

/// A task: its cell, and the generation that distinguishes the task from other tasks in the same cell.
#[derive(Clone, Copy)]
pub(super) struct CellRef {
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) cell: &'static Cell,
}

fn stale() -> Error {
    Error::StaleHandle("this pool no longer exists".into())
}

impl Shared {
    /// Creates a pool without workers. `fill` stores the pool's settings before any other process can see the
    /// pool.
    pub(super) fn create(fill: impl FnOnce(&Control)) -> Result<Arc<Shared>> {
        let (arena, slot) = (member::arena()?, member::slot());
        let room = control::allocate()?;
        let (handle, ring) = ring::make::<SharedBody>(u64::MAX, u64::MAX, 8, ring::LARGE_FIRST)?;
        let control = control::control_at(arena, room.at()).ok_or_else(stale)?;
        control.creator.store(slot + 1, Ordering::Relaxed);
        control.claims.mark_user(slot);
        fill(control);
        control.claims.grow(control.wanted.load(Ordering::Relaxed));
        handle.object().blocks[1].store(room.at(), Ordering::Release);
        // CRASH: if we die before this store, the sweep frees the block, and the object with its only handle.
        room.give_to(handle.id().index());
        Ok(Arc::new(Shared::with(arena, handle, ring, control)))
    }

    fn with(arena: &'static Arena, handle: Handle, ring: Ring, control: &'static Control) -> Shared {
        let view = PoolView { arena, control, tag: Tag::object(handle.id().index()) };
        Shared { handle, view, ring, free_cells: FreeCells::default(), watched: Mutex::default() }
    }

    /// Returns the pool that a handle names.
    pub(super) fn of(handle: Handle) -> Result<Arc<Shared>> {
        let arena = member::arena()?;
        let index = handle.id().index();
        let ring = Ring::of(index).map_err(|_| stale())?;
        let control = control::control_of(arena, index).ok_or_else(stale)?;
        Ok(Arc::new(Shared::with(arena, handle, ring, control)))
    }

    /// Returns the pool with this id. The caller must hold something that keeps the pool alive during this
    /// call.
    pub(super) fn with_id(id: Id) -> Result<Arc<Shared>> {
        let handle = Handle::take(id, Kind::PoolShared)?;
        handle.object().touch();
        Shared::of(handle)
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn phase(&self) -> u32 {
        self.control.phase.load(Ordering::SeqCst)
    }

    /// Advances the pool to a later phase, and wakes its keeper and its workers.
    pub(super) fn advance(&self, to: u32) {
        self.control.phase.fetch_max(to, Ordering::SeqCst);
        self.notify_keeper();
        event::notify(&self.ring.control().filled.word, i32::MAX);
    }

    /// Changes the number of workers.
    pub(super) fn resize(&self, workers: u32) {
        // Grow the claim table before raising `wanted`, so every new worker finds a row.
        self.control.claims.grow(workers);
        // CRASH: if we die after this store, we have a handle, so recovery wakes the keeper and the workers.
        self.control.wanted.store(workers, Ordering::SeqCst);
        self.notify_keeper();
        event::notify(&self.ring.control().filled.word, i32::MAX);
    }

    /// Returns why the pool accepts no tasks, or `None` if it accepts tasks.
    pub(super) fn refusal(&self) -> Option<TaskError> {
        match self.phase() {
            phase::OPEN => None,
            phase::CLOSED | phase::FINISHED => Some(TaskError::Closed),
            phase::BROKEN => Some(self.broken()),
            _ => Some(TaskError::Terminated),
        }
    }

    pub(super) fn broken(&self) -> TaskError {
        let block = self.control.broken_reason.load(Ordering::Acquire);
        let reason = payload::contents(self.arena, block).unwrap_or_default();
        TaskError::Broken(String::from_utf8_lossy(reason).into_owned())
    }

    /// Enqueues a task. Its cell must be filled in.
    pub(super) fn enqueue(&self, cell_ref: CellRef) -> Result<(), TaskError> {
        let CellRef { index, generation, cell } = cell_ref;
        // CRASH: from here on the task exists. If we die before its number is in the ring, recovery marks the task as
        // abandoned and returns it to the workers.
        // ORDERING: SeqCst, before the phase is read below.
        cell.store_seq_cst(State::of(generation, QUEUED));
        let message = (u64::from(generation) << 32 | u64::from(index)).to_le_bytes();
        if let Err(refusal) = self.ring.put_small(&message, Deadline::NEVER) {
            let me = member::slot();
            if cell.fetch_update(|s| (s.phase() == QUEUED).then(|| s.to(NEW).by(me))).is_err() {
                // Another process has changed the state. Recovery believed that a dead worker had reserved
                // the task, and returned it. Or the task has ended.
                return Ok(());
            }
            self.discard(cell_ref);
            return Err(match refusal {
                Refusal::Unusable(error) => TaskError::unusable(&error),
                _ => TaskError::Full(heap::why_no_room("the task")),
            });
        }
        // ORDERING: SeqCst, after the message is in the ring. An idle worker sets the flag and then looks for
        // a message one last time. So either we see the flag, or the worker sees the message.
        if self.control.some_idle.load(Ordering::SeqCst) != 0 {
            self.notify_keeper();
        }
        // The process that terminates the pool may have skipped the cell, because it saw the cell while it
        // was still `NEW`.
        if !matches!(self.phase(), phase::OPEN | phase::CLOSED) {
            self.end_unstarted(cell);
        }
        Ok(())
    }

    /// Ends a task of a terminated or broken pool, if no worker has begun the task.
    pub(super) fn end_unstarted(&self, cell: &Cell) {
        let ending = self.ending_of_unstarted().unwrap_or(ending::TERMINATED);
        self.end_if(cell, ending, |s| matches!(s.phase(), QUEUED | RETURNED));
    }

    /// Ends a task if `is` accepts its state. Returns true if it has ended the task.
    pub(super) fn end_if(&self, cell: &Cell, ending: u64, is: impl Fn(State) -> bool) -> bool {
        let ended = cell.fetch_update(|s| is(s).then(|| s.ended(ending)));
        ended.map(|was| self.notify_done(cell, was)).is_ok()
    }

    /// Wakes the processes that wait for a task, and frees the task if it is abandoned. The task has just
    /// become `DONE`, and `was` is its state before that.
    #[inline]
    pub(super) fn notify_done(&self, cell: &Cell, was: State) {
        self.notify_waiters(cell, was);
        if was.has(ABANDONED) && !was.has(SHARED) {
            // CRASH: recovery of any process frees an abandoned task that is done.
            self.free(None, cell, was.generation(), DONE);
        }
        if self.phase() != phase::OPEN {
            self.notify_keeper();
        }
    }
}
