//! What can keep a lock from being taken.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a lock was not taken. Plain data: it holds no guard, and it can be cloned and sent.
///
/// ```
/// use procession::{Lock, sync::LockError};
/// let stock = Lock::new()?;
/// let _held = match stock.lock() {
///     Err(LockError::OwnerDied(_) | LockError::Panicked(_)) => {
///         let held = stock.lock_or_recover()?;
///         // ... look at what it guards, and put it right ...
///         held
///     }
///     taken => taken?,
/// };
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LockError {
    /// A process died while it held the lock, and nobody has recovered it since. The lock is free;
    /// [`lock_or_recover`](super::Lock::lock_or_recover) takes it.
    OwnerDied(OwnerDied),
    /// A thread panicked while it held the lock, and nobody has recovered it since.
    Panicked(OwnerDied),
    /// Somebody holds it, and the call was told not to wait.
    WouldBlock,
    /// Somebody held it until the time was up.
    TimedOut,
    /// Waiting would never end: each one in the cycle waits for the next, and this thread was the last to
    /// join in. It has to let go of something that it holds; then the others go on. A thread that holds
    /// the lock already is told at once, a longer cycle is noticed after a tenth of a second.
    Deadlock {
        /// Who waits for whom; the last waits for the first.
        cycle: Vec<DeadlockMember>,
    },
    /// The lock cannot be used from here at all, and why.
    Unusable(String),
    /// Main has ended, and this call has waited for five seconds since then for a lock that a thread of main holds.
    /// The thread may still use what the lock guards, so the lock stays held. See
    /// [the end of the program](crate#the-end-of-the-program).
    MainEnded {
        /// The kernel's number of main's thread.
        thread: i32,
    },
    /// The shared memory of the family, or a table in it, is full; the text says who holds how much.
    Full(String),
}

/// Who held a lock when it died or panicked.
///
/// ```
/// let lock = procession::Lock::new()?;
/// lock.lock()?.poison();
/// let held = lock.lock_or_recover()?;
/// let who = held.recovered_from().expect("it was poisoned");
/// assert_eq!((who.pid, who.name.as_str()), (std::process::id() as i32, "main"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnerDied {
    /// Its process id, which may belong to another process by now.
    pub pid: i32,
    /// The name of its process, cut to 32 bytes.
    pub name: String,
}

/// One thread of a deadlock.
///
/// ```
/// use procession::{Lock, sync::LockError};
/// let lock = Lock::named("stock")?;
/// let _held = lock.lock()?;
/// let Err(LockError::Deadlock { cycle }) = lock.lock() else { panic!("taken twice") };
/// assert_eq!((cycle.len(), cycle[0].lock.as_str()), (1, "stock"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadlockMember {
    /// The process.
    pub pid: i32,
    /// The process's name.
    pub process: String,
    /// The kernel's number of the thread.
    pub thread: i32,
    /// The name of the lock that it waits for, empty if it has none.
    pub lock: String,
}

impl OwnerDied {
    pub(super) fn new(pid: i32, name: String) -> OwnerDied {
        OwnerDied { pid, name }
    }
}

impl DeadlockMember {
    pub(super) fn new(pid: i32, process: String, thread: i32, lock: String) -> DeadlockMember {
        DeadlockMember { pid, process, thread, lock }
    }
}

impl LockError {
    pub(super) fn unusable(error: &crate::Error) -> LockError {
        match error {
            crate::Error::Full(why) => LockError::Full(why.clone()),
            other => LockError::Unusable(other.to_string()),
        }
    }

    /// What running out of time is called by a call that had none.
    pub(crate) fn at_once(self) -> LockError {
        match self {
            LockError::TimedOut => LockError::WouldBlock,
            other => other,
        }
    }
}

impl fmt::Display for OwnerDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (pid {})", self.name, self.pid)
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ADVICE: &str = "what it guards may be half-done; take it with lock_or_recover()";
        match self {
            LockError::OwnerDied(who) => write!(f, "{who} died holding the lock: {ADVICE}"),
            LockError::Panicked(who) => write!(f, "{who} panicked holding the lock: {ADVICE}"),
            LockError::WouldBlock => f.write_str("the lock is held"),
            LockError::TimedOut => f.write_str("the lock was held until the time was up"),
            LockError::Deadlock { cycle } => {
                f.write_str("deadlock:")?;
                for one in cycle {
                    let lock = if one.lock.is_empty() { "a lock" } else { &one.lock };
                    write!(f, " {} (pid {}, thread {}) waits for {lock};", one.process, one.pid, one.thread)?;
                }
                Ok(())
            }
            LockError::MainEnded { thread } => write!(
                f,
                "main has ended, but its thread {thread} keeps the lock; release it before main ends, or join the thread"
            ),
            LockError::Unusable(why) | LockError::Full(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LockError {}
