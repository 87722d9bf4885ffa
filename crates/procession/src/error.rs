//! [`Error`]: the error type of the library. The error types of its parts convert into it.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::pool::{MapError, TaskError};
use crate::process::ProcessError;
use crate::queue::{GetError, JoinError, PutError, SelectError};
use crate::sync::{LockError, WaitError};

/// Any error of this library. An error is plain data: it can be cloned, sent to another process, and boxed.
///
/// Each part of the library has its own small error type, such as [`LockError`]. The `?` operator converts
/// all of these into this type.
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
    /// The operating system refused a call.
    Os {
        /// The name of the [`io::Error`]'s kind.
        kind: String,
        /// The error number, if there was one.
        code: Option<i32>,
        /// The call, and the text of the system's error.
        message: String,
    },
    /// A lock was not acquired.
    Lock(LockError),
    /// A wait ended before the event for which it waited.
    Wait(WaitError),
    /// A process did not return a value.
    Process(ProcessError),
    /// An item could not be put into a queue.
    Put(PutError<()>),
    /// No item was received from a queue or a pipe.
    Get(GetError),
    /// Joining a queue or pool failed, because not everything in it is done or because it cannot be joined.
    Join(JoinError),
    /// None of several things is ready.
    Select(SelectError),
    /// A task has no result.
    Task(TaskError),
    /// A task of a map has no result.
    Map(MapError),
    /// An argument is invalid. The text says which values are valid.
    InvalidArgument(String),
    /// The shared memory, or a table in it, is full. The text names the limit, and lists which processes and
    /// objects use how much, the largest first.
    Full(String),
    /// A value could not be encoded or decoded.
    Message(String),
    /// A handle names an object that no longer exists, or that belongs to another family.
    StaleHandle(String),
    /// This process is a plain fork of a member of the family, but is not itself a member.
    Forked,
    /// The operation cannot work here. The text says why.
    Unsupported(String),
    /// The supervisor was killed, and with it every process of the family except main. The text says what can
    /// kill a supervisor.
    FamilyLost,
    /// Any other error, from the user's code. [`Error::other`] creates it.
    Other(OtherError),
}

/// The text of [`Error::FamilyLost`]: what happened to the family, why, and what happens next.
const FAMILY_LOST: &str = "the supervisor was killed, and with it every process of the family but main. It is the helper process that starts the others, and ends by SIGKILL from outside or when the kernel runs out of memory (see `dmesg`). The next spawn starts another";

/// A result whose error type is [`Error`], unless another error type is given.
///
/// ```
/// fn half(number: u32) -> procession::Result<u32> {
///     match number % 2 {
///         0 => Ok(number / 2),
///         _ => Err(procession::Error::other(format!("{number} is odd"))),
///     }
/// }
/// assert!(half(3).is_err());
/// # Ok::<(), procession::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the user's code, kept as text. Its causes are kept too.
///
/// ```
/// use procession::Error;
/// let Error::Other(error) = Error::other("out of tickets") else { unreachable!() };
/// assert_eq!(error.message(), "out of tickets");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct OtherError {
    message: String,
    cause: Option<Box<OtherError>>,
}

/// The maximum number of causes that are kept.
const MOST_LINKS: usize = 100;

impl OtherError {
    /// Creates an error with the texts of `error` and of its causes.
    pub(crate) fn of(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OtherError {
        let error = error.into();
        let links = std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source());
        OtherError::from(links.map(ToString::to_string).collect::<Vec<_>>())
    }

    /// Returns the error's own text, without the texts of its causes.
    ///
    /// ```
    /// use procession::Error;
    /// let Error::Other(error) = Error::other(std::io::Error::other("no paper")) else { unreachable!() };
    /// assert_eq!(error.message(), "no paper");
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    fn links(&self) -> impl Iterator<Item = &OtherError> {
        std::iter::successors(Some(self), |link| link.cause.as_deref())
    }
}

/// Links the texts into a chain. The first text is the outermost error.
impl From<Vec<String>> for OtherError {
    fn from(mut texts: Vec<String>) -> OtherError {
        texts.truncate(MOST_LINKS);
        let link =
            |cause: Option<OtherError>, message| Some(OtherError { message, cause: cause.map(Box::new) });
        let chain = texts.into_iter().rev().fold(None, link);
        chain.unwrap_or_else(|| OtherError { message: String::new(), cause: None })
    }
}

impl From<OtherError> for Vec<String> {
    fn from(error: OtherError) -> Vec<String> {
        error.links().map(|link| link.message.clone()).collect()
    }
}

impl fmt::Display for OtherError {
    /// Writes the text of the error. Then writes a colon and the text of each cause, unless the preceding
    /// text already ends with that text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (n, OtherError { message, .. }) in self.links().enumerate() {
            match n {
                0 => f.write_str(message)?,
                _ if before.ends_with(message.as_str()) => {}
                _ => write!(f, ": {message}")?,
            }
            before = message;
        }
        Ok(())
    }
}

impl fmt::Debug for OtherError {
    /// Writes the text, because Rust prints the `Debug` form of an error that `main` returns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl std::error::Error for OtherError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl Error {
    /// Wraps any error as text. The texts of its causes are kept too. Takes an `anyhow::Error`, a
    /// `Box<dyn Error + Send + Sync>`, an error that is not a [`Message`](crate::Message), a `String` or a
    /// `&str`.
    ///
    /// The causes stay separate: [`source`](std::error::Error::source) returns the next one, even in another
    /// process.
    ///
    /// ```
    /// use procession::{Error, Process};
    ///
    /// fn read(path: String) -> procession::Result<String> {
    ///     std::fs::read_to_string(&path).map_err(Error::other) // or `?`, which takes `io::Error`
    /// }
    ///
    /// let error = Process::spawn(read, ("/no/such/file".to_string(),))?.join()?.unwrap_err();
    /// assert!(error.to_string().contains("No such file"));
    /// assert_eq!(Error::other("out of tickets").to_string(), "out of tickets");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Other(OtherError::of(error))
    }

    /// Returns an operating system error whose text says what was tried.
    pub(crate) fn os(tried: &str, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::Unsupported && error.raw_os_error().is_none() {
            return Error::Unsupported(error.to_string());
        }
        let kind = format!("{:?}", error.kind());
        Error::Os { kind, code: error.raw_os_error(), message: format!("{tried}: {error}") }
    }

    /// Returns an operating system error because of which no process could be started. The text says what was
    /// tried and what to do.
    pub(crate) fn unstarted(tried: &str, error: &io::Error) -> Error {
        match (Error::os(tried, error), error.raw_os_error().and_then(advice)) {
            (Error::Os { kind, code, message }, Some(advice)) => {
                Error::Os { kind, code, message: format!("{message}: {advice}") }
            }
            (other, _) => other,
        }
    }
}

/// Returns advice on what to do if the kernel refuses to start a process.
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
            | Error::Unsupported(text) => f.write_str(text),
            Error::Other(e) => e.fmt(f),
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
            Error::FamilyLost => f.write_str(FAMILY_LOST),
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
            // The text of this error is already the text of `e`, so the source is the next one.
            Error::Other(e) => e.source(),
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
            TaskError::Item(error) => Error::from(*error),
            other => Error::Task(other),
        }
    }
}

impl From<MapError> for Error {
    fn from(e: MapError) -> Error {
        match e {
            MapError { index, error: TaskError::Full(why) } => Error::Full(format!("item {index}: {why}")),
            other => Error::Map(other),
        }
    }
}
