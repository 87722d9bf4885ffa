//! Runs before `main`, and decides whether this process is a supervisor or a child that has executed the program again.
//!
//! The loader calls every function in `.init_array`. The hook checks by which path the process was executed.
//! In almost every process that is an ordinary path, and the hook returns. In a helper of a family the hook
//! does not return, so `main` never runs.
//!
//! Other constructors also run in helpers, because the user's functions may depend on them. Constructors
//! cannot use this library in a helper: see `arena/member.rs`.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};

use super::reexec;
use crate::arena::member;
use crate::os::image::InitFn;
use crate::os::{fd, image, process};

/// Runs before constructors without a number, and before those of C and C++ with a number. Runs after the
/// constructor from which Rust's standard library learns the program's arguments.
#[used]
#[unsafe(link_section = ".init_array.00100")]
static HOOK: InitFn = hook;

/// Returns the offset of the hook in the executable. Another copy of this library in the same program has a
/// different offset.
pub(super) fn address() -> u64 {
    // Reading the static also makes sure that the linker keeps it.
    image::offset_of(HOOK as *const u8)
}

/// Returns an address in this copy of the library. The file that contains this copy is found by this address.
pub(super) fn anchor() -> usize {
    HOOK as usize
}

extern "C" fn hook(argc: i32, argv: *const *const u8, envp: *const *const u8) {
    // SAFETY: we are the hook, called by the loader with these arguments. The rest of the constructors must have
    // run before user functions do.
    let finish_loading = || unsafe { image::run_later_constructors(hook, argc, argv, envp) };
    if image::is_helper() && image::is_privileged() {
        // SAFETY: descriptor 0 is only examined. If it is not open, the call returns an error.
        let stdin = unsafe { BorrowedFd::borrow_raw(0) };
        // Something in the launch, such as a security module, gave the program extra rights. The program must
        // not run a second time.
        if super::serve::is_launched(stdin) {
            process::exit_now(1);
        }
    } else if image::is_helper() && image::is_in_executable() {
        let as_supervisor = image::executed_path() == Some(image::AS_SUPERVISOR);
        let meant = if as_supervisor { be_supervisor(finish_loading) } else { be_child(finish_loading) };
        if meant == Err(Meant::ForNobody) {
            process::write_raw(2, LOST);
            process::exit_now(1);
        }
    }
    member::run_as_program();
}

/// Why a helper does not belong to this copy of the library.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// Another copy of the library in this program has launched the helper.
    ForAnother,
    /// The helper finds no hello, or no shared memory.
    ForNobody,
}

const LOST: &[u8] = b"procession: a helper process found nothing of what it was started with, and ends. \
Perhaps a constructor of the program or of a library closes descriptors 0 to 3 before `main`.\n";

/// Returns whether a text is the message of a process that [found nothing](LOST).
pub(super) fn found_nothing(text: &str) -> bool {
    LOST.starts_with(text.as_bytes()) && !text.is_empty()
}

fn be_child(finish_loading: impl Fn()) -> Result<Infallible, Meant> {
    let former = reexec::Former::find()?;
    finish_loading();
    former.go_on()
}

fn be_supervisor(finish_loading: impl Fn()) -> Result<Infallible, Meant> {
    // SAFETY: descriptor 0 is only examined. If it is not open, the call returns an error.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    if !fd::peer_uid(stdin.as_fd()).is_ok_and(|uid| uid == process::effective_uid()) {
        return Err(Meant::ForNobody);
    }
    // Done before descriptors arrive, because they would take the numbers of closed standard streams.
    fd::fill_stdio();
    let mut hello = super::serve::receive_hello(stdin, address())?;
    if hello.added_bind_now {
        // SAFETY: before `main` there is one thread. The user's processes get main's environment, which did
        // not contain this variable.
        unsafe { libc::unsetenv(c"LD_BIND_NOW".as_ptr()) };
    }
    finish_loading();
    if let Some((transcript, stderr)) = hello.transcript.take() {
        transcript.end(&stderr);
    }
    super::serve::run(hello)
}
