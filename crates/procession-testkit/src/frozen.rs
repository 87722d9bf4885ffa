//! A sleeper that can be woken but cannot run, so that its death consumes the wake.
//!
//! Findings (Linux 6.18, `tests/waiters.rs`):
//!
//! * Seizing and interrupting a sleeper, or sending it SIGSTOP, takes it out of the futex's queue. A wake at that time
//!   finds no sleeper (`FUTEX_WAKE` returns 0), and the wait restarts later.
//! * But a tracee that *entered* the wait under `PTRACE_SYSCALL` sleeps in the queue like any other process.
//!   A wake finds it (`FUTEX_WAKE` returns 1). It then stops on its way out of the kernel, before its next
//!   instruction.
//!
//! So a sleeper is interrupted once, stopped at the entry of the restarted call, and then let into the call.
//! This needs no scheduling class and no privilege. The sleeper loses its place, because it queues at the
//! end.
#![allow(unsafe_code, reason = "ptrace")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::time::Duration;

use crate::child::send_signal;
use crate::deterministic::wait_until_parked;
use crate::proc;

const LIMIT: Duration = Duration::from_secs(10);

/// A process whose main thread sleeps in a futex and will not run in user mode unless it is [`thaw`](Frozen::thaw)ed.
pub struct Frozen {
    pid: i32,
}

/// Freezes a sleeping process. The process goes to the end of the futex's queue. Where the order matters, freeze the
/// first process before the second goes to sleep.
///
/// # Panics
/// If the process does not sleep in a futex, or is already traced.
pub fn freeze(pid: i32) -> Frozen {
    wait_until_parked(pid);
    lead_back_to_sleep(pid).unwrap_or_else(|error| panic!("freezing {pid}: {error}"));
    wait_until_parked(pid);
    Frozen { pid }
}

fn lead_back_to_sleep(pid: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, pid, libc::PTRACE_O_EXITKILL)?;
    request(libc::PTRACE_INTERRUPT, pid, 0)?;
    wait(pid, libc::WSTOPPED)?;
    // That was the interruption. The entry of the restarted call comes next.
    request(libc::PTRACE_SYSCALL, pid, 0)?;
    wait(pid, libc::WSTOPPED)?;
    request(libc::PTRACE_SYSCALL, pid, 0)
}

impl Frozen {
    /// Reports whether the process has been woken. A woken process is stopped at the end of its system call.
    pub fn woken(&self) -> bool {
        proc::state(self.pid) == Some('t')
    }

    /// Waits until the process has been woken.
    ///
    /// # Panics
    /// If it has not been woken within 10 s.
    pub fn wait_until_woken(&self) {
        proc::wait_until("the frozen sleeper is woken", LIMIT, || self.woken());
    }

    /// Kills the process, woken or not, and returns when it is dead. If the process is a child of this
    /// process, its `Child` must still reap it.
    pub fn kill(self) {
        send_signal(self.pid, libc::SIGKILL);
        let ours = proc::ppid(self.pid) == Some(std::process::id() as i32);
        // A tracer that is not the parent must reap first, or the parent is never notified of the death.
        let reap = if ours { libc::WNOWAIT } else { 0 };
        wait(self.pid, libc::WEXITED | reap).unwrap_or_else(|error| panic!("killing {}: {error}", self.pid));
        mem::forget(self);
    }

    /// Continues the process as if it had never been frozen.
    pub fn thaw(self) {}

    /// Stops the process before its next instruction, as a SIGSTOP at this moment would.
    ///
    /// # Panics
    /// If the process has not been woken.
    pub fn stop(self) {
        wait(self.pid, libc::WSTOPPED)
            .and_then(|()| request(libc::PTRACE_DETACH, self.pid, libc::SIGSTOP))
            .unwrap_or_else(|error| panic!("stopping {}: {error}", self.pid));
        mem::forget(self);
    }

    fn detach(&self) -> io::Result<()> {
        if !self.woken() {
            request(libc::PTRACE_INTERRUPT, self.pid, 0)?;
        }
        wait(self.pid, libc::WSTOPPED)?;
        request(libc::PTRACE_DETACH, self.pid, 0)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // An error means that the process is dead.
        let _ = self.detach();
    }
}

fn request(request: libc::c_uint, pid: i32, data: i32) -> io::Result<()> {
    // SAFETY: none of the requests used here writes through a pointer.
    let result = unsafe { libc::ptrace(request, pid, ptr::null_mut::<u8>(), data as usize) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn wait(pid: i32, what: i32) -> io::Result<()> {
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: the kernel writes one `siginfo_t`.
    let result = unsafe { libc::waitid(libc::P_PID, pid as u32, info.as_mut_ptr(), what | libc::__WALL) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
