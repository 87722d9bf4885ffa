//! [`Arena`]: this process's mapping of the shared memory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use super::layout::{self, Layout, SPAN};
use crate::os::{limits, memory};
use crate::{Error, Result};

/// The name of the memory file, as `/proc/PID/maps` shows it.
pub(crate) const MEMFD_NAME: &str = "procession";

/// A mapped arena. The mapping lives as long as the process, so an `Arena` can be copied, and references into
/// it are `'static`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena {
    pub(super) base: NonNull<u8>,
    pub(crate) layout: Layout,
}

// SAFETY: the memory consists of atomics and of bytes. The tag of a block says which process may access the
// block's bytes.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// The size of the largest arena, in bytes.
pub(crate) const LARGEST: u64 = 64 << 30;

impl Arena {
    /// Creates an arena as large as the user's limits sensibly allow.
    pub(crate) fn create() -> Result<(Arena, OwnedFd)> {
        let budget = limits::memory() / 2;
        let limit = LARGEST.min(limits::address_space() / 4).min(limits::file_size()).min(budget);
        let mut bytes = limit & !(SPAN - 1);
        loop {
            let Some(layout) = Layout::fitting(bytes) else {
                return Err(Error::Full(format!(
                    "cannot create the shared memory: the limits on address space, file size and memory leave {limit} bytes, but at least {} are needed; raise them (see `ulimit -v` and `ulimit -f`)",
                    layout::SMALLEST
                )));
            };
            match Arena::try_create(layout) {
                Ok(made) => return Ok(made),
                Err(e) if bytes / 2 < layout::SMALLEST => {
                    return Err(Error::unstarted(
                        "creating shared memory (memfd_create, ftruncate, mmap)",
                        &e,
                    ));
                }
                Err(_) => bytes = (bytes / 2) & !(SPAN - 1),
            }
        }
    }

    fn try_create(layout: Layout) -> io::Result<(Arena, OwnedFd)> {
        let fd = memory::sealed_memfd(c"procession", layout.bytes)?;
        let arena = Arena::map(fd.as_fd(), layout)?;
        arena.header().initialise(&layout);
        Ok((arena, fd))
    }

    /// Maps an arena that another process created.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> io::Result<Arena> {
        let bytes = memory::file_len(fd)?;
        let layout = Layout::fitting(bytes).filter(|l| l.bytes == bytes).ok_or_else(|| {
            io::Error::other("the size of the shared memory fits no layout of this version")
        })?;
        let arena = Arena::map(fd, layout)?;
        arena.header().check(&layout)?;
        Ok(arena)
    }

    fn map(fd: BorrowedFd<'_>, layout: Layout) -> io::Result<Arena> {
        let base = memory::map_shared(fd, layout.bytes as usize)?;
        memory::dont_dump(base, layout.bytes as usize)?;
        Ok(Arena { base, layout })
    }

    /// Excludes the arena from later forks of this process. The library does not make such forks.
    pub(crate) fn hide_from_forks(&self) -> io::Result<()> {
        memory::dont_fork(self.base, self.layout.bytes as usize)
    }

    /// Maps zeros in the place of the arena. Called in a fork that the library did not make and that did not
    /// inherit the arena. With the zeros, handles read 0 instead of faulting.
    pub(crate) fn blank(&self) {
        // SAFETY: the arena was not inherited, so nothing is mapped in the range.
        unsafe { memory::blank(self.base, self.layout.bytes as usize) };
    }

    #[cfg(feature = "internals")]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Returns a reference to the `T` at `offset`.
    ///
    /// # Safety
    /// `offset` is aligned for `T`, the `T` at `offset` lies within the arena, and `T` consists of atomics
    /// only.
    #[inline]
    pub(crate) unsafe fn at<T>(&self, offset: u64) -> &'static T {
        debug_assert!(offset + size_of::<T>() as u64 <= self.layout.bytes);
        // SAFETY: promised by the caller. The arena is never unmapped.
        unsafe { &*self.base.as_ptr().add(offset as usize).cast::<T>() }
    }

    /// Returns the offset of a value that lies in the arena.
    #[inline]
    pub(crate) fn offset_of<T>(&self, at: *const T) -> u64 {
        at as u64 - self.base.as_ptr() as u64
    }

    /// Releases whole pages to the kernel. Returns whether the range reads as zero now. If it does not
    /// consist of whole pages, it stays as it is. A failure only costs memory.
    pub(crate) fn punch(&self, offset: u64, bytes: u64) -> bool {
        let page = memory::page_size();
        if !offset.is_multiple_of(page) || !bytes.is_multiple_of(page) {
            return false;
        }
        // SAFETY: the range lies within the mapping.
        let at = unsafe { self.base.add(offset as usize) };
        memory::punch(at, bytes as usize).is_ok()
    }

    /// Asks the kernel to allocate the pages of a range that will be written to. A failure only costs time.
    pub(crate) fn populate(&self, offset: u64, bytes: u64) {
        // SAFETY: the range lies within the mapping.
        let at = unsafe { self.base.add(offset as usize) };
        let _ = memory::populate(at, bytes as usize);
    }
}
