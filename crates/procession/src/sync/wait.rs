//! Waiting for something else than a lock: what can keep it from happening, and the one loop of it all.

use std::fmt;
use std::sync::atomic::AtomicU32;

use serde::{Deserialize, Serialize};

use super::raw::event;
use super::raw::park::{self, Wait};
use super::spin::spin;
use crate::arena::member;
use crate::arena::thread::{Me, with_me};
use crate::os::clock::Deadline;

/// Why a wait for a permit, an event, a barrier, a latch ended without it. Plain data: it can be cloned and
/// sent.
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
    /// It has not happened, and the call was told not to wait.
    WouldBlock,
    /// It did not happen until the time was up.
    TimedOut,
    /// The barrier is broken, and why; [`reset`](super::Barrier::reset) makes it whole.
    Broken(Broken),
    /// The object cannot be used from here at all, and why.
    Unusable(String),
    /// Main has ended, and this call has waited for five seconds since then for a permit of which main holds all.
    /// See [the end of the program](crate#the-end-of-the-program).
    MainEnded,
    /// The shared memory of the family, or a table in it, is full; the text says who holds how much.
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
    /// A process that had a handle to it was killed or called `exit`, or ended while it waited at it.
    ProcessDied {
        /// Its process id, which may belong to another process by now.
        pid: i32,
    },
    /// A panic unwound through a handle to it.
    Panicked {
        /// The process in which that was.
        pid: i32,
    },
    /// One of those who waited had waited for too long.
    TimedOut,
    /// [`abort`](super::Barrier::abort) was called.
    Aborted,
    /// [`reset`](super::Barrier::reset) was called while somebody waited.
    Reset,
}

impl WaitError {
    pub(super) fn unusable(error: &crate::Error) -> WaitError {
        match error {
            crate::Error::Full(why) => WaitError::Full(why.clone()),
            other => WaitError::Unusable(other.to_string()),
        }
    }

    /// What running out of time is called by a call that had none.
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
            Broken::TimedOut => f.write_str("one of those who waited ran out of time"),
            Broken::Aborted => f.write_str("it was aborted"),
            Broken::Reset => f.write_str("it was reset"),
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::WouldBlock => f.write_str("it would have to wait"),
            WaitError::TimedOut => f.write_str("it did not happen until the time was up"),
            WaitError::Broken(why) => write!(f, "the barrier is broken: {why}; reset() makes it whole"),
            WaitError::MainEnded => {
                f.write_str("main has ended, but keeps every permit; give them back before main ends")
            }
            WaitError::Unusable(why) | WaitError::Full(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for WaitError {}

/// Waits until `ready` gives something: spins a moment, then sleeps. Who makes it so calls [`event::notify`] on
/// `events` afterwards.
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
        // ORDERING: announced before we look again. Who makes it so and dies before it has notified is
        // followed by a sweep, which either finds the announcement or came after we looked.
        let wait = Wait::announce_event(arena, me.record(), events);
        let ticket = event::prepare(events);
        if let Some(done) = ready() {
            return Ok(done);
        }
        wait.sleep(events, ticket, deadline);
    };
    with_me(wait).map_err(|e| WaitError::unusable(&e))?
}

/// How many threads sleep on this event count; for `Debug`.
pub(super) fn waiters(events: &AtomicU32) -> usize {
    member::mapped().map_or(0, |arena| park::sleepers_on(arena, events))
}

/// The traits of a handle that travels: `Clone` by its own fields, and through serde.
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
