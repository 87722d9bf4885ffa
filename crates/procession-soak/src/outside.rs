//! Records outside the library, so the library's own counters cannot hide a fault.
#![allow(unsafe_code, reason = "a file that several processes map")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::*};

use procession_testkit::Ledger;

use super::Result;

/// The maximum number of processes in a round, including replaced ones.
pub const NUMBERS: usize = 1 << 14;
/// The number of locks that are recorded here.
pub const LOCKS: usize = 3;

/// Words that all processes of a round share.
#[repr(C)]
pub struct Words {
    /// Not 0 once the round is over.
    pub stop: AtomicU64,
    /// The number of puts that processes have attempted in this round. `roles::MOST_PUTS` limits this number.
    pub puts: AtomicU64,
    /// The number of operations of each kind.
    pub operations: [AtomicU64; 16],
    /// The process inside each lock, as its number + 1, or 0.
    pub inside: [AtomicU64; LOCKS],
    /// The number of steps that each process has acknowledged, one row for each kind of object: queue,
    /// joinable queue, list, dict, value and pool.
    pub acknowledged: [[AtomicU64; NUMBERS]; 6],
    /// Deaths that a lock, a barrier or a pipe has reported.
    pub told: AtomicU64,
}

/// The rows of [`Words::acknowledged`].
pub const QUEUE: usize = 0;
pub const JOINABLE: usize = 1;
pub const LIST: usize = 2;
pub const DICT: usize = 3;
pub const VALUE: usize = 4;
pub const POOL: usize = 5;

/// The kinds of records in the ledger.
pub const TAKEN: u64 = 1;
pub const DONE: u64 = 2;
pub const POPPED: u64 = 3;
pub const WORKED: u64 = 4;

/// The files of a round, as opened by one process.
pub struct Outside {
    pub words: &'static Words,
    pub ledger: Ledger,
    faults: PathBuf,
}

impl Outside {
    /// Creates the files in an empty directory.
    pub fn create(directory: &Path) -> Result<Outside> {
        File::create_new(directory.join("words"))?.set_len(size_of::<Words>() as u64)?;
        File::create_new(directory.join("faults"))?;
        Ledger::create_with(directory.join("ledger"), 1 << 20);
        Outside::open(directory)
    }

    /// Opens the files of a round.
    pub fn open(directory: &Path) -> Result<Outside> {
        let file = OpenOptions::new().read(true).write(true).open(directory.join("words"))?;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = size_of::<Words>();
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: the mapping has the length of the file, contains atomics only, and is unmapped only after its last
        // use.
        let words = unsafe { &*at.cast::<Words>() };
        let ledger = Ledger::open(directory.join("ledger"));
        Ok(Outside { words, ledger, faults: directory.join("faults") })
    }

    /// Records a fault.
    pub fn fault(&self, what: &str) {
        let file = OpenOptions::new().append(true).open(&self.faults);
        let _ = file.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes()));
    }

    pub fn directory(&self) -> PathBuf {
        self.faults.with_file_name("")
    }

    pub fn faults(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.faults).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn is_over(&self) -> bool {
        self.words.stop.load(Relaxed) != 0
    }

    pub fn acknowledge(&self, kind: usize, number: u64, count: u64) {
        self.words.acknowledged[kind][number as usize].store(count, SeqCst);
    }

    pub fn acknowledged(&self, kind: usize, number: u64) -> u64 {
        self.words.acknowledged[kind][number as usize].load(SeqCst)
    }

    pub fn count(&self, kind: usize) {
        self.words.operations[kind].fetch_add(1, Relaxed);
    }
}

/// Unmaps the words of a finished round. Main calls this function when no other reference to the words is
/// left.
pub fn unmap(outside: Outside) {
    let at = std::ptr::from_ref(outside.words).cast_mut().cast();
    // SAFETY: mapped by `open`, and `outside` was the last user.
    unsafe { libc::munmap(at, size_of::<Words>()) };
}
