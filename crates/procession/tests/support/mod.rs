//! What the crash tests share: the victim's place, a diary outside the shared memory, and the question
//! whether a death left anything behind.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unsafe_code, reason = "a page shared between processes, ptrace")]

pub mod line;
pub mod scene;
pub mod stepping;

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use procession::internals::{self, Census, word};
use procession::{Lock, sync::LockError};
use procession_testkit::{Child, Mapping, Outcome, Report, Watchdog, proc, watchdog};

/// The slot of the process that is killed.
pub const VICTIM: u32 = 1;
/// The slot of the process beside it.
pub const OTHER: u32 = 2;
/// A third.
pub const THIRD: u32 = 3;

/// Where the arena lies, which forks inherit from now on.
pub fn arena() -> Mapping {
    let (addr, len, fd) = internals::mapping();
    let mapping = Mapping { addr, len, fd };
    mapping.inherit();
    mapping
}

/// Watches over a test.
pub fn watched() -> Watchdog {
    watchdog(Duration::from_secs(60))
}

/// For `isolated!`: the C library copies with its vector loop, because a copy by `rep movsb` is one step a
/// byte.
pub const VECTORS: [(&str, &str); 1] = [("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff")];

/// What has not come after this time does not come.
pub const LONG: Duration = Duration::from_secs(20);

/// After this time nothing stays reserved for a waiter that does not come.
pub const RESERVED: Duration = Duration::from_millis(11);

/// Opens slots for the processes that will join.
pub fn open(slots: impl IntoIterator<Item = u32>) {
    slots.into_iter().for_each(internals::open_slot);
}

/// What a lock's word calls the first thread of the process in `slot`.
pub fn id(slot: u32) -> u32 {
    slot + 1
}

/// Who holds a lock, or 0.
pub fn owner(lock: &Lock) -> u32 {
    word::owner(internals::lock_word(lock))
}

/// To whom a lock is promised, or 0.
pub fn heir(lock: &Lock) -> u32 {
    word::heir(internals::lock_word(lock))
}

/// A lock that lives as long as the test, and of which this process has the handle.
pub fn lock() -> &'static Lock {
    Box::leak(Box::new(Lock::new().expect("a lock")))
}

/// Tests with names: each does something in a process of its own.
#[macro_export]
macro_rules! tests {
    ($($test:ident = $do:expr;)*) => {$(
        #[test]
        fn $test() {
            procession_testkit::isolated!(env = $crate::support::VECTORS, {
                let _dog = $crate::support::watched();
                $do;
            });
        }
    )*};
}

/// An error for a checker, unless it is true.
#[macro_export]
macro_rules! ensure {
    ($yes:expr, $($text:tt)+) => {
        if !$yes {
            return Err(format!($($text)+));
        }
    };
}

/// What there was before the victim came, and must be again when it is dead.
#[derive(Clone)]
pub struct Before(pub Census);

impl Before {
    /// Takes stock.
    pub fn now() -> Before {
        Before(internals::census())
    }

    /// Declares the process of `slot` dead, and compares.
    pub fn is_back_without(&self, slot: u32) -> Result<(), String> {
        internals::recover(slot);
        self.is_back()?;
        nothing_in(slot)
    }

    /// Compares, after the collector has done what it was asked to.
    pub fn is_back(&self) -> Result<(), String> {
        internals::collect_if_wanted();
        self.is_as_it_was()
    }

    /// Compares.
    pub fn is_as_it_was(&self) -> Result<(), String> {
        let now = internals::census();
        ensure!(now == self.0, "{}", difference(&self.0, &now));
        nothing_is_hidden()
    }
}

/// A slot whose process is dead and buried.
pub fn nothing_in(slot: u32) -> Result<(), String> {
    ensure!(internals::slot_phase(slot) == 0, "slot {slot} is in phase {}", internals::slot_phase(slot));
    let left = internals::residue(slot);
    ensure!(left.is_empty(), "left in slot {slot}: {}", left.join(", "));
    Ok(())
}

/// The indexes lead to everything that the tags name.
pub fn nothing_is_hidden() -> Result<(), String> {
    let hidden = internals::hidden();
    ensure!(hidden.is_empty(), "hidden: {}", hidden.join(", "));
    Ok(())
}

fn difference(before: &Census, now: &Census) -> String {
    let mut text = String::from("not as before:");
    let mut compare = |what: &str, before: String, now: String| {
        if before != now {
            text += &format!(" {what}: {before} before, {now} now;");
        }
    };
    compare("objects", before.objects.to_string(), now.objects.to_string());
    compare("half objects", before.unfinished_objects.to_string(), now.unfinished_objects.to_string());
    compare("blocks", format!("{:x?}", before.blocks), format!("{:x?}", now.blocks));
    compare("large spans", before.large_spans.to_string(), now.large_spans.to_string());
    compare("small spans", format!("{:x?}", before.small_spans), format!("{:x?}", now.small_spans));
    compare("records", before.records.to_string(), now.records.to_string());
    compare("holdings", format!("{:?}", before.holdings), format!("{:?}", now.holdings));
    text
}

