//! Attributes of the calling process: limits, processors, nice value, process group.

use std::io;

use super::check;

/// Limits the private memory of this process to `bytes` bytes, soft and hard.
pub(crate) fn limit_data(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` points to a valid value.
    check(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }.into()).map(drop)
}

/// Returns how many bytes currently count against the limit of [`limit_data`].
pub(crate) fn data_in_use() -> io::Result<u64> {
    let status = super::procfs::text("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("/proc/self/status does not contain VmData"))
}

/// Runs this process only on these processors. The kernel silently ignores processors that do not exist or
/// that this process may not use. This function returns an error for them.
pub(crate) fn run_on(processors: &[u32]) -> io::Result<()> {
    // One bit for each processor, up to the largest number of processors that the kernel supports.
    let mut wanted = [0u64; 128];
    for &processor in processors {
        let word = wanted.get_mut(processor as usize / 64);
        *word.ok_or(io::ErrorKind::InvalidInput)? |= 1 << (processor % 64);
    }
    let mut given = [0u64; 128];
    // SAFETY: both are arrays of that size.
    unsafe {
        check(libc::sched_setaffinity(0, size_of_val(&wanted), wanted.as_ptr().cast()).into())?;
        check(libc::sched_getaffinity(0, size_of_val(&given), given.as_mut_ptr().cast()).into())?;
    }
    if given == wanted { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Sets the nice value of this process.
pub(crate) fn be_nice(value: i32) -> io::Result<()> {
    // SAFETY: a plain call.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) }.into()).map(drop)
}

/// Moves this process into a process group. 0 creates a new group.
pub(crate) fn join_group(group: i32) -> io::Result<()> {
    // SAFETY: a plain call.
    check(unsafe { libc::setpgid(0, group) }.into()).map(drop)
}

/// Moves a child of this process into a new group. The child must not have executed another program.
pub(crate) fn separate_group(child: i32) {
    // SAFETY: a plain call.
    unsafe { libc::setpgid(child, child) };
}
