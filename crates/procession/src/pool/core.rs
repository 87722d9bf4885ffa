//! [`Core`]: a pool as each process of the family sees it, its users and its workers alike.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::cell::{self, ABANDONED, Cell, DONE, FREE, NEW, QUEUED, RETURNED, SHARED, TAKEN, WATCHED};
use super::control::{self, Control, CoreBody, phase};
use super::error::TaskError;
use super::hands::Place;
use super::watch::Watched;
use super::worker;
use crate::arena::blocks::{self, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::{Id, Kind};
use crate::arena::{Arena, collect, member, payload};
use crate::os::clock::Deadline;
use crate::queue::ring::{self, Piece, Refusal, Ring};
use crate::rules::{self, Rule};
use crate::sync::raw::event;
use crate::{Error, Result};

/// See the module.
pub(super) struct Core {
    handle: Handle,
    pub(super) arena: &'static Arena,
    pub(super) ring: Ring,
    pub(super) control: &'static Control,
    /// Cells that this process has freed: a hint.
    free: Mutex<Vec<u32>>,
    /// Where a free cell is looked for, if there is none in `free`: a hint.
    hand: AtomicU32,
    /// How many more tasks get fresh cells without a look at used ones.
    fresh: AtomicU32,
    /// Whom to call in this process: see `watch.rs`.
    pub(super) watched: Mutex<Watched>,
}

/// How many used cells are looked at before a fresh one is taken.
const LOOK: u32 = 32;
/// After a look at used cells in vain, so many tasks get fresh ones.
const FRESH: u32 = 512;
/// How many free cells are remembered.
const REMEMBERED: usize = 1 << 16;

/// A task in its cell.
#[derive(Clone, Copy)]
pub(super) struct Seat {
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) cell: &'static Cell,
}

/// A task that this process has in its hands.
pub(super) struct Held {
    pub(super) seat: Seat,
    pub(super) place: Place,
}

impl Core {
    /// Makes a pool without workers. `fill` sees its settings before anybody else.
    pub(super) fn create(fill: impl FnOnce(&Control)) -> Result<Arc<Core>> {
        let (arena, slot) = (member::arena()?, member::slot());
        let block = control::allocate()?;
        let made = ring::make::<CoreBody>(u64::MAX, u64::MAX, 8);
        let (handle, ring) =
            made.inspect_err(|_| _ = blocks::free(arena, slot, block, Tag::process(slot)))?;
        let stale = || Error::StaleHandle("this pool no longer exists".into());
        let control = control::control_at(arena, block).ok_or_else(stale)?;
        control.maker.store(slot + 1, Ordering::Relaxed);
        control.hands.mark_user(slot);
        fill(control);
        control.hands.reach(control.wanted.load(Ordering::Relaxed));
        handle.object().blocks[1].store(block, Ordering::Release);
        // CRASH: before this the block is swept with us, and the object goes with its only handle.
        blocks::hand_over(arena, block, Tag::process(slot), Tag::object(handle.id().index()));
        Ok(Arc::new(Core::with(arena, handle, ring, control)))
    }

    fn with(arena: &'static Arena, handle: Handle, ring: Ring, control: &'static Control) -> Core {
        Core {
            handle,
            arena,
            ring,
            control,
            free: Mutex::default(),
            hand: AtomicU32::new(0),
            fresh: AtomicU32::new(0),
            watched: Mutex::default(),
        }
    }

    /// The pool that a handle names.
    pub(super) fn of(handle: Handle) -> Result<Arc<Core>> {
        let arena = member::arena()?;
        let index = handle.id().index();
        let stale = || Error::StaleHandle("this pool no longer exists".into());
        let ring = Ring::of(index).map_err(|_| stale())?;
        let control = control::control_of(arena, index).ok_or_else(stale)?;
        Ok(Arc::new(Core::with(arena, handle, ring, control)))
    }

