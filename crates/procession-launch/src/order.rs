//! [`Order`]: the program to start; and the child's half of starting it.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::signals::{self, Dispositions};

/// A program to start.
#[derive(Debug)]
pub struct Order<'a> {
    /// The path of the program. `PATH` is not searched.
    pub program: &'a CStr,
    /// The program's arguments. The first is its name.
    pub arguments: &'a [CString],
    /// The program's whole environment, as `NAME=value`.
    pub environment: &'a [&'a CStr],
    /// The program's working directory, if it differs from that of this process.
    pub directory: Option<&'a CStr>,
    /// Standard input, output and error. Each descriptor is above 2, or is this process's standard stream
    /// with the same number.
    pub streams: [BorrowedFd<'a>; 3],
    /// The terminal whose foreground the program gets. This must be the controlling terminal of this process.
    pub terminal: Option<BorrowedFd<'a>>,
    /// The increment of the program's nice value.
    pub nice: c_int,
    /// The soft limit of the program's open files, if it differs from that of this process.
    pub open_files: Option<u64>,
}

/// The step at which starting a program failed, and the error.
#[derive(Debug)]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// The error of that step.
    pub error: io::Error,
}

/// The steps of starting a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no room for a process.
    Clone,
    /// The terminal was not given away.
    Terminal,
    /// A standard stream was not set.
    Streams,
    /// The nice value was refused.
    Nice,
    /// The working directory cannot be entered.
    Directory,
    /// The program cannot be executed.
    Execute,
}

/// The child's instructions. They are in the parent's memory, which parent and child share until the child
/// executes its program.
pub(crate) struct Task<'a> {
    pub order: &'a Order<'a>,
    /// `/bin/sh`, the program's arguments, and a null.
    pub arguments: &'a [Cell<*const c_char>],
    pub environment: &'a [*const c_char],
    pub dispositions: &'a Dispositions,
    pub parent: i32,
    /// Written by the child. The parent reads it when it runs again.
    pub failure: Cell<Option<(Step, i32)>>,
}

/// Executes the program, or stores the failed step and exits.
pub(crate) extern "C" fn run(task: *mut c_void) -> c_int {
    // SAFETY: `clone_child` passes a `Task` that lives while its thread is suspended. No other thread uses it.
    let task = unsafe { &*task.cast::<Task<'_>>() };
    let step = task.order.prepare(task).err().unwrap_or_else(|| task.execute());
    task.failure.set(Some((step, errno())));
    // SAFETY: `_exit` runs none of the parent's code.
    unsafe { libc::_exit(127) }
}

impl Order<'_> {
    fn prepare(&self, task: &Task<'_>) -> Result<(), Step> {
        // SAFETY: plain system calls with integers.
        unsafe {
            libc::setpgid(0, 0);
            if let Some(terminal) = self.terminal {
                check(libc::tcsetpgrp(terminal.as_raw_fd(), libc::getpid()), Step::Terminal)?;
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // CRASH: if the parent died before the line above, the kernel sends no signal. The child notices
            // that here and ends.
            if libc::getppid() != task.parent {
                libc::_exit(127);
            }
        }
        (0..).zip(&self.streams).try_for_each(|(place, stream)| set_stream(place, stream.as_raw_fd()))?;
        self.set_limits()?;
        if let Some(directory) = self.directory {
            // SAFETY: the string lives in the parent, which is suspended.
            check(unsafe { libc::chdir(directory.as_ptr()) }, Step::Directory)?;
        }
        task.dispositions.restore();
        signals::restore_mask();
        Ok(())
    }

    fn set_limits(&self) -> Result<(), Step> {
        // SAFETY: plain system calls with integers or a local struct.
        unsafe {
            if self.nice != 0 {
                let now = libc::getpriority(libc::PRIO_PROCESS, 0);
                check(libc::setpriority(libc::PRIO_PROCESS, 0, now + self.nice), Step::Nice)?;
            }
            if let Some(open_files) = self.open_files {
                let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
                limit.rlim_cur = open_files;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            }
        }
        Ok(())
    }
}

impl Task<'_> {
    /// Returns only if the program cannot be executed. A script without an interpreter is run by the shell, as
    /// `execvp` does.
    fn execute(&self) -> Step {
        let program = self.order.program.as_ptr();
        // SAFETY: both lists end with a null, and their strings live in the parent, which is suspended. A cell has the
        // layout of its content.
        unsafe { libc::execve(program, self.arguments[1..].as_ptr().cast(), self.environment.as_ptr()) };
        if errno() == libc::ENOEXEC {
            self.execute_by_shell(program);
            set_errno(libc::ENOEXEC);
        }
        Step::Execute
    }

    fn execute_by_shell(&self, program: *const c_char) {
        let shell = self.arguments[0].get();
        // The place of the program's name. A program without a name has a null here, which must stay the last word.
        if !self.arguments[1].get().is_null() {
            self.arguments[1].set(program);
        }
        // SAFETY: as in `execute`. A cell has the layout of its content.
        unsafe { libc::execve(shell, self.arguments.as_ptr().cast(), self.environment.as_ptr()) };
    }
}

fn set_stream(place: c_int, from: c_int) -> Result<(), Step> {
    // SAFETY: plain system calls with integers.
    let done = unsafe {
        // `dup2` to the same number does nothing, so `execve` would close the descriptor.
        if place == from { libc::fcntl(place, libc::F_SETFD, 0) } else { libc::dup2(from, place) }
    };
    check(done, Step::Streams)
}

fn check(done: c_int, step: Step) -> Result<(), Step> {
    if done < 0 { Err(step) } else { Ok(()) }
}

fn errno() -> i32 {
    // SAFETY: the address of this thread's error number is always valid.
    unsafe { *libc::__errno_location() }
}

fn set_errno(number: i32) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = number };
}
