//! The methods that acquire a lock, generated for every kind of lock.

/// Generates the seven methods besides `lock()` itself. Each ends in `self.acquire_slow(recover, deadline)`, which returns a
/// `Result<$guard, LockError>`. `$what` names the lock in the documentation, and `$make` creates one in the examples.
macro_rules! lock_methods {
    ($guard:ty, $what:literal, $make:literal, [$lock:ident, $try_lock:ident, $timeout:ident, $deadline:ident],
     [$recover:ident, $try_recover:ident, $recover_timeout:ident, $recover_deadline:ident]) => {
        #[doc = concat!("Acquires ", $what, " if it is free. Does not wait.")]
        ///
        /// # Errors
        #[doc = concat!("[`LockError::WouldBlock`](crate::sync::LockError::WouldBlock) if another thread holds the lock. Otherwise, the errors of [`", stringify!($lock), "`](Self::", stringify!($lock), ").")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("let held = lock.", stringify!($try_lock), "()?;")]
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $try_lock(&self) -> Result<$guard, $crate::sync::LockError> {
            let now = $crate::os::clock::Deadline::after(std::time::Duration::ZERO);
            self.acquire_slow(false, now).map_err($crate::sync::LockError::at_once)
        }

        #[doc = concat!("Acquires ", $what, ". Waits for at most `timeout`; a timeout of zero tries once.")]
        ///
        /// # Errors
        #[doc = concat!("[`LockError::TimedOut`](crate::sync::LockError::TimedOut) if other threads held the lock for the whole timeout. Otherwise, the errors of [`", stringify!($lock), "`](Self::", stringify!($lock), ").")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("let held = lock.", stringify!($timeout), "(std::time::Duration::from_millis(10))?;")]
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $timeout(&self, timeout: std::time::Duration) -> Result<$guard, $crate::sync::LockError> {
            self.acquire_slow(false, $crate::os::clock::Deadline::after(timeout))
        }

        #[doc = concat!("Acquires ", $what, ". Waits until `deadline` at the latest.")]
        ///
        /// # Errors
        #[doc = concat!("The errors of [`", stringify!($timeout), "`](Self::", stringify!($timeout), ").")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("let held = lock.", stringify!($deadline), "(std::time::Instant::now())?; // the lock is free")]
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $deadline(&self, deadline: std::time::Instant) -> Result<$guard, $crate::sync::LockError> {
            self.acquire_slow(false, $crate::os::clock::Deadline::at(deadline))
        }

        #[doc = concat!("Acquires ", $what, " even if it is poisoned, and clears the poison. `recovered_from()` of the guard returns the process that died or panicked. Waits without a limit.")]
        ///
        /// If this process dies before it releases the lock, the lock is poisoned again.
        ///
        /// # Errors
        #[doc = concat!("The errors of [`", stringify!($lock), "`](Self::", stringify!($lock), "), except those of a poisoned lock.")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("lock.", stringify!($lock), "()?.poison();")]
        #[doc = concat!("let held = lock.", stringify!($recover), "()?;")]
        /// assert!(held.recovered_from().is_some());
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $recover(&self) -> Result<$guard, $crate::sync::LockError> {
            self.acquire_slow(true, $crate::os::clock::Deadline::NEVER)
        }

        #[doc = concat!("Acquires ", $what, " like [`", stringify!($recover), "`](Self::", stringify!($recover), "), if it is free. Does not wait.")]
        ///
        /// # Errors
        /// [`LockError::WouldBlock`](crate::sync::LockError::WouldBlock) if another thread holds the lock.
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("lock.", stringify!($lock), "()?.poison();")]
        #[doc = concat!("let held = lock.", stringify!($try_recover), "()?;")]
        /// assert!(held.recovered_from().is_some());
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $try_recover(&self) -> Result<$guard, $crate::sync::LockError> {
            let now = $crate::os::clock::Deadline::after(std::time::Duration::ZERO);
            self.acquire_slow(true, now).map_err($crate::sync::LockError::at_once)
        }

        #[doc = concat!("Acquires ", $what, " like [`", stringify!($recover), "`](Self::", stringify!($recover), "). Waits for at most `timeout`.")]
        ///
        /// # Errors
        /// [`LockError::TimedOut`](crate::sync::LockError::TimedOut) if other threads held the lock for the whole
        /// timeout.
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("lock.", stringify!($lock), "()?.poison();")]
        #[doc = concat!("let held = lock.", stringify!($recover_timeout), "(std::time::Duration::from_millis(10))?;")]
        /// assert!(held.recovered_from().is_some());
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $recover_timeout(&self, timeout: std::time::Duration) -> Result<$guard, $crate::sync::LockError> {
            self.acquire_slow(true, $crate::os::clock::Deadline::after(timeout))
        }

        #[doc = concat!("Acquires ", $what, " like [`", stringify!($recover), "`](Self::", stringify!($recover), "). Waits until `deadline` at the latest.")]
        ///
        /// # Errors
        #[doc = concat!("The errors of [`", stringify!($recover_timeout), "`](Self::", stringify!($recover_timeout), ").")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("lock.", stringify!($lock), "()?.poison();")]
        #[doc = concat!("let held = lock.", stringify!($recover_deadline), "(std::time::Instant::now())?;")]
        /// assert!(held.recovered_from().is_some());
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $recover_deadline(&self, deadline: std::time::Instant) -> Result<$guard, $crate::sync::LockError> {
            self.acquire_slow(true, $crate::os::clock::Deadline::at(deadline))
        }
    };
}

/// Generates the methods of a guard that has a field `state`.
macro_rules! guard_methods {
    ($make:literal, $lock:ident, $recover:ident) => {
        /// Returns the process that died or panicked while it held the lock, if this guard recovered a poisoned lock.
        /// See the example of [`poison`](Self::poison).
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("let guard = lock.", stringify!($recover), "()?;")]
        /// assert!(guard.recovered_from().is_none());
        /// # drop(guard);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn recovered_from(&self) -> Option<&$crate::sync::OwnerDied> {
            self.state.recovered_from()
        }

        /// Poisons the lock and releases it, as if this thread had panicked. Later callers get
        /// [`LockError::Panicked`](crate::sync::LockError::Panicked).
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("lock.", stringify!($lock), "()?.poison();")]
        #[doc = concat!("assert!(lock.", stringify!($lock), "().is_err());")]
        #[doc = concat!("let held = lock.", stringify!($recover), "()?;")]
        /// assert_eq!(held.recovered_from().map(|who| who.pid), Some(std::process::id()));
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn poison(mut self) {
            self.state.set($crate::sync::guard_state::POISON_ON_RELEASE);
        }
    };
}

pub(crate) use {guard_methods, lock_methods};
