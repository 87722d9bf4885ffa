//! Executes the program again as a process that the user's `waitpid(-1)` never sees.
//!
//! ```text
//! caller ──clone(VM|VFORK|FILES, exit signal 0)──▶ intermediate ──clone(VM|VFORK|PIDFD)──▶ program
//!    ◀───────────── reaped by number ─────────────── exits           exec of /proc/self/exe
//! ```
//!
//! `exec` resets the exit signal of a process to SIGCHLD, so the user's own `waitpid(-1)` would see a direct
//! child. It does not see an orphan of the intermediate process. Both clones share the caller's memory until
//! the exec, so nothing is copied and the cost does not grow with the caller. The intermediate shares the
//! caller's descriptor table, so the pidfd arrives in the caller.
//!
//! If orphans of the intermediate would become children of the caller, the intermediate does not exit: see
//! `hidden_parent.rs`.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::ptr::{self, NonNull, null};

use super::faults::{self, Call};
use super::hidden_parent::{self, HiddenParent, Progress};
use super::{fd, image, memory, process, signal};

/// A process that executes the program again.
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The process's hidden parent, if it has one.
    pub(crate) parent: Option<HiddenParent>,
}

/// A system call of a launch that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The step that failed, with the name of the call.
    pub(crate) tried: &'static str,
    pub(crate) error: io::Error,
}

const CLONE: &str = "clone of the process that is to execute the program again";
const PREPARE: &str = "preparing the execution of the program";
const STREAMS: &str = "dup2 of the standard streams";
const EXECUTE: &str = "execve of /proc/self/exe";

struct Plan {
    program: &'static CStr,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    stdin: i32,
    /// The descriptor for the new process's stderr, or -1 for the caller's stderr.
    stderr: i32,
    memory: NonNull<u8>,
    /// Set by the intermediate after the new process has executed the program or has exited.
    is_done: bool,
    pid: i32,
    pidfd: i32,
    errno: i32,
    tried: &'static str,
}

impl Plan {
    /// Returns the upper end of stack `n`, which is 1 or 2.
    fn stack_top(&self, n: usize) -> *mut libc::c_void {
        self.memory.as_ptr().wrapping_add(n * STACK).cast()
    }
}

const STACK: usize = 64 << 10;

/// The environment variable that makes the loader look up every symbol when the program starts, instead of at
/// first use in each fork.
pub(crate) const BIND_NOW: &str = "LD_BIND_NOW";

/// Returns whether the loader looks symbols up only when they are first used.
pub(crate) fn binds_lazily() -> bool {
    std::env::var_os(BIND_NOW).is_none()
}

