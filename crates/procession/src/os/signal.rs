//! Signals: masks, dispositions, the signalfd.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::check;

/// The signal that means "look at the arena".
pub(crate) const BELL: i32 = libc::SIGCHLD;

/// A signal mask, as plain data that can travel.
pub(crate) type Mask = libc::sigset_t;

/// Blocks every signal for the calling thread and returns the mask that was.
pub(crate) fn block_all() -> Mask {
    // SAFETY: the sets are valid places; SIG_SETMASK with them cannot fail.
    unsafe {
        let (mut all, mut old): (Mask, Mask) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        old
    }
}

/// Puts a mask back.
pub(crate) fn set_mask(mask: &Mask) {
    // SAFETY: `mask` is a valid set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

/// A mask as bytes, and back.
pub(crate) fn mask_to_word(mask: &Mask) -> u64 {
    (1..=64).fold(0, |word, signal| {
        // SAFETY: `mask` is a valid set; numbers without a signal give -1.
        let member = unsafe { libc::sigismember(mask, signal) } == 1;
        word | (u64::from(member) << (signal - 1))
    })
}

/// The reverse of [`mask_to_word`].
pub(crate) fn mask_from_word(word: u64) -> Mask {
    // SAFETY: an all-zero set is valid, and so are the signal numbers.
    unsafe {
        let mut mask: Mask = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        for signal in 1..=64 {
            if word >> (signal - 1) & 1 == 1 {
                libc::sigaddset(&mut mask, signal);
            }
        }
        mask
    }
}

/// The signals that a terminal, a service manager or a closed pipe sends to a whole group.
const GROUP_SIGNALS: [i32; 11] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGTERM,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGPIPE,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// The dispositions that a process had before it ignored the signals of its group.
pub(crate) struct Dispositions {
    group: [libc::sighandler_t; GROUP_SIGNALS.len()],
    child: libc::sighandler_t,
}

/// Ignores the group's signals; the supervisor outlives a Ctrl-C so that it can clean up after it.
pub(crate) fn ignore_group_signals() -> Dispositions {
    // SAFETY: SIG_IGN is a valid disposition for each of them. SIGCHLD must not be ignored, or
    // children would be reaped behind our back.
    unsafe {
        Dispositions {
            group: GROUP_SIGNALS.map(|signal| libc::signal(signal, libc::SIG_IGN)),
            child: libc::signal(libc::SIGCHLD, libc::SIG_DFL),
        }
    }
}

impl Dispositions {
    /// Gives the signals back what they had; SIGPIPE stays ignored, as in every Rust program.
    pub(crate) fn restore(&self) {
        // SAFETY: as below.
        unsafe { libc::signal(libc::SIGCHLD, self.child) };
        for (signal, &old) in GROUP_SIGNALS.iter().zip(&self.group) {
            if *signal != libc::SIGPIPE {
                // SAFETY: `old` came from `signal` in this same image.
                unsafe { libc::signal(*signal, old) };
            }
        }
    }
}

/// A descriptor that can be read when a child has ended or somebody rang (both are SIGCHLD).
pub(crate) fn child_signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set is a valid place; the new descriptor is ours.
    unsafe {
        let mut set: Mask = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        let fd = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        super::fd::above_stdio(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Takes the pending SIGCHLD off the descriptor.
pub(crate) fn drain_signal_fd(fd: RawFd) {
    // A record is 128 bytes, and a signal of this kind is pending at most once for the process and
    // once for its only thread.
    let mut info = [0u8; 2 * 128];
    // SAFETY: `info` is a valid buffer of that length.
    while unsafe { libc::read(fd, info.as_mut_ptr().cast(), info.len()) } == info.len() as isize {}
}
