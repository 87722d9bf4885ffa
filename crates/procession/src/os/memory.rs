//! Shared memory: one sealed memfd, mapped as often as there are processes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::check;
use super::faults::{self, Call};

/// An anonymous file in memory, above descriptor 2, which is empty.
pub(crate) fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    const BASE: u32 = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a C string. Kernels before 6.3 answer EINVAL to NOEXEC_SEAL.
    let create = |flags| unsafe { check(libc::memfd_create(name.as_ptr(), flags).into()) };
    let fd = create(BASE | libc::MFD_NOEXEC_SEAL).or_else(|_| create(BASE))?;
    // SAFETY: the kernel just gave us this descriptor.
    super::fd::above_stdio(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// An anonymous file of `len` bytes in memory, sealed so that nobody can change its length.
pub(crate) fn sealed_memfd(name: &CStr, len: u64) -> io::Result<OwnedFd> {
    let fd = memfd(name)?;
    // SAFETY: a plain call on our own descriptor.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) }.into())?;
    seal_length(fd.as_fd())?;
    Ok(fd)
}

/// Keeps everybody from changing the length of a file that [`memfd`] made.
pub(crate) fn seal_length(fd: BorrowedFd<'_>) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a plain call.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into()).map(drop)
}

/// Whether [`seal_length`] was called for a file.
pub(crate) fn has_sealed_length(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: a plain call.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    seals != -1 && seals & libc::F_SEAL_GROW != 0
}

/// The length of the file behind a descriptor.
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

/// Maps a file for everybody: stores are seen by every process that maps it.
///
/// The mapping is not locked in memory, also after `mlockall(MCL_FUTURE)`. With that flag, `mmap` would give the whole
/// range its pages, or fail where `RLIMIT_MEMLOCK` is lower. So this maps one page, unlocks it, and grows the
/// mapping: what grows out of an unlocked mapping is not locked.
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

/// Private zero pages, given by the kernel as they are touched.
pub(crate) fn map_private(len: usize) -> io::Result<NonNull<u8>> {
    faults::at(Call::Map)?;
    map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

/// Zeros that forks of this process do not get. A page that parent and child both have is copied when
/// the first of the two writes to it; what the parent alone needs had better not be among them. In a
/// fork the slice is a fault to touch.
pub(crate) fn unforked_ints(len: usize) -> io::Result<&'static mut [i32]> {
    let bytes = len * size_of::<i32>();
    let at = map_private(bytes)?;
    dont_fork(at, bytes)?;
    // SAFETY: zeroed, aligned, long enough, nobody else's, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(at.as_ptr().cast(), len) })
}

/// As [`unforked_ints`].
pub(crate) fn unforked_bytes(len: usize) -> io::Result<&'static mut [u8]> {
    let at = map_private(len)?;
    dont_fork(at, len)?;
    // SAFETY: as above.
    Ok(unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), len) })
}

/// Puts private zero pages in the place of a range of this process's own mappings, or where one was.
/// Can be called between a fork and anything else.
///
/// # Safety
/// Nobody relies on what is in the range.
pub(crate) unsafe fn blank(at: NonNull<u8>, len: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: promised by the caller.
    unsafe { libc::mmap(at.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
}

/// Undoes a mapping.
///
/// # Safety
/// `at` and `len` come from one of the functions above, and nothing refers to the range any more.
pub(crate) unsafe fn unmap(at: NonNull<u8>, len: usize) {
    // SAFETY: promised by the caller.
    unsafe { libc::munmap(at.as_ptr().cast(), len) };
}

fn advise(at: NonNull<u8>, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the advices used below keep or drop contents only as their functions say.
    check(unsafe { libc::madvise(at.as_ptr().cast(), len, advice) }.into()).map(drop)
}

/// A stray fork of this process does not get the range: touching it there is a fault, not a race.
pub(crate) fn dont_fork(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_DONTFORK)
}

/// Core dumps leave the range out.
pub(crate) fn dont_dump(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_DONTDUMP)
}

/// The size of a page: 4 KiB, or more on some machines.
pub(crate) fn page_size() -> u64 {
    // SAFETY: a plain call.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// Gives the pages of a shared range back to the kernel; they read as zero afterwards.
pub(crate) fn punch(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_REMOVE)
}

/// Gives a range its pages now, all at once, instead of each when it is first touched. Since Linux 5.14.
pub(crate) fn populate(at: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(at, len, libc::MADV_POPULATE_WRITE)
}

/// A hint that the cache line so many bytes behind `at` will be written to. It may lie anywhere.
#[inline]
pub(crate) fn prefetch_to_write<T>(at: *const T, ahead: usize) {
    let line = at.cast::<u8>().wrapping_add(ahead);
    // SAFETY: a prefetch has no effect but on speed, whatever the address; on old processors it is a no-op.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
