//! [`AnyProcess`]: a handle to a process, without the type of what its function returns.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::failure::ProcessError;
use super::process::Process;
use super::{signals, waiting};
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::Kind;
use crate::arena::process_body::ProcessBody;
use crate::os::clock::Deadline;
use crate::queue::Ready;
use crate::queue::select::{Signal, sealed};
use crate::sync::WaitError;
use crate::{Error, Result};

/// A process of the family, without the type of what its function returns.
///
/// Like [`Process`](super::Process), this is a handle: it can be cloned and sent to other processes. After
/// the process has ended, `wait` returns how it ended, and signals have no effect.
///
/// ```
/// let me = procession::current_process()?;
/// assert_eq!(me.pid(), std::process::id());
/// assert_eq!(me.name(), "main");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct AnyProcess {
    pub(super) pid: u32,
    /// `None` for main, because no process spawned it.
    pub(super) handle: Option<Handle>,
}

impl AnyProcess {
    /// Returns the process id.
    ///
    /// ```
    /// use procession::{AnyProcess, Process};
    /// let p = Process::spawn(|| (), ())?;
    /// assert_eq!(Some(AnyProcess::from(&p).pid()), p.pid());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the name that the process was given. If it was given none, returns the name of its function.
    /// Returns `main` for main.
    ///
    /// ```
    /// use procession::{AnyProcess, Process};
    /// let p = Process::builder().name("crunch").spawn(|| (), ())?;
    /// assert_eq!(AnyProcess::from(&p).name(), "crunch");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.as_ref().map_or_else(|| "main".into(), |handle| handle.object().name())
    }

    /// Reports whether the process is alive. The answer is a snapshot. Main is always alive, because the
    /// family ends with it.
    ///
    /// ```
    /// use procession::{AnyProcess, Process};
    /// let p = Process::spawn(|| (), ())?;
    /// p.join()?;
    /// assert!(!AnyProcess::from(&p).is_alive());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_alive(&self) -> bool {
        !member::is_forked()
            && self.handle.as_ref().is_none_or(|handle| !handle.body::<ProcessBody>().is_done())
    }

    /// Asks the process to end, with SIGTERM. Does nothing if it has ended.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel refuses.
    ///
    /// ```
    /// use procession::{AnyProcess, Process};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// AnyProcess::from(&p).terminate()?;
    /// assert!(p.join().unwrap_err().to_string().contains("signal 15"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn terminate(&self) -> Result<()> {
        self.send(libc::SIGTERM)
    }

    /// Kills the process, with SIGKILL. Killing main ends the whole family.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel refuses.
    ///
    /// ```
    /// use procession::{AnyProcess, Process};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// AnyProcess::from(&p).kill()?;
    /// assert!(p.join().unwrap_err().to_string().contains("signal 9"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn kill(&self) -> Result<()> {
        self.send(libc::SIGKILL)
    }

    /// Interrupts the process, with SIGINT.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel refuses.
    ///
    /// ```
    /// # // What runs this example may ignore the signal, and processes would inherit that.
    /// # unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    /// use procession::{AnyProcess, Process};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// AnyProcess::from(&p).interrupt()?;
    /// assert!(p.join().unwrap_err().to_string().contains("signal 2"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn interrupt(&self) -> Result<()> {
        self.send(libc::SIGINT)
    }

    fn send(&self, signal: i32) -> Result<()> {
        match &self.handle {
            Some(handle) => signals::send(handle, signal),
            None => signals::send_to_main(self.pid.cast_signed(), signal),
        }
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// [`Error::Process`] if the process failed. The error describes the failure. [`Error::Unsupported`] for
    /// main, because no other process outlives main.
    ///
    /// ```
    /// use procession::{Process, active_children};
    /// let p = Process::builder().name("short").spawn(|| (), ())?;
    /// for child in active_children()?.iter().filter(|child| child.name() == "short") {
    ///     child.wait()?;
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait(&self) -> Result<()> {
        self.wait_until(Deadline::NEVER, WaitError::TimedOut)
    }

    /// As [`wait`](AnyProcess::wait), without waiting.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] while the process is alive. Otherwise as [`wait`](AnyProcess::wait).
    ///
    /// ```
    /// use procession::{AnyProcess, Error, Process, WaitError};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert_eq!(AnyProcess::from(&p).try_wait(), Err(Error::Wait(WaitError::WouldBlock)));
    /// # p.kill()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_wait(&self) -> Result<()> {
        self.wait_until(Deadline::after(Duration::ZERO), WaitError::WouldBlock)
    }

    /// As [`wait`](AnyProcess::wait), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the process is still alive after that time. Otherwise as
    /// [`wait`](AnyProcess::wait).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{AnyProcess, Error, Process, WaitError};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// let waited = AnyProcess::from(&p).wait_timeout(Duration::from_millis(1));
    /// assert_eq!(waited, Err(Error::Wait(WaitError::TimedOut)));
    /// # p.kill()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<()> {
        self.wait_until(Deadline::after(timeout), WaitError::TimedOut)
    }

    /// As [`wait`](AnyProcess::wait), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](AnyProcess::wait_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use procession::{AnyProcess, Process};
    /// let p = Process::spawn(|| (), ())?;
    /// AnyProcess::from(&p).wait_deadline(Instant::now() + Duration::from_secs(60))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<()> {
        self.wait_until(Deadline::at(deadline), WaitError::TimedOut)
    }

    /// Returns a descriptor for this process. The descriptor becomes readable when the process ends.
    ///
    /// # Errors
    /// [`Error::StaleHandle`] if the process has ended, [`Error::Os`] if there is no free descriptor.
    ///
    /// ```
    /// let pidfd = procession::current_process()?.pidfd()?;
    /// # drop(pidfd);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pidfd(&self) -> Result<OwnedFd> {
        match &self.handle {
            Some(handle) => signals::pidfd_or_why(handle),
            None => signals::pidfd_of_main(self.pid.cast_signed()),
        }
    }

    /// Returns the process's object, which records how the process ends; `None` for main.
    pub(super) fn body(&self) -> Option<&'static ProcessBody> {
        self.handle.as_ref().map(Handle::body)
    }

    /// Waits for the end of the process. `not_yet` is the error if the deadline comes first.
    fn wait_until(&self, deadline: Deadline, not_yet: WaitError) -> Result<()> {
        let Some(handle) = &self.handle else {
            return Err(Error::Unsupported(
                "main cannot be waited for: it ends after every other process".into(),
            ));
        };
        if !waiting::wait(handle, deadline)? {
            return Err(not_yet.into());
        }
        waiting::failure_of(handle).map_or(Ok(()), |e: ProcessError| Err(e.into()))
    }
}

