//! Sleeping on a word of shared memory.
//!
//! The operations are not PRIVATE, because processes map the same page at different addresses.

use std::io;
use std::sync::atomic::AtomicU32;

use super::check;
use super::clock::Deadline;
use super::faults::{self, Call};
use crate::rules::{self, Rule};

/// Sleeps if `word` is `expected`, until a wake or the deadline. This function may return at any time, so
/// callers check their word again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) {
    wait_as(word, expected, deadline, EVERY_CLASS);
}

/// As [`wait`], but as a sleeper of the given classes: see [`wake_class`]. Returns whether the sleep timed
/// out.
pub(crate) fn wait_as(word: &AtomicU32, expected: u32, deadline: Deadline, classes: u32) -> bool {
    if faults::at(Call::Sleep).is_err() {
        return false;
    }
    let at = deadline.as_ns().map(timespec);
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

/// The largest number of words that one call can wait for.
pub(crate) const MOST_WORDS: usize = 128;

/// Sleeps while every word has its expected value, as [`wait`] does for one word. If the kernel cannot do
/// that (before Linux 5.16, under a filter, or for more than 128 words), this function returns after a few
/// milliseconds.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) {
    const CHECK_AGAIN_NS: u64 = 5_000_000;
    let (few, many) = (&words[words.len().saturating_sub(MOST_WORDS)..], words.len() > MOST_WORDS);
    let soon = || deadline.min_ns(super::clock::now_ns() + CHECK_AGAIN_NS);
    if wait_vector(few, if many { soon() } else { deadline }).is_err()
        && let Some((word, expected)) = words.last()
    {
        wait(word, *expected, soon());
    }
}

/// Sleeps as [`wait_any`] does without a deadline, for at most [`MOST_WORDS`] words. If the kernel cannot
/// wait for several words, sleeps on the first word alone.
pub(crate) fn wait_any_or_first(words: &[(&AtomicU32, u32)]) {
    if wait_vector(words, Deadline::NEVER).is_err()
        && let Some((word, expected)) = words.first()
    {
        wait(word, *expected, Deadline::NEVER);
    }
}

/// The kernel cannot wait for several words.
struct Refused;

fn wait_vector(words: &[(&AtomicU32, u32)], until: Deadline) -> Result<(), Refused> {
    #[repr(C)]
    struct Waiter {
        value: u64,
        address: u64,
        flags: u32,
        reserved: u32,
    }
    const SIZE_U32: u32 = 2;
    let waiter = |(word, expected): &(&AtomicU32, u32)| Waiter {
        value: (*expected).into(),
        address: word.as_ptr() as u64,
        flags: SIZE_U32,
        reserved: 0,
    };
    let waiters: Vec<Waiter> = words.iter().map(waiter).collect();
    let at = until.as_ns().map(timespec);
    let at = at.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    if faults::at(Call::Sleep).is_err() {
        return Ok(());
    }
    if !rules::holds(Rule::WaitsForAny) {
        return Err(Refused);
    }
    // SAFETY: the words and the list outlive the call. The time is an absolute time or null.
    let ret = unsafe {
        let (list, count) = (waiters.as_ptr(), waiters.len());
        libc::syscall(libc::SYS_futex_waitv, list, count, 0, at, libc::CLOCK_MONOTONIC)
    };
    let why = io::Error::last_os_error().raw_os_error();
    if ret == -1 && matches!(why, Some(libc::ENOSYS | libc::EPERM)) { Err(Refused) } else { Ok(()) }
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

/// Returns the class of the sleeper with this id.
pub(crate) fn class_of(id: u32) -> u32 {
    1 << (id % 32)
}

const EVERY_CLASS: u32 = u32::MAX;

/// Wakes every thread that sleeps on `word` as a sleeper of `class`. Returns the number of woken threads.
pub(crate) fn wake_class(word: &AtomicU32, class: u32) -> usize {
    let none = std::ptr::null::<u32>();
    until_heard(|| {
        // SAFETY: the kernel only uses the address as a key.
        check(unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAKE_BITSET,
                i32::MAX,
                none,
                none,
                class,
            )
        })
    })
}

/// Wakes at most `count` sleepers. Returns the number of woken threads.
pub(crate) fn wake(word: &AtomicU32, count: i32) -> usize {
    // SAFETY: the kernel only uses the address as a key.
    until_heard(|| check(unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) }))
}

/// Repeats a wake until the kernel accepts it, because a lost wake could leave a thread asleep for ever.
/// Returns how many threads were woken.
#[inline]
fn until_heard(wake: impl Fn() -> io::Result<i64>) -> usize {
    loop {
        match faults::at(Call::Wake).and_then(|()| wake()) {
            Ok(woken) => return woken as usize,
            // No thread can sleep at this address.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EFAULT | libc::EINVAL)) => return 0,
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Wakes all threads that sleep on `word`. Returns the number of woken threads.
pub(crate) fn wake_all(word: &AtomicU32) -> usize {
    wake(word, i32::MAX)
}
