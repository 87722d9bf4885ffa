//! The membership of this process in its family: its arena and its slot.
//!
//! The membership lies in private memory and is set once. Main sets it when it creates its first handle, the
//! supervisor in its hook, and a child when it is forked. A process that the user's code forks is no member,
//! and every call in such a process returns `Forked`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use super::Arena;
use super::objects::SUPERVISOR;
use super::slots::MAIN;
use crate::os::{fd, futex, image, process, signal};
use crate::rules::Rule;
use crate::{Error, Result, rules};

static ARENA: AtomicPtr<Arena> = AtomicPtr::new(std::ptr::null_mut());
static SLOT: AtomicU32 = AtomicU32::new(MAIN);
static FORKED: AtomicBool = AtomicBool::new(false);
/// Set during forks that create members. Only the supervisor forks members.
static FORKING_A_CHILD: AtomicBool = AtomicBool::new(false);
static MEMFD: OnceLock<OwnedFd> = OnceLock::new();
/// The inode of the arena's file.
static INODE: AtomicU64 = AtomicU64::new(0);
/// Main's end of its socket to the supervisor: the descriptor and its inode.
static MAIN_SOCKET: (AtomicI32, AtomicU64) = (AtomicI32::new(-1), AtomicU64::new(0));
static STARTING: Mutex<()> = Mutex::new(());

/// Returns the arena of this process's family. Creates it if there is none yet.
pub(crate) fn arena() -> Result<&'static Arena> {
    match mapped() {
        Some(arena) => Ok(arena),
        None if FORKED.load(Ordering::Relaxed) => Err(Error::Forked),
        None => found(),
    }
}

/// Returns the arena, or `None` if this process has not mapped one.
pub(crate) fn mapped() -> Option<&'static Arena> {
    // ORDERING: Acquire pairs with the Release in `set`.
    // SAFETY: the pointer is null, or points to a leaked box that never changes.
    unsafe { ARENA.load(Ordering::Acquire).as_ref() }
}

/// Returns the slot of this process.
pub(crate) fn slot() -> u32 {
    SLOT.load(Ordering::Relaxed)
}

pub(crate) fn is_main() -> bool {
    slot() == MAIN
}

/// Returns the name of this process.
pub(crate) fn name() -> String {
    mapped().map_or_else(String::new, |arena| arena.process_name(slot()))
}

/// Returns whether the user's code, and not the library, forked this process from a member.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Returns the arena's file, which only main keeps open. Also returns `None` in main if the program has
/// closed the descriptor.
pub(crate) fn memfd() -> Option<BorrowedFd<'static>> {
    let fd = MEMFD.get()?;
    process::inode(fd.as_fd()).is_ok_and(|now| now == memfd_inode()).then(|| fd.as_fd())
}

/// Returns the inode of the arena's file. With this inode, /proc shows which processes map the file.
pub(crate) fn memfd_inode() -> u64 {
    INODE.load(Ordering::Relaxed)
}

/// Set in a process that may be main of a family. Such a process is no helper of a family, or it is a helper
/// of another copy of the library.
static IS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// Notes that this process runs its constructors and then `main`, as any program does.
pub(crate) fn run_as_program() {
    IS_PROGRAM.store(true, Ordering::Relaxed);
}

#[cold]
fn found() -> Result<&'static Arena> {
    // If a constructor of a helper started a family, that family would start a helper with the same
    // constructor, and so on without end.
    if image::is_helper() && !IS_PROGRAM.load(Ordering::Relaxed) {
        return Err(Error::Unsupported(
            "this process is a helper that executes the program a second time, and it still runs constructors (code that runs before `main`); constructors can use this library only in the first process, so move this call into `main`".into(),
        ));
    }
    let _one = STARTING.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(arena) = mapped() {
        return Ok(arena);
    }
    let (arena, fd) = Arena::create()?;
    arena.hide_from_forks().map_err(|e| Error::os("excluding the shared memory from forks", &e))?;
    super::handle::prepare(&arena)?;
    let slot = arena.slot(MAIN);
    slot.pid.store(process::pid(), Ordering::Relaxed);
    slot.state.store(super::slots::RUNNING, Ordering::Release);
    let inode =
        process::inode(fd.as_fd()).map_err(|e| Error::os("reading the inode of the shared memory", &e))?;
    let _ = MEMFD.set(fd);
    watch_forks();
    Ok(set(arena, inode, MAIN))
}

fn set(arena: Arena, inode: u64, slot: u32) -> &'static Arena {
    INODE.store(inode, Ordering::Relaxed);
    SLOT.store(slot, Ordering::Relaxed);
    let arena: &'static Arena = Box::leak(Box::new(arena));
    share_faults(arena);
    ARENA.store(std::ptr::from_ref(arena).cast_mut(), Ordering::Release);
    arena
}

/// Connects this process with the switch by which tests make system calls fail.
#[cfg(feature = "internals")]
fn share_faults(arena: &'static Arena) {
    use crate::os::faults::{Role, share};
    let role = match slot() {
        MAIN => Role::Main,
        SUPERVISOR => Role::Supervisor,
        _ => Role::Child,
    };
    share(Some(&arena.header().faults), role);
}

