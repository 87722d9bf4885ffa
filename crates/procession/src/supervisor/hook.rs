//! Runs before `main`: is this process to be a supervisor?
//!
//! The loader calls every function in `.init_array`. Ours looks for a private environment
//! variable, and in almost every process finds none and returns. In a process that a family
//! launched as its supervisor it does not return: `main` never runs there.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use super::reexec;
use crate::os::image::{self, InitFn};
use crate::os::launch::BIND_NOW;
use crate::os::{fd, process};

/// Set for the supervisor alone: where in the executable its hook is. Another copy of this library
/// in the same program has its hook elsewhere, and ignores it.
pub(super) const VARIABLE: &str = "PROCESSION_SUPERVISOR";
const VARIABLE_C: &CStr = c"PROCESSION_SUPERVISOR";
const CHILD_VARIABLE_C: &CStr = c"PROCESSION_CHILD";

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: InitFn = hook;

/// The value of the variable for this copy of the library: where its hook is, and whether main's
/// environment was added to.
pub(super) fn value() -> String {
    let bind_now = if std::env::var_os(BIND_NOW).is_some() { "" } else { "added" };
    format!("{} {bind_now}", address())
}

pub(super) fn address() -> String {
    // Reading the static also makes sure that the linker keeps it.
    format!("{:x}", image::offset_of(HOOK as *const u8))
}

/// An address of this copy of the library, to find out which file it is in.
pub(super) fn anchor() -> usize {
    HOOK as usize
}

/// The value of an environment variable.
fn variable(name: &CStr) -> Option<String> {
    // SAFETY: before `main` there is one thread, so nobody changes the environment meanwhile.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

/// A child of a family that has executed the program anew goes on here.
fn go_on_as_child(argc: i32, argv: *const *const u8, envp: *const *const u8) {
    let Some(value) = variable(CHILD_VARIABLE_C) else { return };
    if value.split(' ').next() != Some(&address()) {
        return;
    }
    // SAFETY: before `main` there is one thread.
    unsafe { libc::unsetenv(CHILD_VARIABLE_C.as_ptr()) };
    let former = if image::is_privileged() { None } else { reexec::Former::parse(&value) };
    if let Some(former) = former {
        // SAFETY: we are called by the hook, which the loader called with these arguments.
        unsafe { image::run_later_constructors(hook, argc, argv, envp) };
        former.go_on();
    }
}

extern "C" fn hook(argc: i32, argv: *const *const u8, envp: *const *const u8) {
    go_on_as_child(argc, argv, envp);
    let Some(value) = variable(VARIABLE_C) else { return };
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
