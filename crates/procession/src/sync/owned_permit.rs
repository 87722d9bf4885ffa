//! [`OwnedPermit`]: a permit that owns a handle to its semaphore.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering};

use super::permit::Permit;
use super::raw::permits::ABSENT;
use super::semaphore::Semaphore;
use super::wait::WaitError;

/// A [`Permit`] that borrows nothing. So it can be kept in a struct, in a task of an async runtime, or in another thread.
/// Dropping it returns the permit.
///
/// # If a process dies
///
/// The permit is free again, as with a [`Permit`].
///
/// ```
/// use procession::sync::{OwnedPermit, Semaphore};
///
/// struct Job {
///     number: u32,
///     _place: OwnedPermit,
/// }
///
/// let places = Semaphore::new(2)?;
/// let jobs = (0..2).map(|number| Ok(Job { number, _place: places.acquire_owned()? }));
/// let jobs = jobs.collect::<procession::Result<Vec<_>>>()?;
/// assert_eq!((jobs[1].number, places.available_permits()), (1, 0));
/// drop(jobs);
/// assert_eq!(places.available_permits(), 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "dropping the permit returns it immediately"]
pub struct OwnedPermit {
    semaphore: Semaphore,
    /// The permit's cell. `None` once the permit is forgotten.
    cell: Option<&'static AtomicU32>,
}

impl Semaphore {
    /// Acquires a permit that borrows nothing. Waits for one without a limit. [`Permit::into_owned`] converts
    /// a permit that was acquired in another way.
    ///
    /// # Errors
    /// The errors of [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// let printers = procession::sync::Semaphore::new(2)?;
    /// let permit = printers.acquire_owned()?;
    /// std::thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(printers.available_permits(), 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn acquire_owned(&self) -> Result<OwnedPermit, WaitError> {
        self.acquire().map(Permit::into_owned)
    }
}

impl Permit<'_> {
    /// Returns the same permit as an [`OwnedPermit`], which owns a handle to the semaphore.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::sync::Semaphore;
    /// let printers = Semaphore::new(1)?;
    /// let permit = printers.acquire_timeout(Duration::from_secs(1))?.into_owned();
    /// drop(permit);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn into_owned(self) -> OwnedPermit {
        let permit = ManuallyDrop::new(self);
        OwnedPermit { semaphore: permit.semaphore.clone(), cell: Some(permit.cell) }
    }
}

impl OwnedPermit {
    /// Removes the permit from the semaphore for good: see [`Permit::forget`].
    ///
    /// ```
    /// let semaphore = procession::sync::Semaphore::new(2)?;
    /// semaphore.acquire_owned()?.forget();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn forget(mut self) {
        if let Some(cell) = self.cell.take() {
            // CRASH: if we die before this store, the permit comes back. After this store, the permit is
            // gone.
            cell.store(ABSENT, Ordering::SeqCst);
        }
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        if let Some(cell) = self.cell {
            self.semaphore.return_permit(cell);
        }
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit").field("semaphore", &self.semaphore).finish_non_exhaustive()
    }
}
