//! [`Signals`]: signals as something to wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_launch::was_ignored;
use signal_hook::consts::SIGCHLD;
use signal_hook::{flag, low_level};

pub struct Signals {
    flags: Vec<(i32, Arc<AtomicBool>)>,
    bell: UnixStream,
}

impl Signals {
    /// Listens to these signals. One that was ignored when the program was started stays ignored, except the one that
    /// tells of children.
    pub fn listen(which: &[i32]) -> io::Result<Signals> {
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let mut flags = Vec::new();
        for &signal in which.iter().filter(|&&signal| signal == SIGCHLD || !was_ignored(signal)) {
            // Actions run in this order, so a reader of the bell sees the flag.
            let raised = Arc::new(AtomicBool::new(false));
            flag::register(signal, Arc::clone(&raised))?;
            low_level::pipe::register(signal, rope.try_clone()?)?;
            flags.push((signal, raised));
        }
        Ok(Signals { flags, bell })
    }

    /// Readable when a signal has come.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes the signals that have come.
    pub fn take(&mut self) -> Vec<i32> {
        self.silence();
        self.flags
            .iter()
            .filter(|(_, raised)| raised.swap(false, Ordering::AcqRel))
            .map(|(signal, _)| *signal)
            .collect()
    }

    /// Stops the bell; what it was rung for can still be taken.
    pub fn silence(&self) {
        let mut buffer = [0; 256];
        while (&self.bell).read(&mut buffer).is_ok_and(|length| length == buffer.len()) {}
    }

    /// Forgets a signal that has come.
    pub fn forget(&self, which: i32) {
        self.flags
            .iter()
            .filter(|(signal, _)| *signal == which)
            .for_each(|(_, raised)| raised.store(false, Ordering::Release));
    }

    /// Whether any has come and was not taken.
    pub fn has_any(&self) -> bool {
        self.flags.iter().any(|(_, raised)| raised.load(Ordering::Acquire))
    }

    /// Whether one of these has come and was not taken.
    pub fn has_come(&self, which: &[i32]) -> bool {
        self.flags.iter().any(|(signal, raised)| which.contains(signal) && raised.load(Ordering::Acquire))
    }
}