/// Starts `/proc/self/exe` with the caller's arguments and environment, `stdin` as descriptor 0, and `stderr`
/// as descriptor 2. With `bind_now`, adds [`BIND_NOW`] to the environment. No other descriptors are
/// inherited. The new program starts with every signal blocked. If `has_hidden_parent` is true, the new
/// process's parent stays as its hidden parent.
pub(crate) fn launch_self(
    stdin: BorrowedFd<'_>,
    stderr: Option<BorrowedFd<'_>>,
    bind_now: bool,
    has_hidden_parent: bool,
) -> Result<Launched, Refusal> {
    let prepared = || {
        check_pid_namespace()?;
        let (args, mut env) = (arguments()?, environment()?);
        if bind_now {
            env.push(c_string(join(BIND_NOW.into(), "1".into()))?);
        }
        Ok((args, env, memory::map_private(2 * STACK)?))
    };
    let (args, env, memory) = prepared().map_err(|error| Refusal { tried: PREPARE, error })?;
    let mut plan = Plan {
        program: image::AS_SUPERVISOR,
        argv: pointers(&args),
        envp: pointers(&env),
        stdin: stdin.as_raw_fd(),
        stderr: stderr.map_or(-1, |stderr| stderr.as_raw_fd()),
        memory,
        is_done: false,
        pid: 0,
        pidfd: -1,
        errno: 0,
        tried: CLONE,
    };
    let mask = signal::block_all();
    let started = faults::at(Call::Launch).and_then(|()| {
        // SAFETY: all signals are blocked, so no handler runs in the shared memory.
        unsafe {
            if has_hidden_parent { start_hidden_parent(&mut plan) } else { run_intermediate(&mut plan) }
        }
    });
    // SAFETY: the kernel installed the pidfd in the descriptor table that we share with the intermediate.
    let pidfd = (plan.pidfd >= 0).then(|| unsafe { fd::own(plan.pidfd) });
    if started.is_ok() && !plan.is_done {
        // Another process has killed the intermediate. The new process may still use this memory, so this
        // kills the new process.
        pidfd.as_ref().into_iter().for_each(end);
    }
    signal::set_mask(mask);
    if !matches!(started, Ok(Some(_))) {
        // SAFETY: both processes that used the stacks have ended or have executed another program.
        unsafe { memory::unmap(memory, 2 * STACK) };
    }
    let parent = started.map_err(|error| Refusal { tried: CLONE, error })?;
    match pidfd {
        _ if plan.errno != 0 => {
            Err(Refusal { tried: plan.tried, error: io::Error::from_raw_os_error(plan.errno) })
        }
        Some(pidfd) if plan.is_done => watched(plan.pid, pidfd, parent)
            .map_err(|error| Refusal { tried: "dup of the new process's pidfd", error }),
        _ => {
            let error = io::Error::other("another process has killed the one that was to do it");
            Err(Refusal { tried: CLONE, error })
        }
    }
}

/// Runs the plan in a process that exits as soon as the new process has executed the program.
///
/// # Safety
/// All signals are blocked.
unsafe fn run_intermediate(plan: &mut Plan) -> io::Result<Option<HiddenParent>> {
    let (top, flags) = (plan.stack_top(1), libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES);
    // SAFETY: the intermediate runs on its own stack while we are suspended. It shares our memory, in which
    // `plan` stays valid until after the intermediate has exited.
    let pid =
        super::check(unsafe { libc::clone(intermediate, top, flags, ptr::from_mut(plan).cast()) }.into())?;
    process::reap(pid as i32);
    Ok(None)
}

/// Runs the plan in a process that stays the parent of the new process. Gives the memory with the stacks to
/// this parent.
///
/// # Safety
/// All signals are blocked.
unsafe fn start_hidden_parent(plan: &mut Plan) -> io::Result<Option<HiddenParent>> {
    let (memory, top) = ((plan.memory, 2 * STACK), plan.stack_top(1));
    // SAFETY: as in `run_intermediate`, except that we wait instead of being suspended.
    unsafe { HiddenParent::start(lasting_intermediate, ptr::from_mut(plan).cast(), memory, top) }.map(Some)
}

/// Kills a process, and waits until it is dead.
fn end(pidfd: &OwnedFd) {
    let kill = || process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = super::retry_refused(kill, |errno| errno == libc::ESRCH);
    while !fd::poll([pidfd.as_raw_fd()], -1)[0] {}
}

/// Checks that children of the calling thread are in its own pid namespace. The process id of a child in
/// another namespace would name an unrelated process here.
fn check_pid_namespace() -> io::Result<()> {
    let namespace =
        |name| std::fs::metadata(format!("/proc/thread-self/ns/{name}")).ok().map(|file| file.ino());
    match (namespace("pid"), namespace("pid_for_children")) {
        (Some(own), children) if children != Some(own) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the children of this thread would be in another pid namespace than the thread itself (because of unshare or setns), where process ids have another meaning: spawn the first process before that call, or from a program that was started inside the namespace",
        )),
        _ => Ok(()),
    }
}

