//! The threads of this process, and those that the library adds.

use std::ffi::c_char;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};

use super::faults::{self, Call};
use super::signal;

/// The number of threads in this process that belong to the library and run no user code.
static OWN: AtomicU32 = AtomicU32::new(0);

/// Points to the C library's flag that says that the process never had a second thread. Null until
/// [`find_flag`] has found the flag.
static NEVER_HAD_ANOTHER: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Finds the C library's flag and stores its address, for this process and its forks.
pub(crate) fn find_flag() {
    // SAFETY: the name is a C string. If the C library has no such symbol (before glibc 2.32, or in another C
    // library), the result is null.
    let flag = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
    NEVER_HAD_ANOTHER.store(flag.cast(), Ordering::Relaxed);
}

/// Returns whether the calling thread is the only thread of its process. Returns false if that cannot be determined.
pub(crate) fn is_alone() -> bool {
    let flag = NEVER_HAD_ANOTHER.load(Ordering::Relaxed);
    // SAFETY: the pointer is null, or it points to a byte of the C library, which is never unloaded. The C
    // library writes to this byte when the process starts its second thread. No other thread can be doing
    // that now, because it would itself already be the second thread.
    let never_had_another = !flag.is_null() && unsafe { flag.read_volatile() } != 0;
    never_had_another || count() == Some(1)
}

/// Returns whether the process has threads other than the calling thread and the library's own threads.
/// Returns true if that cannot be determined.
pub(crate) fn are_others() -> bool {
    count() != Some(1 + OWN.load(Ordering::SeqCst))
}

/// While this value exists, the calling thread counts as one of the library's own threads. The thread must
/// not run user code.
pub(crate) struct Own(());

impl Own {
    pub(crate) fn begin() -> Own {
        OWN.fetch_add(1, Ordering::SeqCst);
        Own(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The kernel still counts the thread for a moment. So the error is in the safe direction: no other
        // thread is missed.
        OWN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the number of threads that the kernel counts. The kernel may still count a thread for a moment
/// after it was joined.
fn count() -> Option<u32> {
    // SAFETY: an all-zero `stat` is valid and the path is a C string.
    let links = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        super::check(libc::stat(c"/proc/self/task".as_ptr(), &mut stat).into()).ok()?;
        stat.st_nlink
    };
    // The directory has one link for each thread, one for itself, and one from its parent.
    u32::try_from(links).ok()?.checked_sub(2)
}

/// Starts a thread that blocks all signals, because signals are meant for the program's own threads. Its
/// stack has the usual size of a Rust thread's stack (`RUST_MIN_STACK`, or 2 MiB), because the thread may run
/// user code.
pub(crate) fn start(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    faults::at(Call::StartThread)?;
    let mask = signal::block_all();
    let started = Builder::new().name(name.into()).spawn(f);
    signal::set_mask(mask);
    started
}
