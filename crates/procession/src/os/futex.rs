//! Sleeping on a word of shared memory.
//!
//! Always the SHARED kind: the same page may be mapped at different addresses.

use std::sync::atomic::AtomicU32;

use super::clock::Deadline;

/// Sleeps while `word` is `expected`, until woken or until the deadline. Returns for any reason,
/// also for none: callers look at their word again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) {
    wait_as(word, expected, deadline, EVERY_CLASS);
}

/// As [`wait`], as a sleeper of these classes: see [`wake_class`]. Says whether it was the time that
/// ended the sleep, and nobody's wake.
pub(crate) fn wait_as(word: &AtomicU32, expected: u32, deadline: Deadline, classes: u32) -> bool {
    let at = deadline.as_ns().map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    });
    let at = at.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `word` outlives the call; WAIT_BITSET takes an absolute CLOCK_MONOTONIC time or null.
    let slept = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            at,
            std::ptr::null::<u32>(),
            classes,
        )
    };
    slept != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
}

/// The class of a sleeper with this number.
pub(crate) fn class_of(id: u32) -> u32 {
    1 << (id % 32)
}

const EVERY_CLASS: u32 = u32::MAX;

/// Wakes everybody who sleeps on `word` as a sleeper of `class`.
pub(crate) fn wake_class(word: &AtomicU32, class: u32) {
    let none = std::ptr::null::<u32>();
    // SAFETY: the kernel only uses the address as a key.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE_BITSET, i32::MAX, none, none, class)
    };
}

/// Wakes at most `count` sleepers and says how many it woke.
pub(crate) fn wake(word: &AtomicU32, count: i32) -> usize {
    // SAFETY: the kernel only uses the address as a key.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    usize::try_from(woken).unwrap_or(0)
}

/// Wakes everybody who sleeps on `word`.
pub(crate) fn wake_all(word: &AtomicU32) -> usize {
    wake(word, i32::MAX)
}
