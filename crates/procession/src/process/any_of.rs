//! [`wait_any`]: waiting for the first of many processes to end.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::any::AnyProcess;
use super::process::Process;
use crate::arena::member;
use crate::arena::process_body::ProcessBody;
use crate::arena::thread::with_me;
use crate::os::clock::Deadline;
use crate::sync::WaitError;
use crate::sync::raw::park::Wait;
use crate::{Error, Result};

/// A handle to a process: a [`Process`] with any type of result, an [`AnyProcess`], or a reference to one of
/// these. You never implement this trait.
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
        /// Reports whether the process has ended; `None` for main.
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

/// Waits until one of these processes has ended, and returns its position. If several have ended, returns the
/// lowest position. The slice may contain thousands of processes. If their functions return different types,
/// pass them as [`AnyProcess`](super::AnyProcess). [`select`](crate::select()) also waits for queues and
/// connections.
///
/// # Errors
/// [`Error::InvalidArgument`] if there is no process to wait for, or only main.
///
/// # If a process dies
/// A process that dies has ended, so its position is returned.
///
/// ```
/// use procession::{AnyProcess, Process, process::wait_any};
///
/// let slow = Process::spawn(|| -> u32 { loop { std::thread::park() } }, ())?;
/// let fast = Process::spawn(|| 3, ())?;
/// assert_eq!(wait_any(&[&slow, &fast])?, 1);
/// let other = Process::spawn(|| "text".to_string(), ())?;
/// assert_eq!(wait_any(&[AnyProcess::from(&slow), AnyProcess::from(&other)])?, 1);
/// # slow.kill()?;
/// # Ok::<(), procession::Error>(())
/// ```
pub fn wait_any<P: ProcessHandle>(processes: &[P]) -> Result<usize> {
    until(processes, Deadline::NEVER, WaitError::TimedOut)
}

/// As [`wait_any`], without waiting.
///
/// # Errors
/// [`WaitError::WouldBlock`] while all of them are alive. Otherwise as [`wait_any`].
///
/// ```
/// use procession::{AnyProcess, Error, Process, WaitError, process::try_wait_any};
/// let (slow, fast) = (Process::spawn(|| -> () { loop { std::thread::park() } }, ())?, Process::spawn(|| (), ())?);
/// assert_eq!(try_wait_any(&[AnyProcess::from(&slow)]), Err(Error::Wait(WaitError::WouldBlock)));
/// fast.join()?;
/// assert_eq!(try_wait_any(&[AnyProcess::from(&slow), AnyProcess::from(&fast)])?, 1);
/// # slow.kill()?;
/// # Ok::<(), procession::Error>(())
/// ```
pub fn try_wait_any<P: ProcessHandle>(processes: &[P]) -> Result<usize> {
    until(processes, Deadline::after(Duration::ZERO), WaitError::WouldBlock)
}

/// As [`wait_any`], but waits at most `timeout`.
///
/// # Errors
/// [`WaitError::TimedOut`] if all of them are still alive after that time. Otherwise as [`wait_any`].
///
/// ```
/// use procession::{AnyProcess, Error, Process, WaitError, process::wait_any_timeout};
/// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
/// let waited = wait_any_timeout(&[AnyProcess::from(&p)], std::time::Duration::from_millis(1));
/// assert_eq!(waited, Err(Error::Wait(WaitError::TimedOut)));
/// # p.kill()?;
/// # Ok::<(), procession::Error>(())
/// ```
pub fn wait_any_timeout<P: ProcessHandle>(processes: &[P], timeout: Duration) -> Result<usize> {
    until(processes, Deadline::after(timeout), WaitError::TimedOut)
}

/// As [`wait_any`], but waits at most until `deadline`.
///
/// # Errors
/// As [`wait_any_timeout`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use procession::{AnyProcess, Process, process::wait_any_deadline};
/// let p = Process::spawn(|| (), ())?;
/// let deadline = Instant::now() + Duration::from_secs(60);
/// assert_eq!(wait_any_deadline(&[AnyProcess::from(&p)], deadline)?, 0);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn wait_any_deadline<P: ProcessHandle>(processes: &[P], deadline: Instant) -> Result<usize> {
    until(processes, Deadline::at(deadline), WaitError::TimedOut)
}

/// Waits until the first process ends. `not_yet` is the error if the deadline comes first.
fn until<P: ProcessHandle>(processes: &[P], deadline: Deadline, not_yet: WaitError) -> Result<usize> {
    if processes.iter().all(|process| process.has_ended().is_none()) {
        return Err(Error::InvalidArgument(
            "wait_any needs at least one process other than main, which never ends before the caller".into(),
        ));
    }
    let arena = member::arena()?;
    let ended = &arena.header().ended;
    let first = || processes.iter().position(|process| process.has_ended() == Some(true));
    with_me(|me| {
        loop {
            // Recovery increments this word after it has marked a process as done.
            // ORDERING: SeqCst, before the look at the processes. If a process ends after the look, the sleep
            // is refused.
            let seen = ended.load(Ordering::SeqCst);
            let wait = Wait::announce(arena, me.record(), ended);
            match first() {
                None if !deadline.passed() => wait.sleep(ended, seen, deadline),
                found => return found.ok_or(Error::Wait(not_yet)),
            }
        }
    })?
}
