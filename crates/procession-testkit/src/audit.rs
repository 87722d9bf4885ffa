//! Checks that everything that was acquired has been released.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::mapping::Mapping;
use crate::proc;

const LIMIT: Duration = Duration::from_secs(10);

/// The holdings of a process when the audit began.
///
/// An audit counts for the whole process and the whole machine. Use it in an `isolated!` test, which also has
/// a temporary directory of its own.
pub struct Audit {
    mapping: Option<Mapping>,
    slack_bytes: u64,
    start: Holdings,
}

struct Holdings {
    /// `number -> target` of each descriptor.
    fds: BTreeSet<String>,
    processes: BTreeSet<i32>,
    /// Shared mappings. Private ones come and go with the allocator and with caches of stacks.
    mappings: Vec<String>,
    bytes: u64,
    shm: BTreeSet<String>,
    temporary: BTreeSet<String>,
}

impl Audit {
    /// Records the current holdings, including the bytes of the shared memory if `mapping` is given.
    pub fn start(mapping: Option<Mapping>) -> Audit {
        Audit { mapping, slack_bytes: 0, start: Holdings::now(mapping) }
    }

    /// Allows the shared memory to have grown by this many bytes.
    pub fn allow_bytes(mut self, slack: u64) -> Audit {
        self.slack_bytes = slack;
        self
    }

    /// Waits until no holdings exceed those at the start.
    ///
    /// # Panics
    /// If something is left after 10 s. The panic message names what is left.
    #[track_caller]
    pub fn assert_back(&self) {
        self.assert_back_within(LIMIT);
    }

    /// Does the same as [`assert_back`](Audit::assert_back), with another limit.
    #[track_caller]
    pub fn assert_back_within(&self, limit: Duration) {
        let start = Instant::now();
        loop {
            let leaks = self.leaks();
            if leaks.is_empty() {
                return;
            }
            assert!(start.elapsed() < limit, "leaked:\n{leaks}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lists the holdings that exceed those at the start, one per line. The text is empty if there are none.
    pub fn leaks(&self) -> String {
        let (before, now) = (&self.start, Holdings::now(self.mapping));
        let mut text = String::new();
        compare(&mut text, "file descriptors", &before.fds, &now.fds, Clone::clone);
        compare(&mut text, "processes", &before.processes, &now.processes, |&pid| {
            format!("{pid} {} ({})", proc::comm(pid).unwrap_or_default(), proc::state(pid).unwrap_or('?'))
        });
        compare(&mut text, "files in /dev/shm", &before.shm, &now.shm, Clone::clone);
        compare(&mut text, "temporary files", &before.temporary, &now.temporary, Clone::clone);
        if now.mappings.len() > before.mappings.len() {
            let more = now.mappings.len() - before.mappings.len();
            let new = now.mappings.iter().filter(|line| !before.mappings.contains(line));
            let names: Vec<&str> = new.map(String::as_str).collect();
            let _ = writeln!(text, "  {more} shared mappings:\n    {}", names.join("\n    "));
        }
        if now.bytes > before.bytes + self.slack_bytes {
            let (more, slack) = (now.bytes - before.bytes, self.slack_bytes);
            let _ = writeln!(text, "  {more} bytes of shared memory (allowed: {slack})");
        }
        text
    }
}

/// Appends the new elements to `text` if there are more elements than before.
fn compare<T: Ord>(
    text: &mut String,
    what: &str,
    before: &BTreeSet<T>,
    now: &BTreeSet<T>,
    show: impl Fn(&T) -> String,
) {
    if now.len() > before.len() {
        let names: Vec<String> = now.difference(before).map(show).collect();
        let _ = writeln!(text, "  {} {what}: {}", now.len() - before.len(), names.join(", "));
    }
}

impl Holdings {
    fn now(mapping: Option<Mapping>) -> Holdings {
        Holdings {
            fds: fds(),
            processes: proc::descendants(std::process::id() as i32).into_iter().collect(),
            mappings: shared_mappings(),
            bytes: mapping.map_or(0, |mapping| mapping.bytes_in_use()),
            shm: names(Path::new("/dev/shm")),
            temporary: names(&std::env::temp_dir()),
        }
    }
}

fn fds() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc/self/fd can be read").flatten();
    let named = entries.map(|entry| (entry.file_name(), fs::read_link(entry.path())));
    // The descriptor that lists the others is closed when its target is read, or its target is this
    // directory.
    let listing = format!("/proc/{}/fd", std::process::id());
    let others = named.filter_map(|(name, target)| Some((name, target.ok()?)));
    others
        .filter(|(_, target)| target.as_os_str() != listing.as_str())
        .map(|(name, target)| format!("{} -> {}", name.display(), target.display()))
        .collect()
}

fn shared_mappings() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps can be read");
    let is_shared =
        |line: &&str| line.split_ascii_whitespace().nth(1).is_some_and(|flags| flags.ends_with('s'));
    text.lines().filter(is_shared).map(str::to_owned).collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
