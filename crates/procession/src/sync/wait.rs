//! Waiting for anything but a lock: the errors, and the loop that every such wait runs.

use std::fmt;
use std::sync::atomic::AtomicU32;

use serde::{Deserialize, Serialize};

use super::raw::event;
use super::raw::park::{self, Wait};
use super::spin::spin;
use crate::arena::member;
use crate::arena::thread::{Me, with_me};
use crate::os::clock::Deadline;

/// Why waiting on a semaphore, event, barrier or latch failed. Plain data: it can be cloned and sent.
///
/// ```
/// use procession::sync::{Event, WaitError};
/// match Event::new()?.wait_timeout(std::time::Duration::from_millis(10)) {
///     Err(WaitError::TimedOut) => println!("not yet"),
///     happened => happened?,
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WaitError {
    /// The event has not happened, and the call does not wait.
    WouldBlock,
    /// The event had not happened when the timeout expired.
    TimedOut,
    /// The barrier is broken. The value says why. [`reset`](super::Barrier::reset) repairs it.
    Broken(Broken),
    /// The object cannot be used from this thread or process. The text says why.
    Unusable(String),
    /// Main has ended, and main has held every permit for five seconds since then. See [the end of the
    /// program](crate#the-end-of-the-program).
    MainEnded,
    /// The shared memory of the family, or a table in it, is full. The text says which processes hold how much.
    Full(String),
}

/// Why a [`Barrier`](super::Barrier) is broken.
///
/// ```
/// use procession::sync::{Barrier, Broken, WaitError};
/// let barrier = Barrier::new(2)?;
/// barrier.abort()?;
/// assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::Aborted)));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Broken {
    /// A process that had a handle to the barrier was killed or called `exit`. Or it returned while one of its
    /// threads waited at the barrier.
    ProcessDied {
        /// The id of that process. The kernel may have given the id to another process since.
        pid: u32,
    },
    /// A panic unwound through a handle to the barrier.
    Panicked {
        /// The id of the process that panicked.
        pid: u32,
    },
    /// A party's wait timed out.
    TimedOut,
    /// A party called [`abort`](super::Barrier::abort).
    Aborted,
    /// A party called [`reset`](super::Barrier::reset) while this party waited.
    Reset,
}

impl WaitError {
    pub(super) fn unusable(error: &crate::Error) -> WaitError {
        match error {
            crate::Error::Full(why) => WaitError::Full(why.clone()),
            other => WaitError::Unusable(other.to_string()),
        }
    }

    /// Converts the [`WaitError::TimedOut`] of a call that does not wait into [`WaitError::WouldBlock`].
    pub(super) fn at_once(self) -> WaitError {
        match self {
            WaitError::TimedOut => WaitError::WouldBlock,
            other => other,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::ProcessDied { pid } => write!(f, "process {pid} died"),
            Broken::Panicked { pid } => write!(f, "a party in process {pid} panicked"),
            Broken::TimedOut => f.write_str("the wait of a party timed out"),
            Broken::Aborted => f.write_str("a party called abort()"),
            Broken::Reset => f.write_str("a party called reset()"),
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::WouldBlock => {
                f.write_str("the call would have to wait; wait with wait() or acquire(), or try again later")
            }
            WaitError::TimedOut => f.write_str("timed out: the event did not happen before the deadline"),
            WaitError::Broken(why) => write!(f, "the barrier is broken: {why}; repair it with reset()"),
            WaitError::MainEnded => {
                f.write_str("main has ended, but still holds every permit; drop them before main ends")
            }
            WaitError::Unusable(why) | WaitError::Full(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for WaitError {}

/// Waits until `ready` returns a value: spins for a moment, then sleeps. After every change that can make `ready`
/// succeed, the process that made it must call [`event::notify`] on `events`.
#[cold]
pub(super) fn until<T>(
    events: &'static AtomicU32,
    deadline: Deadline,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    let arena = member::arena().map_err(|e| WaitError::unusable(&e))?;
    let mut done = ready();
    if done.is_none() && !deadline.passed() {
        spin(deadline, || {
            done = ready();
            done.is_some()
        });
    }
    let wait = |me: &Me| loop {
        if let Some(done) = done.take().or_else(&mut ready) {
            return Ok(done);
        }
        if deadline.passed() {
            return Err(WaitError::TimedOut);
        }
        // ORDERING: the wait is announced before `ready` is called again. A process that makes `ready`
        // succeed may die before it notifies. Then either the death sweep sees our announcement, or the sweep
        // began before we called `ready`, and we see the change.
        let wait = Wait::announce_event(arena, me.record(), events);
        let ticket = event::prepare(events);
        if let Some(done) = ready() {
            return Ok(done);
        }
        wait.sleep(events, ticket, deadline);
    };
    with_me(wait).map_err(|e| WaitError::unusable(&e))?
}

/// Returns how many threads sleep on this event count, for `Debug`.
pub(super) fn waiters(events: &AtomicU32) -> usize {
    member::mapped().map_or(0, |arena| park::sleepers_on(arena, events))
}

/// Implements `Serialize` and `Deserialize` for a type that is a handle.
macro_rules! travels {
    ($name:ident $(<$t:ident: $bound:path>)?, $kind:expr) => {
        impl$(<$t: $bound>)? serde::Serialize for $name$(<$t>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.handle.serialize(serializer)
            }
        }

        #[cfg(feature = "internals")]
        impl$(<$t: $bound>)? crate::arena::handle::HasHandle for $name$(<$t>)? {
            fn object_index(&self) -> u32 {
                self.handle.id().index()
            }
        }

        impl<'de$(, $t: $bound)?> serde::Deserialize<'de> for $name$(<$t>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let handle = crate::arena::handle::Handle::deserialize(deserializer, $kind)?;
                Self::of(handle).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use travels;
