//! How a worker takes a task: it notes the cell in its row, the number leaves the ring, the cell's word names it.
//!
//! The cell comes from another processor, and that takes longer than all the rest: so it is waited for when the others
//! can have their turn at the ring.

use std::sync::atomic::Ordering;

use super::cells::cell::{QUEUED, RETURNED, TAKEN};
use super::cells::claims::Place;
use super::shared::{Core, Seat};
use super::worker;
use crate::arena::member;
use crate::rules::{self, Rule};
use crate::sync::raw::event;

/// A task that this process is about to take.
pub(super) struct Reservation {
    held: Held,
    taken: bool,
}

/// A task that this process has in its hands.
pub(super) struct Held {
    pub(super) seat: Seat,
    pub(super) place: Place,
}

impl Core {
    /// Takes this task, if nobody has begun it, for this process to run.
    pub(super) fn take_seat(&self, index: u32, generation: u32) -> Option<Held> {
        self.grasp(self.reach_for(index, generation)?)
    }

    /// Notes that this process is about to take this task, whose number may leave the ring behind this.
    ///
    /// CRASH: recovery returns a task that waits and that the dead one reached for, wherever its number is; who finds
    /// that in the ring takes the task from there, or finds that somebody else has.
    #[inline]
    pub(super) fn reach_for(&self, index: u32, generation: u32) -> Option<Reservation> {
        let seat = Seat { index, generation, cell: self.cell(index)? };
        seat.cell.prefetch();
        if !rules::holds(Rule::HandNoted) {
            return Some(Reservation { held: Held { seat, place: Place::NONE }, taken: false });
        }
        let place = self.note(index);
        // Where there is no place for it, nobody would know: so it is taken while its number is in the ring.
        let taken = place.is_none() && self.name_this_process(seat);
        Some(Reservation { held: Held { seat, place }, taken })
    }

    /// Takes what this process has reached for, if nobody else has.
    #[inline]
    pub(super) fn grasp(&self, reach: Reservation) -> Option<Held> {
        let Reservation { mut held, taken } = reach;
        if !taken && !self.name_this_process(held.seat) {
            held.place.clear();
            return None;
        }
        if !rules::holds(Rule::HandNoted) {
            held.place = self.note(held.seat.index);
        }
        Some(held)
    }

    #[inline]
    fn note(&self, index: u32) -> Place {
        self.control.hands.pick_up(worker::number(), member::slot(), index)
    }

    /// CRASH: `TAKEN` by us: recovery returns it.
    #[inline]
    fn name_this_process(&self, seat: Seat) -> bool {
        let me = member::slot();
        let taken = seat.cell.shift(|s| {
            let waits = matches!(s.phase(), QUEUED | RETURNED) && s.generation() == seat.generation;
            waits.then(|| s.to(TAKEN).by(me))
        });
        taken.is_ok()
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
