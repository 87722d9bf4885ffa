//! What the machine and the user's limits allow.

use std::fs;

fn soft_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid place. If the call fails, `limit` keeps the value "unlimited".
    unsafe { libc::getrlimit(resource, &mut limit) };
    limit.rlim_cur
}

/// Returns how many bytes of address space this process may map.
pub(crate) fn address_space() -> u64 {
    soft_limit(libc::RLIMIT_AS)
}

/// Returns the size of the largest file that this process may create. A memfd is a file.
pub(crate) fn file_size() -> u64 {
    soft_limit(libc::RLIMIT_FSIZE)
}

/// Returns the number at this position of `/proc/self/statm`, in bytes.
fn statm(place: usize) -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_ascii_whitespace().nth(place).and_then(|word| word.parse::<u64>().ok());
    // SAFETY: a plain call.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0).saturating_mul(size.max(0) as u64)
}

/// Returns how many bytes of memory this process has that are not shared.
pub(crate) fn private_bytes() -> u64 {
    statm(1).saturating_sub(statm(2))
}

/// Limits the private memory of this process to what it has now plus `more` bytes. Does nothing if the kernel
/// refuses.
pub(crate) fn limit_private_bytes(more: u64) {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid place.
    unsafe { libc::getrlimit(libc::RLIMIT_DATA, &mut limit) };
    limit.rlim_cur = statm(5).saturating_add(more).min(limit.rlim_max);
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) };
}

/// Returns how many bytes of memory this process may expect to get: the machine's memory, or less if its
/// control groups have a lower limit.
pub(crate) fn memory() -> u64 {
    // SAFETY: plain calls.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let machine = (pages.max(0) as u64).saturating_mul(size.max(0) as u64);
    super::cgroup::memory_limit().map_or(machine, |limit| limit.min(machine))
}

/// Returns how many processors the machine has. This counts processors that this process may not use, because
/// the processes that it talks to may use them.
pub(crate) fn processors() -> usize {
    // SAFETY: a plain call.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1)
}
