//! Waiting for the death of a process without trusting a descriptor for long.
//!
//! A pidfd is exact, but it is a number in main's table, and programs that become daemons close
//! every number they find; another file may have it next. So whatever a poll says is checked
//! against /proc, where a process of the family is known by the arena that it maps.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::arena::{Arena, MEMFD_NAME, member};
use crate::os::{fd, process};

/// Waits until the supervisor `pid` is dead, at most `timeout_ms` (-1: for ever) at a time when
/// nothing happens; says whether it is. `pidfd` is used as long as it lasts.
pub(super) fn supervisor_is_gone(
    arena: &Arena,
    pid: i32,
    mut pidfd: Option<OwnedFd>,
    timeout_ms: i32,
) -> bool {
    loop {
        if is_gone(arena, pid) {
            return true;
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
        let woken = fd::poll([watched.as_raw_fd()], timeout_ms)[0];
        let still_ours = process::is_pidfd(watched.as_fd());
        // A number that is not ours any more is not ours to close.
        if !still_ours {
            let _ = watched.into_raw_fd();
        }
        if !woken && still_ours && timeout_ms >= 0 {
            return is_gone(arena, pid);
        }
    }
}

fn is_gone(arena: &Arena, pid: i32) -> bool {
    let announced = arena.header().supervisor_pid.load(Ordering::Acquire) == pid as u32;
    process::is_dead(pid) || (announced && !process::maps_memfd(pid, MEMFD_NAME, member::memfd_inode()))
}

/// Waits until a child of a dead supervisor is dead. The kernel has killed it; a number that
/// belongs to somebody else by now is left alone.
pub(super) fn child_is_gone(pid: i32) {
    while !process::is_dead(pid) && process::maps_memfd(pid, MEMFD_NAME, member::memfd_inode()) {
        let Ok(pidfd) = process::pidfd_open(pid) else { continue };
        if process::maps_memfd(pid, MEMFD_NAME, member::memfd_inode()) {
            let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            fd::poll([pidfd.as_raw_fd()], 50);
        }
    }
    // A slot is freed before its process is reaped, so as long as it is not, the number is its own.
    process::reap_if_ended(pid);
}
