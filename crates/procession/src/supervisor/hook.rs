//! Runs before `main`: is this process to be a supervisor?
//!
//! The loader calls every function in `.init_array`. Ours looks for a private environment
//! variable, and in almost every process finds none and returns. In a process that a family
//! launched as its supervisor it does not return: `main` never runs there.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::os::image::{self, InitFn};
use crate::os::launch::BIND_NOW;
use crate::os::{fd, process};

/// Set for the supervisor alone: where in the executable its hook is. Another copy of this library
/// in the same program has its hook elsewhere, and ignores it.
pub(super) const VARIABLE: &str = "PROCESSION_SUPERVISOR";
const VARIABLE_C: &CStr = c"PROCESSION_SUPERVISOR";

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: InitFn = hook;

/// The value of the variable for this copy of the library: where its hook is, and whether main's
/// environment was added to.
pub(super) fn value() -> String {
    let bind_now = if std::env::var_os(BIND_NOW).is_some() { "" } else { "added" };
    format!("{} {bind_now}", address())
}

fn address() -> String {
    // Reading the static also makes sure that the linker keeps it.
    format!("{:x}", image::offset_of(HOOK as *const u8))
}

/// An address of this copy of the library, to find out which file it is in.
pub(super) fn anchor() -> usize {
    HOOK as usize
}

extern "C" fn hook(argc: i32, argv: *const *const u8, envp: *const *const u8) {
    // SAFETY: before `main` there is one thread, so nobody changes the environment meanwhile.
    let value = unsafe {
        let value = libc::getenv(VARIABLE_C.as_ptr());
        if value.is_null() {
            return;
        }
        CStr::from_ptr(value).to_string_lossy().into_owned()
    };
    let (address, bind_now) = value.split_once(' ').unwrap_or((&value, ""));
    if address != self::address() {
        return;
    }
    // SAFETY: as above.
    unsafe { libc::unsetenv(VARIABLE_C.as_ptr()) };
    if bind_now == "added" {
        // SAFETY: as above. The user's processes get main's environment, and this was not in it.
        unsafe { libc::unsetenv(c"LD_BIND_NOW".as_ptr()) };
    }
    // SAFETY: descriptor 0 is only looked at; if it is not open, the call says so.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    let ours = !image::is_privileged()
        && fd::peer_uid(stdin.as_fd()).is_ok_and(|uid| uid == process::effective_uid());
    if ours {
        // Before descriptors arrive, which would land on closed standard streams.
        fd::fill_stdio();
    }
    if ours && let Some(hello) = super::serve::receive_hello(stdin) {
        // SAFETY: we are the hook, called by the loader with these arguments. The rest of the
        // constructors must have run before user functions do.
        unsafe { image::run_later_constructors(hook, argc, argv, envp) };
        super::serve::run(hello);
    }
}
