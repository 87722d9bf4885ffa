//! [`SignalQueue`]: signals that are read instead of handled.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::signals::{self, bit};

/// Signals that are blocked and wait in the kernel until they are read.
///
/// A handler would interrupt system calls and would need a pipe to wake a poll. That costs three more system
/// calls for each signal.
#[derive(Debug)]
pub struct SignalQueue {
    fd: OwnedFd,
}

impl SignalQueue {
    /// Blocks the signals for this thread and opens a descriptor that reads them. They stay blocked afterwards.
    ///
    /// A process that is forked later reads its own signals from its copy of the queue. Started programs get
    /// the signal mask and dispositions with which this process was started.
    ///
    /// # Errors
    ///
    /// There is no room for a descriptor.
    pub fn open(signals: &[i32]) -> io::Result<SignalQueue> {
        let set = signals.iter().fold(0, |set, &signal| set | bit(signal));
        signals::block(set);
        // While SIGCHLD is ignored, the kernel reaps children by itself.
        signals.iter().for_each(|&signal| signals::set_handler(signal, libc::SIG_DFL));
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set has the size that is passed to the kernel.
        let fd =
            unsafe { libc::syscall(libc::SYS_signalfd4, -1, ptr::from_ref(&set), signals::SET_BYTES, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened this descriptor for us.
        Ok(SignalQueue { fd: unsafe { OwnedFd::from_raw_fd(fd as c_int) } })
    }

    /// Takes up to eight signals that have come, without waiting. Fewer than eight mean that no more signals
    /// were pending.
    pub fn read(&self) -> Batch {
        let mut batch = Batch { infos: [const { MaybeUninit::uninit() }; BATCH], length: 0 };
        // SAFETY: the kernel writes whole records into a buffer of that size.
        let bytes = unsafe {
            libc::read(self.fd.as_raw_fd(), batch.infos.as_mut_ptr().cast(), size_of_val(&batch.infos))
        };
        batch.length = usize::try_from(bytes).unwrap_or(0) / size_of::<libc::signalfd_siginfo>();
        batch
    }
}

impl AsFd for SignalQueue {
    /// Returns a descriptor that is readable when a signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const BATCH: usize = 8;

/// Signals that were read together.
pub struct Batch {
    infos: [MaybeUninit<libc::signalfd_siginfo>; BATCH],
    length: usize,
}

impl Batch {
    /// Returns the numbers of the signals, in the order in which the kernel delivers them.
    pub fn signals(&self) -> impl Iterator<Item = i32> {
        // SAFETY: the kernel has written the first `length` records.
        self.infos[..self.length].iter().map(|info| unsafe { info.assume_init_ref() }.ssi_signo as i32)
    }

    /// Returns whether more signals may wait.
    pub fn is_full(&self) -> bool {
        self.length == BATCH
    }
}
