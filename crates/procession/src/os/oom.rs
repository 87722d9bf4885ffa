//! Whether the kernel has killed somebody because memory ran out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Watches the kernel's count of such kills, in this process's control group if it has one.
pub(crate) struct Watch {
    file: PathBuf,
    seen: u64,
    /// Kills that were counted and that nobody was found for yet, and when they were noticed.
    open: u64,
    since: Instant,
}

/// Processes that the kernel kills together do not end at once. After this time the others were not ours.
const TOGETHER: Duration = Duration::from_secs(10);

impl Watch {
    pub(crate) fn begin() -> Watch {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let file = files(&own).into_iter().find(|file| count(file).is_some());
        let file = file.unwrap_or_else(|| "/proc/vmstat".into());
        Watch { seen: count(&file).unwrap_or(0), file, open: 0, since: Instant::now() }
    }

    /// Whether one of the kernel's kills may have been that of a process that has just been killed: one that was
    /// counted since this was asked last, or one of several that were counted a moment ago.
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

/// Where the count may stand, by what `/proc/self/cgroup` says: both versions of control groups, the second
/// one alone or beside the first; and a container that sees its own group as the root.
fn files(own: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if number == "0" {
            found.extend(
                [root.join(path), root.join("unified").join(path)].map(|at| at.join("memory.events")),
            );
        } else if controllers.split(',').any(|name| name == "memory") {
            let root = root.join("memory");
            found.extend([root.join(path), root].map(|at| at.join("memory.oom_control")));
        }
    }
    found
}

/// The `oom_kill` of one of these files.
fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok())
}
