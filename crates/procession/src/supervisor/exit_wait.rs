//! Waiting for the death of a process without trusting a descriptor for long.
//!
//! A pidfd is exact, but it is a number in main's table, and programs that become daemons close
//! every number they find; another file may have it next. So whatever a poll says is checked
//! against /proc, where a process of the family is known by the arena that it maps.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::arena::{Arena, MEMFD_NAME, member};
use crate::os::clock::Deadline;
use crate::os::{fd, process};

/// Waits until the supervisor `pid` is dead, or until the time is up; says whether it is. `pidfd` is
/// used as long as it lasts.
pub(super) fn supervisor_is_gone(
    arena: &Arena,
    pid: i32,
    mut pidfd: Option<OwnedFd>,
    until: Deadline,
) -> bool {
    loop {
        if is_gone(arena, pid) {
            return true;
        }
        if until.passed() {
            return false;
        }
        let watched = match pidfd.take().map_or_else(|| process::pidfd_open(pid), Ok) {
            Ok(fd) => fd,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return true,
            // No descriptor to be had: look again in a while.
            Err(_) => {
                fd::poll([], 50);
                continue;
            }
        };
        fd::poll([watched.as_raw_fd()], until.left_ms());
        if !process::is_pidfd(watched.as_fd()) {
            // A number that is not ours any more is not ours to close.
            let _ = watched.into_raw_fd();
        }
    }
}

/// Kills the supervisor `pid`, and waits until it is dead. The signal is sent again if the kernel
/// refuses it.
pub(super) fn end_supervisor(arena: &Arena, pid: i32, pidfd: Option<OwnedFd>) {
    const AGAIN: Duration = Duration::from_millis(50);
    let Some(pidfd) = pidfd else { return };
    loop {
        let killed = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        let until = if killed.is_ok() { Deadline::NEVER } else { Deadline::after(AGAIN) };
        if supervisor_is_gone(arena, pid, None, until) {
            return;
        }
    }
}

fn maps_arena(pid: i32) -> Option<bool> {
    process::maps_memfd(pid, MEMFD_NAME, member::memfd_inode())
}

fn is_gone(arena: &Arena, pid: i32) -> bool {
    let header = arena.header();
    let announced =
        [&header.supervisor_pid, &header.guard_pid].iter().any(|it| it.load(Ordering::Acquire) == pid as u32);
    process::is_dead(pid) || (announced && maps_arena(pid) == Some(false))
}

/// Waits until a child of a dead supervisor is dead. The kernel has killed it; a number that
/// belongs to somebody else by now is left alone.
pub(super) fn child_is_gone(pid: i32) {
    if pid == 0 {
        return;
    }
    while !process::is_dead(pid) && maps_arena(pid) != Some(false) {
        match process::pidfd_open(pid) {
            Ok(pidfd) => {
                if maps_arena(pid) == Some(true) {
                    let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
                }
                fd::poll([pidfd.as_raw_fd()], 50);
            }
            Err(_) => drop(fd::poll([], 50)),
        }
    }
    // A slot is freed before its process is reaped, so as long as it is not, the number is its own.
    process::reap_if_ended(pid);
}

/// A supervisor that is killed inside `fork` leaves a child that the arena knows nothing of, and that
/// ends by itself. Where main adopts orphans, it is main that must take it out of the process table.
pub(super) fn reap_unknown() {
    for _ in 0..20 {
        let unknown = process::adopted(super::SUPERVISOR_TITLE);
        if unknown.is_empty() {
            return;
        }
        unknown.into_iter().for_each(process::reap_if_ended);
        fd::poll([], 5);
    }
}
