//! Processes: forking, identity, waiting, killing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::faults::{self, Call};
use super::{check, procfs, retry_refused};

pub(crate) use super::children::{
    Children, adopted, has_children, is_child, next_ended, next_stop, reap, reap_if_ended,
};

/// How a process ended, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Signaled { signal: i32, core: bool },
}

/// Forks. Returns `None` in the child.
///
/// # Safety
/// The calling process has one thread, or the child calls only what is safe after a fork.
pub(crate) unsafe fn fork() -> io::Result<Option<i32>> {
    faults::at(Call::Fork)?;
    // SAFETY: promised by the caller.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

pub(crate) fn pid() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::getpid() }
}

pub(crate) fn parent_pid() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::getppid() }
}

/// Returns the process group of this process.
pub(crate) fn group() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::getpgrp() }
}

/// Returns the kernel's id of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Returns whether the process with this id has no thread that still runs. This is true for a zombie.
pub(crate) fn is_dead(pid: i32) -> bool {
    if kill(pid, 0).is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH)) {
        return true;
    }
    // A pidfd becomes readable when the last thread has ended.
    if let Ok(fd) = pidfd_open(pid) {
        return super::fd::poll([fd.as_raw_fd()], 0)[0];
    }
    procfs::directory(pid).and_then(|at| procfs::text(at.join("stat"))).is_some_and(|stat| {
        // The name in parentheses may contain any characters. The state is only that of the first thread, so
        // this also checks the number of threads.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
        matches!(fields.first(), Some(&("Z" | "X"))) && matches!(fields.get(17), Some(&("0" | "1")))
    })
}

/// Returns whether a process is stopped, by a signal or by a debugger.
pub(crate) fn is_stopped(pid: i32) -> bool {
    procfs::directory(pid)
        .and_then(|at| procfs::text(at.join("stat")))
        .is_some_and(|stat| stat.rsplit(')').next().unwrap_or("").trim_start().starts_with(['T', 't']))
}

/// Returns whether a process is in the same network namespace as this process. Returns `None` if that cannot
/// be determined, for example because the process is exiting.
pub(crate) fn shares_network_with(pid: i32) -> Option<bool> {
    let network = |process: &std::path::Path| std::fs::read_link(process.join("ns/net")).ok();
    Some(network("/proc/self".as_ref())? == network(&procfs::directory(pid)?)?)
}

/// Returns whether a descriptor is a pidfd.
pub(crate) fn is_pidfd(fd: BorrowedFd<'_>) -> bool {
    pidfd_signal(fd, 0).map_or_else(|e| e.raw_os_error() != Some(libc::EBADF), |()| true)
}

/// Returns whether a thread with this id belongs to this process.
pub(crate) fn is_own_thread(thread: i32) -> bool {
    // SAFETY: a plain call. Signal 0 only checks whether the thread exists.
    unsafe { libc::syscall(libc::SYS_tgkill, pid(), thread, 0) == 0 }
}

pub(crate) fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// Ends this process immediately, without running exit handlers and without flushing streams.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Returns a descriptor that refers to the process `pid`, even if another process gets the same id later.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    faults::at(Call::OpenPidfd)?;
    // SAFETY: a plain call that returns a new descriptor (CLOEXEC), which we own.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::syscall(libc::SYS_pidfd_open, pid, 0))? as RawFd) };
    super::fd::above_stdio(fd)
}

/// Sends a signal to the process behind a pidfd.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    faults::at(Call::SignalPidfd)?;
    // SAFETY: a plain call. With a null siginfo, the kernel fills it as `kill` does.
    let ret = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
    };
    check(ret).map(drop)
}

