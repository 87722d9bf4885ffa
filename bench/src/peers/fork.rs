//! A plain fork.
//!
//! It is only for processes with one thread, because the child may allocate.

use crate::Result;

/// A forked process. It is killed and reaped when this value is dropped.
pub struct Forked {
    /// The child's process id.
    pub pid: u32,
}

impl Forked {
    /// Runs `body` in a forked process, which exits with 0, or with 1 if it fails.
    pub fn run(body: impl FnOnce() -> Result) -> Result<Forked> {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => {
                // SAFETY: plain calls; neither returns anything that needs care.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::_exit(body().is_err().into())
                }
            }
            pid => Ok(Forked { pid: pid.cast_unsigned() }),
        }
    }

    /// Waits until the process ends, which must be by an exit with 0.
    pub fn join(self) -> Result {
        let status = self.reap();
        std::mem::forget(self);
        match status {
            0 => Ok(()),
            status => Err(format!("a forked process ended with status {status:#x}").into()),
        }
    }

    fn reap(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is a valid place to write to.
        unsafe { libc::waitpid(self.pid.cast_signed(), &mut status, 0) };
        status
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        kill(self.pid);
        self.reap();
    }
}

/// Kills a process that has not been reaped.
pub fn kill(pid: u32) {
    signal(pid.cast_signed());
}

/// Kills a process group.
pub fn kill_group(leader: u32) {
    signal(-leader.cast_signed());
}

fn signal(pid: i32) {
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Forks a process that ends immediately, and waits for it.
pub fn fork_exit_wait() -> Result {
    // SAFETY: the child calls nothing but `_exit`.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(std::io::Error::last_os_error().into()),
        // SAFETY: does not return.
        0 => unsafe { libc::_exit(0) },
        pid => pid,
    };
    let mut status = -1;
    // SAFETY: `status` is a valid place to write to.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    if waited == pid && status == 0 { Ok(()) } else { Err("a forked process did not exit".into()) }
}
