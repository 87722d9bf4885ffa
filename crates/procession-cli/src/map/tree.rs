//! [`Tree`]: the processes that a command has started, and how they are killed.
//!
//! The process that runs commands is a subreaper. So a process that loses its parent becomes a child of the
//! subreaper, and stays its child until it is reaped. Any other descendant is checked again through a pidfd
//! before it is killed. So an unrelated process with a reused process id is never hit.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};

use super::kinship::Kinship;

/// A snapshot of the children of all processes.
pub struct Tree {
    children: HashMap<i32, Vec<Kinship>>,
}

impl Tree {
    pub fn now() -> Tree {
        let mut children: HashMap<i32, Vec<Kinship>> = HashMap::new();
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some(process) = Kinship::of(pid) {
                children.entry(process.parent).or_default().push(process);
            }
        }
        Tree { children }
    }

    /// Kills every descendant of a process. Returns their number.
    pub fn kill_below(&self, pid: i32) -> usize {
        let below = self.children.get(&pid).map_or(&[][..], Vec::as_slice);
        below.iter().map(|process| self.kill(*process)).sum()
    }

    fn kill(&self, process: Kinship) -> usize {
        kill_exactly(process);
        1 + self.kill_below(process.pid)
    }

    /// Returns every descendant of a process.
    pub fn below(&self, pid: i32) -> Vec<Kinship> {
        let mut all = self.children.get(&pid).cloned().unwrap_or_default();
        let mut next = 0;
        while let Some(process) = all.get(next) {
            all.extend(self.children.get(&process.pid).into_iter().flatten());
            next += 1;
        }
        all
    }

    /// Kills those of these processes that still live, with their descendants.
    pub fn kill_survivors<'a>(&self, processes: impl Iterator<Item = &'a Kinship>) {
        for process in processes {
            if let Some(survivor) = Kinship::of(process.pid).filter(|now| now.born == process.born) {
                self.kill(survivor);
            }
        }
    }

    /// Kills the processes that a job has left behind: orphans of its process group, and processes that carry its mark.
    pub fn kill_orphans(&self, group: i32, marks: [&[u8]; 2]) {
        let own = getpid().as_raw_nonzero().get();
        for process in self.children.get(&own).map_or(&[][..], Vec::as_slice) {
            if process.pid != group && (process.group == group || has_marks(process.pid, marks)) {
                self.kill(*process);
            }
        }
    }
}

fn kill_exactly(process: Kinship) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    if process.parent == getpid().as_raw_nonzero().get() {
        // A child's process id is not reused until this thread reaps it.
        let _ = kill_process(pid, Signal::KILL);
        return;
    }
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if Kinship::of(process.pid).is_some_and(|now| now.born == process.born) {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}

/// Returns whether a process's environment has both of these marks.
fn has_marks(pid: i32, marks: [&[u8]; 2]) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let has = |mark: &[u8]| environment.split(|&byte| byte == 0).any(|variable| variable == mark);
    marks.into_iter().all(has)
}
