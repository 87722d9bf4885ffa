//! [`Signals`]: signals as something to wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use procession_launch::was_ignored;
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGTSTP};
use signal_hook::{flag, low_level};

/// Handlers for some signals, which note what has come and wake a reader.
pub struct Signals {
    flags: Vec<(i32, Arc<AtomicBool>)>,
    /// The last of SIGTSTP and SIGCONT that has come, or 0. Each cancels the other, as in the kernel.
    job_control: Arc<AtomicUsize>,
    bell: UnixStream,
}

impl Signals {
    /// Listens to these signals. A signal that was ignored when the program was started stays ignored, except SIGCHLD
    /// and SIGCONT, by which the two processes of a run notice each other's end.
    pub fn listen(which: &[i32]) -> io::Result<Signals> {
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let mut signals = Signals { flags: Vec::new(), job_control: Arc::default(), bell };
        let is_heard = |signal| matches!(signal, SIGCHLD | SIGCONT) || !was_ignored(signal);
        for &signal in which.iter().filter(|&&signal| is_heard(signal)) {
            signals.note(signal)?;
            // Actions run in the order of their registration, so a reader of the bell sees what was noted.
            low_level::pipe::register(signal, rope.try_clone()?)?;
        }
        Ok(signals)
    }

    fn note(&mut self, signal: i32) -> io::Result<()> {
        if let SIGTSTP | SIGCONT = signal {
            flag::register_usize(signal, Arc::clone(&self.job_control), signal as usize)?;
        } else {
            let raised = Arc::new(AtomicBool::new(false));
            flag::register(signal, Arc::clone(&raised))?;
            self.flags.push((signal, raised));
        }
        Ok(())
    }

    /// Readable when a signal has come.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes the signals that have come. SIGTSTP or SIGCONT is the first of them.
    pub fn take(&mut self) -> Vec<i32> {
        self.silence();
        let job_control = self.take_job_control();
        let flags = self.flags.iter().filter(|(_, raised)| raised.swap(false, Ordering::AcqRel));
        job_control.into_iter().chain(flags.map(|(signal, _)| *signal)).collect()
    }

    /// Stops the bell; what it was rung for can still be taken.
    pub fn silence(&self) {
        let mut buffer = [0; 256];
        while (&self.bell).read(&mut buffer).is_ok_and(|length| length == buffer.len()) {}
    }

    /// Takes the last of SIGTSTP and SIGCONT that has come.
    pub fn take_job_control(&self) -> Option<i32> {
        let signal = self.job_control.swap(0, Ordering::AcqRel) as i32;
        (signal != 0).then_some(signal)
    }

    /// Whether any has come and was not taken.
    pub fn has_any(&self) -> bool {
        self.has_come(|_| true)
    }

    /// Whether any but SIGCHLD has come and was not taken.
    pub fn has_request(&self) -> bool {
        self.has_come(|signal| signal != SIGCHLD)
    }

    fn has_come(&self, which: impl Fn(i32) -> bool) -> bool {
        self.job_control.load(Ordering::Acquire) != 0
            || self.flags.iter().any(|(signal, raised)| which(*signal) && raised.load(Ordering::Acquire))
    }
}
