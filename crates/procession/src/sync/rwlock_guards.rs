//! [`ReadGuard`] and [`WriteGuard`]: proof that this thread may read or write a value.
#![allow(unsafe_code)] // References to the value, while the lock excludes writers, or everybody.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use super::acquire;
use super::guard_state::GuardState;
use super::lock_methods::guard_methods;
use super::raw::event::notify;
use super::rwlock::RwLock;
use crate::arena::thread;
use crate::arena::thread::Entry;

/// Proof that this thread may read the value of an [`RwLock`].
///
/// ```
/// let lock = procession::sync::RwLock::new(7u32)?;
/// let read = lock.read()?;
/// assert_eq!(*read, 7);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "dropping the guard releases the lock immediately"]
pub struct ReadGuard<'a, T> {
    pub(super) lock: &'a RwLock<T>,
    pub(super) cell: &'static AtomicU32,
    /// The value that this thread has stored in the cell.
    pub(super) me: u32,
    pub(super) entry: Entry,
    pub(super) _here: PhantomData<*mut T>,
}

/// Proof that this thread may read and write the value of an [`RwLock`].
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let lock = procession::sync::RwLock::new(1).unwrap();
/// needs_send(lock.write().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "dropping the guard releases the lock immediately"]
pub struct WriteGuard<'a, T> {
    pub(super) lock: &'a RwLock<T>,
    pub(super) state: GuardState,
    pub(super) _here: PhantomData<*mut T>,
}

impl<T> WriteGuard<'_, T> {
    guard_methods!("procession::sync::RwLock::new(0u64)", write, write_or_recover);
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the size and the alignment are right, every pattern of bytes is a `T`, and no thread writes while
        // our cell names us.
        unsafe { self.lock.value.as_ref() }
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the size and the alignment are right, every pattern of bytes is a `T`, and we hold the lock.
        unsafe { self.lock.value.as_ref() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { self.lock.value.as_ptr().as_mut_unchecked() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: SeqCst. The exchange orders our reads before the next writer's writes, and comes before
        // the check for a sleeping writer.
        // CRASH: if we die before this store, recovery clears the cell. If we die between the store and the
        // wake, the journal still names the cell, and the death sweep wakes the writer. While the program
        // ends, recovery may already have cleared the cell, and another reader may have claimed it.
        let _ = self.cell.compare_exchange(self.me, 0, Ordering::SeqCst, Ordering::SeqCst);
        notify(self.lock.cells.events(), 1);
        thread::clear_entry(self.entry);
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let body = self.lock.body();
        if !acquire::must_poison(&self.state) && body.raw.is_still_held(self.state.entry()) {
            // CRASH: from this store on, the value is whole again. Only the release remains.
            body.extra.store(0, Ordering::Release);
        }
        acquire::release(body, &mut self.state);
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
