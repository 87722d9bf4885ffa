//! How a process ended, if it is not a child of the caller.
//!
//! Until its parent has reaped the process, `/proc` shows the status. After that, the pidfd shows it, since
//! Linux 6.15. On an older kernel, nothing shows the status of a process that was reaped.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::process::{self, Ended};
use super::procfs;

/// The kernel's `struct pidfd_info`, in its first version.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_GET_INFO`.
const GET_INFO: libc::c_ulong =
    (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xff << 8) | 11;
const INFO_EXIT: u64 = 1 << 3;

const _: () = assert!(size_of::<PidfdInfo>() == 64, "the kernel's first version has 64 bytes");

/// Returns how the process `pid` ended. `pidfd` refers to the same process. Returns `None` if it has not
/// ended, or if nothing shows it.
pub(crate) fn how(pid: i32, pidfd: BorrowedFd<'_>) -> Option<Ended> {
    let status = shown_by_proc(pid);
    // If the pidfd still works, then the id named no other process in the meantime.
    let certain = process::pidfd_signal(pidfd, 0).is_ok();
    status.filter(|_| certain).or_else(|| told_by(pidfd)).map(from_status)
}

/// Returns the last number in `/proc/PID/stat`, for a process that has ended and was not reaped yet.
fn shown_by_proc(pid: i32) -> Option<i32> {
    let stat = procfs::text(procfs::directory(pid)?.join("stat"))?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    (fields.next()? == "Z").then(|| fields.last()?.parse().ok()).flatten()
}

fn told_by(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo { mask: INFO_EXIT, cgroup: 0, ids: [0; 11], exit_code: 0 };
    // SAFETY: the kernel writes no more bytes than the request states, and that is the size of `info`.
    let ret = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) };
    (ret == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

pub(super) fn from_status(status: i32) -> Ended {
    match libc::WIFEXITED(status) {
        true => Ended::Exited(libc::WEXITSTATUS(status)),
        false => Ended::Signaled { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) },
    }
}
