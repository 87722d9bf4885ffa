//! Signals: masks, dispositions, the signalfd.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::check;
use super::faults::{self, Call};

/// The signal that wakes the supervisor to look for work in the arena.
pub(crate) const WAKE_SIGNAL: i32 = libc::SIGCHLD;

/// A signal mask in the kernel's form: bit n - 1 is signal n.
pub(crate) type Mask = u64;

/// The disposition of a signal: default, ignored, or a handler.
pub(crate) type Disposition = libc::sighandler_t;

/// The two signals that the C library reserves. The library sends them between threads and waits for an
/// answer, so only a process with one thread may block them.
const OF_THE_C_LIBRARY: Mask = 1 << 31 | 1 << 32;

/// Replaces the mask of the calling thread and returns the previous mask.
fn swap_mask(mask: Mask) -> Mask {
    let mut old: Mask = 0;
    // Uses the system call, because the C library's function silently ignores the library's own two signals.
    // SAFETY: both places have eight bytes, and that is the size passed to the kernel.
    unsafe {
        let (new, old) = (&raw const mask, &raw mut old);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, size_of::<Mask>());
    }
    old
}

/// Blocks all signals of the calling thread, except the C library's own two. Returns the previous mask, for
/// [`set_mask`].
pub(crate) fn block_all() -> Mask {
    swap_mask(!OF_THE_C_LIBRARY)
}

/// Blocks every signal that can be blocked. Only for a process that has one thread.
pub(crate) fn block_everything() {
    swap_mask(!0);
}

/// Sets the mask of the calling thread.
pub(crate) fn set_mask(mask: Mask) {
    swap_mask(mask);
}

/// Sets the dispositions of a process that reaps children and whose forks get main's dispositions. Returns
/// main's disposition of SIGCHLD, which those forks restore.
///
/// All other dispositions stay as main has them, because the supervisor blocks every signal instead of
/// ignoring it. So a fork has to change no disposition except that of SIGCHLD.
pub(crate) fn prepare_reaper() -> Disposition {
    // SAFETY: both dispositions are valid. SIGCHLD must not be ignored, because the kernel would then reap
    // children itself. SIGPIPE is ignored, as in every Rust program.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(WAKE_SIGNAL, libc::SIG_DFL)
    }
}

/// Sets the disposition of SIGCHLD that [`prepare_reaper`] returned.
pub(crate) fn restore_child_signal(before: Disposition) {
    if before != libc::SIG_DFL {
        // SAFETY: the disposition is "ignored", because main ignored the signal. It cannot be a handler,
        // because handlers do not survive an exec.
        unsafe { libc::signal(WAKE_SIGNAL, before) };
    }
}

/// Ignores SIGINT in this process and in the programs that it executes.
pub(crate) fn ignore_interrupts() {
    // SAFETY: a valid disposition.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Registers `handler` to be called when a child has ended. Ignores every other signal, so that none stays
/// pending. Only for a process that has one thread and does not fork again.
pub(crate) fn catch_child_signal(handler: extern "C" fn(i32)) {
    for signal in 1..=64 {
        // SAFETY: the disposition is valid. The kernel refuses it for signals that cannot be ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: the place is valid, and the handler is async-signal-safe. SA_RESTART is not set, so the signal
    // ends a sleep.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(WAKE_SIGNAL, &action, std::ptr::null_mut());
    }
    // The C library's own two signals have the default disposition here, and stay blocked.
    swap_mask(OF_THE_C_LIBRARY);
}

/// Discards all pending signals of this process except SIGCHLD. This process blocks all signals. Returns
/// whether there was a pending signal to discard.
pub(crate) fn discard_pending() -> bool {
    let all: Mask = !(1 << (WAKE_SIGNAL - 1));
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let nowhere = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: the places are valid, and the size of the mask is passed to the kernel.
    let take = || unsafe {
        libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, nowhere, &raw const now, size_of::<Mask>())
    };
    let any = take() > 0;
    if any {
        while take() > 0 {}
    }
    any
}

/// Returns a descriptor that is readable while a signal is pending. The signal is SIGCHLD if a child has
/// ended or another process wakes this one. It can also be any other signal to this process or its group.
pub(crate) fn pending_fd() -> io::Result<OwnedFd> {
    let all: Mask = !0;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask is a valid place, and its size is passed to the kernel. The new descriptor is ours.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_signalfd4, -1, &raw const all, size_of::<Mask>(), flags))?;
        super::fd::above_stdio(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Reads the pending signals from the descriptor. Returns whether any of them was not SIGCHLD.
pub(crate) fn drain(fd: RawFd) -> bool {
    let mut strange = false;
    // SAFETY: an all-zero record is valid.
    let mut records: [libc::signalfd_siginfo; 8] = unsafe { std::mem::zeroed() };
    loop {
        // If the call fails, the next call of this function reads the signals.
        let len = faults::at(Call::ReadSignals).map_or(-1, |()| {
            // SAFETY: the buffer has that length, and the kernel writes whole records.
            unsafe { libc::read(fd, records.as_mut_ptr().cast(), size_of_val(&records)) }
        });
        let read = usize::try_from(len).unwrap_or(0) / size_of::<libc::signalfd_siginfo>();
        strange |= records[..read].iter().any(|record| record.ssi_signo != WAKE_SIGNAL as u32);
        if read < records.len() {
            return strange;
        }
    }
}
