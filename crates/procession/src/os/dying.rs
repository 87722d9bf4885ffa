//! [`state()`]: whether a process is already dead while the kernel is still freeing its memory.
//!
//! A thread with `PF_EXITING` executes no further instruction of its program. When every thread of a process
//! has this flag, the process is dead. After that, the kernel frees the memory of the process. Only then does
//! it let the parent reap the process.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::process::Ended;
use super::{ended, procfs};
use crate::rules::{self, Rule};

/// Whether a process is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No thread of the process executes another instruction.
    Dead(Ended),
    /// A thread may still run, or the kernel does not show whether one does.
    Unknown,
}

/// `PF_EXITING` in the flags of a thread.
const EXITING: u32 = 4;

/// Returns the state of the process `pid`, which must be a child that the caller has not reaped.
pub(crate) fn state(pid: i32) -> State {
    procfs::directory(pid).and_then(|directory| dead(&directory)).map_or(State::Unknown, State::Dead)
}

fn dead(process: &Path) -> Option<Ended> {
    let tasks = process.join("task");
    let mut exiting = HashSet::new();
    // A listed thread may have started another thread before it began to exit. So this reads the list until
    // it names only threads that were already exiting before the list was read. None of these can have
    // started another thread since.
    loop {
        let listed: Vec<_> =
            fs::read_dir(&tasks).ok()?.map_while(Result::ok).map(|task| task.file_name()).collect();
        let fresh: Vec<_> = listed.iter().filter(|task| !exiting.contains(*task)).cloned().collect();
        if fresh.is_empty() {
            // The kernel may omit a thread from the list while other threads leave it. So this compares the
            // number of threads.
            let stat = Stat::read(process)?;
            return (stat.threads == listed.len())
                .then_some(stat.status)
                .filter(|&status| status != 0)
                .map(ended::from_status);
        }
        for task in fresh {
            // A thread that is gone has exited.
            let runs = Stat::read(&tasks.join(&task)).is_some_and(|stat| stat.flags & EXITING == 0);
            if runs && rules::holds(Rule::EveryThreadExits) {
                return None;
            }
            exiting.insert(task);
        }
    }
}

/// Fields of `/proc/PID/stat`, of a process or a thread.
struct Stat {
    flags: u32,
    threads: usize,
    /// The status that `wait` would return. It is also 0 if the caller lacks the permission to see the
    /// status.
    status: i32,
}

impl Stat {
    fn read(directory: &Path) -> Option<Stat> {
        let text = procfs::text(directory.join("stat"))?;
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // The name is field 2 of proc(5), so field n comes n - 3 after it.
        let number = |n: usize| fields.get(n - 3)?.parse::<i64>().ok();
        Some(Stat { flags: number(9)? as u32, threads: number(20)? as usize, status: number(52)? as i32 })
    }
}
