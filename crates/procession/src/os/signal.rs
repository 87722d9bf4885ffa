//! Signals: masks, dispositions, the signalfd.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::check;
use super::faults::{self, Call};

/// The signal that means "look at the arena".
pub(crate) const BELL: i32 = libc::SIGCHLD;

/// A signal mask as the kernel keeps it, and as it travels: bit n - 1 is signal n.
pub(crate) type Mask = u64;

/// What a process does about a signal.
pub(crate) type Disposition = libc::sighandler_t;

/// The two signals that the C library keeps for itself. It sends them between the threads of a process and waits
/// for an answer, so only a process with one thread may block them.
const OF_THE_C_LIBRARY: Mask = 1 << 31 | 1 << 32;

/// Replaces the mask of the calling thread and returns the one before.
fn swap_mask(mask: Mask) -> Mask {
    let mut old: Mask = 0;
    // The system call, because the C library's function silently leaves out its own two signals.
    // SAFETY: both places are eight bytes, as the kernel is told.
    unsafe {
        let (new, old) = (&raw const mask, &raw mut old);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, size_of::<Mask>());
    }
    old
}

/// Blocks the calling thread's signals and returns the mask before, for [`set_mask`].
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

/// Prepares the dispositions of a process that reaps children and whose forks get main's dispositions. Returns
/// what main does about SIGCHLD, for those forks.
///
/// Everything else stays as main has it, because the supervisor blocks every signal instead of ignoring it. So a
/// fork changes no disposition, except this one.
pub(crate) fn prepare_reaper() -> Disposition {
    // SAFETY: both are valid dispositions. SIGCHLD must not be ignored, or the kernel would reap children itself.
    // SIGPIPE is ignored as in every Rust program.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(BELL, libc::SIG_DFL)
    }
}

/// Sets the disposition of SIGCHLD that [`prepare_reaper`] returned.
pub(crate) fn restore_child_signal(before: Disposition) {
    if before != libc::SIG_DFL {
        // SAFETY: main ignored the signal, and a handler does not survive an exec.
        unsafe { libc::signal(BELL, before) };
    }
}

/// Has `handler` called when a child has ended, and ignores every other signal, so that none stays pending. Only for a
/// process that has one thread and forks no more.
pub(crate) fn catch_child_signal(handler: extern "C" fn(i32)) {
    for signal in 1..=64 {
        // SAFETY: a valid disposition. The system refuses it for signals that cannot be ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: the place is valid; the handler is async-signal-safe. No SA_RESTART: a sleep is to end.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(BELL, &action, std::ptr::null_mut());
    }
    // The C library's own two signals have no other disposition than the default here, and stay blocked.
    swap_mask(OF_THE_C_LIBRARY);
}

/// Throws away the signals that are pending for this process, which blocks all, but for SIGCHLD. Returns whether
/// there was one.
pub(crate) fn discard_pending() -> bool {
    let all: Mask = !(1 << (BELL - 1));
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let nowhere = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: the places are valid, and the kernel is told the size of the mask.
    let take = || unsafe {
        libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, nowhere, &raw const now, size_of::<Mask>())
    };
    let any = take() > 0;
    if any {
        while take() > 0 {}
    }
    any
}

/// A descriptor that can be read when a signal is pending: a child has ended or another process rings (both are
/// SIGCHLD), or any other signal was sent to this process or its group.
pub(crate) fn pending_fd() -> io::Result<OwnedFd> {
    let all: Mask = !0;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask is a valid place, and the kernel is told its size; the new descriptor is ours.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_signalfd4, -1, &raw const all, size_of::<Mask>(), flags))?;
        super::fd::above_stdio(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Takes the pending signals off the descriptor. Returns whether there was another one than SIGCHLD.
pub(crate) fn drain(fd: RawFd) -> bool {
    let mut strange = false;
    // SAFETY: an all-zero record is valid.
    let mut records: [libc::signalfd_siginfo; 8] = unsafe { std::mem::zeroed() };
    loop {
        // What a call that fails leaves there is read the next time.
        let len = faults::at(Call::ReadSignals).map_or(-1, |()| {
            // SAFETY: the buffer has that length, and the kernel writes whole records.
            unsafe { libc::read(fd, records.as_mut_ptr().cast(), size_of_val(&records)) }
        });
        let read = usize::try_from(len).unwrap_or(0) / size_of::<libc::signalfd_siginfo>();
        strange |= records[..read].iter().any(|record| record.ssi_signo != BELL as u32);
        if read < records.len() {
            return strange;
        }
    }
}
