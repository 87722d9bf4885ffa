//! The only place where the testkit creates processes.
#![allow(unsafe_code, reason = "fork, wait and kill")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{io, mem};

use crate::proc;
use crate::report_page::ReportPage;

const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// The exit code of Rust's runtime after a panic.
pub(crate) const PANIC_CODE: i32 = 101;

unsafe extern "C" {
    /// `clone(SIGCHLD)` without the handlers of `pthread_atfork`. Unlike the bare system call, it informs the C library
    /// of the new thread id and robust list (glibc 2.34, musl 1.2.3).
    fn _Fork() -> libc::pid_t;
}

/// Forks without running `pthread_atfork` handlers. Returns 0 in the child, which is killed when the thread that forked
/// it ends.
///
/// The child must end by `_exit`. Tests should use [`Child::spawn`], which ensures that.
///
/// # Panics
/// If the fork fails.
pub fn raw_fork() -> i32 {
    let parent = std::process::id() as i32;
    // SAFETY: the child continues with a copy of this one thread. Locks of other threads may stay locked in it, which
    // can cause a hang but no corruption.
    let pid = unsafe { _Fork() };
    assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: plain system calls on this process.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent {
                libc::_exit(0);
            }
        }
    }
    pid
}

/// A child created by a raw fork. It is killed and reaped when this value is dropped.
///
/// Wait statuses are raw. Read them with `libc::WIFSIGNALED` and the like.
pub struct Child {
    /// The child's process id.
    pub pid: i32,
    maker: u32,
    status: Option<i32>,
    report_page: Arc<ReportPage>,
}

impl Child {
    /// Runs `f` in a child, which then exits with 0, or with 101 after a panic.
    ///
    /// Only the child drops the captures of `f`. This process forgets them, because dropping a handle here could free
    /// what the child uses.
    pub fn spawn(f: impl FnOnce()) -> Child {
        let mut f = Some(f);
        let child = Child::spawn_telling(&Arc::new(ReportPage::new()), &mut f);
        mem::forget(f);
        child
    }

    /// Does the same as `spawn` with a page that the caller may reuse. The closure stays with the caller.
    pub(crate) fn spawn_telling<F: FnOnce()>(report_page: &Arc<ReportPage>, f: &mut Option<F>) -> Child {
        let pid = raw_fork();
        if pid == 0 {
            report_page.adopt();
            let f = f.take().expect("the closure is there");
            let code = match catch_unwind(AssertUnwindSafe(f)) {
                Ok(()) => 0,
                Err(payload) => {
                    mem::forget(payload);
                    PANIC_CODE
                }
            };
            // SAFETY: ends this process without destructors or exit handlers, which belong to the test process.
            unsafe { libc::_exit(code) }
        }
        Child { pid, maker: std::process::id(), status: None, report_page: Arc::clone(report_page) }
    }

    pub(crate) fn report_page(&self) -> &ReportPage {
        &self.report_page
    }

    /// Returns the text that the child left before it died, usually that of a panic.
    pub fn text(&self) -> String {
        self.report_page.text()
    }

    /// Returns the wait status if the child has ended.
    pub fn try_wait(&mut self) -> Option<i32> {
        if self.status.is_none() {
            self.take(libc::WNOHANG);
        }
        self.status
    }

    /// Waits until the child ends. Returns `None` if it has not ended within `limit`.
    pub fn wait_within(&mut self, limit: Duration) -> Option<i32> {
        let start = Instant::now();
        for round in 0u32.. {
            if let Some(status) = self.try_wait() {
                return Some(status);
            }
            if start.elapsed() > limit {
                return None;
            }
            if round < 20 { thread::yield_now() } else { thread::sleep(Duration::from_micros(50)) }
        }
        None
    }

    /// Waits until the child ends, and returns the wait status.
    ///
    /// # Panics
    /// If the child has not ended after a minute.
    pub fn wait(&mut self) -> i32 {
        let status = self.wait_within(WAIT_LIMIT);
        status.unwrap_or_else(|| {
            panic!("child {} (state {:?}) has not ended in {WAIT_LIMIT:?}", self.pid, proc::state(self.pid))
        })
    }

    /// Waits without a timeout, for children that limit themselves.
    pub(crate) fn wait_forever(&mut self) -> i32 {
        while self.status.is_none() {
            self.take(0);
        }
        self.status.unwrap_or_default()
    }

    /// Kills the child with SIGKILL, reaps it, and returns the wait status. Works in any state, including stopped or
    /// traced.
    pub fn kill(&mut self) -> i32 {
        if self.status.is_none() {
            send_signal(self.pid, libc::SIGKILL);
        }
        self.wait()
    }

    /// Calls `waitpid` once. Ignores stops, because the tracer takes them first.
    fn take(&mut self, flags: i32) {
        let mut status = 0;
        // SAFETY: `status` is ours to write.
        let got = unsafe { libc::waitpid(self.pid, &mut status, flags | libc::__WALL) };
        if got == self.pid {
            self.note(status);
        } else if got < 0 {
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::EINTR), "child {} was reaped by another", self.pid);
        }
    }

    /// Stores a status that another caller got from `waitpid`. Returns true if the child has ended.
    pub(crate) fn note(&mut self, status: i32) -> bool {
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            self.status = Some(status);
        }
        self.status.is_some()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A copy of this value in another child must not kill this child.
        if self.status.is_some() || self.maker != std::process::id() {
            return;
        }
        send_signal(self.pid, libc::SIGKILL);
        let mut status = 0;
        // SAFETY: `status` is a valid place. An error means that the child was reaped elsewhere.
        while unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) } == self.pid && !self.note(status)
        {
        }
    }
}

pub(crate) fn send_signal(pid: i32, signal: i32) {
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(pid, signal) };
}

/// Describes a wait status.
pub(crate) fn describe(status: i32) -> String {
    match status {
        _ if libc::WIFSIGNALED(status) => format!("died of signal {}", libc::WTERMSIG(status)),
        _ if libc::WEXITSTATUS(status) == PANIC_CODE => "panicked".to_owned(),
        _ => format!("exited with {}", libc::WEXITSTATUS(status)),
    }
}
