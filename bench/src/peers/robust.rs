//! pthread's mutex for processes, which stays usable when its owner dies: `PTHREAD_MUTEX_ROBUST`.

use crate::Result;

/// A process-shared robust mutex in memory that a fork shares.
#[derive(Clone, Copy)]
pub struct RobustMutex {
    at: *mut libc::pthread_mutex_t,
}

// SAFETY: the mutex is made to be used by many threads, and is never unmapped.
unsafe impl Send for RobustMutex {}
// SAFETY: as above.
unsafe impl Sync for RobustMutex {}

impl RobustMutex {
    /// Creates an unlocked mutex in an anonymous shared mapping.
    pub fn new() -> Result<RobustMutex> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        let at = at.cast::<libc::pthread_mutex_t>();
        // SAFETY: the attributes are initialized before they are used; `at` is a page of our own.
        unsafe {
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            check(libc::pthread_mutexattr_init(&mut attributes))?;
            check(libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST))?;
            check(libc::pthread_mutex_init(at, &attributes))?;
            check(libc::pthread_mutexattr_destroy(&mut attributes))?;
        }
        Ok(RobustMutex { at })
    }

    /// Acquires the mutex. Returns true if its last owner died.
    #[inline]
    pub fn lock(&self) -> Result<bool> {
        // SAFETY: initialized in `new`, never unmapped.
        match unsafe { libc::pthread_mutex_lock(self.at) } {
            0 => Ok(false),
            libc::EOWNERDEAD => {
                // SAFETY: as above, and we hold it.
                check(unsafe { libc::pthread_mutex_consistent(self.at) })?;
                Ok(true)
            }
            error => Err(std::io::Error::from_raw_os_error(error).into()),
        }
    }

    /// Acquires the mutex if it is free. Returns whether it did.
    pub fn try_lock(&self) -> bool {
        // SAFETY: as in `lock`.
        unsafe { libc::pthread_mutex_trylock(self.at) == 0 }
    }

    /// Releases the mutex. Does nothing unless the calling thread holds it.
    #[inline]
    pub fn unlock(&self) {
        // SAFETY: as in `lock`; a robust mutex checks which thread unlocks it.
        unsafe { libc::pthread_mutex_unlock(self.at) };
    }
}

fn check(error: i32) -> Result {
    match error {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error).into()),
    }
}
