//! A child that executes the program again before its function runs.
//!
//! The child keeps its process id, its parent, its slot and its request. The arena's file stays open across
//! the execution. The hook recognizes the process by the path that was executed, finds its slot, and
//! continues the child's work.
//!
//! CRASH: the slot is `GO` until the new image stores `RUNNING`. A child that dies before that store (while
//! it executes, or in a constructor) has ended, and its spawner is notified.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::child;
use super::hook::{self, Meant};
use crate::arena::{Arena, member, slots};
use crate::os::{fd, launch, process, signal};
use crate::{Error, Result};

/// The descriptor of the arena's file is always this one.
const MEMFD: i32 = 3;

/// Executes the program again in this process, whose slot is `index`. Returns only when that fails.
pub(super) fn execute(arena: &Arena, index: u32, memfd: &OwnedFd, mask: signal::Mask) -> Result<()> {
    let failed = |e| Error::os("executing the program again", &e);
    let request = &arena.slot(index).request;
    request.mask.store(mask, Ordering::Relaxed);
    request.hook.store(hook::address(), Ordering::Release);
    if memfd.as_raw_fd() == MEMFD {
        fd::keep_over_exec(MEMFD).map_err(failed)?;
    } else {
        fd::duplicate_onto(std::os::fd::AsFd::as_fd(memfd), MEMFD).map_err(failed)?;
    }
    Err(failed(launch::become_self(MEMFD)))
}

/// A child that has executed the program.
pub(super) struct Former {
    arena: Arena,
    inode: u64,
    index: u32,
    mask: signal::Mask,
}

impl Former {
    /// Finds the slot of this process.
    pub(super) fn find() -> Result<Former, Meant> {
        let opened = fd::borrow_if_open(MEMFD)
            .and_then(|memfd| Some((Arena::open(memfd).ok()?, process::inode(memfd).ok()?)));
        let (arena, inode) = opened.ok_or(Meant::ForNobody)?;
        let used = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
        let own = |&index: &u32| {
            let slot = arena.slot(index);
            slot.pid.load(Ordering::SeqCst) == process::pid()
                && slots::phase(slot.state.load(Ordering::SeqCst)) == slots::GO
        };
        let index = (1..used).find(own).ok_or(Meant::ForNobody)?;
        let request = &arena.slot(index).request;
        if request.hook.load(Ordering::Acquire) != hook::address() {
            return Err(Meant::ForAnother);
        }
        let mask = request.mask.load(Ordering::Relaxed);
        Ok(Former { arena, inode, index, mask })
    }

    /// Continues as the child of the slot.
    pub(super) fn go_on(self) -> ! {
        fd::close_raw(MEMFD);
        let Ok(arena) = member::join_as_child(self.arena, self.inode, self.index) else {
            process::exit_now(1)
        };
        child::go_on(arena, self.index, self.mask)
    }
}
