//! [`AnyProcess`]: a process of the family of which only the identity is known.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::failure::ProcessError;
use super::process::Process;
use super::{signals, waiting};
use crate::arena::handle::Handle;
use crate::arena::objects::{Id, Kind};
use crate::arena::process_body::ProcessBody;
use crate::arena::slots::MAIN;
use crate::arena::{Arena, member};
use crate::os::clock::Deadline;
use crate::os::process;
use crate::queue::Ready;
use crate::queue::select::{Signal, sealed};
use crate::sync::WaitError;
use crate::{Error, Result};

/// A process of the family, without the type of what it returns.
///
/// A handle like [`Process`](super::Process): it can be cloned and sent. If the process dies, `wait`
/// says how; the other calls do nothing any more.
///
/// ```
/// let me = procession::current_process()?;
/// assert_eq!(me.pid(), std::process::id() as i32);
/// assert_eq!(me.name(), "main");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct AnyProcess {
    pid: i32,
    /// Main has none: nobody spawned it.
    handle: Option<Handle>,
}

/// The process that calls this.
///
/// # Errors
/// When there is no shared memory to be had.
///
/// ```
/// use procession::{Process, current_process};
/// let p = Process::spawn(|| Ok::<i32, String>(current_process().map_err(|e| e.to_string())?.pid()), ())?;
/// assert_eq!(Some(p.join()?.unwrap()), p.pid());
/// # Ok::<(), procession::Error>(())
/// ```
pub fn current_process() -> Result<AnyProcess> {
    let arena = member::arena()?;
    of_slot(arena, member::slot()).map(|found| AnyProcess { pid: process::pid(), ..found })
}

/// The process that spawned this one; `None` for main, and when that process has ended.
///
/// # Errors
/// When there is no shared memory to be had.
///
/// ```
/// use procession::{Process, current_process, parent_process};
/// assert!(parent_process()?.is_none()); // of main
/// let pid_of_parent = || parent_process().ok().flatten().map(|parent| parent.pid());
/// let p = Process::spawn(pid_of_parent, ())?;
/// assert_eq!(p.join()?, Some(current_process()?.pid()));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn parent_process() -> Result<Option<AnyProcess>> {
    let arena = member::arena()?;
    if member::is_main() {
        return Ok(None);
    }
    let me = arena.slot(member::slot());
    let parent = me.parent.load(Ordering::Acquire);
    let same =
        || parent == MAIN || arena.incarnation(parent) == me.parent_incarnation.load(Ordering::Acquire);
    // Asked before and after: its slot may get another process meanwhile.
    Ok(same().then(|| of_slot(arena, parent).ok()).flatten().filter(|_| same()))
}

/// The processes that this one spawned and that have not ended.
///
/// # Errors
/// When there is no shared memory to be had.
///
/// ```
/// use procession::{Process, active_children};
/// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
/// assert!(active_children()?.iter().any(|child| Some(child.pid()) == p.pid()));
/// p.kill()?;
/// # Ok::<(), procession::Error>(())
/// ```
pub fn active_children() -> Result<Vec<AnyProcess>> {
    let arena = member::arena()?;
    let used = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    let mine = (1..used).filter(|&slot| {
        let slot = arena.slot(slot);
        slot.is_live()
            && slot.parent.load(Ordering::Relaxed) == member::slot()
            && slot.parent_incarnation.load(Ordering::Relaxed) == arena.incarnation(member::slot())
    });
    Ok(mine.filter_map(|slot| of_slot(arena, slot).ok()).filter(AnyProcess::is_alive).collect())
}

