//! Every system call of the library, and nothing else: a port has this one room to work in.
//!
//! Nothing here knows about arenas, locks or processes of a family; the functions are thin, safe
//! faces over Linux, and their documentation says only what the kernel's manual does not.
#![allow(unsafe_code)] // This is the room where the kernel is called.

pub(crate) mod attributes;
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod deaths;
pub(crate) mod fd;
pub(crate) mod futex;
pub(crate) mod image;
pub(crate) mod launch;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod rendezvous;
pub(crate) mod shortage;
pub(crate) mod signal;
pub(crate) mod threads;

use std::io;

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
