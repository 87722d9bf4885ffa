//! Memory: the sealed memfd that every process maps, and private mappings.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::check;
use super::faults::{self, Call};

/// Creates an empty anonymous file in memory, with a descriptor above 2.
pub(crate) fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    const BASE: u32 = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a C string. Kernels before 6.3 return EINVAL for NOEXEC_SEAL.
    let create = |flags| unsafe { check(libc::memfd_create(name.as_ptr(), flags).into()) };
    let fd = create(BASE | libc::MFD_NOEXEC_SEAL).or_else(|_| create(BASE))?;
    // SAFETY: the kernel has just returned this descriptor.
    super::fd::above_stdio(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Creates an anonymous file of `len` bytes in memory, and seals its length.
pub(crate) fn sealed_memfd(name: &CStr, len: u64) -> io::Result<OwnedFd> {
    let fd = memfd(name)?;
    // SAFETY: a plain call on our own descriptor.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) }.into())?;
    seal_length(fd.as_fd())?;
    Ok(fd)
}

/// Seals the length of a file that [`memfd`] created.
pub(crate) fn seal_length(fd: BorrowedFd<'_>) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a plain call.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into()).map(drop)
}

/// Returns whether [`seal_length`] was called for a file.
pub(crate) fn has_sealed_length(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: a plain call.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    seals != -1 && seals & libc::F_SEAL_GROW != 0
}

/// Returns the length of the file behind a descriptor.
pub(crate) fn file_len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: an all-zero `stat` is a valid value, and `fd` is open.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstat(fd.as_raw_fd(), &mut stat).into())?;
        Ok(stat.st_size as u64)
    }
}

fn map(len: usize, flags: i32, fd: i32) -> io::Result<NonNull<u8>> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags | libc::MAP_NORESERVE, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("the kernel mapped memory at address 0"))
}

/// Maps a file as shared memory: every process that maps the file sees the stores of the others.
///
/// The mapping is never locked in memory, not even after `mlockall(MCL_FUTURE)`. With that flag, `mmap` would
/// allocate all pages of the range, or fail if `RLIMIT_MEMLOCK` is lower. So this maps one page, unlocks it, and
/// grows the mapping. The grown part of an unlocked mapping is not locked.
pub(crate) fn map_shared(fd: BorrowedFd<'_>, len: usize) -> io::Result<NonNull<u8>> {
    let page = (page_size() as usize).min(len);
    let first = map(page, libc::MAP_SHARED, fd.as_raw_fd())?;
    // SAFETY: the page was just mapped, and nothing refers to it yet.
    let grown = unsafe {
        libc::munlock(first.as_ptr().cast(), page);
        libc::mremap(first.as_ptr().cast(), page, len, libc::MREMAP_MAYMOVE)
    };
    if grown == libc::MAP_FAILED {
        let error = io::Error::last_os_error();
        // SAFETY: as above.
        unsafe { unmap(first, page) };
        return Err(error);
    }
    NonNull::new(grown.cast()).ok_or_else(|| io::Error::other("the kernel mapped memory at address 0"))
}

/// Maps private zero pages. The kernel allocates each page when it is first touched.
pub(crate) fn map_private(len: usize) -> io::Result<NonNull<u8>> {
    faults::at(Call::Map)?;
    map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

/// Returns a slice of zeros that forks of this process do not inherit. If a parent and a child share a page,
/// the first write of either copies the page. So data that only the parent needs should not be shared. In a
/// fork, touching the slice faults.
pub(crate) fn unforked_ints(len: usize) -> io::Result<&'static mut [i32]> {
    let bytes = len * size_of::<i32>();
    let at = map_private(bytes)?;
    dont_fork(at, bytes)?;
    // SAFETY: the memory is zeroed, aligned, long enough, used by nothing else, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(at.as_ptr().cast(), len) })
}

/// As [`unforked_ints`], for bytes.
pub(crate) fn unforked_bytes(len: usize) -> io::Result<&'static mut [u8]> {
    let at = map_private(len)?;
    dont_fork(at, len)?;
    // SAFETY: as above.
    Ok(unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), len) })
}

/// Maps private zero pages over a range of addresses that this process has mapped, or had mapped before. Safe to
/// call immediately after a fork.
///
/// # Safety
/// Nothing relies on the contents of the range.
pub(crate) unsafe fn blank(at: NonNull<u8>, len: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: promised by the caller.
    unsafe { libc::mmap(at.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
}

/// Unmaps a range.
///
/// # Safety
/// `at` and `len` come from one of the functions above, and nothing refers to the range.
pub(crate) unsafe fn unmap(at: NonNull<u8>, len: usize) {
    // SAFETY: promised by the caller.
    unsafe { libc::munmap(at.as_ptr().cast(), len) };
}

fn advise(at: NonNull<u8>, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: each of the functions below documents whether its advice drops the contents of the range.
    check(unsafe { libc::madvise(at.as_ptr().cast(), len, advice) }.into()).map(drop)
}

/// Excludes the range from forks of this process. In a fork, an access to the range faults instead of racing
/// with this process.
pub(crate) fn dont_fork(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_DONTFORK)
}

/// Excludes the range from core dumps.
pub(crate) fn dont_dump(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_DONTDUMP)
}

/// Returns the size of a page: 4 KiB, or more on some machines.
pub(crate) fn page_size() -> u64 {
    // SAFETY: a plain call.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// Releases the pages of a shared range to the kernel. They read as zero afterwards.
pub(crate) fn punch(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_REMOVE)
}

/// Allocates all pages of a range immediately, instead of each at its first touch. Since Linux 5.14.
pub(crate) fn populate(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_POPULATE_WRITE)
}

/// Hints to the processor that the cache line `ahead` bytes after `at` will soon be written to. The address
/// need not be valid.
#[inline]
pub(crate) fn prefetch_to_write<T>(at: *const T, ahead: usize) {
    let line = at.cast::<u8>().wrapping_add(ahead);
    // SAFETY: a prefetch affects only speed, even if the address is invalid. Old processors ignore it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
