//! [`Permit`]: a permit of a semaphore, and how it is returned.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::raw::event;
use super::raw::event::notify;
use super::raw::permits::{ABSENT, FREE, RESERVED};
use super::semaphore::Semaphore;
use crate::os::clock::now_ns;
use crate::os::futex;
use crate::rules;
use crate::rules::Rule;

/// A permit of a [`Semaphore`]. Dropping the permit returns it to the semaphore.
///
/// ```
/// let semaphore = procession::sync::Semaphore::new(1)?;
/// let permit = semaphore.acquire()?;
/// assert_eq!(semaphore.available_permits(), 0);
/// drop(permit);
/// assert_eq!(semaphore.available_permits(), 1);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "dropping the permit returns it immediately"]
pub struct Permit<'a> {
    pub(super) semaphore: &'a Semaphore,
    pub(super) cell: &'static AtomicU32,
}

impl Permit<'_> {
    /// Removes the permit from the semaphore for good. The permit does not come back when the process ends.
    /// [`Semaphore::add_permits`] adds another one.
    ///
    /// ```
    /// let semaphore = procession::sync::Semaphore::new(2)?;
    /// semaphore.acquire()?.forget();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn forget(self) {
        // CRASH: if we die before this store, the permit comes back. After this store, the permit is gone.
        self.cell.store(ABSENT, Ordering::SeqCst);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.return_permit(self.cell);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl Semaphore {
    #[inline]
    pub(super) fn return_permit(&self, cell: &'static AtomicU32) {
        let body = self.body();
        self.remember(cell);
        if body.heir.load(Ordering::SeqCst) != 0 {
            return self.reserve_for_heir(cell);
        }
        // ORDERING: SeqCst, so that the store comes before `notify` looks for sleepers.
        // CRASH: if we die before this store, recovery returns our permit. If we die between the store and
        // the wake, the death sweep wakes the waiters.
        cell.swap(FREE, Ordering::SeqCst);
        notify(&body.events, 1);
    }

    #[cold]
    fn reserve_for_heir(&self, cell: &'static AtomicU32) {
        let body = self.body();
        body.reserved_at_ns.store(now_ns(), Ordering::Relaxed);
        cell.swap(RESERVED, Ordering::SeqCst);
        // ORDERING: a leaving heir removes itself before it looks for reserved permits. Either it sees this permit,
        // or we see that it has left.
        match body.heir.load(Ordering::SeqCst) {
            0 => notify(&body.events, 1),
            heir => {
                event::Word::count(&body.events);
                let woken = futex::wake_class(&body.events, futex::class_of(heir));
                // A stopped heir does not sleep on the futex, and this wake does not reach it. So wake
                // another waiter, which watches until the reservation ends.
                if woken == 0 && rules::holds(Rule::HeirWatched) {
                    futex::wake(&body.events, 1);
                }
            }
        }
    }
}