/// Returns the process with its pidfd moved to a number above 2. If no such descriptor is available, kills
/// the process, because this process could not watch it.
fn watched(pid: i32, pidfd: OwnedFd, parent: Option<HiddenParent>) -> io::Result<Launched> {
    let above = if pidfd.as_raw_fd() > 2 { None } else { Some(fd::above_stdio_too(pidfd.as_fd())) };
    match above.transpose() {
        Ok(above) => Ok(Launched { pid, pidfd: above.unwrap_or(pidfd), parent }),
        Err(e) => {
            end(&pidfd);
            Err(e)
        }
    }
}

/// Executes `/proc/self/exe` in this process, with this process's arguments, environment, and descriptors up
/// to `last`. Returns only if that fails.
pub(crate) fn become_self(last: i32) -> io::Error {
    let execute = || -> io::Result<()> {
        let (args, env) = (arguments()?, environment()?);
        let (argv, envp) = (pointers(&args), pointers(&env));
        super::fd::close_above(last);
        // SAFETY: the arrays are null-terminated, and the C strings in them live until after the call.
        unsafe { libc::execve(image::AS_CHILD.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        Err(io::Error::last_os_error())
    };
    execute().err().unwrap_or_else(|| io::Error::other("executed"))
}

fn c_string(bytes: Vec<u8>) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::other)
}

fn arguments() -> io::Result<Vec<CString>> {
    std::env::args_os().map(|arg| c_string(arg.into_vec())).collect()
}

fn environment() -> io::Result<Vec<CString>> {
    std::env::vars_os().map(|(name, value)| c_string(join(name, value))).collect()
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|s| s.as_ptr()).chain([null()]).collect()
}

fn join(name: OsString, value: OsString) -> Vec<u8> {
    let mut bytes = name.into_vec();
    bytes.push(b'=');
    bytes.extend(value.into_vec());
    bytes
}

/// Runs in the intermediate process: starts the program and exits. It shares the caller's memory, so it
/// changes nothing in it except its plan.
extern "C" fn intermediate(plan: *mut libc::c_void) -> libc::c_int {
    clone_program(plan.cast());
    process::exit_now(0)
}

/// As [`intermediate`], but stays as the hidden parent if the new process was started.
extern "C" fn lasting_intermediate(plan: *mut libc::c_void) -> libc::c_int {
    let plan = plan.cast::<Plan>();
    process::become_subreaper();
    clone_program(plan);
    // SAFETY: the caller waits until `stay` notifies it, and the plan is valid until then. The memory stays
    // mapped longer than this process lives.
    unsafe {
        if (*plan).errno != 0 {
            process::exit_now(0);
        }
        hidden_parent::stay(Progress::at((*plan).memory))
    }
}

fn clone_program(plan: *mut Plan) {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: as in `launch_self`. This process is suspended until `program` executes or exits, and the caller is
    // suspended until this process exits.
    unsafe {
        let stack = (*plan).stack_top(2);
        let pidfd = &raw mut (*plan).pidfd;
        let pid = libc::clone(program, stack, flags, plan.cast(), pidfd);
        (*plan).pid = pid;
        if pid == -1 {
            (*plan).errno = *libc::__errno_location();
        }
        (*plan).is_done = true;
    }
}

/// Runs in the new process until that process executes the program.
extern "C" fn program(plan: *mut libc::c_void) -> libc::c_int {
    let plan = plan.cast::<Plan>();
    // SAFETY: this makes system calls only. `argv` and `envp` are null-terminated arrays of C strings that
    // live in the suspended caller. This process does not share its descriptor table.
    unsafe {
        (*plan).tried = STREAMS;
        let stderr = (*plan).stderr;
        if libc::dup2((*plan).stdin, 0) == 0 && (stderr == -1 || libc::dup2(stderr, 2) == 2) {
            super::fd::close_above(2);
            (*plan).tried = EXECUTE;
            libc::execve((*plan).program.as_ptr(), (*plan).argv.as_ptr(), (*plan).envp.as_ptr());
        }
        (*plan).errno = *libc::__errno_location();
        libc::_exit(127)
    }
}
