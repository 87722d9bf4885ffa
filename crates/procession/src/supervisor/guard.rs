//! The guard: the parent of the supervisor, which takes over the supervisor's children when the supervisor
//! dies.
//!
//! ```text
//! main ──launches──▶ guard ──fork──▶ supervisor ──fork──▶ children
//! ```
//!
//! When the supervisor dies, the kernel kills its children. It does not kill a child that has changed its
//! user since it began, or processes that the children have started themselves. All of these become children
//! of the guard, because the guard is their nearest subreaper. The guard then kills them. So the death of the
//! supervisor leaves nothing behind, even if main is stopped or dead.
//!
//! The guard also sends SIGCHLD to the supervisor for a process that lacks the permission because it has
//! changed its user. Such a process increments `Header::guard_wakes` and wakes the guard, which has the rights
//! of the supervisor.
//!
//! The guard also notifies the supervisor early that a process has died: see `dying.rs`.
//!
//! Where main would adopt the orphans of the guard's parent, that parent lives as long as the guard
//! (`os/hidden_parent.rs`).
//!
//! CRASH: if the guard's parent dies, main adopts the guard and could then wait for it, so the guard ends the
//! family. If the guard dies, the kernel sends the supervisor SIGCHLD, and the supervisor ends the family. If
//! such a process dies between its store and its wake, its own end wakes the supervisor.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::dying::LifeWords;
use crate::arena::{Arena, member, slots};
use crate::os::{fd, process, signal};
use crate::rules::Rule;
use crate::{Error, Result, rules};

/// The title that `ps` shows.
const TITLE: &[u8] = b"procession-grd";

/// The number of rounds, a millisecond apart, in which the guard kills and reaps the remaining processes.
/// Then the guard gives up, because it is not permitted to kill a process that has gained rights.
const ROUNDS: u32 = 1000;

/// Announces this process as the guard.
pub(super) fn announce(arena: &Arena) {
    arena.header().guard_pid.store(process::pid() as u32, Ordering::Release);
}

/// Forks the supervisor and returns in it. This process stays behind as the guard.
pub(super) fn fork_supervisor(arena: &'static Arena) -> Result<()> {
    // SAFETY: a process that was just launched has one thread.
    match unsafe { member::fork() } {
        Ok(Some(supervisor)) => keep(arena, supervisor),
        Ok(None) => Ok(()),
        Err(e) => Err(Error::unstarted("forking the supervisor", &e)),
    }
}

/// Runs as the guard of a supervisor that is a child of this process, or will be.
pub(super) fn keep(arena: &'static Arena, supervisor: i32) -> ! {
    process::set_title(TITLE);
    leave_descriptors();
    let wakes = &arena.header().guard_wakes;
    signal::catch_child_signal(on_child_signal);
    process::die_with_parent(signal::WAKE_SIGNAL);
    let mut forwarded = wakes.load(Ordering::SeqCst).wrapping_sub(1);
    let mut lives = LifeWords::new(arena);
    loop {
        // ORDERING: SeqCst, before the checks below. Either the guard sees the count that a process has
        // incremented, or that process's wake ends the sleep.
        let seen = wakes.load(Ordering::SeqCst);
        while let Ok(Some((pid, _))) = process::next_ended() {
            if pid == supervisor {
                end_family(arena, supervisor);
            }
            process::reap(pid);
        }
        if is_child_of_main(arena) {
            let _ = process::signal_child(supervisor, libc::SIGKILL);
        }
        if lives.look() | (seen != forwarded) {
            let _ = process::signal_child(supervisor, signal::WAKE_SIGNAL);
            forwarded = seen;
        }
        lives.sleep((wakes, seen));
    }
}

/// Returns whether main has adopted this process, because another process has killed its parent.
fn is_child_of_main(arena: &Arena) -> bool {
    arena.header().guard_has_parent.load(Ordering::Relaxed) == 1
        && process::parent_pid() == arena.slot(slots::MAIN).pid.load(Ordering::Relaxed)
}

/// A child or the parent has ended. The new count prevents a sleep that has not begun yet.
extern "C" fn on_child_signal(_: i32) {
    if let Some(arena) = member::mapped() {
        arena.header().guard_wakes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Closes every descriptor, so that no reader of a pipe waits for this process to end.
fn leave_descriptors() {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    for number in 0..3 {
        match &null {
            Ok(null) => drop(fd::duplicate_onto(std::os::fd::AsFd::as_fd(null), number)),
            Err(_) => fd::close_raw(number),
        }
    }
    let last = null.as_ref().map_or(2, AsRawFd::as_raw_fd);
    fd::close_above(last);
}

/// Kills everything below this process after the supervisor has died, and exits.
fn end_family(arena: &Arena, supervisor: i32) -> ! {
    let header = arena.header();
    // Cleared before the process id can be reused.
    let named = (supervisor as u32, 0);
    let _ = header.supervisor_pid.compare_exchange(named.0, named.1, Ordering::SeqCst, Ordering::Relaxed);
    process::reap(supervisor);
    let mut listed = process::Children::of_this_thread().ok();
    let kill = |pid| {
        if rules::holds(Rule::GuardKills) {
            let _ = process::signal_child(pid, libc::SIGKILL);
        }
    };
    for _ in 0..ROUNDS {
        let used = header.slots_used.load(Ordering::Acquire).min(arena.layout.slots);
        (slots::MAIN + 1..used).for_each(|slot| kill(arena.slot(slot).pid.load(Ordering::Acquire)));
        // A process without a slot was started by a child.
        let _ = listed.as_mut().map(|children| children.for_each(kill));
        while let Ok(Some((pid, _))) = process::next_ended() {
            process::reap(pid);
        }
        if !process::has_children() {
            header.guard_pid.store(0, Ordering::Release);
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    process::exit_now(0)
}

/// The guard, as seen by its supervisor.
pub(super) struct Guard {
    /// The process that forked the supervisor. It may be a template that has ended.
    creator: i32,
    pid: i32,
}

impl Guard {
    /// Makes the kernel send SIGCHLD to this process, the supervisor, when its guard dies.
    pub(super) fn of_this_process(arena: &Arena) -> Guard {
        process::die_with_parent(signal::WAKE_SIGNAL);
        Guard { creator: process::parent_pid(), pid: arena.header().guard_pid.load(Ordering::Acquire) as i32 }
    }

    /// Returns whether the guard is dead.
    pub(super) fn is_dead(&self) -> bool {
        let parent = process::parent_pid();
        parent != self.pid && (parent != self.creator || parent == 1)
    }

    /// Continues the guard, so that it sees the end of this process. The guard may have been stopped together
    /// with its group.
    pub(super) fn resume(&self) {
        if process::parent_pid() == self.pid {
            process::resume_parent();
        }
    }
}

/// Returns the supervisor that still lives although its guard, the process `gone`, is dead.
pub(super) fn survivor(arena: &Arena, gone: i32) -> Option<i32> {
    let now = arena.header().supervisor_pid.load(Ordering::Acquire) as i32;
    (now != 0 && now != gone).then_some(now)
}
