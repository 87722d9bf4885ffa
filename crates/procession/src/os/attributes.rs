//! What the calling process can be given: limits, processors, a place in the queue for them, a group.

use std::io;

use super::check;

/// The most bytes of private memory that this process may have from now on, soft and hard.
pub(crate) fn limit_data(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` is a valid place.
    check(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }.into()).map(drop)
}

/// The bytes that count against [`limit_data`] now.
pub(crate) fn data_in_use() -> io::Result<u64> {
    let status = super::procfs::text("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("/proc/self/status says nothing of VmData"))
}

/// Runs this process on these processors alone. The kernel leaves out in silence what it does not have or
/// may not give; that is an error here.
pub(crate) fn run_on(processors: &[u32]) -> io::Result<()> {
    // As many bits as the kernel may have processors.
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

/// Puts this process into a process group; 0 is one of its own.
pub(crate) fn join_group(group: i32) -> io::Result<()> {
    // SAFETY: a plain call.
    check(unsafe { libc::setpgid(0, group) }.into()).map(drop)
}

/// Puts a child of this process, which has not executed another program, into a group of its own.
pub(crate) fn separate_group(child: i32) {
    // SAFETY: a plain call.
    unsafe { libc::setpgid(child, child) };
}
