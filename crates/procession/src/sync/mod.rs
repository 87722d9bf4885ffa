//! Locks for processes and threads alike, whose owners may die.
//!
//! Everything here is a handle: clone it, send it to another process in an argument, a result or
//! a message, and it is still the same lock. It lives as long as any handle to it does.
//!
//! # If a process dies
//!
//! What a dead process held is handed on, never lost. The next one to call [`Lock::lock`] gets
//! [`LockError::OwnerDied`] instead of the lock, because what the lock guards may have been left
//! half-done; [`Lock::lock_or_recover`] gives the lock and the news together, so that the data can
//! be looked at and put right. A process that dies while it *waits* is not noticed by anybody.

mod barrier;
pub(crate) mod body;
mod condvar;
pub(crate) mod deadlock;
pub(crate) mod error;
mod event;
pub(crate) mod forms;
pub(crate) mod grip;
mod guard;
mod latch;
mod lock;
mod mutex;
mod once;
mod permits;
pub(crate) mod raw;
mod readers;
mod rlock;
mod rwlock;
mod semaphore;
pub(crate) mod taking;
pub(crate) mod wait;

use crate::arena::Arena;
use crate::arena::objects::{Kind, Object};

pub(crate) use body::bury;
/// As [`bury`], for the kinds of object that are no plain lock: what stands at `offset` in their hot line, or
/// in one of their blocks.
pub(crate) fn bury_other(
    arena: &Arena,
    slot: u32,
    id: u32,
    (index, object): (u32, &'static Object),
    offset: u64,
) {
    match object.kind() {
        Some(Kind::Semaphore) => permits::bury_growing(arena, id, object, offset),
        Some(Kind::RwLock) => {
            bury(arena, slot, id, object, offset);
            readers::bury(arena, id, object, index, offset);
        }
        _ => bury(arena, slot, id, object, offset),
    }
}

/// What the death of the process in `slot` means to an object that it has a handle to. Says whether anything
/// changed.
pub(crate) fn bury_cells(arena: &Arena, slot: u32, object: &'static Object, index: u32, left: bool) -> bool {
    match object.kind() {
        Some(Kind::Semaphore) => permits::bury(arena, slot, object, index),
        Some(Kind::Barrier) => barrier::bury(arena, slot, object, index, left),
        _ => false,
    }
}

pub use barrier::{Barrier, BarrierBuilder, BarrierWaitResult};
pub use condvar::{Condvar, Guard, WaitTimeoutResult};
pub use error::{DeadlockMember, LockError, OwnerDied};
pub use event::Event;
pub use guard::LockGuard;
pub use latch::Latch;
pub use lock::Lock;
pub use mutex::{Mutex, MutexGuard, Plain};
pub use once::Once;
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use wait::{Broken, WaitError};
