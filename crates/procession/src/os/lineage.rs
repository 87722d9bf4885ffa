//! A mark that a process passes on to every process that it starts. The mark of an orphan shows which child
//! the orphan descends from.
//!
//! The kernel does not record the ancestors of an orphan, and a process can change its session, group,
//! environment and descriptors. Resource limits are inherited across fork and exec, and hardly any program
//! changes them. One of these limits, the number of file locks, has had no effect since Linux 2.4.25. The
//! soft value of this limit carries the mark.

use std::io;

use super::{check, procfs};

fn limit(pid: i32, new: Option<&libc::rlimit>) -> io::Result<libc::rlimit> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both places are valid or null.
    check(unsafe { libc::prlimit(pid, libc::RLIMIT_LOCKS, new, &mut old) }.into()).map(|_| old)
}

/// Marks this process. Every process that it starts inherits the mark. Does nothing if the hard limit is too
/// low.
pub(crate) fn mark(mark: u64) {
    if let Ok(old) = limit(0, None) {
        let _ = limit(0, Some(&libc::rlimit { rlim_cur: mark, ..old }));
    }
}

/// Returns the mark of a process, or `None` if the process has no mark or its limits cannot be read.
pub(crate) fn mark_of(pid: i32) -> Option<u64> {
    match limit(pid, None) {
        Ok(limit) => Some(limit.rlim_cur).filter(|&mark| mark != libc::RLIM_INFINITY),
        // That process has changed its user, and this process may not read the limits of other users'
        // processes. (Reading them takes CAP_SYS_RESOURCE, which containers often remove from root.)
        Err(_) => shown_mark_of(pid),
    }
}

/// Returns the mark that `/proc` shows.
fn shown_mark_of(pid: i32) -> Option<u64> {
    let limits = procfs::text(procfs::directory(pid)?.join("limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
