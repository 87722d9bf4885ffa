//! Signal handlers that report why the process dies: a stack overflow, or a failed allocation.

use std::alloc::handle_alloc_error;
use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use super::{memory, process};

thread_local! {
    /// The lowest address of the calling thread's stack, or 0 if it is not known.
    static STACK_LOW: Cell<usize> = const { Cell::new(0) };
    static GUARDED: Cell<Option<AlternateStack>> = const { Cell::new(None) };
}

/// A fault at most this far below the stack counts as a stack overflow.
const GUARD_BYTES: usize = 1 << 20;
const ALTERNATE_STACK: usize = 64 << 10;

/// The functions that the handlers call.
static REPORTS: OnceLock<Reports> = OnceLock::new();

struct Reports {
    overflowed: fn(),
    aborts: fn(bool),
}

/// Installs handlers for fatal signals. They call `overflowed` if the stack has overflowed. When the process
/// aborts, they call `aborts` with whether an allocation failed. Both run in signal handlers. Rust's runtime
/// detects overflows only in a process that runs `main`, and a forked child does not run it.
pub(crate) fn report(overflowed: fn(), aborts: fn(bool)) {
    let _ = REPORTS.set(Reports { overflowed, aborts });
    // The first thread keeps its alternate stack until the process ends.
    std::mem::forget(AlternateStack::new());
    STACK_LOW.set(stack_low());
    install(libc::SIGSEGV, on_fault);
    install(libc::SIGBUS, on_fault);
    install(libc::SIGABRT, on_abort);
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// Installs a handler. If SIGABRT already has another handler, keeps that one.
fn install(signal: i32, handler: Handler) {
    // SAFETY: the pointers are valid, and the handlers are async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        if action.sa_sigaction == libc::SIG_DFL || signal != libc::SIGABRT {
            action.sa_sigaction = handler as usize;
            // The abort handler examines the stack on which the signal was raised, so it runs on that stack.
            let stack = if signal == libc::SIGABRT { 0 } else { libc::SA_ONSTACK };
            action.sa_flags = libc::SA_SIGINFO | stack;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Adds an alternate stack to the calling thread. Signal handlers run on it after the thread's own stack has
/// overflowed. It is freed when the thread ends.
pub(crate) fn add_alternate_stack() {
    if STACK_LOW.get() != 0 {
        return;
    }
    let Some(stack) = AlternateStack::new() else { return };
    STACK_LOW.set(stack_low());
    // A thread that is already ending keeps its alternate stack.
    let _ = GUARDED.try_with(|guarded| guarded.set(Some(stack)));
}

struct AlternateStack(NonNull<u8>);

impl AlternateStack {
    fn new() -> Option<AlternateStack> {
        let stack = memory::map_private(ALTERNATE_STACK).ok()?;
        let alt = libc::stack_t { ss_sp: stack.as_ptr().cast(), ss_flags: 0, ss_size: ALTERNATE_STACK };
        // SAFETY: the range is ours, and it stays mapped as long as it is the thread's alternate stack.
        unsafe { libc::sigaltstack(&alt, std::ptr::null_mut()) };
        Some(AlternateStack(stack))
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        let none = libc::stack_t {
            ss_sp: std::ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: ALTERNATE_STACK,
        };
        // SAFETY: no handler runs on the alternate stack, because this code runs on another stack.
        unsafe {
            if libc::sigaltstack(&none, std::ptr::null_mut()) == 0 {
                memory::unmap(self.0, ALTERNATE_STACK);
            }
        }
    }
}

fn stack_low() -> usize {
    // SAFETY: the call initialises the attributes before they are read.
    unsafe {
        let mut attr: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attr) != 0 {
            return 0;
        }
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        libc::pthread_attr_getstack(&attr, &mut low, &mut size);
        libc::pthread_attr_destroy(&mut attr);
        low as usize
    }
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo for SIGSEGV and SIGBUS.
    let at = unsafe { (*info).si_addr() } as usize;
    let low = STACK_LOW.get();
    if low != 0 && (low.saturating_sub(GUARD_BYTES)..low + GUARD_BYTES).contains(&at) {
        process::write_raw(2, b"\na process has overflowed its stack\n");
        if let Some(reports) = REPORTS.get() {
            (reports.overflowed)();
        }
    }
    // SAFETY: with the default disposition, the faulting instruction runs again. It kills the process by the
    // signal that a debugger and a core dump expect.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

extern "C" fn on_abort(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // `errno` is still the one from the failed allocation, unless a backtrace was printed in between.
    let error = io::Error::last_os_error().raw_os_error();
    // SAFETY: the kernel passes a valid siginfo. If a process sent the signal, the siginfo names the sender.
    let itself = unsafe { (*info).si_code <= 0 && (*info).si_pid() == process::pid() };
    if itself && let Some(reports) = REPORTS.get() {
        let function = handle_alloc_error as fn(_) -> _ as usize;
        (reports.aborts)(error == Some(libc::ENOMEM) || is_being_called(function));
    }
    // SAFETY: with the default disposition, the signal kills the process when this handler returns, no matter
    // which process sent the signal.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Returns whether the calling thread is inside a call of the short function at this address. If so, the
/// thread's stack contains a return address within the function.
fn is_being_called(function: usize) -> bool {
    const WORDS: usize = 64;
    /// How many bytes of the stack are searched. The kernel's data for the handler may take some KiB of them.
    const REACH: usize = 32 << 10;
    /// The call instruction of the function lies within this many bytes of its start.
    const SHORT: usize = 64;
    let mut words = [0usize; WORDS];
    let here = (&raw const words).addr() + size_of_val(&words);
    for at in (here..here + REACH).step_by(size_of_val(&words)) {
        let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
        let remote = libc::iovec { iov_base: at as *mut _, iov_len: size_of_val(&words) };
        // SAFETY: the kernel copies to `words` what it can read. Reading beyond the end of the stack does not
        // fault.
        let read = unsafe { libc::process_vm_readv(process::pid(), &local, 1, &remote, 1, 0) };
        let read = usize::try_from(read).unwrap_or(0) / size_of::<usize>();
        if words[..read].iter().any(|&word| word > function && word <= function + SHORT) {
            return true;
        }
        if read < WORDS {
            break;
        }
    }
    false
}