/// How many processes can run at once: the processors that this process may use, less if its control group
/// may not use all of their time. At least 1.
///
/// ```
/// let workers = procession::cpu_count();
/// assert!(workers >= 1);
/// ```
pub fn cpu_count() -> usize {
    // Looks at the affinity of the calling thread, and at the quotas of control groups of both versions.
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn of_slot(arena: &Arena, index: u32) -> Result<AnyProcess> {
    if index == MAIN {
        let pid = arena.slot(MAIN).pid.load(Ordering::Relaxed);
        return Ok(AnyProcess { pid, handle: None });
    }
    let gone = || Error::StaleHandle("the process has ended".into());
    if index >= arena.layout.slots {
        return Err(gone());
    }
    let slot = arena.slot(index);
    // The slot's process holds its own object; if it ends meanwhile, `take` notices.
    let handle = Handle::take(Id(slot.process.load(Ordering::Acquire)), Kind::Process)?;
    handle.object().touch();
    // It was not dead when we touched it, so whoever frees the object sees the touch.
    if !slot.is_live() {
        return Err(gone());
    }
    let pid = match handle.body::<ProcessBody>().pid.load(Ordering::Acquire) {
        // Its spawner is about to note it.
        0 => slot.pid.load(Ordering::SeqCst),
        pid => pid,
    };
    Ok(AnyProcess { pid, handle: Some(handle) })
}

impl AnyProcess {
    /// The process id.
    ///
    /// ```
    /// use procession::{AnyProcess, Process};
    /// let p = Process::spawn(|| (), ())?;
    /// assert_eq!(Some(AnyProcess::from(&p).pid()), p.pid());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The name it was given, or that of its function; `main` for main.
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

    /// Whether it has not ended. A snapshot. Main is alive as long as anybody can ask.
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

    /// Asks it to end, with SIGTERM.
    ///
    /// # Errors
    /// When the signal may not be sent.
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

    /// Kills it, with SIGKILL. Killing main ends the whole family.
    ///
    /// # Errors
    /// When the signal may not be sent.
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

    /// Interrupts it, with SIGINT.
    ///
    /// # Errors
    /// When the signal may not be sent.
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
            None => signals::send_to_main(self.pid, signal),
        }
    }

    /// Waits until it has ended; how it failed is the error. For main this is an error at once:
    /// nobody outlives it.
    ///
    /// # Errors
    /// [`Error::Process`] with how it failed, if it did not return.
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
    /// [`WaitError::WouldBlock`] while it lives; otherwise as [`wait`](AnyProcess::wait).
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
    /// [`WaitError::TimedOut`] if it still lives then; otherwise as [`wait`](AnyProcess::wait).
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

    /// A descriptor for exactly this process, to poll for its end.
    ///
    /// # Errors
    /// When it has ended, or no descriptor is to be had.
    ///
    /// ```
    /// let pidfd = procession::current_process()?.pidfd()?;
    /// # drop(pidfd);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pidfd(&self) -> Result<OwnedFd> {
        match &self.handle {
            Some(handle) => signals::pidfd_or_why(handle),
            None => signals::pidfd_of_main(self.pid),
        }
    }

    /// What it ends with; `None` for main.
    pub(super) fn body(&self) -> Option<&'static ProcessBody> {
        self.handle.as_ref().map(Handle::body)
    }

    /// Waits for its end; `not_yet` is the error if that has not come until the deadline.
    fn wait_until(&self, deadline: Deadline, not_yet: WaitError) -> Result<()> {
        let Some(handle) = &self.handle else {
            return Err(Error::Unsupported("main ends after every other process".into()));
        };
        if !waiting::wait(handle, deadline)? {
            return Err(not_yet.into());
        }
        waiting::failure_of(handle).map_or(Ok(()), |e: ProcessError| Err(e.into()))
    }
}

impl<R> From<&Process<R>> for AnyProcess {
    /// The same process, whatever it returns.
    fn from(process: &Process<R>) -> AnyProcess {
        let handle = process.handle().clone();
        // One that was just spawned has a number; only of a handle from elsewhere it may not be known yet.
        let pid = handle.body::<ProcessBody>().pid.load(Ordering::Acquire);
        AnyProcess { pid, handle: Some(handle) }
    }
}

/// A handle of a process: a [`Process`] of any result, or an [`AnyProcess`], or a reference to one. You never implement it.
///
/// ```
/// use procession::{Process, process::{ProcessHandle, wait_any}};
///
/// fn first(processes: &[impl ProcessHandle]) -> procession::Result<usize> {
///     wait_any(processes)
/// }
///
/// let processes = vec![Process::spawn(|| 7, ())?];
/// assert_eq!(first(&processes)?, 0);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait ProcessHandle: has_end::HasEnd {}

impl<P: has_end::HasEnd> ProcessHandle for P {}

mod has_end {
    pub trait HasEnd {
        /// Returns whether the process has ended; `None` for main.
        fn has_ended(&self) -> Option<bool>;
    }
}

impl has_end::HasEnd for AnyProcess {
    fn has_ended(&self) -> Option<bool> {
        self.body().map(ProcessBody::is_done)
    }
}

impl<R> has_end::HasEnd for Process<R> {
    fn has_ended(&self) -> Option<bool> {
        Some(self.handle().body::<ProcessBody>().is_done())
    }
}

impl<P: has_end::HasEnd> has_end::HasEnd for &P {
    fn has_ended(&self) -> Option<bool> {
        (**self).has_ended()
    }
}

/// Main never is, as far as anybody can tell.
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

/// A handle to a process, as it travels.
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
        let (pid, handle) = <(i32, Option<Carried>)>::deserialize(deserializer)?;
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
