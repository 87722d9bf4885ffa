//! [`wait_any`]: waiting for the first of many processes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::any::ProcessHandle;
use crate::arena::member;
use crate::arena::thread::with_me;
use crate::os::clock::Deadline;
use crate::sync::WaitError;
use crate::sync::raw::park::Wait;
use crate::{Error, Result};

/// Waits until one of these processes has ended, and says which: the first one that has. There may be thousands
/// of them. ([`select`](crate::select()) also waits for queues and connections.) Processes whose functions return
/// different types are passed as [`AnyProcess`](super::AnyProcess).
///
/// # Errors
/// [`Error::InvalidArgument`] when there is nobody to wait for: no process, or only main.
///
/// # If a process dies
/// It has ended.
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
/// [`WaitError::WouldBlock`] when all of them live; otherwise as [`wait_any`].
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
/// [`WaitError::TimedOut`] if all of them still live then; otherwise as [`wait_any`].
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

/// Waits for the first end; `not_yet` is the error if none has come until the deadline.
fn until<P: ProcessHandle>(processes: &[P], deadline: Deadline, not_yet: WaitError) -> Result<usize> {
    if processes.iter().all(|process| process.has_ended().is_none()) {
        return Err(Error::InvalidArgument("wait_any needs a process to wait for, other than main".into()));
    }
    let arena = member::arena()?;
    let ended = &arena.header().ended;
    let first = || processes.iter().position(|process| process.has_ended() == Some(true));
    with_me(|me| {
        loop {
            // Recovery counts here after it has said that a process is done.
            // ORDERING: SeqCst, before the look: if one ends after it, the sleep is refused.
            let seen = ended.load(Ordering::SeqCst);
            let wait = Wait::announce(arena, me.record(), ended);
            match first() {
                None if !deadline.passed() => wait.sleep(ended, seen, deadline),
                found => return found.ok_or(Error::Wait(not_yet)),
            }
        }
    })?
}
