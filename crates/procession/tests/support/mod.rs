//! What the crash tests share: the victim's slot, a diary outside the shared memory, and checks of what a death leaves
//! behind.
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
/// The slot of a third process.
pub const THIRD: u32 = 3;

/// Returns the arena's mapping. Processes that are forked from now on inherit it.
pub fn arena() -> Mapping {
    let (addr, len, fd) = internals::mapping();
    let mapping = Mapping { addr, len, fd };
    mapping.inherit();
    mapping
}

/// Starts the watchdog of a test.
pub fn watched() -> Watchdog {
    watchdog(Duration::from_secs(60))
}

/// An environment for `isolated!`. With it, the C library copies memory with its vector loop. A copy by `rep
/// movsb` would take one step per byte.
pub const VECTORS: [(&str, &str); 1] = [("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff")];

/// A test fails if an event takes longer than this.
pub const LONG: Duration = Duration::from_secs(20);

/// After this time, a reservation has expired if its waiter has not acquired the lock.
pub const RESERVED: Duration = Duration::from_millis(11);

/// Opens slots for the processes that will join.
pub fn open(slots: impl IntoIterator<Item = u32>) {
    slots.into_iter().for_each(internals::open_slot);
}

/// Returns the number that a lock's word uses for the first thread of the process in `slot`.
pub fn id(slot: u32) -> u32 {
    slot + 1
}

/// Returns the number of the lock's owner, or 0.
pub fn owner(lock: &Lock) -> u32 {
    word::owner(internals::lock_word(lock))
}

/// Returns the number of the lock's heir, or 0.
pub fn heir(lock: &Lock) -> u32 {
    word::heir(internals::lock_word(lock))
}

/// Creates a lock that lives as long as the test. This process keeps the handle.
pub fn lock() -> &'static Lock {
    Box::leak(Box::new(Lock::new().expect("a lock")))
}

/// Defines tests by name. Each runs its expression in a process of its own.
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

/// Returns an error from a checker unless the condition is true.
#[macro_export]
macro_rules! ensure {
    ($yes:expr, $($text:tt)+) => {
        if !$yes {
            return Err(format!($($text)+));
        }
    };
}

/// The state of the arena before the victim's operation. After the victim's death, the arena must return to
/// this state.
#[derive(Clone)]
pub struct Before(pub Census);

impl Before {
    /// Records the current state.
    pub fn now() -> Before {
        Before(internals::census())
    }

    /// Recovers the dead process in `slot`. Checks that the arena is in the recorded state, and that nothing
    /// is left in the slot.
    pub fn is_back_without(&self, slot: u32) -> Result<(), String> {
        internals::recover(slot);
        self.is_back()?;
        nothing_in(slot)
    }

    /// Runs the collector if it was requested. Then checks that the arena is in the recorded state.
    pub fn is_back(&self) -> Result<(), String> {
        internals::collect_if_wanted();
        self.is_as_it_was()
    }

    /// Checks that the arena is in the recorded state. Does not run the collector.
    pub fn is_as_it_was(&self) -> Result<(), String> {
        let now = internals::census();
        ensure!(now == self.0, "{}", difference(&self.0, &now));
        nothing_is_hidden()
    }
}

/// Checks that the process in a slot has been recovered, and that nothing of it is left in the slot.
pub fn nothing_in(slot: u32) -> Result<(), String> {
    ensure!(internals::slot_phase(slot) == 0, "slot {slot} is in phase {}", internals::slot_phase(slot));
    let left = internals::residue(slot);
    ensure!(left.is_empty(), "left in slot {slot}: {}", left.join(", "));
    Ok(())
}

/// Checks that every tagged block can be found through the indexes.
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

