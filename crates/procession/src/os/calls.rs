//! The results of system calls, and functions that repeat calls.

use std::io;
use std::time::Duration;

/// Turns the return value of a libc call into a result.
pub(crate) fn check(ret: i64) -> io::Result<i64> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Repeats a call that a signal handler may interrupt.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// How often [`retry_refused`] repeats a call. The attempts are a millisecond apart.
const ATTEMPTS: u32 = 200;

/// Repeats a call while it fails for a reason that may be temporary: the kernel has no memory, descriptor or
/// process left at the moment. Returns an error immediately if `is_final` returns true for its number.
pub(crate) fn retry_refused<T>(
    mut call: impl FnMut() -> io::Result<T>,
    is_final: impl Fn(i32) -> bool,
) -> io::Result<T> {
    let mut attempts = 0;
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if attempts < ATTEMPTS && !e.raw_os_error().is_some_and(&is_final) => {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}
