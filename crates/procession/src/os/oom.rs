//! Whether the kernel has killed a process because memory ran out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{Hierarchy, Version};

/// Watches the kernel's count of such kills. This is the count of this process's control group, if it has
/// one.
pub(crate) struct Watch {
    file: PathBuf,
    seen: u64,
    /// The counted kills that were not attributed to a process yet, and the time at which they were noticed.
    open: u64,
    since: Instant,
}

/// Processes that the kernel kills together do not end at the same time. Kills that are not attributed after
/// this time are taken for kills of processes outside the family.
const TOGETHER: Duration = Duration::from_secs(10);

impl Watch {
    pub(crate) fn begin() -> Watch {
        let file = files().find(|file| count(file).is_some());
        let file = file.unwrap_or_else(|| "/proc/vmstat".into());
        Watch { seen: count(&file).unwrap_or(0), file, open: 0, since: Instant::now() }
    }

    /// Returns whether the kernel may have killed a process that has just died because memory ran out. It may
    /// have if the count has grown since the last call, or if several kills were counted recently.
    pub(crate) fn has_run_out(&mut self) -> bool {
        let now = count(&self.file).unwrap_or(self.seen);
        let new = now.saturating_sub(std::mem::replace(&mut self.seen, now));
        if self.since.elapsed() > TOGETHER {
            self.open = 0;
        }
        if new > 0 {
            (self.open, self.since) = (self.open + new, Instant::now());
        }
        let one = self.open > 0;
        self.open = self.open.saturating_sub(1);
        one
    }
}

/// Returns the files that may contain the count.
fn files() -> impl Iterator<Item = PathBuf> {
    Hierarchy::all().into_iter().map(|hierarchy| match hierarchy.version {
        Version::One => hierarchy.own.join("memory.oom_control"),
        Version::Two => hierarchy.own.join("memory.events"),
    })
}

/// Returns the `oom_kill` count in one of these files.
fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok())
}