/// Sends a signal by process id. The id can name another process once the first one was reaped. So this is
/// only for processes that cannot be reaped during the call.
fn kill(pid: i32, signal: i32) -> io::Result<()> {
    faults::at(Call::Kill)?;
    // SAFETY: a plain call.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sends a signal to this process.
pub(crate) fn signal_self(signal: i32) {
    let _ = retry_refused(|| kill(pid(), signal), |_| false);
}

/// Sends a signal to a child of this process. Only for a process in which no other thread reaps children, so
/// that the id still belongs to the child when the signal is sent.
pub(crate) fn signal_child(pid: i32, signal: i32) -> io::Result<()> {
    if is_child(pid)? { kill(pid, signal) } else { Ok(()) }
}

/// Continues the parent of this process.
pub(crate) fn resume_parent() {
    let number = parent_pid();
    if let Ok(parent) = pidfd_open(number)
        // If the parent's id is still the same, the parent has not ended in between, and the pidfd refers to
        // it.
        && parent_pid() == number
    {
        let _ = pidfd_signal(std::os::fd::AsFd::as_fd(&parent), libc::SIGCONT);
    }
}

/// Asks the kernel to send `signal` to this process when the thread that forked it ends.
pub(crate) fn die_with_parent(signal: i32) {
    // SAFETY: a plain call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

/// Makes this process adopt the orphans of its descendants.
pub(crate) fn become_subreaper() {
    // SAFETY: a plain call.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Returns whether orphans among this process's descendants become its children.
pub(crate) fn adopts_orphans() -> bool {
    let mut is_subreaper: libc::c_int = 0;
    // SAFETY: the place is valid.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_subreaper) };
    is_subreaper != 0 || pid() == 1
}

/// Sets the short name that `ps` and `top` show. The kernel cuts it to 15 bytes.
pub(crate) fn set_title(name: &[u8]) {
    let mut buf = [0u8; 16];
    let len = name.len().min(15);
    buf[..len].copy_from_slice(&name[..len]);
    // SAFETY: `buf` is a NUL-terminated string of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, buf.as_ptr()) };
}

/// Returns the identity of the working directory: device and inode.
pub(crate) fn cwd_identity() -> io::Result<(u64, u64)> {
    faults::at(Call::Stat)?;
    // SAFETY: an all-zero `stat` is valid and the path is a C string.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::stat(c".".as_ptr(), &mut stat).into())?;
        Ok((stat.st_dev, stat.st_ino))
    }
}

/// Returns whether this process can reach its working directory by this path.
pub(crate) fn is_path_of_cwd(path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let named = std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
    named.is_ok_and(|named| cwd_identity().is_ok_and(|cwd| cwd == named))
}

/// Returns the error of a call that the kernel or a filter forbids, and that this library needs later, when an error
/// would come too late.
pub(crate) fn forbidden_call() -> Option<(&'static str, io::Error)> {
    if let Ok(own) = pidfd_open(pid())
        && let Err(e) = pidfd_signal(own.as_fd(), 0)
        && e.raw_os_error() == Some(libc::ENOSYS)
    {
        return Some(("pidfd_send_signal", e));
    }
    // SAFETY: a null place for the result is valid. This process is not its own child.
    let wait =
        check(unsafe { libc::waitid(libc::P_PID, pid() as u32, std::ptr::null_mut(), libc::WEXITED) }.into());
    match wait {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Some(("waitid", e)),
        _ => None,
    }
}

/// Returns a path by which any process can reach the working directory of this process, even if the directory
/// itself has no path. The returned path is valid while this process lives.
pub(crate) fn cwd_in_proc() -> Option<std::path::PathBuf> {
    procfs::directory(pid()).map(|at| at.join("cwd"))
}

/// Registers `f` to be called when the process exits. `f` runs after all handlers that are registered later.
pub(crate) fn at_exit(f: extern "C" fn()) -> bool {
    // SAFETY: `f` is a function of this executable, which is never unloaded.
    unsafe { libc::atexit(f) == 0 }
}

/// Registers `f` to be called in the child of every `fork` of this process.
pub(crate) fn at_fork_child(f: extern "C" fn()) -> bool {
    // SAFETY: as in `at_exit`. The handler touches only private memory.
    unsafe { libc::pthread_atfork(None, None, Some(f)) == 0 }
}

/// Flushes C's standard streams.
pub(crate) fn flush_c_streams() {
    // SAFETY: a null stream means all streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Writes to a descriptor without a buffer or lock. Safe in a signal handler.
pub(crate) fn write_raw(fd: RawFd, bytes: &[u8]) {
    // SAFETY: `bytes` is a valid buffer of that length.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Writes to a descriptor that other processes also write to. Writes nothing if the write would block.
pub(crate) fn write_without_waiting(fd: RawFd, bytes: &[u8]) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: system calls only. The buffer, the path and `stat` live until after the calls, and an all-zero
    // `stat` is valid.
    unsafe {
        if libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) >= 0
            || io::Error::last_os_error().raw_os_error() != Some(libc::ENOTSOCK)
        {
            return;
        }
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG {
            return write_raw(fd, bytes);
        }
        // The descriptor is a pipe or a terminal. It is opened a second time, because setting O_NONBLOCK on
        // `fd` would affect every descriptor of the same open file.
        let Ok(path) = std::ffi::CString::new(format!("/proc/self/fd/{fd}")) else { return };
        let own =
            libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
        if own >= 0 {
            write_raw(own, bytes);
            libc::close(own);
        }
    }
}

/// Returns whether `pid` maps the anonymous file `name` with this inode. If it does, it is a process of this
/// family and not another process that was given the same id. Returns `None` if that cannot be determined.
pub(crate) fn maps_memfd(pid: i32, name: &str, inode: u64) -> Option<bool> {
    let (name, inode) = (format!("/memfd:{name}"), format!(" {inode} "));
    // An exiting process has no mappings.
    let list = || procfs::text(procfs::directory(pid)?.join("maps")).filter(|maps| !maps.is_empty());
    if list()?.lines().any(|line| line.contains(&name) && line.contains(&inode)) {
        return Some(true);
    }
    // The kernel produces the list in pieces, and the list breaks off if the process ends meanwhile. In that
    // case, a second list is empty.
    list().map(|_| false)
}

/// Returns the inode of the file behind a descriptor.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    faults::at(Call::Stat)?;
    // SAFETY: an all-zero `stat` is valid and `fd` is open.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstat(fd.as_raw_fd(), &mut stat).into())?;
        Ok(stat.st_ino)
    }
}
