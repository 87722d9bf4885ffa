//! [`Core`]: a pool as each process of the family sees it, its users and its workers alike.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::cells::cell::{self, ABANDONED, Cell, DONE, NEW, QUEUED, RETURNED, SHARED, State, WATCHED};
use super::cells::control::{self, Control, SharedBody, phase};
use super::cells::error::TaskError;
use super::free_cells::FreeCells;
use super::watch::Watched;
use crate::arena::blocks::{self, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::{Id, Kind};
use crate::arena::{Arena, heap, member, payload};
use crate::os::clock::Deadline;
use crate::queue::ring::{self, Refusal, Ring};
use crate::sync::raw::event;
use crate::{Error, Result};

/// See the module.
pub(super) struct Shared {
    handle: Handle,
    pub(super) arena: &'static Arena,
    pub(super) ring: Ring,
    pub(super) control: &'static Control,
    pub(super) free_cells: FreeCells,
    /// Whom to call in this process: see `watch.rs`.
    pub(super) watched: Mutex<Watched>,
}

/// A task in its cell.
#[derive(Clone, Copy)]
pub(super) struct CellRef {
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) cell: &'static Cell,
}

impl Shared {
    /// Makes a pool without workers. `fill` sees its settings before anybody else.
    pub(super) fn create(fill: impl FnOnce(&Control)) -> Result<Arc<Shared>> {
        let (arena, slot) = (member::arena()?, member::slot());
        let room = control::allocate()?;
        let (handle, ring) = ring::make::<SharedBody>(u64::MAX, u64::MAX, 8, ring::LARGE_FIRST)?;
        let stale = || Error::StaleHandle("this pool no longer exists".into());
        let control = control::control_at(arena, room.at()).ok_or_else(stale)?;
        control.creator.store(slot + 1, Ordering::Relaxed);
        control.claims.mark_user(slot);
        fill(control);
        control.claims.grow(control.wanted.load(Ordering::Relaxed));
        handle.object().blocks[1].store(room.at(), Ordering::Release);
        // CRASH: before this the block is swept with us, and the object goes with its only handle.
        room.give_to(handle.id().index());
        Ok(Arc::new(Shared::with(arena, handle, ring, control)))
    }

    fn with(arena: &'static Arena, handle: Handle, ring: Ring, control: &'static Control) -> Shared {
        Shared { handle, arena, ring, control, free_cells: FreeCells::default(), watched: Mutex::default() }
    }

    /// The pool that a handle names.
    pub(super) fn of(handle: Handle) -> Result<Arc<Shared>> {
        let arena = member::arena()?;
        let index = handle.id().index();
        let stale = || Error::StaleHandle("this pool no longer exists".into());
        let ring = Ring::of(index).map_err(|_| stale())?;
        let control = control::control_of(arena, index).ok_or_else(stale)?;
        Ok(Arc::new(Shared::with(arena, handle, ring, control)))
    }

    /// The pool with this id, which something that the caller holds keeps alive.
    pub(super) fn take(id: Id) -> Result<Arc<Shared>> {
        let handle = Handle::take(id, Kind::PoolShared)?;
        handle.object().touch();
        Shared::of(handle)
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn tag(&self) -> Tag {
        Tag::object(self.handle.id().index())
    }

    pub(super) fn phase(&self) -> u32 {
        self.control.phase.load(Ordering::SeqCst)
    }

    /// Moves the pool on; it never goes back.
    pub(super) fn advance(&self, to: u32) {
        self.control.phase.fetch_max(to, Ordering::SeqCst);
        self.notify_keeper();
        event::notify(&self.ring.control().filled.word, i32::MAX);
    }

    /// Has more workers, or fewer.
    pub(super) fn resize(&self, workers: u32) {
        // There is room for what new ones have in their hands before there are any.
        self.control.claims.grow(workers);
        // CRASH: whoever dies behind this has a handle, so recovery wakes the keeper and the workers.
        self.control.wanted.store(workers, Ordering::SeqCst);
        self.notify_keeper();
        event::notify(&self.ring.control().filled.word, i32::MAX);
    }

    pub(super) fn notify_keeper(&self) {
        event::notify(&self.control.keeper.word, i32::MAX);
    }

    /// Why there is nothing to be had from the pool, if so.
    pub(super) fn refusal(&self) -> Option<TaskError> {
        match self.phase() {
            phase::OPEN => None,
            phase::CLOSED | phase::FINISHED => Some(TaskError::Closed),
            phase::BROKEN => Some(self.broken()),
            _ => Some(TaskError::Terminated),
        }
    }

    pub(super) fn broken(&self) -> TaskError {
        let block = self.control.why.load(Ordering::Acquire);
        let why = payload::contents(self.arena, block).unwrap_or_default();
        TaskError::Broken(String::from_utf8_lossy(why).into_owned())
    }

    pub(super) fn cell(&self, index: u32) -> Option<&'static Cell> {
        self.control.cell(self.arena, index)
    }

