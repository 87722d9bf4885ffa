//! Waiting for the death of a process without trusting a descriptor for long.
//!
//! A pidfd names one process, but it is a number in main's table of descriptors. A program that becomes a daemon closes
//! every descriptor, and another file may get the number. So the result of a poll is checked against `/proc`, where a
//! process of the family is recognized by the arena that it maps.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::arena::{Arena, MEMFD_NAME, member};
use crate::os::clock::Deadline;
use crate::os::{fd, process};

/// Waits until the supervisor `pid` is dead or the deadline has passed. Returns whether it is dead. Uses
/// `pidfd` while that still refers to the supervisor.
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
            // No descriptor is available at the moment.
            Err(_) => {
                fd::poll([], 50);
                continue;
            }
        };
        fd::poll([watched.as_raw_fd()], until.left_ms());
        if !process::is_pidfd(watched.as_fd()) {
            // The number belongs to another file now, which must stay open.
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

/// Waits until a child of a dead supervisor is dead. The kernel has killed the child. A process that has
/// since got the child's process id is not signaled.
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
    // A slot is freed before its process is reaped. So while the slot is in use, the process id belongs to
    // the slot's process.
    process::reap_if_ended(pid);
}

/// Reaps children of a dead supervisor that main has adopted and that have no slot. A supervisor that is killed inside
/// `fork` leaves such a child, which ends by itself.
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
