//! The end of the family, seen from main: the orderly one, and the loss of the supervisor.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{client, exit_wait, preload};
use crate::arena::header::stage;
use crate::arena::{Arena, collect, member, process_body, slots, sweep};
use crate::os::clock::Deadline;
use crate::os::launch::Launched;
use crate::os::{futex, process};
use crate::sync::raw::park;
use crate::{Error, Result, os, recovery};

/// How long main's other threads keep their locks when main has ended and is waited for.
const HAND_ON: Duration = Duration::from_secs(5);

/// 1 while the supervisor is lost and main repairs what it left.
static REPAIRING: AtomicU32 = AtomicU32::new(0);

/// If the supervisor is lost, waits until there can be another. Says whether it had to.
pub(super) fn await_repair() -> bool {
    let repairing = REPAIRING.load(Ordering::Acquire) == 1;
    if repairing {
        futex::wait(&REPAIRING, 1, Deadline::NEVER);
    }
    repairing
}

/// Watches the supervisor from a thread of main's, and registers the orderly end.
pub(super) fn watch(arena: &'static Arena, supervisor: Launched) -> Result<()> {
    static AT_EXIT: std::sync::Once = std::sync::Once::new();
    AT_EXIT.call_once(|| {
        process::at_exit(at_exit);
    });
    let Launched { pid, pidfd } = supervisor;
    let pidfd = Arc::new(Mutex::new(Some(pidfd)));
    let take = |pidfd: &Mutex<Option<OwnedFd>>| pidfd.lock().unwrap_or_else(|e| e.into_inner()).take();
    let watched = pidfd.clone();
    let watcher = os::threads::start("procession", move || {
        let mut pid = pid;
        loop {
            exit_wait::supervisor_is_gone(arena, pid, take(&watched), Deadline::NEVER);
            // A main that adopts orphans (process 1 of a container) was its last parent.
            process::reap_if_ended(pid);
            match preload::successor(arena, pid) {
                Some(next) => pid = next,
                None => break,
            }
        }
        lost(arena);
    });
    watcher.map(drop).map_err(|e| {
        exit_wait::end_supervisor(arena, pid, take(&pidfd));
        lost(arena);
        Error::os("starting the thread that watches the supervisor", &e)
    })
}

/// The supervisor is gone, and the kernel has killed its children. What they held is repaired
/// here, their joiners hear `FamilyLost`, and the next spawn starts a fresh supervisor.
fn lost(arena: &'static Arena) {
    let header = arena.header();
    header.supervisor_pid.store(0, Ordering::Release);
    if header.stage.load(Ordering::Acquire) == stage::ENDING {
        return;
    }
    // ORDERING: before anybody is told, all of which are Release stores: who has heard of the loss sees this.
    REPAIRING.store(1, Ordering::Relaxed);
    let used = header.slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    let in_use = |slot: &u32| slots::phase(arena.slot(*slot).state.load(Ordering::Acquire)) != slots::FREE;
    // First all are dead, so that none of them is in the middle of sending another off.
    for slot in (1..used).filter(in_use) {
        exit_wait::child_is_gone(arena.slot(slot).pid.load(Ordering::SeqCst));
    }
    for slot in (1..used).filter(|&slot| withdraw(arena, slot)) {
        recovery::recover(arena, slot, None);
    }
    exit_wait::reap_unknown();
    sweep::after_supervisor(arena);
    // The supervisor may have died in the middle of this.
    park::wake_everybody(arena);
    collect::alone(arena);
    for hint in &header.spare_slots {
        hint.store(0, Ordering::Relaxed);
    }
    header.stage.store(stage::LOST, Ordering::Release);
    REPAIRING.store(0, Ordering::Release);
    futex::wake_all(&REPAIRING);
    futex::wake_all(&header.stage);
    header.spares.fetch_add(2, Ordering::SeqCst);
    park::rouse_everybody(arena);
}

/// Takes a slot away from those who may still be claiming it, which are main's own threads. False
/// when there is nothing in it.
fn withdraw(arena: &Arena, index: u32) -> bool {
    let slot = arena.slot(index);
    loop {
        let state = slot.state.load(Ordering::Acquire);
        match slots::phase(state) {
            slots::FREE => return false,
            // It sends its request off in a moment; nobody hears it, and its joiner is told.
            slots::CLAIMED if arena.slot_of_record(slots::claimant(state)) == Some(slots::MAIN) => {
                thread::yield_now();
            }
            slots::SPARE => {
                let mine = (slots::SPARE, slots::DEAD);
                if slot.state.compare_exchange(mine.0, mine.1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return true;
                }
            }
            _ => return true,
        }
    }
}

/// Main ends: it hands on what its last thread holds, waits for the processes that are not
/// daemons, and lets the supervisor end the others. The supervisor is gone before main is, so
/// that whoever reads main's output sees its end.
extern "C" fn at_exit() {
    if member::is_forked() || !member::is_main() {
        return;
    }
    end_family();
    #[cfg(any(feature = "tracing", feature = "log"))]
    crate::events::finish();
}

fn end_family() {
    let Some(arena) = member::mapped() else { return };
    let header = arena.header();
    let running = (stage::RUNNING, stage::ENDING);
    if header.stage.compare_exchange(running.0, running.1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    // The exiting thread does not come back to its locks, and one that has ended while it held some
    // never will. (Destructors have run by now, so the thread may have another record than before.)
    let me = process::thread_id();
    let runs = |thread| thread != me && process::is_own_thread(thread);
    recovery::release_locks_of_threads(arena, slots::MAIN, |thread| !runs(thread), runs);
    // The end of this connection wakes the supervisor, also when the bell cannot be rung: for want of a descriptor, or
    // because this process has changed its user.
    client::hang_up();
    member::ring(arena);
    let supervisor = header.supervisor_pid.load(Ordering::Acquire) as i32;
    if supervisor != 0 && !exit_wait::supervisor_is_gone(arena, supervisor, None, Deadline::after(HAND_ON)) {
        // Somebody is still awaited: perhaps he waits for a lock of a thread that sleeps for ever.
        recovery::release_locks_of_threads(arena, slots::MAIN, |_| true, runs);
        park::rouse_everybody(arena);
        exit_wait::supervisor_is_gone(arena, supervisor, None, Deadline::NEVER);
    }
    process_body::report_all_unobserved(arena, slots::MAIN);
}
