//! Signals reach a program as this process found them.

use std::ffi::c_int;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kernel's signals are 1 to 64. The C library hides 32 and 33, so the calls here are the kernel's own.
const SIGNALS: c_int = 64;
const SET_BYTES: usize = 8;

type InitFn = extern "C" fn();

/// Signals that were ignored when this program was started, before Rust's runtime ignored SIGPIPE.
static IGNORED: AtomicU64 = AtomicU64::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: InitFn = note_ignored;

extern "C" fn note_ignored() {
    let ignored = (1..=SIGNALS).filter(|&signal| handler(signal) == libc::SIG_IGN);
    IGNORED.store(ignored.fold(0, |all, signal| all | bit(signal)), Ordering::Relaxed);
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Whether this program was started with a signal ignored. Background jobs of scripts and `nohup` do that.
pub fn was_ignored(signal: i32) -> bool {
    // Reading the static also makes sure that the linker keeps it.
    let _kept = ptr::from_ref(&HOOK);
    (1..=SIGNALS).contains(&signal) && IGNORED.load(Ordering::Relaxed) & bit(signal) != 0
}

/// The handler of a signal, `SIG_DFL` or `SIG_IGN`.
fn handler(signal: c_int) -> usize {
    let mut action = KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: the kernel fills a struct of its own layout.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<KernelAction>(), &raw mut action, SET_BYTES)
    };
    action.handler
}

/// The kernel's `struct sigaction` on 64-bit machines with `SA_RESTORER`. Only the handler is read and written, and
/// it comes first everywhere.
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
    /// Signals whose disposition is another than at the start, and what it was. `execve` would reset handlers, but
    /// none must run in the child before.
    changed: Vec<(c_int, usize)>,
}

impl Dispositions {
    /// Notes the signals whose disposition has changed.
    pub fn now() -> Dispositions {
        let start = |signal| if was_ignored(signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        let changed = (1..=SIGNALS).filter(|&signal| handler(signal) != start(signal));
        Dispositions { changed: changed.map(|signal| (signal, start(signal))).collect() }
    }

    /// Called in the child, whose dispositions are its own.
    pub fn restore(&self) {
        for &(signal, handler) in &self.changed {
            let action = KernelAction { handler, flags: 0, restorer: 0, mask: 0 };
            // SAFETY: a valid action for an existing signal. It changes this process only.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    &raw const action,
                    ptr::null_mut::<KernelAction>(),
                    SET_BYTES,
                )
            };
        }
    }
}

/// While this lives, its thread gets no signal. What comes meanwhile is delivered when it is dropped.
///
/// A thread must drop them in the opposite order of their creation.
#[derive(Debug)]
pub struct AllBlocked {
    before: u64,
}

impl AllBlocked {
    /// Blocks all signals for this thread.
    pub fn enter() -> AllBlocked {
        AllBlocked { before: set_mask(u64::MAX) }
    }

    /// Sets the child's mask to the one that its parent will have again.
    pub(crate) fn restore_in_child(&self) {
        set_mask(self.before);
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}

fn set_mask(mask: u64) -> u64 {
    let mut before: u64 = 0;
    debug_assert_eq!(mem::size_of_val(&mask), SET_BYTES);
    // SAFETY: both sets have the size that the kernel is told.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            SET_BYTES,
        )
    };
    before
}
