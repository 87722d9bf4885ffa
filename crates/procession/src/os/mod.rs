//! Every system call of the library, and nothing else: a port has this one room to work in.
//!
//! Nothing here knows about arenas, locks or processes of a family; the functions are thin, safe
//! faces over Linux, and their documentation says only what the kernel's manual does not.
//!
//! | file               | what it holds |
//! |--------------------|---|
//! | `attributes.rs`    | limits, processors, nice value and group of the calling process |
//! | `cgroup.rs`        | the control groups that limit this process's memory |
//! | `clock.rs`         | the monotonic clock, and deadlines |
//! | `credentials.rs`    | user, groups, capabilities and no_new_privs, read and applied |
//! | `ended.rs`         | how a process ended that is no child of the caller |
//! | `fatal_signals.rs` | handlers that report how the process dies |
//! | `faults.rs`        | system calls that fail on demand, for tests |
//! | `fd.rs`            | descriptors and socket pairs |
//! | `fd_passing.rs`    | handing descriptors to a process without a connection |
//! | `futex.rs`         | sleeping on a word of shared memory |
//! | `image.rs`         | where the executable is loaded, and its constructors |
//! | `launch.rs`        | executing the program again as the supervisor |
//! | `limits.rs`        | what the machine and the user's limits allow |
//! | `lineage.rs`        | a mark that tells which child a process descends from |
//! | `memory.rs`        | the memfd and its mappings |
//! | `oom.rs`           | whether the kernel killed a process because memory ran out |
//! | `process.rs`       | forking, identity, waiting, killing |
//! | `procfs.rs`        | `/proc`, whose names need not be text and whose numbers may be foreign |
//! | `signal.rs`        | signal masks and dispositions |
//! | `threads.rs`       | the threads of this process, and those that the library adds |
#![allow(unsafe_code)] // This is the room where the kernel is called.

pub(crate) mod attributes;
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod credentials;
pub(crate) mod ended;
pub(crate) mod fatal_signals;
pub(crate) mod faults;
pub(crate) mod fd;
pub(crate) mod fd_passing;
pub(crate) mod futex;
pub(crate) mod image;
pub(crate) mod launch;
pub(crate) mod limits;
pub(crate) mod lineage;
pub(crate) mod memory;
pub(crate) mod oom;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod signal;
pub(crate) mod threads;

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

/// How often [`insist`] makes a call, a millisecond apart.
const ATTEMPTS: u32 = 200;

/// Makes a call again while it fails for a reason that may pass: the kernel has no memory, no descriptor or no process
/// left at the moment. An error of which `is_final` says so is returned immediately.
pub(crate) fn insist<T>(
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
