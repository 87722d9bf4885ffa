//! A robust lock and a ring over it, in a memfd, small enough to be understood at a glance.
//!
//! | word     | meaning                                           |
//! |----------|---------------------------------------------------|
//! | `lock`   | 0, or 1 + the slot that holds it; `WAITERS` added  |
//! | `journal`| per slot: 1 while it takes, holds or frees `lock`  |
//! | `head`   | bytes consumed                                    |
//! | `tail`   | bytes produced; the commit of `put`                |
//! | `arrived`| wake address of consumers, counts puts            |
//!
//! A message is `[len, sum, bytes..]`, rounded up to 8.
#![allow(unsafe_code, dead_code, reason = "shared memory; not every test uses all of it")]

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use procession_testkit::Mapping;

pub const WAITERS: u32 = 1 << 31;
pub const VIRTUAL: usize = 64 << 30;
const RING: usize = 4096;

#[repr(C)]
pub struct Toy {
    pub lock: AtomicU32,
    pub arrived: AtomicU32,
    pub journal: [AtomicU32; 4],
    pub head: AtomicU64,
    pub tail: AtomicU64,
    pub bytes: [AtomicU32; RING / 4],
}

/// The bug that `put` has, if any.
#[derive(Clone, Copy, PartialEq)]
pub enum Bug {
    None,
    PublishBeforeCopy,
    NoJournal,
}

pub fn memory() -> Mapping {
    // SAFETY: a memfd and a fresh mapping of it, kept until the test's process ends.
    unsafe {
        let fd = libc::memfd_create(c"toy".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0 && libc::ftruncate(fd, VIRTUAL as i64) == 0);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let addr = libc::mmap(ptr::null_mut(), VIRTUAL, access, flags, fd, 0);
        assert!(addr != libc::MAP_FAILED);
        assert!(libc::madvise(addr, VIRTUAL, libc::MADV_DONTFORK) == 0);
        Mapping { addr: addr.cast(), len: VIRTUAL, fd }
    }
}

pub fn toy(memory: Mapping) -> &'static Toy {
    // SAFETY: atomics only, zeroes are valid, and never unmapped.
    unsafe { &*memory.addr.cast() }
}

pub fn futex_wait(word: &AtomicU32, value: u32) -> i64 {
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: the word is mapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, forever) }
}

pub fn futex_wake(word: &AtomicU32, count: i32) -> i64 {
    // SAFETY: the word is mapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) }
}

impl Toy {
    pub fn lock(&self, slot: u32, bug: Bug) {
        if bug != Bug::NoJournal {
            self.journal[slot as usize].store(1, SeqCst);
        }
        let mut mine = slot + 1;
        while let Err(seen) = self.lock.compare_exchange(0, mine, SeqCst, SeqCst) {
            mine |= WAITERS;
            if self.lock.compare_exchange(seen, seen | WAITERS, SeqCst, SeqCst).is_ok() {
                futex_wait(&self.lock, seen | WAITERS);
            }
        }
    }

    pub fn unlock(&self, slot: u32) {
        if self.lock.swap(0, SeqCst) & WAITERS != 0 {
            futex_wake(&self.lock, 1);
        }
        self.journal[slot as usize].store(0, SeqCst);
    }

    fn word(&self, at: u64) -> &AtomicU32 {
        &self.bytes[(at as usize / 4) % self.bytes.len()]
    }

    pub fn put(&self, slot: u32, message: &[u32], bug: Bug) {
        self.lock(slot, bug);
        let tail = self.tail.load(Relaxed);
        let end = tail + (8 + 4 * message.len() as u64).next_multiple_of(8);
        if bug == Bug::PublishBeforeCopy {
            self.tail.store(end, Release);
        }
        self.word(tail).store(message.len() as u32, Relaxed);
        self.word(tail + 4).store(message.iter().sum(), Relaxed);
        for (n, word) in message.iter().enumerate() {
            self.word(tail + 8 + 4 * n as u64).store(*word, Relaxed);
        }
        if bug != Bug::PublishBeforeCopy {
            self.tail.store(end, Release);
        }
        self.arrived.fetch_add(1, SeqCst);
        futex_wake(&self.arrived, 1);
        self.unlock(slot);
    }

    /// Takes a message, and waits for one if there is none.
    pub fn get(&self, slot: u32) -> Vec<u32> {
        loop {
            let arrived = self.arrived.load(SeqCst);
            self.lock(slot, Bug::None);
            let head = self.head.load(Relaxed);
            if head < self.tail.load(Acquire) {
                let found = self.message(head);
                if let Ok((_, next)) = &found {
                    self.head.store(*next, Release);
                }
                self.unlock(slot);
                return found.expect("a whole message").0;
            }
            self.unlock(slot);
            futex_wait(&self.arrived, arrived);
        }
    }

    fn message(&self, at: u64) -> Result<(Vec<u32>, u64), String> {
        let length = u64::from(self.word(at).load(Relaxed));
        let message: Vec<u32> = (0..length).map(|n| self.word(at + 8 + 4 * n).load(Relaxed)).collect();
        if message.is_empty() || message.iter().sum::<u32>() != self.word(at + 4).load(Relaxed) {
            return Err(format!("a torn message at {at}: {message:?}"));
        }
        Ok((message, at + (8 + 4 * length).next_multiple_of(8)))
    }

    /// Returns the messages in the ring.
    pub fn messages(&self) -> Result<Vec<Vec<u32>>, String> {
        let (mut at, mut found) = (self.head.load(Acquire), Vec::new());
        while at < self.tail.load(Acquire) {
            let (message, next) = self.message(at)?;
            found.push(message);
            at = next;
        }
        Ok(found)
    }

    /// Does what a supervisor does when `slot` is dead.
    pub fn recover(&self, slot: u32) {
        if self.journal[slot as usize].load(SeqCst) != 0 {
            if self.lock.load(SeqCst) & !WAITERS == slot + 1 {
                self.lock.store(0, SeqCst);
            }
            self.journal[slot as usize].store(0, SeqCst);
        }
        self.arrived.fetch_add(1, SeqCst);
        futex_wake(&self.lock, i32::MAX);
        futex_wake(&self.arrived, i32::MAX);
    }

    /// Recovers from the death of `slot`. Returns the messages, or what is wrong.
    pub fn recovered(&self, slot: u32) -> Result<Vec<Vec<u32>>, String> {
        self.recover(slot);
        match self.lock.load(SeqCst) {
            0 => self.messages(),
            word => Err(format!("the lock is still held: {word:#x}")),
        }
    }
}
