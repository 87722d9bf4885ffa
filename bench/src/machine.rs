//! The machine: its clock, its CPUs, a GiB of its memory, and what `/proc` shows about processes.

use std::fs;
use std::hint::black_box;

use crate::Result;

/// Returns the time of the monotonic clock, which all processes share.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns the CPUs that this process may run on.
fn cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is a valid one, and the kernel writes no more than its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        set
    };
    // SAFETY: the index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Keeps the calling thread on one CPU: the `nth` of those that it may run on.
pub fn pin(nth: usize) {
    let cpus = cpus();
    // SAFETY: as in `cpus`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpus[nth % cpus.len()], &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// Returns a GiB of memory of which every page has been written to.
pub fn resident_gib() -> Vec<u8> {
    let mut memory = vec![0u8; 1 << 30];
    memory.chunks_mut(4096).for_each(|page| page[0] = 1);
    black_box(memory)
}

/// Describes processor, system, and number of CPUs.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} CPUs, {model}, Linux {}", cpus().len(), kernel.trim())
}

/// Returns the parent of a process.
pub fn parent_of(pid: u32) -> Result<u32> {
    stat_field(pid, 1)
}

/// Returns whether a process sleeps.
pub fn is_asleep(pid: u32) -> bool {
    stat(pid).is_ok_and(|fields| fields.first().is_some_and(|state| state == "S"))
}

/// Returns whether a process has ended or never existed.
pub fn is_gone(pid: u32) -> bool {
    stat(pid).map_or(true, |fields| fields.first().is_none_or(|state| state == "Z" || state == "X"))
}

/// Returns the children of a process that has one thread.
pub fn children_of(pid: u32) -> Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Returns the processor time of a process in clock ticks, all threads together.
pub fn ticks_of(pid: u32) -> Result<u64> {
    Ok(stat_field::<u64>(pid, 11)? + stat_field::<u64>(pid, 12)?)
}

/// Returns the fields of `/proc/PID/stat` after the name, which may itself contain spaces.
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or("a stat without a name")?;
    Ok(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

fn stat_field<T: std::str::FromStr>(pid: u32, index: usize) -> Result<T> {
    stat(pid)?.get(index).and_then(|field| field.parse().ok()).ok_or_else(|| "a stat cut short".into())
}

/// Returns how many nanoseconds all threads of a process spent on a processor, and how often they went to
/// sleep.
pub fn activity_of(pid: u32) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let schedstat = fs::read_to_string(task.join("schedstat"))?;
        let on_cpu_ns = schedstat.split_ascii_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
        let status = fs::read_to_string(task.join("status"))?;
        let sleeps = status
            .lines()
            .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok());
        sum = (sum.0 + on_cpu_ns.unwrap_or(0), sum.1 + sleeps.unwrap_or(0));
    }
    Ok(sum)
}

/// Returns a line of `smaps_rollup` in KiB: `Pss`, `Private_Dirty`, `Rss`.
pub fn memory_kib(pid: u32, what: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(what)?.strip_prefix(':'));
    let number = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok());
    number.ok_or_else(|| format!("no {what} in smaps_rollup").into())
}
