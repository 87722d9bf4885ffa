//! The library's error, into which every family's error goes.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::pool::{MapError, TaskError};
use crate::process::ProcessError;
use crate::queue::{GetError, JoinError, PutError, SelectError};
use crate::sync::{LockError, WaitError};

/// Any error of this library, as plain data: it can be cloned, sent to another process, and
/// boxed.
///
/// Each part of the library has a small error of its own (such as [`LockError`]); all of them
/// turn into this one with `?`.
///
/// ```
/// fn work() -> procession::Result<()> {
///     let lock = procession::Lock::new()?;
///     let _held = lock.lock()?;
///     std::fs::metadata("/")?;
///     Ok(())
/// }
/// # work().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Error {
    /// The operating system said no.
    Os {
        /// The kind of [`io::Error`], by its name.
        kind: String,
        /// The error number, when there was one.
        code: Option<i32>,
        /// What was tried and what the system answered.
        message: String,
    },
    /// A lock could not be taken.
    Lock(LockError),
    /// What was waited for did not happen.
    Wait(WaitError),
    /// A process did not do what it was asked to.
    Process(ProcessError),
    /// An item could not be put into a queue.
    Put(PutError<()>),
    /// There was no item to be had from a queue.
    Get(GetError),
    /// Not everything in a queue is done.
    Join(JoinError),
    /// None of several things is ready.
    Select(SelectError),
    /// A task has no result.
    Task(TaskError),
    /// A task of a map has no result.
    Map(MapError),
    /// An argument that makes no sense; the text says what would.
    InvalidArgument(String),
    /// The shared memory, or a table in it, is full; the text names the limit, and who holds how much, the largest
    /// first.
    Full(String),
    /// A value could not be turned into bytes or back.
    Message(String),
    /// A handle to something that no longer exists, or that belongs to another family.
    StaleHandle(String),
    /// This process is a plain fork of a member of the family, and not itself a member.
    Forked,
    /// What is asked for cannot be done here; the text says why.
    Unsupported(String),
    /// The supervisor is gone, and with it every process of the family but this one.
    FamilyLost,
    /// Something else, from the user's code.
    Other(String),
}

/// A result whose error is this library's, if no other is named.
///
/// ```
/// fn half(number: u32) -> procession::Result<u32> {
///     match number % 2 {
///         0 => Ok(number / 2),
///         _ => Err(procession::Error::Other(format!("{number} is odd"))),
///     }
/// }
/// assert!(half(3).is_err());
/// # Ok::<(), procession::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps any error, keeping its text.
    ///
    /// ```
    /// let e = procession::Error::other("out of tickets");
    /// assert_eq!(e.to_string(), "out of tickets");
    /// ```
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Other(error.into().to_string())
    }

    /// An operating system error, with what was tried.
    pub(crate) fn os(tried: &str, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::Unsupported && error.raw_os_error().is_none() {
            return Error::Unsupported(error.to_string());
        }
        let kind = format!("{:?}", error.kind());
        Error::Os { kind, code: error.raw_os_error(), message: format!("{tried}: {error}") }
    }

    /// An operating system error that keeps a process from being started, with what was tried and what to do.
    pub(crate) fn unstarted(tried: &str, error: &io::Error) -> Error {
        match (Error::os(tried, error), error.raw_os_error().and_then(advice)) {
            (Error::Os { kind, code, message }, Some(advice)) => {
                Error::Os { kind, code, message: format!("{message}: {advice}") }
            }
            (other, _) => other,
        }
    }
}

/// What to do when the kernel refuses to start a process.
fn advice(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EAGAIN => {
            "the user has too many processes (RLIMIT_NPROC, `ulimit -u`), or the control group has (pids.max), or there is no address space for another stack (`ulimit -v`): end some or raise the limit"
        }
        libc::ENOMEM => {
            "there is not enough memory for another process: free some, or raise the limits on address space (`ulimit -v`) and on the control group"
        }
        libc::EMFILE | libc::ENFILE => {
            "too many files are open: close some, or raise the limit (`ulimit -n`)"
        }
        libc::ENOSYS | libc::EPERM => {
            "the kernel, a seccomp filter or another security module forbids this call, which this library needs: allow it, or run the program without that filter"
        }
        libc::EACCES => {
            "the file of the program must be executable for the user that runs it, and so must its file system (mount option noexec)"
        }
        libc::ENOENT => "/proc must be mounted and show this process",
        libc::E2BIG => "the arguments and the environment of this program are larger than `ulimit -s` allows",
        libc::ETXTBSY => "a process has the file of the program open for writing: close it there",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Os { message: text, .. }
            | Error::InvalidArgument(text)
            | Error::Full(text)
            | Error::Message(text)
            | Error::StaleHandle(text)
            | Error::Unsupported(text)
            | Error::Other(text) => f.write_str(text),
            Error::Lock(e) => e.fmt(f),
            Error::Wait(e) => e.fmt(f),
            Error::Process(e) => e.fmt(f),
            Error::Put(e) => e.fmt(f),
            Error::Get(e) => e.fmt(f),
            Error::Join(e) => e.fmt(f),
            Error::Select(e) => e.fmt(f),
            Error::Task(e) => e.fmt(f),
            Error::Map(e) => e.fmt(f),
            Error::Forked => f.write_str(
                "this process was forked from a member of the family and is not one itself; start it with Process::spawn",
            ),
            Error::FamilyLost => {
                f.write_str("the supervisor was killed, and every process of the family with it")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Lock(e) => Some(e),
            Error::Wait(e) => Some(e),
            Error::Process(e) => Some(e),
            Error::Put(e) => Some(e),
            Error::Get(e) => Some(e),
            Error::Join(e) => Some(e),
            Error::Select(e) => Some(e),
            Error::Task(e) => Some(e),
            Error::Map(e) => Some(e),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        Error::Os { kind: format!("{:?}", e.kind()), code: e.raw_os_error(), message: e.to_string() }
    }
}

impl From<LockError> for Error {
    fn from(e: LockError) -> Error {
        match e {
            LockError::Full(why) => Error::Full(why),
            other => Error::Lock(other),
        }
    }
}

impl From<WaitError> for Error {
    fn from(e: WaitError) -> Error {
        match e {
            WaitError::Full(why) => Error::Full(why),
            other => Error::Wait(other),
        }
    }
}

impl From<ProcessError> for Error {
    fn from(e: ProcessError) -> Error {
        Error::Process(e)
    }
}

impl From<TaskError> for Error {
    fn from(e: TaskError) -> Error {
        match e {
            TaskError::Full(why) => Error::Full(why),
            other => Error::Task(other),
        }
    }
}

impl From<MapError> for Error {
    fn from(e: MapError) -> Error {
        Error::Map(e)
    }
}
