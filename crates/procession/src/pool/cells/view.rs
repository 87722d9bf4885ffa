//! [`PoolView`]: a pool's part of the shared memory, for code that works on its cells.

use std::sync::atomic::Ordering;

use super::cell::Cell;
use super::control::{self, Control, phase};
use super::state::{State, WATCHED, ending};
use crate::arena::blocks::{self, Tag};
use crate::arena::{Arena, member};
use crate::rules;
use crate::rules::Rule;
use crate::sync::raw::event;

/// The arena, the pool's control block in it, and the tag of the blocks that belong to the pool.
#[derive(Clone, Copy)]
pub(crate) struct PoolView<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) control: &'static Control,
    pub(crate) tag: Tag,
}

impl<'a> PoolView<'a> {
    /// Returns the view of the pool that is object `index`, or `None` if that object has no control block.
    pub(crate) fn of(arena: &'a Arena, index: u32) -> Option<PoolView<'a>> {
        Some(PoolView { arena, control: control::control_of(arena, index)?, tag: Tag::object(index) })
    }

    #[inline]
    pub(crate) fn cell(&self, index: u32) -> Option<&'static Cell> {
        self.control.cell(self.arena, index)
    }

    /// Hands a block of this process over to the pool. The block must already be named by a cell whose state
    /// names this process.
    pub(crate) fn adopt(&self, block: u64) {
        if block != 0 {
            blocks::hand_over(self.arena, block, Tag::process(member::slot()), self.tag);
        }
    }

    pub(crate) fn notify_keeper(&self) {
        event::notify(&self.control.keeper.word, i32::MAX);
    }

    /// Notifies the keeper of a death.
    pub(crate) fn notify_keeper_of_death(&self) {
        if rules::holds(Rule::KeeperNotified) {
            self.notify_keeper();
        }
    }

    /// Wakes the processes that wait for a task. The task has just become `DONE`, and `was` is its state
    /// before that.
    #[inline]
    pub(crate) fn notify_waiters(&self, cell: &Cell, was: State) {
        event::notify(&cell.done, i32::MAX);
        if was.has(WATCHED) {
            event::notify(&self.control.completed.word, i32::MAX);
        }
    }

    /// If the pool is terminated or broken, returns the ending for tasks that no worker has begun.
    pub(crate) fn ending_of_unstarted(&self) -> Option<u64> {
        match self.control.phase.load(Ordering::SeqCst) {
            phase::TERMINATED => Some(ending::TERMINATED),
            phase::BROKEN => Some(ending::BROKEN),
            _ => None,
        }
    }
}
