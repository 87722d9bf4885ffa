//! Shared memory in which the processes of a workload meet.
//!
//! It belongs to the benchmark and not to the library under test, so the library's own counters cannot hide a lost
//! update or a lost wake-up.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Result;

/// A value with a cache line of its own.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Line<T>(pub T);

/// The maximum number of processes that meet on a board.
pub const PARTIES: usize = 64;

/// A time for each process, in nanoseconds of the monotonic clock, or 0 for a process that takes no part.
pub struct Stamps(pub [AtomicU64; PARTIES]);

impl Default for Stamps {
    fn default() -> Stamps {
        Stamps([const { AtomicU64::new(0) }; PARTIES])
    }
}

impl Stamps {
    fn present(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|stamp| stamp.load(Ordering::SeqCst)).filter(|&stamp| stamp != 0)
    }

    /// Returns the earliest time.
    pub fn first(&self) -> u64 {
        self.present().min().unwrap_or(0)
    }

    /// Returns the latest time.
    pub fn last(&self) -> u64 {
        self.present().max().unwrap_or(0)
    }
}

/// The content of a board. All zero is an empty board.
#[repr(C)]
#[derive(Default)]
pub struct Board {
    /// How many processes have arrived at the start of the measured part.
    pub ready: Line<AtomicU32>,
    /// Incremented by a load and a store, so that updates get lost unless a lock excludes others.
    pub counter: Line<AtomicU64>,
    /// Two words to sleep on.
    pub words: Line<[AtomicU32; 2]>,
    /// When each process began the measured part, on the monotonic clock.
    pub began_ns: Line<Stamps>,
    /// When each process ended the measured part.
    pub ended_ns: Line<Stamps>,
}

impl Board {
    /// Creates a board. Returns it and the path by which other processes of this user can open it.
    pub fn create() -> Result<(&'static Board, String)> {
        // SAFETY: a plain call that returns a new descriptor, which we own.
        let file = unsafe {
            match libc::memfd_create(c"procession-bench".as_ptr(), libc::MFD_CLOEXEC) {
                -1 => return Err(std::io::Error::last_os_error().into()),
                fd => File::from_raw_fd(fd),
            }
        };
        file.set_len(size_of::<Board>() as u64)?;
        let board = Board::map(&file)?;
        // The descriptor stays open as long as this process lives, because the path goes through it.
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.into_raw_fd());
        Ok((board, path))
    }

    /// Opens the board that another process created.
    pub fn open(path: &str) -> Result<&'static Board> {
        Board::map(&OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn map(file: &File) -> Result<&'static Board> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = size_of::<Board>();
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: page-aligned, as long as a `Board`, and never unmapped. It contains only atomics, and every
        // process changes them as such.
        Ok(unsafe { &*at.cast::<Board>() })
    }

    /// Adds one to the counter. The result is correct only while no other process does the same.
    #[inline]
    pub fn increment(&self) {
        let counter = &self.counter.0;
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Reports that this process has arrived at the measured part. Returns how many processes have arrived.
    pub fn arrive(&self) -> u32 {
        self.ready.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Spins until `count` processes have arrived.
    pub fn meet(&self, count: u32) {
        while self.ready.0.load(Ordering::SeqCst) < count {
            std::hint::spin_loop();
        }
    }

    /// Sleeps until `count` processes have arrived, ten seconds at most.
    pub fn await_arrivals(&self, count: u32) -> Result {
        let started = Instant::now();
        while self.ready.0.load(Ordering::SeqCst) < count {
            if started.elapsed() > Duration::from_secs(10) {
                return Err(format!("{count} processes were to arrive and did not").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Returns the time from the first start to the last end.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.ended_ns.0.last() - self.began_ns.0.first())
    }
}
