//! Kills a process that another process has created, as it enters a system call.
#![allow(unsafe_code, reason = "ptrace")]

use std::io;
use std::ptr;

/// The outcome of an attempt to kill a process at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// The process was killed as it entered the system call.
    Here,
    /// The process ended by itself before it entered that system call.
    Never,
    /// The kernel does not let this process trace it.
    NotAllowed,
}

/// Waits for the first of these sleeping processes for which `chosen` returns true. Kills that process when
/// it enters its `n`-th system call from then on. Calls `ready` when all are watched, and `killing` right
/// before the kill. Stops waiting when `over` returns true.
///
/// Call it in a thread of its own, because the kernel releases the tracees when that thread ends.
///
/// # Panics
/// If the kernel returns something unexpected.
pub fn kill_at_syscall(
    pids: &[i32],
    n: u32,
    ready: impl FnOnce(),
    chosen: impl Fn(i32) -> bool,
    mut killing: impl FnMut(i32),
    over: impl Fn() -> bool,
) -> Killed {
    for &pid in pids {
        if let Err(e) = request(libc::PTRACE_SEIZE, pid, libc::PTRACE_O_TRACESYSGOOD as usize) {
            assert_eq!(e.raw_os_error(), Some(libc::EPERM), "tracing {pid}: {e}");
            ready();
            return Killed::NotAllowed;
        }
        request(libc::PTRACE_INTERRUPT, pid, 0).expect("a process that is traced can be stopped");
        // The process stops, and restarts its system call.
        for _ in 0..2 {
            wait(pid, 0);
            resume(pid, 0);
        }
    }
    ready();
    let mut entered: Vec<(i32, u32, bool)> = pids.iter().map(|&pid| (pid, 0, true)).collect();
    loop {
        let (pid, status) = wait(-1, libc::WNOHANG);
        let Some((_, calls, inside)) = entered.iter_mut().find(|(each, ..)| *each == pid) else {
            if over() {
                return Killed::Never;
            }
            std::thread::yield_now();
            continue;
        };
        if !libc::WIFSTOPPED(status) {
            return Killed::Never;
        }
        let signal = libc::WSTOPSIG(status);
        if signal != libc::SIGTRAP | 0x80 {
            let is_event = status >> 16 != 0;
            resume(pid, if is_event { 0 } else { signal });
            continue;
        }
        *inside = !*inside;
        if *inside && chosen(pid) {
            if *calls == n {
                killing(pid);
                // SAFETY: a system call without pointers. The process is not reaped, so the process id still
                // belongs to it.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                while libc::WIFSTOPPED(wait(pid, 0).1) {}
                return Killed::Here;
            }
            *calls += 1;
        }
        resume(pid, 0);
    }
}

fn request(what: libc::c_uint, pid: i32, data: usize) -> io::Result<()> {
    // SAFETY: none of the requests made here takes a pointer.
    let ret = unsafe { libc::ptrace(what, pid, ptr::null_mut::<u8>(), data) };
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Continues a process to its next system call. The process may be dead by then.
fn resume(pid: i32, signal: i32) {
    let _ = request(libc::PTRACE_SYSCALL, pid, signal as usize);
}

/// Waits for a state change of one of this thread's processes. Returns the process and its status.
fn wait(pid: i32, flags: i32) -> (i32, i32) {
    let mut status = 0;
    // SAFETY: `status` is a valid place.
    let pid = unsafe { libc::waitpid(pid, &raw mut status, flags | libc::__WALL | libc::__WNOTHREAD) };
    (pid, status)
}
