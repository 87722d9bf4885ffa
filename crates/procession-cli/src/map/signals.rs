//! [`Signals`]: signals that a run can wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use procession_launch::{SignalQueue, was_ignored};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};

/// The signals that a run reads. Signals that come together are taken in this order.
const READ: [i32; 6] = [SIGTSTP, SIGCONT, SIGCHLD, SIGINT, SIGTERM, SIGHUP];

/// The signals that have come to this process.
pub struct Signals {
    queue: SignalQueue,
    /// Signals that were read but not yet taken, by their index in `READ`. SIGTSTP and SIGCONT cancel each
    /// other, as in the kernel.
    pending: [bool; READ.len()],
}

impl Signals {
    /// Blocks the signals of a run. From now on, they wait in the kernel.
    ///
    /// A signal that was ignored when the program was started stays ignored. SIGCHLD and SIGCONT are
    /// exceptions: they notify each of the two processes of a run that the other has ended.
    pub fn listen() -> io::Result<Signals> {
        let is_read = |signal| matches!(signal, SIGCHLD | SIGCONT) || !was_ignored(signal);
        let signals: Vec<i32> = READ.into_iter().filter(|&signal| is_read(signal)).collect();
        Ok(Signals { queue: SignalQueue::open(&signals)?, pending: Default::default() })
    }

    /// Returns a descriptor that is readable when a signal has come. Then call [`read`](Self::read).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Reads the signals that have come. They can then be taken.
    pub fn read(&mut self) {
        loop {
            let batch = self.queue.read();
            batch.signals().for_each(|signal| self.note(signal));
            if !batch.is_full() {
                return;
            }
        }
    }

    fn note(&mut self, signal: i32) {
        match signal {
            SIGTSTP => self.set(SIGCONT, false),
            SIGCONT => self.set(SIGTSTP, false),
            _ => {}
        }
        self.set(signal, true);
    }

    fn set(&mut self, signal: i32, is_pending: bool) {
        if let Some(place) = READ.iter().position(|&read| read == signal) {
            self.pending[place] = is_pending;
        }
    }

    /// Takes the signals that were read.
    pub fn take(&mut self) -> impl Iterator<Item = i32> + use<> {
        let pending = std::mem::take(&mut self.pending);
        READ.into_iter().zip(pending).filter_map(|(signal, is_pending)| is_pending.then_some(signal))
    }

    /// Takes SIGTSTP or SIGCONT, whichever was read last.
    pub fn take_job_control(&mut self) -> Option<i32> {
        let places = READ.iter().zip(&mut self.pending);
        places
            .filter(|(signal, _)| matches!(**signal, SIGTSTP | SIGCONT))
            .find_map(|(&signal, is_pending)| std::mem::take(is_pending).then_some(signal))
    }

    /// Returns whether a signal was read and not taken.
    pub fn has_any(&self) -> bool {
        self.pending.contains(&true)
    }

    /// Returns whether a signal other than SIGCHLD was read and not taken.
    pub fn has_request(&self) -> bool {
        READ.iter().zip(self.pending).any(|(&signal, is_pending)| is_pending && signal != SIGCHLD)
    }
}
