//! The hidden parent: a parent for the launched process. The user's `waitpid(-1)` never sees it.
//!
//! If main is a subreaper, or the first process in a pid namespace, then orphans among its descendants become
//! its children. In such a main, `waitpid(-1)` would find the launched process and wait as long as the family
//! lives. So the launched process's parent stays:
//!
//! ```text
//! main ──clone(VM, exit signal 0)──▶ hidden parent ──clone──▶ program
//! ```
//!
//! Only a wait with `__WALL` or `__WCLONE` finds a child with exit signal 0. The hidden parent is a
//! subreaper, so it adopts whatever processes the program leaves behind. It ends when it has no child left,
//! and main reaps it by its process id.
//!
//! The hidden parent shares main's memory, because with a copy, every page that main changes would exist
//! twice. So once main runs again, the hidden parent uses nothing of the C library: the library's
//! thread-local data there belong to the thread that launched it. The hidden parent has its own stack, no
//! descriptors, and all signals blocked. It keeps the rights that main had, and code that can write to main's
//! memory must not gain these rights. So a filter refuses every system call that the hidden parent does not
//! need.

use std::arch::asm;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::clock::Deadline;
use super::{check, futex, memory, process};
use crate::rules::{self, Rule};

/// The name of the hidden parent in `ps`.
const TITLE: &std::ffi::CStr = c"procession-par";

/// A process that stays the parent of the process that it has launched.
#[derive(Debug)]
pub(crate) struct HiddenParent {
    pid: i32,
    memory: NonNull<u8>,
    len: usize,
}

// SAFETY: only the hidden parent uses the memory, and the memory is unmapped after the hidden parent has
// ended.
unsafe impl Send for HiddenParent {}

/// How far the hidden parent has come: the first word of its memory, a futex word. The kernel stores 0 when
/// the hidden parent ends.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Progress(AtomicU32);

const LAUNCHING: u32 = 1;
const LAUNCHED: u32 = 2;

/// Returns whether the launched process needs a hidden parent and can have one. It needs one if orphans
/// become children of this process. It can have one if the library supports this processor and the kernel has
/// the necessary system call.
pub(crate) fn is_needed() -> bool {
    // SAFETY: no descriptor is closed, because the first number is above the last.
    process::adopts_orphans()
        && IS_SUPPORTED
        && rules::holds(Rule::ParentStays)
        && unsafe { libc::syscall(libc::SYS_close_range, 1, 0, 0) } == -1
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

impl HiddenParent {
    /// Runs `launch` in a new process, which shares this process's memory and descriptors. Waits until the
    /// new process has called [`stay`] or has ended. The stack of the new process ends at `stack_top`, in the
    /// mapping of `len` bytes at `memory`.
    ///
    /// # Safety
    /// The caller gives the mapping to the new process. `launch` does not need more than this stack, and does
    /// only what is allowed while another process shares the memory. All signals are blocked.
    pub(super) unsafe fn start(
        launch: extern "C" fn(*mut libc::c_void) -> libc::c_int,
        argument: *mut libc::c_void,
        (memory, len): (NonNull<u8>, usize),
        stack_top: *mut libc::c_void,
    ) -> io::Result<HiddenParent> {
        // SAFETY: promised by the caller. The memory is zeroed, and nothing else uses it.
        let progress = unsafe { Progress::at(memory) };
        progress.0.store(LAUNCHING, Ordering::Relaxed);
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID;
        let (nowhere, word) = (std::ptr::null_mut::<i32>(), progress.0.as_ptr());
        // SAFETY: promised by the caller. The kernel clears the word when the process ends, and the word
        // stays mapped until then.
        let pid =
            check(unsafe { libc::clone(launch, stack_top, flags, argument, nowhere, nowhere, word) }.into())?;
        while progress.0.load(Ordering::Acquire) == LAUNCHING {
            futex::wait(&progress.0, LAUNCHING, Deadline::NEVER);
        }
        Ok(HiddenParent { pid: pid as i32, memory, len })
    }

    /// Returns the hidden parent's process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

/// Waits until the hidden parent has ended. It ends when the launched process and all processes that this one
/// left behind have ended.
impl Drop for HiddenParent {
    fn drop(&mut self) {
        process::reap(self.pid);
        // SAFETY: the process that used the memory has ended.
        unsafe { memory::unmap(self.memory, self.len) };
    }
}

impl Progress {
    /// # Safety
    /// `memory` is the memory of a hidden parent, and stays mapped as long as the result is used.
    pub(super) unsafe fn at<'a>(memory: NonNull<u8>) -> &'a Progress {
        // SAFETY: the memory is aligned to a page, was zeroed or written by us, and is mapped as the caller
        // promises.
        unsafe { memory.cast::<Progress>().as_ref() }
    }
}

/// Wakes the launcher, and reaps children until there are none.
///
/// The launcher waits until this process stores [`LAUNCHED`]. Before that store, this process gives up
/// everything that it shares with the launcher, except the memory.
pub(super) fn stay(progress: &Progress) -> ! {
    let everything: u64 = !0;
    let filter = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    let set = [libc::SIG_SETMASK as usize, (&raw const everything) as usize, 0, size_of::<u64>()];
    // The kernel may refuse any of these calls without harm to the family, except that this process must give
    // up its descriptors.
    let left = call(libc::SYS_rt_sigprocmask, set) == 0
        && call(libc::SYS_close_range, [0, u32::MAX as usize, libc::CLOSE_RANGE_UNSHARE as usize, 0]) == 0;
    if left {
        call(libc::SYS_prctl, [libc::PR_SET_NAME as usize, TITLE.as_ptr() as usize, 0, 0]);
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0]);
        let filter = (&raw const filter) as usize;
        call(libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as usize, 0, filter, 0]);
        progress.0.store(LAUNCHED, Ordering::Release);
        call(libc::SYS_futex, [progress.0.as_ptr() as usize, libc::FUTEX_WAKE as usize, 1, 0]);
        let any = [usize::MAX, 0, libc::__WALL as usize, 0];
        while matches!(call(libc::SYS_wait4, any), 1.. | INTERRUPTED) {}
    }
    loop {
        call(libc::SYS_exit_group, [0; 4]);
    }
}

const INTERRUPTED: isize = -(libc::EINTR as isize);

/// Allows the system calls that [`stay`] makes after it has installed this filter. Every other call fails
/// with EPERM.
static FILTER: [libc::sock_filter; 9] = {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }
    [
        instruction(LOAD, 4, 0, 0),
        instruction(IF_EQUAL, ARCHITECTURE, 0, 5),
        instruction(LOAD, 0, 0, 0),
        instruction(IF_EQUAL, libc::SYS_wait4 as u32, 4, 0),
        instruction(IF_EQUAL, libc::SYS_exit_group as u32, 3, 0),
        instruction(IF_EQUAL, libc::SYS_exit as u32, 2, 0),
        instruction(IF_EQUAL, libc::SYS_futex as u32, 1, 0),
        instruction(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: u32 = 0;

const IS_SUPPORTED: bool = ARCHITECTURE != 0;

/// Makes a system call, and returns what the kernel returns. A negative number is an error number. Does not
/// touch `errno`.
#[inline(always)]
fn call(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> isize {
    let returned: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the callers pass valid arguments for the call. The kernel changes these registers and no
    // others.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => returned, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") 0usize, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => returned, in("x1") b, in("x2") c, in("x3") d,
            in("x4") 0usize, options(nostack));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = (number, a, b, c, d);
        returned = -(libc::ENOSYS as isize);
    }
    returned
}
