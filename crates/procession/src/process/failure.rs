//! [`Failure`]: how a process can end without returning a value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::OtherError;
use crate::sync::{DeadlockMember, LockError};

/// Why a process did not return a value.
///
/// ```
/// use procession::{Failure, Process};
///
/// let p = Process::spawn(|| -> () { std::process::abort() }, ())?;
/// match p.join().unwrap_err().failure() {
///     Failure::Killed { signal, out_of_memory, .. } => assert_eq!((*signal, *out_of_memory), (6, false)),
///     other => panic!("it aborted, and {other}"),
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Failure {
    /// The process's function panicked.
    Panicked {
        /// The message of the panic.
        message: String,
        /// File, line and column. Empty if the process has replaced this library's panic hook. (The library's
        /// hook calls the hook that was set before it.)
        location: String,
        /// The backtrace, if `RUST_BACKTRACE` asked for one.
        backtrace: String,
    },
    /// The process called `exit`.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// A signal killed the process.
    Killed {
        /// The signal's number.
        signal: i32,
        /// Whether a core dump was written.
        core_dumped: bool,
        /// Whether the process ran out of memory. Either the kernel killed it because the machine or its
        /// control group had no memory left, or it aborted because an allocation failed (see
        /// [`memory_limit`](super::Builder::memory_limit)).
        out_of_memory: bool,
        /// Whether a stack overflowed. Detected for the first thread, and for threads that have used this
        /// library.
        stack_overflow: bool,
    },
    /// The process's function was never called.
    NotStarted {
        /// The reason.
        why: String,
    },
    /// The process's function returned an `Err`. Only [`Process::join_flat`](crate::Process::join_flat)
    /// counts that as a failure.
    ReturnedErr {
        /// The error as text, with its causes.
        error: OtherError,
    },
    /// The process's function returned a value that cannot be encoded or decoded: see
    /// [`Message`](crate::Message).
    Undecodable {
        /// The reason.
        why: String,
        /// The value as text of up to 1 KiB, such as `Order { goods: "apples", count: 3 }`. If the value has
        /// more than 4 KiB, release builds store only its first bytes here. Empty if there was no memory for
        /// the text.
        text: String,
    },
    /// The process has not ended, because it waits for the calling thread. Both would wait for ever.
    Deadlock {
        /// The processes of the cycle. Each process waits for the next one, and the last waits for the first.
        cycle: Vec<DeadlockMember>,
    },
    /// The supervisor was killed, and every process of the family with it.
    FamilyLost,
    /// The calling process cannot find out how the process ended.
    Unknown {
        /// The reason, for example that the calling process is a plain fork, or waits for itself.
        why: String,
    },
}

/// The error of a process that failed. Names the process, and describes how it failed.
///
/// ```
/// use procession::Process;
/// let error = Process::builder().name("short").spawn(|| -> () { std::process::exit(3) }, ())?.join().unwrap_err();
/// assert_eq!(error.to_string(), format!("process short (pid {}) called exit with code 3", error.pid().unwrap()));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessError {
    name: String,
    pid: Option<u32>,
    failure: Failure,
}

impl ProcessError {
    pub(crate) fn new(name: String, pid: Option<u32>, failure: Failure) -> ProcessError {
        ProcessError { name, pid, failure }
    }

    /// Returns the name of the process.
    ///
    /// ```
    /// # use procession::Process;
    /// let p = Process::builder().name("crunch").spawn(|| -> () { panic!("no numbers") }, ())?;
    /// assert_eq!(p.join().unwrap_err().name(), "crunch");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the process id, if the process had one. Another process may have that id by now.
    ///
    /// ```
    /// use procession::Process;
    /// let p = Process::spawn(|| -> () { std::process::exit(3) }, ())?;
    /// assert_eq!(p.join().unwrap_err().pid(), p.pid());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns how the process failed.
    ///
    /// ```
    /// # use procession::{Failure, Process};
    /// let p = Process::spawn(|| -> () { std::process::exit(3) }, ())?;
    /// let error = p.join().unwrap_err();
    /// assert_eq!(error.failure(), &Failure::Exited { code: 3 });
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn failure(&self) -> &Failure {
        &self.failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panicked { message, location, .. } if location.is_empty() => {
                write!(f, "panicked: {message}")
            }
            Failure::Panicked { message, location, .. } => write!(f, "panicked at {location}: {message}"),
            Failure::Exited { code } => write!(f, "called exit with code {code}"),
            Failure::Killed { signal, core_dumped, out_of_memory, stack_overflow } => {
                write!(f, "was killed by signal {signal}")?;
                f.write_str(if *core_dumped { " (core dumped)" } else { "" })?;
                f.write_str(if *out_of_memory { " because memory ran out" } else { "" })?;
                f.write_str(if *stack_overflow { " because a stack overflowed" } else { "" })
            }
            Failure::NotStarted { why } => write!(f, "did not start: {why}"),
            Failure::ReturnedErr { error } => write!(f, "returned an error: {error}"),
            Failure::Undecodable { why, text } if text.is_empty() => {
                write!(f, "returned a value that cannot be received: {why}")
            }
            Failure::Undecodable { why, text } => {
                write!(f, "returned a value that cannot be received: {why}. The value: {text}")
            }
            Failure::Unknown { why } => write!(f, "ended in an unknown way: {why}"),
            Failure::Deadlock { cycle } => {
                write!(f, "is waited for in a {}", LockError::Deadlock { cycle: cycle.clone() })
            }
            Failure::FamilyLost => f.write_str(
                "was lost when the supervisor was killed, by SIGKILL from outside or because the kernel ran out of memory",
            ),
        }
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {} (pid {pid}) {}", self.name, self.failure),
            None => write!(f, "process {} {}", self.name, self.failure),
        }
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.failure {
            // The text of this error already contains the text of `error`, so the source is the next one.
            Failure::ReturnedErr { error } => error.source(),
            _ => None,
        }
    }
}