/// A page outside the arena in which victims and other processes record their progress. Recovery does not
/// touch this page, and copies of the arena do not contain it. Each place holds the last word that was stored
/// there.
#[derive(Clone, Copy)]
pub struct Diary(&'static [AtomicU64; 512]);

impl Diary {
    /// Creates an empty diary, which children that are forked from now on share. The page is never unmapped.
    pub fn new() -> Diary {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address that the kernel chooses. Zeroes are valid atomics.
        unsafe {
            let page = libc::mmap(ptr::null_mut(), 4096, access, flags, -1, 0);
            assert!(page != libc::MAP_FAILED, "a page for a diary");
            Diary(&*page.cast())
        }
    }

    /// Stores a word at a place.
    pub fn write(&self, place: usize, word: u64) {
        self.0[place].store(word, SeqCst);
    }

    /// Returns the last word stored at a place, or 0 if there was none.
    pub fn read(&self, place: usize) -> u64 {
        self.0[place].load(SeqCst)
    }

    /// Waits until a place holds this word. Yields the processor instead of sleeping.
    pub fn wait(&self, place: usize, word: u64) {
        while self.read(place) != word {
            std::thread::yield_now();
        }
    }
}

/// The result of trying to acquire a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The lock was acquired, and released again.
    Free,
    /// The lock's last owner, with this process id, died.
    Died(i32),
    /// The lock's last owner, with this process id, panicked.
    Panicked(i32),
    /// Another thread holds the lock.
    Held,
    /// This thread holds the lock.
    Mine,
}

/// Tries to acquire a lock, and returns the result.
pub fn state(lock: &Lock) -> State {
    match lock.try_lock() {
        Ok(_) => State::Free,
        Err(LockError::OwnerDied(who)) => State::Died(who.pid.cast_signed()),
        Err(LockError::Panicked(who)) => State::Panicked(who.pid.cast_signed()),
        Err(LockError::WouldBlock) => State::Held,
        Err(LockError::Deadlock { .. }) => State::Mine,
        Err(other) => panic!("{other}"),
    }
}

/// Acquires a lock and releases it. If the lock is poisoned, recovers it.
pub fn pass_through(lock: &Lock) {
    match lock.lock() {
        Ok(held) => drop(held),
        Err(LockError::OwnerDied(_) | LockError::Panicked(_)) => {
            drop(lock.lock_or_recover().expect("a poisoned lock can be recovered"));
        }
        Err(other) => panic!("{other}"),
    }
}

/// Returns false if `sleeper` still sleeps. In that case the lock must be free or belong to `sleeper`.
/// Returns true if `sleeper` was woken, and checks that it ends with success.
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

/// Opens a span for blocks with a handle, which this process then owns. Another test covers opening such a
/// span. Afterwards no collector run is due.
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

/// Runs `f` as the process in `slot`, and returns its result. The process exits without being recovered, so
/// it still owns what it holds.
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

/// Returns a block that belongs to the victim. The block carries a handle to a lock that the process in slot
/// `maker` created.
pub fn lock_for_the_victim(maker: u32) -> u64 {
    done_by(maker, || {
        let lock = Lock::labeled("passed on").expect("a lock");
        let block = internals::pack(&lock).expect("a block");
        assert!(internals::hand_over(block, VICTIM));
        std::mem::forget(lock);
        block
    })
}

/// Continues a process that `run_until` has stopped.
pub fn go_on(stopped: &Child) {
    // SAFETY: a system call without pointers. It continues a child that this thread traces.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, stopped.pid, 0, 0) };
}

/// Stops a process, and returns when it is stopped.
pub fn stop(child: &mut Child) {
    // SAFETY: a system call without pointers. The child belongs to this process and is not reaped.
    assert_eq!(unsafe { libc::kill(child.pid, libc::SIGSTOP) }, 0);
    proc::wait_until("the process is stopped", LONG, || proc::state(child.pid) == Some('T'));
}

/// Continues a process that [`stop`] has stopped.
pub fn go_on_from_stop(child: &Child) {
    // SAFETY: a system call without pointers. The child belongs to this process and is not reaped.
    unsafe { libc::kill(child.pid, libc::SIGCONT) };
}

/// Stops a process that sleeps in a futex, calls `f`, and continues the process. The process cannot run
/// during `f`, even if it is woken. Returns when the process sleeps again or has ended.
pub fn while_stopped<R>(sleeper: &mut Child, f: impl FnOnce() -> R) -> R {
    // SAFETY: system calls without pointers. The child belongs to this process and is not reaped.
    let send = |signal| assert_eq!(unsafe { libc::kill(sleeper.pid, signal) }, 0);
    send(libc::SIGSTOP);
    proc::wait_until("the process is stopped", LONG, || proc::state(sleeper.pid) == Some('T'));
    let done = f();
    send(libc::SIGCONT);
    proc::wait_until("the process sleeps again", LONG, || {
        sleeper.try_wait().is_some() || proc::is_parked(sleeper.pid)
    });
    done
}