impl<R> From<&Process<R>> for AnyProcess {
    /// Returns a handle to the same process.
    fn from(process: &Process<R>) -> AnyProcess {
        let handle = process.handle().clone();
        // This can be 0 only if the handle was received from another process and the spawner has not yet
        // stored the process id.
        let pid = handle.body::<ProcessBody>().pid.load(Ordering::Acquire).cast_unsigned();
        AnyProcess { pid, handle: Some(handle) }
    }
}

/// A handle to main is never ready, because no other process outlives main.
impl sealed::Ready for AnyProcess {
    fn is_ready(&self) -> bool {
        self.body().is_some_and(ProcessBody::is_done)
    }

    fn signal(&self) -> Signal<'_> {
        static NEVER: AtomicU32 = AtomicU32::new(0);
        Signal::Changes(self.body().map_or(&NEVER, |body| &body.done), 0)
    }
}

impl Ready for AnyProcess {}

/// A handle in the form in which it is sent to another process.
struct Carried(Handle);

impl Serialize for Carried {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Carried {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Carried, D::Error> {
        Handle::deserialize(deserializer, Kind::Process).map(Carried)
    }
}

impl Serialize for AnyProcess {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.pid, self.handle.clone().map(Carried)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AnyProcess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AnyProcess, D::Error> {
        let (pid, handle) = <(u32, Option<Carried>)>::deserialize(deserializer)?;
        Ok(AnyProcess { pid, handle: handle.map(|Carried(handle)| handle) })
    }
}

impl fmt::Debug for AnyProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyProcess")
            .field("name", &self.name())
            .field("pid", &self.pid)
            .field("alive", &self.is_alive())
            .finish()
    }
}
