//! What `/proc` shows about processes. Every answer may already be outdated when the caller reads it. `None`
//! and empty lists mean that the process does not exist.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// A process id in the type of `std` or in that of the system calls.
pub trait Pid: Copy {
    /// Returns the id as system calls take it.
    fn raw(self) -> i32;
}

impl Pid for i32 {
    fn raw(self) -> i32 {
        self
    }
}

impl Pid for u32 {
    fn raw(self) -> i32 {
        self.cast_signed()
    }
}

/// Returns the fields of `/proc/PID/stat` after the command's closing parenthesis. `[0]` is the state.
fn stat(pid: impl Pid) -> Option<Vec<String>> {
    let pid = pid.raw();
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Returns the state letter: `R`unning, `S`leeping, `D`isk, `T` stopped, `t`raced, `Z`ombie.
pub fn state(pid: impl Pid) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Returns the parent's process id.
pub fn ppid(pid: impl Pid) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Returns the sum of user and system time, in clock ticks (usually 10 ms).
pub fn cpu_ticks(pid: impl Pid) -> Option<u64> {
    let fields = stat(pid)?;
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Returns the command's name, at most 15 bytes.
pub fn comm(pid: impl Pid) -> Option<String> {
    let pid = pid.raw();
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// Returns how often the main thread has slept, as far as the kernel counts it.
pub fn times_slept(pid: impl Pid) -> Option<u64> {
    let pid = pid.raw();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
}

/// Returns the process's proportional share of memory (PSS), in KiB.
pub fn pss_kib(pid: impl Pid) -> Option<u64> {
    let pid = pid.raw();
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Reports whether the process does not exist, or is only a zombie.
pub fn gone(pid: impl Pid) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}

/// Reports whether the main thread of `pid` sleeps in a futex.
pub fn is_parked(pid: impl Pid) -> bool {
    state(pid) == Some('S') && sleeps_in_futex(pid.raw())
}

fn sleeps_in_futex(pid: i32) -> bool {
    const FUTEX_WAIT: libc::c_long = 455;
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/syscall")) else { return false };
    let number = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    match number {
        Some(libc::SYS_futex | libc::SYS_futex_waitv | FUTEX_WAIT) => true,
        // A wait with a timeout that a signal interrupted continues under this number.
        Some(libc::SYS_restart_syscall) => {
            fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("futex"))
        }
        _ => false,
    }
}

/// Returns every process and its parent, as found in one pass over `/proc`.
fn parents() -> HashMap<i32, i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, ppid(pid)?)))
        .collect()
}

/// Returns the direct children, including zombies.
pub fn children(pid: impl Pid) -> Vec<i32> {
    let pid = pid.raw();
    let parents = parents();
    parents.iter().filter(|&(_, &parent)| parent == pid).map(|(&child, _)| child).collect()
}

/// Returns the children, their children and so on, including zombies. Parents come before their children.
pub fn descendants(pid: impl Pid) -> Vec<i32> {
    let parents = parents();
    let mut found = vec![pid.raw()];
    let mut next = 0;
    while next < found.len() {
        let above = found[next];
        found.extend(parents.iter().filter(|&(_, &parent)| parent == above).map(|(&child, _)| child));
        next += 1;
    }
    found.remove(0);
    found
}

/// Reports whether `root` is among the ancestors of `pid`.
pub fn descends_from(pid: impl Pid, root: i32) -> bool {
    let mut above = ppid(pid);
    while let Some(parent) = above {
        if parent == root {
            return true;
        }
        above = if parent > 1 { ppid(parent) } else { None };
    }
    false
}

/// Kills every descendant of `pid`, again and again until none is left.
pub fn kill_descendants(pid: impl Pid) {
    for _ in 0..100 {
        let living: Vec<i32> = descendants(pid).into_iter().filter(|&pid| !gone(pid)).collect();
        if living.is_empty() {
            return;
        }
        for pid in living {
            crate::child::send_signal(pid, libc::SIGKILL);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `f` returns true, at most until `deadline` has passed. Returns whether `f` returned true.
pub fn eventually(deadline: Duration, mut f: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if f() {
            return true;
        }
        if start.elapsed() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Waits until `f` returns true.
///
/// # Panics
/// If `f` has not returned true within `deadline`. The panic message names `what`.
pub fn wait_until(what: &str, deadline: Duration, f: impl FnMut() -> bool) {
    assert!(eventually(deadline, f), "{what}: not within {deadline:?}");
}
