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

mod body;
mod error;
mod grip;
mod guard;
mod lock;
pub(crate) mod raw;

pub(crate) use body::bury;
pub use error::{DeadlockMember, LockError, OwnerDied};
pub use guard::LockGuard;
pub use lock::Lock;
