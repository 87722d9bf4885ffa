//! `/proc`: the names in it need not be valid UTF-8, and its process ids may belong to another pid namespace.
//!
//! The ids that this process gets from system calls are those of its own pid namespace. The ids in `/proc`
//! are those of the pid namespace in which `/proc` was mounted. These can differ: `unshare --pid --fork
//! program` leaves the outer mount in place. So every id is translated between the two.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::faults::{self, Call};
use super::process;

/// Returns the contents of a file in `/proc`, with replacement characters for bytes that are not valid UTF-8.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    faults::at(Call::ReadFile)
        .and_then(|()| fs::read(path))
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns whether `/proc` shows the pid namespace of this process.
fn is_native() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&process::pid().to_string()))
}

/// Returns the directory of a process in `/proc`, or `None` if `/proc` does not show it.
pub(crate) fn directory(pid: i32) -> Option<PathBuf> {
    if is_native() {
        return Some(format!("/proc/{pid}").into());
    }
    let pidfd = process::pidfd_open(pid).ok()?;
    let info = text(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse::<i32>().ok()?;
    (number > 0).then(|| format!("/proc/{number}").into())
}

/// Translates ids of `/proc` into those of this process's own namespace.
pub(crate) enum Translation {
    /// Both namespaces are the same.
    None,
    /// The number of levels from the mount's namespace down to this process's namespace.
    Levels(usize),
}

impl Translation {
    pub(crate) fn of_this_process() -> Translation {
        match is_native() {
            true => Translation::None,
            false => Translation::Levels(numbers("self").len().saturating_sub(1)),
        }
    }

    /// Returns this process's id for the process that `/proc` shows as `shown`.
    pub(crate) fn translate(&self, shown: i32) -> Option<i32> {
        match self {
            Translation::None => Some(shown),
            Translation::Levels(level) => numbers(&shown.to_string()).get(*level).copied(),
        }
    }
}

/// Returns the ids of a process, from its id in the mount's namespace down to its id in its own namespace.
fn numbers(process: &str) -> Vec<i32> {
    let status = text(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or("");
    line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}