    /// The pool with this id, which something that the caller holds keeps alive.
    pub(super) fn take(id: Id) -> Result<Arc<Core>> {
        let handle = Handle::take(id, Kind::PoolCore)?;
        handle.object().touch();
        Core::of(handle)
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn owner(&self) -> Tag {
        Tag::object(self.handle.id().index())
    }

    pub(super) fn phase(&self) -> u32 {
        self.control.phase.load(Ordering::SeqCst)
    }

    /// Moves the pool on; it never goes back.
    pub(super) fn advance(&self, to: u32) {
        self.control.phase.fetch_max(to, Ordering::SeqCst);
        self.tell_keeper();
        event::notify(&self.ring.control().filled.word, i32::MAX);
    }

    /// Has more workers, or fewer.
    pub(super) fn resize(&self, workers: u32) {
        // There is room for what new ones have in their hands before there are any.
        self.control.hands.reach(workers);
        // CRASH: whoever dies behind this has a handle, so recovery wakes the keeper and the workers.
        self.control.wanted.store(workers, Ordering::SeqCst);
        self.tell_keeper();
        event::notify(&self.ring.control().filled.word, i32::MAX);
    }

    pub(super) fn tell_keeper(&self) {
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

    /// Takes a cell for a task of this process's; `late` if a closed pool takes it, too.
    pub(super) fn begin(&self, late: bool) -> Result<Seat, TaskError> {
        if member::is_forked() {
            return Err(TaskError::unusable(&Error::Forked));
        }
        // CRASH: before any cell names us: recovery looks for us in all of them.
        self.control.hands.mark_user(member::slot());
        let seat = self.find_free().map_err(|e| TaskError::unusable(&e))?;
        let cell = seat.cell;
        cell.owner.store(member::slot() + 1, Ordering::Relaxed);
        cell.handles.store(1, Ordering::Relaxed);
        for word in [&cell.filled, &cell.fate, &cell.clock_ns] {
            word.store(0, Ordering::Relaxed);
        }
        // ORDERING: the cell is `NEW` before the phase is read: who closes the pool looks at the cells after
        // that, so either we see that it is closed, or we are waited for.
        let refusal = self.refusal().filter(|_| !late || self.phase() != phase::CLOSED);
        if let Some(refusal) = refusal {
            self.give_up(seat);
            return Err(refusal);
        }
        Ok(seat)
    }

    fn find_free(&self) -> Result<Seat> {
        let remembered = self.free.lock().unwrap_or_else(|e| e.into_inner()).pop();
        if let Some(seat) = remembered.and_then(|index| self.claim(index)) {
            return Ok(seat);
        }
        let (used, fresh) = (self.control.used(), self.fresh.load(Ordering::Relaxed));
        if fresh > 0 {
            self.fresh.store(fresh - 1, Ordering::Relaxed);
        } else {
            for _ in 0..LOOK.min(used) {
                let index = self.hand.fetch_add(1, Ordering::Relaxed) % used;
                if let Some(seat) = self.claim(index) {
                    return Ok(seat);
                }
            }
            self.fresh.store(FRESH, Ordering::Relaxed);
        }
        loop {
            let index = match self.control.fresh(self.arena, self.owner()) {
                Ok(index) => index,
                Err(full) => return (0..used).find_map(|index| self.claim(index)).ok_or(full),
            };
            if let Some(seat) = self.claim(index) {
                return Ok(seat);
            }
        }
    }

    fn claim(&self, index: u32) -> Option<Seat> {
        let cell = self.cell(index)?;
        if cell.state().phase() != FREE {
            return None;
        }
        let me = member::slot();
        // CRASH: `NEW` by us; recovery frees it.
        let was = cell.shift(|s| (s.phase() == FREE).then(|| s.to(NEW).by(me))).ok()?;
        Some(Seat { index, generation: was.generation(), cell })
    }

    /// Frees a cell that did not become a task.
    pub(super) fn give_up(&self, seat: Seat) {
        self.free(Some(seat.index), seat.cell, seat.generation, NEW);
        if self.phase() != phase::OPEN {
            self.tell_keeper();
        }
    }

    /// Gives the block to the pool, in the name of a cell that names it already.
    pub(super) fn adopt(&self, block: u64) {
        if block != 0 {
            blocks::hand_over(self.arena, block, Tag::process(member::slot()), self.owner());
        }
    }

    /// Lets the workers have a task that is complete in its cell.
    pub(super) fn enqueue(&self, seat: Seat) -> Result<(), TaskError> {
        let Seat { index, generation, cell } = seat;
        // CRASH: from here on the task exists; if we die before it is in the ring, it is abandoned with us, and
        // recovery takes it back.
        let _ = cell.shift(|s| Some(s.to(QUEUED)));
        let message = (u64::from(generation) << 32 | u64::from(index)).to_le_bytes();
        if let Err(refusal) = self.ring.put(Piece::Inline(&message), Deadline::NEVER) {
            let me = member::slot();
            if cell.shift(|s| (s.phase() == QUEUED).then(|| s.to(NEW).by(me))).is_ok() {
                self.give_up(seat);
            }
            return Err(TaskError::Unusable(match refusal {
                Refusal::Unusable(error) => error.to_string(),
                _ => "there is no shared memory left for the task".into(),
            }));
        }
        // ORDERING: SeqCst, behind the message: the last worker sets this before it looks for a message again.
        if self.control.some_idle.load(Ordering::SeqCst) != 0 {
            self.tell_keeper();
        }
        // Who terminates the pool may have looked at the cell while it was `NEW`.
        match self.phase() {
            phase::OPEN | phase::CLOSED => {}
            _ => self.end_waiting(cell),
        }
        Ok(())
    }

    /// Ends a task that nobody has begun, as the pool is no more.
    pub(super) fn end_waiting(&self, cell: &Cell) {
        let ending =
            if self.phase() == phase::BROKEN { cell::ending::BROKEN } else { cell::ending::TERMINATED };
        self.end_if(cell, ending, |s| matches!(s.phase(), QUEUED | RETURNED));
    }

    /// Ends a task whose state is so; says whether it was.
    pub(super) fn end_if(&self, cell: &Cell, ending: u64, is: impl Fn(cell::State) -> bool) -> bool {
        let ended = cell.shift(|s| is(s).then(|| s.ended(ending)));
        ended.map(|was| self.tell(cell, was)).is_ok()
    }

    /// Tells of a task that has just become `DONE`.
    #[inline]
    pub(super) fn tell(&self, cell: &Cell, was: cell::State) {
        event::notify(&cell.done, i32::MAX);
        if was.has(WATCHED) {
            event::notify(&self.control.completed.word, i32::MAX);
        }
        if was.has(ABANDONED) && !was.has(SHARED) {
            // CRASH: recovery of whoever dies frees what is left like this.
            self.free(None, cell, was.generation(), DONE);
        }
        if self.phase() != phase::OPEN {
            self.tell_keeper();
        }
    }

    /// Frees the cell of this task, if it is still in this phase.
    pub(super) fn free(&self, index: Option<u32>, cell: &Cell, generation: u32, phase: u64) {
        let me = member::slot();
        let is = |s: cell::State| s.phase() == phase && s.generation() == generation;
        if cell.shift(|s| is(s).then(|| s.freeing(me))).is_err() {
            return;
        }
        let mut collect = false;
        for block in control::strip(self.arena, self.owner(), Tag::process(me), cell) {
            collect |= blocks::free(self.arena, me, block, Tag::process(me));
        }
        cell.owner.store(0, Ordering::Relaxed);
        let _ = cell.shift(|s| Some(s.freed()));
        if collect {
            collect::want(self.arena);
        }
        if let Some(index) = index {
            let mut free = self.free.lock().unwrap_or_else(|e| e.into_inner());
            if free.len() < REMEMBERED {
                free.push(index);
            }
        }
    }

    /// Takes this task, if nobody has begun it, for this process to run.
    pub(super) fn take_seat(&self, index: u32, generation: u32) -> Option<Held> {
        let (cell, me, number) = (self.cell(index)?, member::slot(), worker::number());
        let hands = &self.control.hands;
        let noted = rules::holds(Rule::HandNoted).then(|| hands.pick_up(number, me, index));
        // CRASH: `TAKEN` by us, and perhaps still in the ring: recovery returns it, and who finds the number in
        // the ring takes it from there, or finds that somebody else has.
        let taken = cell.shift(|s| {
            let waits = matches!(s.phase(), QUEUED | RETURNED) && s.generation() == generation;
            waits.then(|| s.to(TAKEN).by(me))
        });
        let place = noted.unwrap_or_else(|| hands.pick_up(number, me, index));
        if taken.is_err() {
            place.clear();
            return None;
        }
        Some(Held { seat: Seat { index, generation, cell }, place })
    }

    /// A task that came back.
    pub(super) fn take_returned(&self) -> Option<Held> {
        let hint = &self.control.returned.word;
        if hint.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // ORDERING: SeqCst, before the look at the cells: who returns one sets this after it.
        hint.store(0, Ordering::SeqCst);
        let list = &self.control.returned_list;
        let take = |index, generation| self.take_seat(index, generation);
        let listed = list.find(self.control, self.arena, take);
        let found = listed.or_else(|| list.find_unlisted(|| self.take_unlisted()));
        if found.is_some() {
            // There may be another, and others may have looked while this said no.
            // CRASH: recovery of whoever dies sets it and wakes them, too.
            hint.store(1, Ordering::SeqCst);
            if rules::holds(Rule::ReturnedToldOn) {
                event::notify(&self.ring.control().filled.word, 1);
            }
        }
        found
    }

    /// One of those that are too many for the list.
    #[cold]
    fn take_unlisted(&self) -> Option<Held> {
        // From where the last one was: so many of them are not looked for from the beginning each time.
        let (used, from) = (self.control.used(), self.control.returned_from.load(Ordering::Relaxed));
        (from.min(used)..used).chain(0..from.min(used)).find_map(|index| {
            let state = self.cell(index)?.state();
            let held = (state.phase() == RETURNED).then(|| self.take_seat(index, state.generation()))??;
            self.control.returned_from.store(index + 1, Ordering::Relaxed);
            Some(held)
        })
    }
}
