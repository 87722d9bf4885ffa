//! Reports of how a process dies, by its own signal handlers: that a stack has overflowed, that memory was
//! refused.

use std::alloc::handle_alloc_error;
use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use super::{memory, process};

thread_local! {
    /// The lowest address of the calling thread's stack; 0 where that is not known.
    static STACK_LOW: Cell<usize> = const { Cell::new(0) };
    static GUARDED: Cell<Option<AlternateStack>> = const { Cell::new(None) };
}

/// How far below the stack a fault still counts as an overflow of it.
const GUARD_BYTES: usize = 1 << 20;
const ALTERNATE_STACK: usize = 64 << 10;

/// Whom the handlers tell: that a stack has overflowed, and that the process aborts.
static REPORTS: OnceLock<Reports> = OnceLock::new();

struct Reports {
    overflowed: fn(),
    aborts: fn(bool),
}

/// Installs the handlers that tell a stack overflow from another fault, and why the process aborts: `aborts`
/// hears whether it is because memory was refused. Both are called by signal handlers.
/// Rust's runtime does the first in `main`, which a forked child never entered.
pub(crate) fn report(overflowed: fn(), aborts: fn(bool)) {
    let _ = REPORTS.set(Reports { overflowed, aborts });
    // The first thread keeps its stack to the end: nothing is to be done there for each process.
    std::mem::forget(AlternateStack::new());
    STACK_LOW.set(stack_low());
    install(libc::SIGSEGV, on_fault);
    install(libc::SIGBUS, on_fault);
    install(libc::SIGABRT, on_abort);
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// Installs a handler in the place of the default; where there is something else, it stays.
fn install(signal: i32, handler: Handler) {
    // SAFETY: the places are valid; the handlers are async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        if action.sa_sigaction == libc::SIG_DFL || signal != libc::SIGABRT {
            action.sa_sigaction = handler as usize;
            // An abort is looked into on the stack that it happens on.
            let stack = if signal == libc::SIGABRT { 0 } else { libc::SA_ONSTACK };
            action.sa_flags = libc::SA_SIGINFO | stack;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Gives the calling thread a stack on which signals are handled, for when its own has overflowed. It is given
/// back when the thread ends.
pub(crate) fn guard_this_thread() {
    if STACK_LOW.get() != 0 {
        return;
    }
    let Some(stack) = AlternateStack::new() else { return };
    STACK_LOW.set(stack_low());
    // A thread in its last moments keeps it.
    let _ = GUARDED.try_with(|guarded| guarded.set(Some(stack)));
}

struct AlternateStack(NonNull<u8>);

impl AlternateStack {
    fn new() -> Option<AlternateStack> {
        let stack = memory::map_private(ALTERNATE_STACK).ok()?;
        let alt = libc::stack_t { ss_sp: stack.as_ptr().cast(), ss_flags: 0, ss_size: ALTERNATE_STACK };
        // SAFETY: the range is ours, and stays until it is no longer the thread's alternate stack.
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
        // SAFETY: nobody handles a signal on the stack while this runs on another one.
        unsafe {
            if libc::sigaltstack(&none, std::ptr::null_mut()) == 0 {
                memory::unmap(self.0, ALTERNATE_STACK);
            }
        }
    }
}

fn stack_low() -> usize {
    // SAFETY: the attributes are initialised by the call before they are read.
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
    // SAFETY: the kernel gives a valid siginfo for SIGSEGV and SIGBUS.
    let at = unsafe { (*info).si_addr() } as usize;
    let low = STACK_LOW.get();
    if low != 0 && (low.saturating_sub(GUARD_BYTES)..low + GUARD_BYTES).contains(&at) {
        process::write_raw(2, b"\na process has overflowed its stack\n");
        if let Some(reports) = REPORTS.get() {
            (reports.overflowed)();
        }
    }
    // SAFETY: with the default disposition back, the faulting instruction runs again and kills us
    // with the signal that a debugger and a core dump expect.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

extern "C" fn on_abort(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // What the allocator set is still there, unless a backtrace was printed in between.
    let error = io::Error::last_os_error().raw_os_error();
    // SAFETY: the kernel gives a valid siginfo, and fills in the sender of a signal that somebody sent.
    let itself = unsafe { (*info).si_code <= 0 && (*info).si_pid() == process::pid() };
    if itself && let Some(reports) = REPORTS.get() {
        let function = handle_alloc_error as fn(_) -> _ as usize;
        (reports.aborts)(error == Some(libc::ENOMEM) || is_being_called(function));
    }
    // SAFETY: with the default disposition back, the signal kills us when this returns, whoever sent it.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Whether the function at this address, which is a short one, has been called and has not returned: a place
/// in it stands on the calling thread's stack as one to return to.
fn is_being_called(function: usize) -> bool {
    const WORDS: usize = 64;
    /// As far as this: what the kernel put there for the handler may take some KiB.
    const REACH: usize = 32 << 10;
    /// The call is among the function's first bytes.
    const SHORT: usize = 64;
    let mut words = [0usize; WORDS];
    let here = (&raw const words).addr() + size_of_val(&words);
    for at in (here..here + REACH).step_by(size_of_val(&words)) {
        let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
        let remote = libc::iovec { iov_base: at as *mut _, iov_len: size_of_val(&words) };
        // SAFETY: the kernel writes to `words` what it can read; the end of the stack is no fault.
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
