//! The eight ways to take a lock, the same for every kind.

/// Methods that end in `self.take(recover, deadline)`, which gives a `Result<$guard, LockError>`. `$make` makes
/// one, for the examples.
macro_rules! lock_methods {
    ($guard:ty, $what:literal, $make:literal, [$lock:ident, $try_lock:ident, $timeout:ident, $deadline:ident],
     [$recover:ident, $try_recover:ident, $recover_timeout:ident, $recover_deadline:ident]) => {
        #[doc = concat!("Takes ", $what, " if nobody has it.")]
        ///
        /// # Errors
        #[doc = concat!("[`LockError::WouldBlock`](crate::sync::LockError::WouldBlock) when somebody has it; otherwise as [`", stringify!($lock), "`](Self::", stringify!($lock), ").")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("let held = lock.", stringify!($try_lock), "()?;")]
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $try_lock(&self) -> Result<$guard, $crate::sync::LockError> {
            let now = $crate::os::clock::Deadline::after(std::time::Duration::ZERO);
            self.take(false, now).map_err($crate::sync::LockError::at_once)
        }

        #[doc = concat!("Takes ", $what, ", and waits for it at most `timeout`. A timeout of zero tries once.")]
        ///
        /// # Errors
        #[doc = concat!("[`LockError::TimedOut`](crate::sync::LockError::TimedOut) when somebody had it all the time; otherwise as [`", stringify!($lock), "`](Self::", stringify!($lock), ").")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("let held = lock.", stringify!($timeout), "(std::time::Duration::from_millis(10))?;")]
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $timeout(&self, timeout: std::time::Duration) -> Result<$guard, $crate::sync::LockError> {
            self.take(false, $crate::os::clock::Deadline::after(timeout))
        }

        #[doc = concat!("Takes ", $what, ", and waits for it at most until `deadline`.")]
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($timeout), "`](Self::", stringify!($timeout), ").")]
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("let held = lock.", stringify!($deadline), "(std::time::Instant::now())?; // nobody has it")]
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn $deadline(&self, deadline: std::time::Instant) -> Result<$guard, $crate::sync::LockError> {
            self.take(false, $crate::os::clock::Deadline::at(deadline))
        }

        #[doc = concat!("Takes ", $what, " also when it is poisoned, clears the mark, and tells: `recovered_from()` of the guard says who died. Waits as long as it takes.")]
        ///
        /// If this process dies before it lets go, the mark is there again.
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($lock), "`](Self::", stringify!($lock), "), but for the mark.")]
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
            self.take(true, $crate::os::clock::Deadline::NEVER)
        }

        #[doc = concat!("As [`", stringify!($recover), "`](Self::", stringify!($recover), "), if nobody has it.")]
        ///
        /// # Errors
        /// [`LockError::WouldBlock`](crate::sync::LockError::WouldBlock) when somebody has it.
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
            self.take(true, now).map_err($crate::sync::LockError::at_once)
        }

        #[doc = concat!("As [`", stringify!($recover), "`](Self::", stringify!($recover), "), but waits at most `timeout`.")]
        ///
        /// # Errors
        /// [`LockError::TimedOut`](crate::sync::LockError::TimedOut) when somebody had it all the time.
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
            self.take(true, $crate::os::clock::Deadline::after(timeout))
        }

        #[doc = concat!("As [`", stringify!($recover), "`](Self::", stringify!($recover), "), but waits at most until `deadline`.")]
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($recover_timeout), "`](Self::", stringify!($recover_timeout), ").")]
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
            self.take(true, $crate::os::clock::Deadline::at(deadline))
        }
    };
}

/// What the guard of a lock tells and can do, for guards with a field `state`.
macro_rules! guard_methods {
    ($make:literal, $lock:ident, $recover:ident) => {
        /// Who died or panicked holding it before us, if it was poisoned when it was taken. The example of
        /// [`poison`](Self::poison) shows it.
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

        /// Marks it: whoever comes next is told that what it guards may be broken, as if this thread had
        /// panicked.
        ///
        /// ```
        #[doc = concat!("let lock = ", $make, "?;")]
        #[doc = concat!("lock.", stringify!($lock), "()?.poison();")]
        #[doc = concat!("assert!(lock.", stringify!($lock), "().is_err());")]
        #[doc = concat!("let held = lock.", stringify!($recover), "()?;")]
        /// assert_eq!(held.recovered_from().map(|who| who.pid), Some(std::process::id() as i32));
        /// # drop(held);
        /// # Ok::<(), procession::Error>(())
        /// ```
        pub fn poison(mut self) {
            self.state.set($crate::sync::guard_state::POISON_ON_RELEASE);
        }
    };
}

pub(crate) use {guard_methods, lock_methods};