/// Where victims and others leave word: outside the arena, so that no recovery and no copy of the arena
/// touches it. Each place holds the last word that was left there.
#[derive(Clone, Copy)]
pub struct Diary(&'static [AtomicU64; 512]);

impl Diary {
    /// An empty one, for the children made from now on. It is never unmapped.
    pub fn new() -> Diary {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh page where the kernel likes; zeroes are atomics.
        unsafe {
            let page = libc::mmap(ptr::null_mut(), 4096, access, flags, -1, 0);
            assert!(page != libc::MAP_FAILED, "a page for a diary");
            Diary(&*page.cast())
        }
    }

    /// Leaves a word.
    pub fn write(&self, place: usize, word: u64) {
        self.0[place].store(word, SeqCst);
    }

    /// The last one; 0 if there was none.
    pub fn read(&self, place: usize) -> u64 {
        self.0[place].load(SeqCst)
    }

    /// Waits for a word, without sleeping.
    pub fn wait(&self, place: usize, word: u64) {
        while self.read(place) != word {
            std::thread::yield_now();
        }
    }
}

/// What a lock says to somebody who tries to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was taken, and released again.
    Free,
    /// Its last owner, with this process id, died.
    Died(i32),
    /// Its last owner, with this process id, panicked.
    Panicked(i32),
    /// Somebody has it.
    Held,
    /// This very thread has it.
    Mine,
}

/// Tries a lock.
pub fn state(lock: &Lock) -> State {
    match lock.try_lock() {
        Ok(_) => State::Free,
        Err(LockError::OwnerDied(who)) => State::Died(who.pid),
        Err(LockError::Panicked(who)) => State::Panicked(who.pid),
        Err(LockError::WouldBlock) => State::Held,
        Err(LockError::Deadlock { .. }) => State::Mine,
        Err(other) => panic!("{other}"),
    }
}

/// Takes a lock and releases it, marked or not.
pub fn pass_through(lock: &Lock) {
    match lock.lock() {
        Ok(held) => drop(held),
        Err(LockError::OwnerDied(_) | LockError::Panicked(_)) => {
            drop(lock.lock_or_recover().expect("a marked lock can be recovered"));
        }
        Err(other) => panic!("{other}"),
    }
}

/// A process that was woken comes to its end. One that was not sleeps on, and the lock is free or its own.
pub fn came_through(lock: &Lock, sleeper: &mut Child) -> bool {
    if proc::is_parked(sleeper.pid) {
        assert!([0, id(OTHER)].contains(&owner(lock)));
        return false;
    }
    assert_eq!(sleeper.wait(), 0, "{}", sleeper.text());
    internals::recover(OTHER);
    assert_eq!(state(lock), State::Free);
    true
}

/// Has this process own a span for blocks that carry a handle: to make one has a test of its own.
/// Nor is a pass of the collector wanted afterwards.
pub fn own_a_span() {
    let lock = Lock::new().expect("a lock");
    internals::free(internals::pack(&lock).expect("a block"));
    drop(lock);
    internals::collect_if_wanted();
}

#[track_caller]
pub fn assert_finished(report: &Report) {
    report.assert_sound();
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(report.points > 1, "{report}");
}

/// What a process in `slot` does before it stops there, without ending: what it holds stays held.
pub fn done_by(slot: u32, f: impl FnOnce() -> u64) -> u64 {
    open([slot]);
    let diary = Diary::new();
    let mut child = Child::spawn(|| {
        internals::become_member(slot);
        diary.write(0, f());
    });
    assert_eq!(child.wait(), 0, "{}", child.text());
    diary.read(0)
}

/// A block of the victim's that carries a handle to a lock of `maker`'s.
pub fn lock_for_the_victim(maker: u32) -> u64 {
    done_by(maker, || {
        let lock = Lock::named("passed on").expect("a lock");
        let block = internals::pack(&lock).expect("a block");
        assert!(internals::hand_over(block, VICTIM));
        std::mem::forget(lock);
        block
    })
}

/// Lets a process go on that `run_until` has stopped.
pub fn go_on(stopped: &Child) {
    // SAFETY: a system call without pointers: a child that this thread traces runs on.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, stopped.pid, 0, 0) };
}

/// Stops a process, and returns when it is stopped.
pub fn stop(child: &mut Child) {
    // SAFETY: a system call without pointers; the child is ours and not reaped.
    assert_eq!(unsafe { libc::kill(child.pid, libc::SIGSTOP) }, 0);
    proc::wait_until("it is stopped", LONG, || proc::state(child.pid) == Some('T'));
}

/// Lets a process go on that [`stop`] has stopped.
pub fn go_on_from_stop(child: &Child) {
    // SAFETY: a system call without pointers; the child is ours and not reaped.
    unsafe { libc::kill(child.pid, libc::SIGCONT) };
}

/// Does something while a process that sleeps in a futex cannot run, though it may be woken; and returns when
/// it sleeps again, or is gone.
pub fn while_stopped<R>(sleeper: &mut Child, f: impl FnOnce() -> R) -> R {
    // SAFETY: system calls without pointers; the child is ours and not reaped.
    let send = |signal| assert_eq!(unsafe { libc::kill(sleeper.pid, signal) }, 0);
    send(libc::SIGSTOP);
    proc::wait_until("it is stopped", LONG, || proc::state(sleeper.pid) == Some('T'));
    let done = f();
    send(libc::SIGCONT);
    proc::wait_until("it sleeps again", LONG, || {
        sleeper.try_wait().is_some() || proc::is_parked(sleeper.pid)
    });
    done
}
