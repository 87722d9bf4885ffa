//! [`LockError`]: why a lock was not acquired.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a lock was not acquired. Plain data: it holds no guard, and it can be cloned and sent.
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
    /// The lock is poisoned: a process died while it held the lock, and no process has recovered the lock since. The
    /// lock is free. [`lock_or_recover`](super::Lock::lock_or_recover) acquires it.
    OwnerDied(OwnerDied),
    /// The lock is poisoned: a thread panicked while it held the lock, and no thread has recovered the lock since.
    /// The lock is free. [`lock_or_recover`](super::Lock::lock_or_recover) acquires it.
    Panicked(OwnerDied),
    /// Another thread holds the lock, and the call does not wait.
    WouldBlock,
    /// Another thread still held the lock when the timeout expired.
    TimedOut,
    /// The wait would never end. Each thread in the cycle waits for the next, and this thread was the last to
    /// join. When this thread releases something that it holds, the other threads can continue. A thread that
    /// already holds the lock gets this error immediately. A cycle of several threads is found after a tenth
    /// of a second.
    Deadlock {
        /// The threads of the cycle. Each waits for the next, and the last waits for the first.
        cycle: Vec<DeadlockMember>,
    },
    /// The lock cannot be used from this thread or process. The text says why.
    Unusable(String),
    /// Main has ended, and a thread of main has held the lock for five seconds since then. The thread may still use
    /// what the lock guards, so the lock stays held. See [the end of the program](crate#the-end-of-the-program).
    MainEnded {
        /// The kernel's id of main's thread.
        thread: u32,
    },
    /// The shared memory of the family, or a table in it, is full. The text says which processes hold how much.
    Full(String),
}

/// The process that held a lock when it died or panicked.
///
/// ```
/// let lock = procession::Lock::new()?;
/// lock.lock()?.poison();
/// let held = lock.lock_or_recover()?;
/// let who = held.recovered_from().expect("it was poisoned");
/// assert_eq!((who.pid, who.name.as_str()), (std::process::id(), "main"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnerDied {
    /// The id of that process. The kernel may have given the id to another process since.
    pub pid: u32,
    /// The name of the process, cut to 32 bytes.
    pub name: String,
}

/// One thread of a deadlock.
///
/// ```
/// use procession::{Lock, sync::LockError};
/// let lock = Lock::labeled("stock")?;
/// let _held = lock.lock()?;
/// let Err(LockError::Deadlock { cycle }) = lock.lock() else { panic!("taken twice") };
/// assert_eq!((cycle.len(), cycle[0].lock.as_str()), (1, "stock"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadlockMember {
    /// The process id.
    pub pid: u32,
    /// The name of the process.
    pub process: String,
    /// The kernel's id of the thread.
    pub thread: u32,
    /// The name of the lock that the thread waits for. Empty if the lock has no name.
    pub lock: String,
}

impl OwnerDied {
    pub(super) fn new(pid: u32, name: String) -> OwnerDied {
        OwnerDied { pid, name }
    }
}

impl DeadlockMember {
    pub(super) fn new(pid: u32, process: String, thread: u32, lock: String) -> DeadlockMember {
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

    /// Converts the [`LockError::TimedOut`] of a call that does not wait into [`LockError::WouldBlock`].
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
        const ADVICE: &str = "what it guards may be half-done; acquire it with lock_or_recover() and check";
        match self {
            LockError::OwnerDied(who) => write!(f, "{who} died while it held the lock: {ADVICE}"),
            LockError::Panicked(who) => write!(f, "{who} panicked while it held the lock: {ADVICE}"),
            LockError::WouldBlock => {
                f.write_str("another thread holds the lock; wait for it with lock() or try again later")
            }
            LockError::TimedOut => f.write_str("timed out: another thread held the lock until the deadline"),
            LockError::Deadlock { cycle } => {
                f.write_str("deadlock: ")?;
                for (n, one) in cycle.iter().enumerate() {
                    let (then, lock) = (if n == 0 { "" } else { "; " }, one.lock.as_str());
                    let lock = if lock.is_empty() { "a lock" } else { lock };
                    write!(
                        f,
                        "{then}{} (pid {}, thread {}) waits for {lock}",
                        one.process, one.pid, one.thread
                    )?;
                }
                match cycle.len() {
                    1 => f.write_str(", which it holds itself: release it first"),
                    _ => f.write_str(": release what you hold, then try again"),
                }
            }
            LockError::MainEnded { thread } => write!(
                f,
                "main has ended, but its thread {thread} still holds the lock; release it before main ends, or join the thread"
            ),
            LockError::Unusable(why) | LockError::Full(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LockError {}
