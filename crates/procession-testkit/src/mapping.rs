//! The location of the shared memory in this process, and copies of it for checkers.
#![allow(unsafe_code, reason = "maps memory over memory")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// The shared memory under test: `len` bytes at `addr`, mapped from the start of the file `fd`.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Where the memory is mapped in this process.
    pub addr: *mut u8,
    /// The number of mapped bytes. The memory may be sparse.
    pub len: usize,
    /// The memfd.
    pub fd: RawFd,
}

// SAFETY: an address and two numbers. Reads and writes through the address are unsafe elsewhere.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes raw forks inherit the mapping even if it is `MADV_DONTFORK`. The mapping stays inherited.
    /// [`CrashStep`](crate::CrashStep) calls this. Without a `CrashStep`, call it before children are
    /// created.
    pub fn inherit(&self) {
        // SAFETY: changes only what a fork copies.
        let result = unsafe { libc::madvise(self.addr.cast(), self.len, libc::MADV_DOFORK) };
        assert!(result == 0, "madvise(MADV_DOFORK): {}", io::Error::last_os_error());
    }

    /// Returns how many bytes of the memory have pages.
    pub fn bytes_in_use(&self) -> u64 {
        self.reader().metadata().map_or(0, |data| data.blocks() * 512)
    }

    /// Opens the file again for reading, with a file offset of its own.
    pub(crate) fn reader(&self) -> File {
        File::open(format!("/proc/self/fd/{}", self.fd)).expect("the memfd can be opened again")
    }

    /// Called in a checker: replaces the shared memory by a private copy.
    ///
    /// The descriptor is replaced by `reader`. So a recovery that punches holes through the descriptor gets
    /// an error and cannot harm the real memory.
    pub(crate) fn privatise(&self, reader: &File) {
        self.replace(reader.as_raw_fd(), libc::MAP_PRIVATE | libc::MAP_NORESERVE);
    }

    /// Called in a checker: replaces the shared memory by a fresh one with the same bytes, shared with the checker's
    /// children. The descriptor then refers to the fresh one.
    pub(crate) fn clone_shared(&self, reader: &File) {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"testkit".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "memfd_create: {}", io::Error::last_os_error());
        // SAFETY: just created, and owned by no other value.
        let copy = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        copy.set_len(self.len as u64).expect("a memfd of the same length");
        for Extent { start, len } in self.extents(reader) {
            self.write_out(&copy, start, len);
        }
        self.replace(copy.as_raw_fd(), libc::MAP_SHARED | libc::MAP_NORESERVE);
    }

    fn write_out(&self, to: &File, start: usize, len: usize) {
        let mut done = 0;
        while done < len {
            // SAFETY: extents lie inside the mapping. The kernel reads, so no reference is created to bytes that other
            // processes may write.
            let written = unsafe {
                let from = self.addr.add(start + done);
                libc::pwrite(to.as_raw_fd(), from.cast(), len - done, (start + done) as i64)
            };
            assert!(written > 0, "copying the memory: {}", io::Error::last_os_error());
            done += written as usize;
        }
    }

    fn replace(&self, fd: RawFd, flags: i32) {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: this process is a fork for one check. Everything in it uses this range as the memory under test, and
        // finds the same bytes there.
        unsafe {
            let at = libc::mmap(self.addr.cast(), self.len, access, flags | libc::MAP_FIXED, fd, 0);
            assert!(at == self.addr.cast(), "mapping the copy: {}", io::Error::last_os_error());
            assert!(libc::dup3(fd, self.fd, libc::O_CLOEXEC) == self.fd, "taking over the descriptor");
        }
    }

    /// Returns where the file has pages, in order.
    pub(crate) fn extents(&self, reader: &File) -> Vec<Extent> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(start) = seek(reader, at, libc::SEEK_DATA).filter(|&start| start < self.len) {
            at = seek(reader, start, libc::SEEK_HOLE).map_or(self.len, |end| end.min(self.len));
            found.push(Extent { start, len: at - start });
        }
        found
    }
}

/// A stretch of pages, in bytes from the start.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// Returns the offset, or `None` if `from` is behind the last data.
fn seek(file: &File, from: usize, whence: i32) -> Option<usize> {
    // SAFETY: a system call without pointers.
    let offset = unsafe { libc::lseek(file.as_raw_fd(), from as i64, whence) };
    usize::try_from(offset).ok()
}
