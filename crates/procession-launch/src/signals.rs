//! The state in which this process was started: masks and dispositions of signals, and its standard streams. A program
//! starts with the same signals.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kernel's signals are 1 to 64. The C library hides 32 and 33, so the calls here are the kernel's own.
const SIGNALS: c_int = 64;
pub(crate) const SET_BYTES: usize = 8;

type InitFn = extern "C" fn();

/// Signals that were ignored when this program was started, before Rust's runtime ignored SIGPIPE.
static IGNORED: AtomicU64 = AtomicU64::new(0);
/// Signals that were blocked when this program was started.
static BLOCKED: AtomicU64 = AtomicU64::new(0);
/// Standard streams that were closed when this program was started, before Rust's runtime opened `/dev/null` in their
/// places.
static CLOSED: AtomicU64 = AtomicU64::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: InitFn = note_start;

extern "C" fn note_start() {
    BLOCKED.store(change_mask(libc::SIG_BLOCK, 0), Ordering::Relaxed);
    let ignored = (1..=SIGNALS).filter(|&signal| handler(signal) == libc::SIG_IGN);
    IGNORED.store(ignored.fold(0, |all, signal| all | bit(signal)), Ordering::Relaxed);
    // SAFETY: a plain system call with integers.
    let closed = (0..3).filter(|&stream| unsafe { libc::fcntl(stream, libc::F_GETFD) } < 0);
    CLOSED.store(closed.fold(0, |all, stream| all | 1 << stream), Ordering::Relaxed);
}

pub(crate) fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Returns whether this program was started with a signal ignored, as scripts do for background jobs.
pub fn was_ignored(signal: i32) -> bool {
    // Reading the static also makes sure that the linker keeps it.
    let _kept = ptr::from_ref(&HOOK);
    (1..=SIGNALS).contains(&signal) && IGNORED.load(Ordering::Relaxed) & bit(signal) != 0
}

/// Returns whether this program was started without a standard stream, which has the number 0, 1 or 2.
pub fn was_closed(stream: c_int) -> bool {
    let _kept = ptr::from_ref(&HOOK);
    (0..3).contains(&stream) && CLOSED.load(Ordering::Relaxed) & 1 << stream != 0
}

/// Ignores a signal from now on. Programs that this one starts find it as it was.
pub fn ignore(signal: c_int) {
    set_handler(signal, libc::SIG_IGN);
}

/// Returns the handler of a signal, `SIG_DFL` or `SIG_IGN`.
fn handler(signal: c_int) -> usize {
    let mut action = KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: the kernel fills a struct of its own layout.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<KernelAction>(), &raw mut action, SET_BYTES)
    };
    action.handler
}

/// The kernel's `struct sigaction` on 64-bit machines with `SA_RESTORER`. Only the handler is read and
/// written, and it comes first on every architecture.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// The signal dispositions that a child restores before it executes its program.
#[derive(Debug)]
pub(crate) struct Dispositions {
    /// Signals whose disposition has changed since the start, each with its first disposition. `execve`
    /// resets handlers, but no handler may run in the child before that.
    changed: Vec<(c_int, usize)>,
}

impl Dispositions {
    /// Notes the signals whose disposition has changed.
    pub fn now() -> Dispositions {
        let start = |signal| if was_ignored(signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        let changed = (1..=SIGNALS).filter(|&signal| handler(signal) != start(signal));
        Dispositions { changed: changed.map(|signal| (signal, start(signal))).collect() }
    }

    /// Restores the dispositions. Called in the child, which has its own copy of them.
    pub fn restore(&self) {
        self.changed.iter().for_each(|&(signal, handler)| set_handler(signal, handler));
    }
}

/// Sets the disposition of a signal to `SIG_DFL` or `SIG_IGN`.
pub(crate) fn set_handler(signal: c_int, handler: usize) {
    debug_assert!([libc::SIG_DFL, libc::SIG_IGN].contains(&handler));
    let action = KernelAction { handler, flags: 0, restorer: 0, mask: 0 };
    let before = ptr::null_mut::<KernelAction>();
    // SAFETY: the action is valid and has no handler. For a wrong signal number, the call returns an error.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, before, SET_BYTES) };
}

/// Sets the mask of this thread to the one that this program was started with.
pub(crate) fn restore_mask() {
    change_mask(libc::SIG_SETMASK, BLOCKED.load(Ordering::Relaxed));
}

/// Blocks more signals for this thread.
pub(crate) fn block(set: u64) {
    change_mask(libc::SIG_BLOCK, set);
}

/// Blocks all signals of its thread until it is dropped. Signals that come in the meantime are delivered
/// then.
///
/// A thread must drop these values in the reverse order of their creation.
#[derive(Debug)]
pub struct AllBlocked {
    before: u64,
}

impl AllBlocked {
    /// Blocks all signals for this thread.
    pub fn enter() -> AllBlocked {
        AllBlocked { before: change_mask(libc::SIG_SETMASK, u64::MAX) }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        change_mask(libc::SIG_SETMASK, self.before);
    }
}

/// Changes the mask of this thread and returns the former one.
fn change_mask(how: c_int, set: u64) -> u64 {
    let mut before: u64 = 0;
    const { assert!(size_of::<u64>() == SET_BYTES) };
    // SAFETY: both sets have the size that is passed to the kernel.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut before, SET_BYTES) };
    before
}
