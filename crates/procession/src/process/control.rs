//! Signals to a process, its exit status, and its standard streams.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::Mutex;

use super::process::Process;
use super::{signals, waiting};
use crate::Result;

impl<R> Process<R> {
    /// Asks the process to end, with SIGTERM. The process can catch this signal. Does nothing if it has
    /// ended.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if the kernel refuses. It may refuse if the process has changed its
    /// user.
    ///
    /// ```
    /// use procession::{Failure, Process};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// p.terminate()?;
    /// let error = p.join().unwrap_err();
    /// assert!(matches!(error.failure(), Failure::Killed { signal: 15, .. }));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn terminate(&self) -> Result<()> {
        signals::send(self.handle(), libc::SIGTERM)
    }

    /// Kills the process, with SIGKILL. Does nothing if it has ended.
    ///
    /// # Errors
    /// As [`terminate`](Process::terminate).
    ///
    /// ```
    /// use procession::{Failure, Process};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// p.kill()?;
    /// assert!(matches!(p.join().unwrap_err().failure(), Failure::Killed { signal: 9, .. }));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn kill(&self) -> Result<()> {
        signals::send(self.handle(), libc::SIGKILL)
    }

    /// Resumes the process, if it is stopped.
    pub(crate) fn resume(&self) -> Result<()> {
        signals::send(self.handle(), libc::SIGCONT)
    }

    /// Interrupts the process with SIGINT, as Ctrl-C does. Does nothing if it has ended.
    ///
    /// # Errors
    /// As [`terminate`](Process::terminate).
    ///
    /// ```
    /// # // What runs this example may ignore the signal, and processes would inherit that.
    /// # unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// p.interrupt()?;
    /// assert!(p.join().unwrap_err().to_string().contains("signal 2"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn interrupt(&self) -> Result<()> {
        signals::send(self.handle(), libc::SIGINT)
    }

    /// Returns how the process ended, in the terms of the operating system; `None` while it is alive.
    ///
    /// ```
    /// let p = procession::Process::spawn(|| (), ())?;
    /// p.join()?;
    /// assert!(p.exit_status().is_some_and(|status| status.success()));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn exit_status(&self) -> Option<ExitStatus> {
        waiting::exit_status(self.handle())
    }

    /// Returns a descriptor for this process. The descriptor becomes readable when the process ends.
    ///
    /// # Errors
    /// [`Error::StaleHandle`](crate::Error::StaleHandle) if the process has ended,
    /// [`Error::Os`](crate::Error::Os) if there is no free descriptor.
    ///
    /// ```
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// let ends = p.pidfd()?; // for poll, epoll, or an async runtime
    /// p.kill()?;
    /// # drop(ends);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pidfd(&self) -> Result<OwnedFd> {
        signals::pidfd_or_why(self.handle())
    }

    /// Takes the writing end of a [piped](super::Stdio::piped) standard input. Dropping this end ends the
    /// input. Returns `None` if the end was taken before, or if the caller is not the process that spawned
    /// this one.
    ///
    /// Read the output of a process before you join it. A process that has filled its pipe waits for a
    /// reader, as with [`std::process::Command`].
    ///
    /// ```
    /// use std::io::Write;
    /// use procession::{Process, process::Stdio};
    /// let count = || std::io::stdin().lines().count();
    /// let p = Process::builder().stdin(Stdio::piped()).spawn(count, ())?;
    /// let mut input = p.take_stdin().expect("it is piped, and was not taken yet");
    /// input.write_all(b"one\ntwo\n")?;
    /// drop(input);
    /// assert_eq!(p.join()?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        take(&self.pipes.as_ref()?.stdin)
    }

    /// Takes the reading end of a [piped](super::Stdio::piped) standard output. See
    /// [`take_stdin`](Process::take_stdin).
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// let p = Process::builder().stdout(Stdio::piped()).spawn(|| println!("hello"), ())?;
    /// let output = p.take_stdout().expect("it is piped, and was not taken yet");
    /// assert_eq!(std::io::read_to_string(output)?, "hello\n");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn take_stdout(&self) -> Option<PipeReader> {
        take(&self.pipes.as_ref()?.stdout)
    }

    /// Takes the reading end of a [piped](super::Stdio::piped) standard error. See [`take_stdin`](Process::take_stdin).
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// let p = Process::builder().stderr(Stdio::piped()).spawn(|| eprintln!("hello"), ())?;
    /// let output = p.take_stderr().expect("it is piped, and was not taken yet");
    /// assert_eq!(std::io::read_to_string(output)?, "hello\n");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn take_stderr(&self) -> Option<PipeReader> {
        take(&self.pipes.as_ref()?.stderr)
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(|e| e.into_inner()).take()
}
