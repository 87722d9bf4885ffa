//! The end of the family, seen from main: the orderly one, and the loss of the supervisor.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{exit_wait, guard, launching};
use crate::arena::header::stage;
use crate::arena::{Arena, collect, member, process_body, slots, sweep};
use crate::os::clock::{Deadline, now_ns};
use crate::os::hidden_parent::HiddenParent;
use crate::os::launch::Launched;
use crate::os::{fd, futex, process, threads};
use crate::rules::Rule;
use crate::sync::raw::deadlock::MAIN_GRACE_NS;
use crate::sync::raw::park;
use crate::{Error, Result, recovery, rules};

/// How often main checks which of its threads have ended, while it waits for its children at its end.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// 1 while the supervisor is lost and main repairs what it left.
static REPAIRING: AtomicU32 = AtomicU32::new(0);

/// The process id of the supervisor's [`HiddenParent`] while main has not reaped it, or 0.
static HIDDEN_PARENT: AtomicI32 = AtomicI32::new(0);

/// If the supervisor is lost, waits until main has repaired what it left. Returns whether it had to wait.
pub(super) fn await_repair() -> bool {
    let repairing = REPAIRING.load(Ordering::Acquire) == 1;
    if repairing {
        futex::wait(&REPAIRING, 1, Deadline::NEVER);
    }
    repairing
}

/// How long main waits for a supervisor whose guard it has killed. A process that the program has forked meanwhile
/// may have the supervisor's end of the connection, too.
const END_MS: i32 = 5000;

