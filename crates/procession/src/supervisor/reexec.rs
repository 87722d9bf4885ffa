//! A child that executes the program anew before its function runs.
//!
//! It keeps its process id, its parent, its slot and its request; what it maps the arena from goes along as an
//! open descriptor. The hook finds a private variable, checks that the slot is its own, and goes on where the
//! child had stopped.
//!
//! CRASH: the slot is `GO` until the new image says `RUNNING`. A child that dies in between (while it executes, or in
//! a constructor) has ended, and its spawner is told.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::{child, hook};
use crate::arena::{Arena, member, slots};
use crate::os::{fd, launch, process, signal};
use crate::{Error, Result};

/// Set for a child that executes the program, until it has read it.
pub(super) const VARIABLE: &str = "PROCESSION_CHILD";

/// Where in the environment a child finds what it was. The descriptor of the arena is always this one.
const MEMFD: i32 = 3;

/// Executes the program anew in this process, whose slot is `index`. Returns only when that fails.
pub(super) fn execute(arena: &Arena, index: u32, memfd: &OwnedFd, mask: signal::Mask) -> Result<()> {
    let failed = |e| Error::os("executing the program anew", &e);
    let value = format!("{} {index} {} {mask}", hook::address(), arena.incarnation(index));
    if memfd.as_raw_fd() == MEMFD {
        fd::keep_over_exec(MEMFD).map_err(failed)?;
    } else {
        fd::duplicate_onto(std::os::fd::AsFd::as_fd(memfd), MEMFD).map_err(failed)?;
    }
    Err(failed(launch::become_self((VARIABLE, &value), MEMFD)))
}

/// What a child was before it executed the program.
pub(super) struct Former {
    arena: Arena,
    inode: u64,
    index: u32,
    mask: signal::Mask,
}

impl Former {
    /// Reads the value of the variable. `None` when it was not meant for this process.
    pub(super) fn parse(value: &str) -> Option<Former> {
        let mut words = value.split(' ');
        if words.next()? != hook::address() {
            return None;
        }
        let mut number = || words.next()?.parse::<u64>().ok();
        let (index, incarnation, mask) = (number()? as u32, number()? as u32, number()?);
        let memfd = fd::borrow_if_open(MEMFD)?;
        let (arena, inode) = (Arena::open(memfd).ok()?, process::inode(memfd).ok()?);
        let own = index < arena.layout.slots
            && arena.incarnation(index) == incarnation
            && arena.slot(index).pid.load(Ordering::SeqCst) == process::pid()
            && slots::phase(arena.slot(index).state.load(Ordering::SeqCst)) == slots::GO;
        own.then_some(Former { arena, inode, index, mask })
    }

    /// Goes on as the child of the slot.
    pub(super) fn go_on(self) -> ! {
        fd::close_raw(MEMFD);
        let Ok(arena) = member::join_as_child(self.arena, self.inode, self.index) else {
            process::exit_now(1)
        };
        child::go_on(arena, self.index, self.mask)
    }
}
