//! A list of records that outlives every process that writes to it.
//!
//! ```text
//! line 0      | magic | capacity | claimed |          a line is eight words of 8 bytes
//! line 1 + n  | seal  | word 0 | word 1 | word 2 | word 3 |
//! ```
//!
//! A writer claims a line by `fetch_add`, writes the words, and seals the line last. A line that was claimed but not
//! sealed belongs to a writer that was killed there, and counts as never written.
#![allow(unsafe_code, reason = "a mapping shared between processes")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::*};

const MAGIC: u64 = u64::from_le_bytes(*b"ledger 1");
const SEALED: u64 = 1;
const LINE_WORDS: usize = 8;
const FILE_CAPACITY: usize = 1 << 20;

/// An append-only list of `[u64; 4]` in memory that all its users share.
pub struct Ledger {
    words: *const AtomicU64,
    capacity: usize,
}

// SAFETY: all access is by atomics.
unsafe impl Send for Ledger {}
// SAFETY: as above.
unsafe impl Sync for Ledger {}

impl Ledger {
    /// Creates a ledger without a file, for this process and raw children that it forks from now on.
    pub fn new(capacity: usize) -> Ledger {
        Ledger::map(-1, libc::MAP_ANONYMOUS, capacity).write_header()
    }

    /// Creates a ledger in a file, for a million records. The file is sparse.
    pub fn create(path: impl AsRef<Path>) -> Ledger {
        Ledger::create_with(path, FILE_CAPACITY)
    }

    /// Creates a ledger in a file, for this many records. An existing file is overwritten.
    pub fn create_with(path: impl AsRef<Path>, capacity: usize) -> Ledger {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path).expect("the ledger's file can be created");
        file.set_len(bytes(capacity) as u64).expect("the ledger's file can be extended");
        Ledger::map(file.as_raw_fd(), 0, capacity).write_header()
    }

    /// Opens the ledger that another process created at `path`.
    pub fn open(path: impl AsRef<Path>) -> Ledger {
        let options = OpenOptions::new().read(true).write(true).open(path);
        let file: File = options.expect("the ledger's file can be opened");
        let length = file.metadata().expect("the ledger's file has a length").len() as usize;
        let capacity = (length / bytes(0)).checked_sub(1).expect("the ledger's file is not empty");
        let ledger = Ledger::map(file.as_raw_fd(), 0, capacity);
        assert_eq!(ledger.header(0).load(Acquire), MAGIC, "this file is no ledger");
        ledger
    }

    fn map(fd: i32, flags: i32, capacity: usize) -> Ledger {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_SHARED;
        // SAFETY: a fresh mapping at an address that the kernel chooses.
        let at = unsafe { libc::mmap(ptr::null_mut(), bytes(capacity), access, flags, fd, 0) };
        assert!(at != libc::MAP_FAILED, "mapping a ledger: {}", io::Error::last_os_error());
        Ledger { words: at.cast(), capacity }
    }

    fn write_header(self) -> Ledger {
        self.header(1).store(self.capacity as u64, Relaxed);
        self.header(0).store(MAGIC, Release);
        self
    }

    /// Appends a record.
    ///
    /// # Panics
    /// If the ledger is full.
    pub fn record(&self, record: [u64; 4]) {
        // CRASH: from here on the line is claimed by this writer. It stays unsealed, and so is not read,
        // until the last store.
        let n = self.header(2).fetch_add(1, Relaxed) as usize;
        assert!(n < self.capacity, "the ledger is full: {} records", self.capacity);
        let line = self.line(n + 1);
        for (to, from) in line[1..].iter().zip(record) {
            to.store(from, Relaxed);
        }
        // ORDERING: Release pairs with the Acquire in `read`: a reader that sees the seal sees the words.
        line[0].store(SEALED, Release);
    }

    /// Returns the records written so far, in the order in which their lines were claimed.
    pub fn entries(&self) -> Vec<[u64; 4]> {
        (0..self.claimed()).filter_map(|n| self.read(n)).collect()
    }

    /// Counts lines that were claimed and not sealed. Their writers were killed there or are still writing.
    pub fn torn(&self) -> usize {
        (0..self.claimed()).filter(|&n| self.read(n).is_none()).count()
    }

    fn claimed(&self) -> usize {
        let claimed = self.header(2).load(Acquire) as usize;
        assert!(claimed <= self.capacity, "the ledger overflowed: {claimed} records came");
        claimed
    }

    fn read(&self, n: usize) -> Option<[u64; 4]> {
        let line = self.line(n + 1);
        if line[0].load(Acquire) != SEALED {
            return None;
        }
        Some(std::array::from_fn(|i| line[1 + i].load(Relaxed)))
    }

    fn header(&self, word: usize) -> &AtomicU64 {
        &self.line(0)[word]
    }

    fn line(&self, line: usize) -> &[AtomicU64; LINE_WORDS] {
        assert!(line <= self.capacity);
        // SAFETY: inside the mapping, aligned to its size, and atomics only.
        unsafe { &*self.words.add(line * LINE_WORDS).cast() }
    }
}

const fn bytes(capacity: usize) -> usize {
    (capacity + 1) * LINE_WORDS * 8
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // SAFETY: owned by this value, and no reference to the mapping outlives `self`.
        unsafe { libc::munmap(self.words.cast_mut().cast(), bytes(self.capacity)) };
    }
}
