//! [`split()`]: two processes of this program.

use std::fs;
use std::io;

/// The process that returns from [`split()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The original process, with the pid of its child.
    Parent(i32),
    /// The new process, with the pid of its parent.
    Child(i32),
}

/// Forks this program.
///
/// # Errors
///
/// Fails and creates no child if this process has other threads, because their locks would stay locked in the
/// child. Also fails if there is no room for a process.
pub fn split() -> io::Result<Half> {
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("/proc/self/task: {e}; /proc must be mounted"));
    let threads = fs::read_dir("/proc/self/task").map_err(named)?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork a program with {threads} threads")));
    }
    // SAFETY: `getpid` has no preconditions. With one thread, the child of `fork` may do whatever its parent may.
    let (parent, child) = unsafe { (libc::getpid(), libc::fork()) };
    match child {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(Half::Child(parent)),
        child => Ok(Half::Parent(child)),
    }
}
