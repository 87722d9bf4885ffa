//! The end of the family, seen from main: the orderly one, and the loss of the supervisor.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use super::{outcome, recovery};
use crate::arena::header::stage;
use crate::arena::{Arena, MEMFD_NAME, collect, member, slots, sweep};
use crate::os::launch::Launched;
use crate::os::{fd, futex, process, signal};
use crate::sync::raw::park;
use crate::{Error, Result};
use std::os::fd::AsFd;

/// How long main's other threads keep their locks when main has ended and is waited for.
const HAND_ON_MS: i32 = 5_000;

static SUPERVISOR_PIDFD: AtomicI32 = AtomicI32::new(-1);

/// Watches the supervisor from a thread of main's, and registers the orderly end.
pub(super) fn watch(arena: &'static Arena, supervisor: Launched) -> Result<()> {
    static AT_EXIT: std::sync::Once = std::sync::Once::new();
    AT_EXIT.call_once(|| {
        process::at_exit(at_exit);
    });
    let pidfd = supervisor.pidfd.as_raw_fd();
    SUPERVISOR_PIDFD.store(pidfd, Ordering::Release);
    // The thread must not be the one that handles the program's signals.
    let mask = signal::block_all();
    let watcher = thread::Builder::new().name("procession".into()).stack_size(128 << 10).spawn(move || {
        while !fd::poll([pidfd], -1)[0] {}
        lost(arena, supervisor);
    });
    signal::set_mask(&mask);
    watcher.map(drop).map_err(|e| {
        arena.header().stage.store(stage::LOST, Ordering::Release);
        let _ = kill_supervisor(pidfd);
        Error::os("starting the thread that watches the supervisor", &e)
    })
}

fn kill_supervisor(pidfd: RawFd) -> std::io::Result<()> {
    // SAFETY: the descriptor is open as long as its `Launched` is.
    let pidfd = unsafe { std::os::fd::BorrowedFd::borrow_raw(pidfd) };
    process::pidfd_signal(pidfd, libc::SIGKILL)
}

/// The supervisor is gone, and the kernel has killed its children. What they held is repaired
/// here, their joiners hear `FamilyLost`, and the next spawn starts a fresh supervisor.
fn lost(arena: &'static Arena, supervisor: Launched) {
    let header = arena.header();
    header.supervisor_pid.store(0, Ordering::Release);
    if header.stage.load(Ordering::Acquire) == stage::ENDING {
        return;
    }
    let used = header.slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    let inode = member::memfd().and_then(|fd| process::inode(fd.as_fd()).ok()).unwrap_or(0);
    for slot in 1..used {
        if slots::phase(arena.slot(slot).state.load(Ordering::Acquire)) != slots::FREE {
            await_death(arena.slot(slot).pid.load(Ordering::Relaxed), inode);
            recovery::recover(arena, slot, None);
        }
    }
    sweep::after_supervisor(arena);
    collect::alone(arena);
    for hint in &header.spare_slots {
        hint.store(0, Ordering::Relaxed);
    }
    header.stage.store(stage::LOST, Ordering::Release);
    futex::wake_all(&header.stage);
    header.spares.fetch_add(2, Ordering::SeqCst);
    park::wake_everybody(arena);
    // Freed last: as long as we hold the pidfd, `at_exit` may look at it.
    SUPERVISOR_PIDFD.store(-1, Ordering::Release);
    drop(supervisor.pidfd);
}

/// Waits until a process of the family is dead. The kernel has killed it; a number that belongs to
/// somebody else by now is left alone.
fn await_death(pid: i32, inode: u64) {
    let Ok(pidfd) = process::pidfd_open(pid) else { return };
    if process::maps_memfd(pid, MEMFD_NAME, inode) {
        let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        while !fd::poll([pidfd.as_raw_fd()], -1)[0] {}
    }
}

/// Main ends: it hands on what its last thread holds, waits for the processes that are not
/// daemons, and lets the supervisor end the others. The supervisor is gone before main is, so
/// that whoever reads main's output sees its end.
extern "C" fn at_exit() {
    if member::is_forked() || !member::is_main() {
        return;
    }
    let Some(arena) = member::mapped() else { return };
    let header = arena.header();
    let running = (stage::RUNNING, stage::ENDING);
    if header.stage.compare_exchange(running.0, running.1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    // The exiting thread does not come back to its locks, and one that has ended while it held some
    // never will. (Destructors have run by now, so the thread may have another record than before.)
    let me = process::thread_id();
    recovery::release_locks_of_threads(arena, slots::MAIN, |thread| {
        thread == me || !process::is_own_thread(thread)
    });
    member::ring(arena);
    let pidfd = SUPERVISOR_PIDFD.load(Ordering::Acquire);
    if pidfd >= 0 && !fd::poll([pidfd], HAND_ON_MS)[0] {
        // Somebody is still awaited: perhaps he waits for a lock of a thread that sleeps for ever.
        recovery::release_locks_of_threads(arena, slots::MAIN, |_| true);
        park::wake_everybody(arena);
    }
    while pidfd >= 0 && header.supervisor_pid.load(Ordering::Acquire) != 0 && !fd::poll([pidfd], -1)[0] {}
    outcome::report_all_unobserved(arena, slots::MAIN);
}