#[cfg(not(feature = "internals"))]
fn share_faults(_: &'static Arena) {}

/// Makes this process the supervisor of the family that `arena` belongs to.
pub(crate) fn join_as_supervisor(arena: Arena, inode: u64) -> Result<&'static Arena> {
    super::handle::prepare(&arena)?;
    watch_forks();
    Ok(set(arena, inode, SUPERVISOR))
}

/// Makes this process, which has just executed the program, the process of `slot`.
pub(crate) fn join_as_child(arena: Arena, inode: u64, slot: u32) -> Result<&'static Arena> {
    super::handle::prepare(&arena)?;
    watch_forks();
    arena.hide_from_forks().map_err(|e| Error::os("excluding the shared memory from forks", &e))?;
    Ok(set(arena, inode, slot))
}

/// Makes this process, which was just forked, the process of `slot`. Forgets what it inherited from its
/// parent's membership.
pub(crate) fn become_child(slot: u32) {
    // The supervisor has no records, blocks or handles to forget. Only tests fork members from other
    // processes.
    if SLOT.swap(slot, Ordering::Relaxed) != SUPERVISOR {
        super::thread::forget();
        super::heap::forget();
        super::handle::forget();
    }
    if let Some(arena) = mapped() {
        share_faults(arena);
        let _ = arena.hide_from_forks();
    }
}

/// Forks a member of the family. Only the supervisor and the tests call this.
///
/// # Safety
/// As [`process::fork`].
pub(crate) unsafe fn fork() -> std::io::Result<Option<i32>> {
    // Stores only if the value changes, because the kernel has to copy each page that the supervisor writes
    // to between two forks.
    if !FORKING_A_CHILD.load(Ordering::Relaxed) {
        FORKING_A_CHILD.store(true, Ordering::Relaxed);
    }
    // SAFETY: promised by the caller.
    let forked = unsafe { process::fork() };
    if slot() != SUPERVISOR || matches!(forked, Ok(None)) {
        FORKING_A_CHILD.store(false, Ordering::Relaxed);
    }
    forked
}

fn watch_forks() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        process::at_fork_child(in_a_fork);
    });
}

extern "C" fn in_a_fork() {
    if !FORKING_A_CHILD.load(Ordering::Relaxed) {
        FORKED.store(true, Ordering::Relaxed);
        #[cfg(feature = "internals")]
        crate::os::faults::share(None, crate::os::faults::Role::Main);
        if let Some(arena) = mapped() {
            arena.blank();
        }
        ARENA.store(std::ptr::null_mut(), Ordering::Relaxed);
        super::thread::forget_me();
        close_main_socket();
    }
}

/// Registers the socket that main keeps open while it lives. When the socket closes, the supervisor concludes
/// that main has died. So forks of main close their copy.
pub(crate) fn register_main_socket(socket: BorrowedFd<'_>) {
    let inode = process::inode(socket).unwrap_or(0);
    MAIN_SOCKET.0.store(-1, Ordering::Relaxed);
    MAIN_SOCKET.1.store(inode, Ordering::Relaxed);
    MAIN_SOCKET.0.store(socket.as_raw_fd(), Ordering::Release);
}

fn close_main_socket() {
    let number = MAIN_SOCKET.0.swap(-1, Ordering::Acquire);
    // The program may have closed the socket and may have opened another file with the same number.
    let inode = fd::borrow_if_open(number).and_then(|fd| process::inode(fd).ok());
    if number >= 0 && inode == Some(MAIN_SOCKET.1.load(Ordering::Relaxed)) {
        fd::close_raw(number);
    }
}

/// Wakes the supervisor, which then looks in the arena for work. The signal is SIGCHLD, which cannot
/// overflow. A process that lacks the permission to send this signal wakes the supervisor through the guard.
pub(crate) fn wake_supervisor(arena: &Arena) {
    let _ = try_wake_supervisor(arena);
}

/// As [`wake_supervisor`], but returns a result. Works with any credentials.
pub(crate) fn try_wake_supervisor(arena: &Arena) -> std::io::Result<()> {
    signal_supervisor(arena).or_else(|_| {
        // This process cannot send the signal, because it has changed its user or has no descriptor left.
        // CRASH: if this process dies after it has incremented the counter, its death wakes the supervisor.
        if rules::holds(Rule::WakesThroughGuard) {
            arena.header().guard_wakes.fetch_add(1, Ordering::SeqCst);
            futex::wake_all(&arena.header().guard_wakes);
        }
        Ok(())
    })
}

fn signal_supervisor(arena: &Arena) -> std::io::Result<()> {
    let number = &arena.header().supervisor_pid;
    let pid = number.load(Ordering::SeqCst);
    if pid == 0 {
        return Ok(());
    }
    let supervisor = process::pidfd_open(pid as i32)?;
    // The guard clears the process id in the header before the id can name another process. If it was
    // cleared, the supervisor is dead and need not be woken.
    if number.load(Ordering::SeqCst) != pid {
        return Ok(());
    }
    process::pidfd_signal(supervisor.as_fd(), signal::WAKE_SIGNAL)
}