/// Starts the thread that watches the supervisor, and registers the exit handler of main. `socket` is connected
/// to the supervisor.
pub(super) fn watch(arena: &'static Arena, supervisor: Launched, socket: BorrowedFd<'_>) -> Result<()> {
    static AT_EXIT: std::sync::Once = std::sync::Once::new();
    AT_EXIT.call_once(|| {
        process::at_exit(at_exit);
    });
    let Launched { pid, pidfd, parent } = supervisor;
    HIDDEN_PARENT.store(parent.as_ref().map_or(0, HiddenParent::pid), Ordering::Release);
    let pidfd = Arc::new(Mutex::new(Some(pidfd)));
    let take = |pidfd: &Mutex<Option<OwnedFd>>| pidfd.lock().unwrap_or_else(|e| e.into_inner()).take();
    let watched = pidfd.clone();
    let watcher = threads::start("procession", move || {
        let _own = threads::Own::begin();
        let mut pid = pid;
        loop {
            exit_wait::supervisor_is_gone(arena, pid, take(&watched), Deadline::NEVER);
            // If main adopts orphans, it may have become the parent of this process.
            process::reap_if_ended(pid);
            match guard::survivor(arena, pid) {
                Some(next) => pid = next,
                None => break,
            }
        }
        lost(arena);
        if let Some(parent) = parent {
            let pid = parent.pid();
            drop(parent);
            let _ = HIDDEN_PARENT.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    });
    watcher.map(drop).map_err(|e| {
        exit_wait::end_supervisor(arena, pid, take(&pidfd));
        // CRASH: the guard may have forked the supervisor, which notices that its guard is dead and ends. Until then, it
        // could announce that it serves, and a spawner would take one of its spares.
        fd::await_hangup(socket, END_MS);
        lost(arena);
        Error::unstarted("starting the thread that watches the supervisor", &e)
    })
}

/// Repairs the family after its supervisor has died. The kernel has killed the children. Recovers what they
/// held, and their joiners get `FamilyLost`. The next spawn launches another supervisor.
fn lost(arena: &'static Arena) {
    let header = arena.header();
    header.supervisor_pid.store(0, Ordering::Release);
    if header.stage.load(Ordering::Acquire) == stage::ENDING {
        return;
    }
    // ORDERING: this comes before the Release stores that report the loss, so every thread that sees one of
    // those stores also sees this one.
    REPAIRING.store(1, Ordering::Relaxed);
    let used = header.slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    let in_use = |slot: &u32| slots::phase(arena.slot(*slot).state.load(Ordering::Acquire)) != slots::FREE;
    // Wait until all children are dead, so that none of them is in the middle of a spawn. If the guard has
    // ended in an orderly way, they are already dead, and other processes may have got their process ids.
    if header.guard_pid.swap(0, Ordering::AcqRel) != 0 {
        for slot in (1..used).filter(in_use) {
            exit_wait::child_is_gone(arena.slot(slot).pid.load(Ordering::SeqCst));
        }
    }
    for slot in (1..used).filter(|&slot| withdraw(arena, slot)) {
        recovery::recover(arena, slot, None);
    }
    exit_wait::reap_unknown();
    sweep::after_supervisor(arena);
    // The supervisor may have died while it was notifying sleepers.
    park::notify_all_sleepers(arena);
    collect::alone(arena);
    for hint in &header.spare_slots {
        hint.store(0, Ordering::Relaxed);
    }
    header.stage.store(stage::LOST, Ordering::Release);
    REPAIRING.store(0, Ordering::Release);
    futex::wake_all(&REPAIRING);
    futex::wake_all(&header.stage);
    header.spares.fetch_add(2, Ordering::SeqCst);
    park::wake_all_sleepers(arena);
}

/// Takes a slot away from threads of main that may still claim it. Returns false if the slot is free.
fn withdraw(arena: &Arena, index: u32) -> bool {
    let slot = arena.slot(index);
    loop {
        let state = slot.state.load(Ordering::Acquire);
        match slots::phase(state) {
            slots::FREE => return false,
            // The claiming thread completes its request soon. No child will run the request, and its joiner
            // is notified.
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

/// Ends the family when main exits. Releases what no thread of main uses, waits for the processes that are
/// not daemons, and has the supervisor end the others. The supervisor exits before main, so a reader of
/// main's output sees the end of the output when main exits.
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
    // ORDERING: SeqCst, before waiters are woken: see `sync/deadlock.rs`.
    header.main_ended_ns.store(now_ns(), Ordering::SeqCst);
    park::wake_all_sleepers(arena);
    // Closing this connection wakes the supervisor even if the signal cannot be sent. It cannot be sent if no
    // descriptor is left or this process has changed its user.
    launching::close_connection();
    member::wake_supervisor(arena);
    let supervisor = header.supervisor_pid.load(Ordering::Acquire) as i32;
    let mut due = Some(Deadline::after(Duration::from_nanos(MAIN_GRACE_NS)));
    loop {
        release_what_nobody_uses(arena);
        let until = Deadline::after(LOOK_AGAIN);
        if supervisor == 0 || exit_wait::supervisor_is_gone(arena, supervisor, None, until) {
            break;
        }
        if due.take_if(|due| due.passed()).is_some() {
            // From now on, a process that waits without a limit for a thread of main is refused.
            park::wake_all_sleepers(arena);
        }
    }
    // The guard clears `guard_pid` when it has killed the remaining processes.
    let guard = header.guard_pid.load(Ordering::Acquire);
    while guard != 0 && header.guard_pid.load(Ordering::Acquire) == guard {
        let until = Deadline::after(Duration::from_millis(50));
        if exit_wait::supervisor_is_gone(arena, guard as i32, None, until) {
            break;
        }
    }
    reap_hidden_parent();
    process_body::report_all_unobserved(arena, slots::MAIN);
}

/// Waits until the guard's parent has ended too. That parent lives longer if it has a descendant that no
/// process can kill.
fn reap_hidden_parent() {
    let until = Deadline::after(Duration::from_millis(100));
    let pid = || HIDDEN_PARENT.load(Ordering::Acquire);
    while pid() != 0 && !until.passed() {
        process::reap_if_ended(pid());
        if !process::is_child(pid()).unwrap_or(false) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Releases the locks of the exiting thread and of threads that have ended. (Destructors have run by now, so
/// the exiting thread may have a different record than before.) A thread that still runs keeps its locks. A
/// process that waits for one of these locks is refused after a while.
fn release_what_nobody_uses(arena: &Arena) {
    let me = process::thread_id();
    let runs = |thread| process::is_own_thread(thread) && rules::holds(Rule::KeptWhileRunning);
    let ended = |thread| thread == me || !runs(thread);
    recovery::release_locks_of_ended_threads(arena, slots::MAIN, ended, !threads::are_others());
}