    /// Gives the block to the pool, in the name of a cell that names it already.
    pub(super) fn adopt(&self, block: u64) {
        if block != 0 {
            blocks::hand_over(self.arena, block, Tag::process(member::slot()), self.tag());
        }
    }

    /// Lets the workers have a task that is complete in its cell.
    pub(super) fn enqueue(&self, cell_ref: CellRef) -> Result<(), TaskError> {
        let CellRef { index, generation, cell } = cell_ref;
        // CRASH: from here on the task exists; if we die before it is in the ring, it is abandoned with us, and
        // recovery takes it back.
        // ORDERING: SeqCst, before the look at the phase below: see there.
        cell.store_seq_cst(State::of(generation, QUEUED));
        let message = (u64::from(generation) << 32 | u64::from(index)).to_le_bytes();
        if let Err(refusal) = self.ring.put_small(&message, Deadline::NEVER) {
            let me = member::slot();
            if cell.fetch_update(|s| (s.phase() == QUEUED).then(|| s.to(NEW).by(me))).is_err() {
                // Recovery took it for one that a dead worker had reached for, so the workers have it; or it has ended.
                return Ok(());
            }
            self.discard(cell_ref);
            return Err(match refusal {
                Refusal::Unusable(error) => TaskError::unusable(&error),
                _ => TaskError::Full(heap::why_no_room("the task")),
            });
        }
        // ORDERING: SeqCst, behind the message: the last worker sets this before it looks for a message again.
        if self.control.some_idle.load(Ordering::SeqCst) != 0 {
            self.notify_keeper();
        }
        // Who terminates the pool may have looked at the cell while it was `NEW`.
        match self.phase() {
            phase::OPEN | phase::CLOSED => {}
            _ => self.end_unstarted(cell),
        }
        Ok(())
    }

    /// Ends a task that nobody has begun, as the pool is no more.
    pub(super) fn end_unstarted(&self, cell: &Cell) {
        let ending =
            if self.phase() == phase::BROKEN { cell::ending::BROKEN } else { cell::ending::TERMINATED };
        self.end_if(cell, ending, |s| matches!(s.phase(), QUEUED | RETURNED));
    }

    /// Ends a task whose state is so; says whether it was.
    pub(super) fn end_if(&self, cell: &Cell, ending: u64, is: impl Fn(cell::State) -> bool) -> bool {
        let ended = cell.fetch_update(|s| is(s).then(|| s.ended(ending)));
        ended.map(|was| self.notify_done(cell, was)).is_ok()
    }

    /// Tells of a task that has just become `DONE`.
    #[inline]
    pub(super) fn notify_done(&self, cell: &Cell, was: cell::State) {
        event::notify(&cell.done, i32::MAX);
        if was.has(WATCHED) {
            event::notify(&self.control.completed.word, i32::MAX);
        }
        if was.has(ABANDONED) && !was.has(SHARED) {
            // CRASH: recovery of whoever dies frees what is left like this.
            self.free(None, cell, was.generation(), DONE);
        }
        if self.phase() != phase::OPEN {
            self.notify_keeper();
        }
    }
}
