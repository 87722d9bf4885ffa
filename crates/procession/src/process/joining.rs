//! Waiting for a process, and the value that its function returned.

use std::time::{Duration, Instant};

use super::failure::{Failure, ProcessError};
use super::process::Process;
use super::waiting;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::sync::LockError;
use crate::{Error, OtherError};

impl<R: Message> Process<R> {
    /// Waits until the process has ended, and returns the value of its function.
    ///
    /// Every process that has a handle can join any number of times, and gets the value each time. `join`
    /// returns after the process has run its exit handlers. If the process was killed, it has been recovered
    /// before `join` returns, and its locks have been handed on.
    ///
    /// # Errors
    /// [`ProcessError`], whose [`failure`](ProcessError::failure) says how the process failed. If its
    /// function returned an `Err`, the process has not failed: `join` returns the `Err` as the value.
    ///
    /// ```
    /// use procession::{Failure, Process};
    /// let p = Process::spawn(|n: u32| -> u32 { 10 / n }, (0,))?;
    /// match p.join().unwrap_err().failure() {
    ///     Failure::Panicked { message, .. } => assert_eq!(message, "attempt to divide by zero"),
    ///     other => panic!("{other}"),
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<R, ProcessError> {
        match self.wait(Deadline::NEVER)? {
            Some(value) => Ok(value),
            None => unreachable!("INVARIANT: a wait without a deadline ends with the process"),
        }
    }

    /// As [`join`](Process::join), without waiting. Returns `None` while the process is alive.
    ///
    /// # Errors
    /// As [`join`](Process::join).
    ///
    /// ```
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert_eq!(p.try_join()?, None);
    /// p.kill()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<Option<R>, ProcessError> {
        self.wait(Deadline::after(Duration::ZERO))
    }

    /// As [`join`](Process::join), but waits at most `timeout`. Returns `None` if the wait times out.
    ///
    /// ```
    /// use std::time::Duration;
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert_eq!(p.join_timeout(Duration::from_millis(10))?, None);
    /// p.kill()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`join`](Process::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<Option<R>, ProcessError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`join`](Process::join), but waits at most until `deadline`. Returns `None` if the wait times out.
    ///
    /// # Errors
    /// As [`join`](Process::join).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let all: Vec<_> = (0..3u64).map(|n| procession::Process::spawn(|n: u64| n, (n,))).collect::<Result<_, _>>()?;
    /// let deadline = Instant::now() + Duration::from_secs(60); // for all of them together
    /// for (n, p) in (0..).zip(&all) {
    ///     assert_eq!(p.join_deadline(deadline)?, Some(n));
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_deadline(&self, deadline: Instant) -> Result<Option<R>, ProcessError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<Option<R>, ProcessError> {
        match waiting::wait(self.handle(), deadline) {
            Ok(true) => waiting::outcome(self.handle()).map(Some),
            Ok(false) => Ok(None),
            Err(e) => {
                let failure = match e {
                    Error::Lock(LockError::Deadlock { cycle }) => Failure::Deadlock { cycle },
                    other => Failure::Unknown { why: other.to_string() },
                };
                Err(ProcessError::new(self.name(), self.pid(), failure))
            }
        }
    }
}

impl<T: Message, E> Process<Result<T, E>>
where
    Result<T, E>: Message,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Waits as [`join`](Process::join) does, but returns one type of error for both kinds of failure. The
    /// error names the process. It says how the process failed, or contains the error that its function
    /// returned, as text with its causes. Use this instead of `join()??` if many processes may fail.
    ///
    /// # Errors
    /// [`Failure::ReturnedErr`] if the function returned an `Err`. Otherwise as [`join`](Process::join). To
    /// match on the function's error, use `join`.
    ///
    /// ```
    /// use procession::Process;
    ///
    /// fn buy(count: u32) -> Result<u32, String> {
    ///     count.checked_sub(3).ok_or("out of tickets".into())
    /// }
    ///
    /// let buyer = Process::builder().name("Egon").spawn(buy, (1,))?;
    /// let error = buyer.join_flat().unwrap_err();
    /// assert!(error.to_string().starts_with("process Egon (pid "));
    /// assert!(error.to_string().ends_with(") returned an error: out of tickets"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_flat(&self) -> Result<T, ProcessError> {
        self.join()?.map_err(|error| {
            let failure = Failure::ReturnedErr { error: OtherError::of(error) };
            ProcessError::new(self.name(), self.pid(), failure)
        })
    }
}
