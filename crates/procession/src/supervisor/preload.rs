//! The function of `preload`: it runs once, before the first child, and all children share its memory copy-on-write.
//!
//! ```text
//! main ──launches──▶ watcher ──fork──▶ template ──fork──▶ supervisor ──fork──▶ spares
//!                    reports to main   runs the user's    has the memory,
//!                    how the template  function, ends     no other thread,
//!                    ended, ends                          no code of the user's
//! ```
//!
//! The user's function runs in the template, before there is a supervisor. The supervisor is a fork of the
//! template, so it has everything that the function leaves in memory. It has only one thread, even if the
//! function has started others. The function may end its process in any way. The watcher reports that to
//! main, and there is no family yet that could be harmed.
//!
//! CRASH: until [`Header::supervisor_pid`](crate::arena::header::Header) names the supervisor, each of the
//! three helpers dies with the process before it, and main survives all of them. After that only the
//! supervisor counts.

use std::any::Any;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::entrypoint::Returned;
use super::{crash_report, entrypoint, guard};
use crate::arena::{Arena, member};
use crate::os::process::Ended;
use crate::os::{fd, process, signal};
use crate::unwind;
use crate::{Error, Result, codec};

/// A function that the template runs, in the form in which one process names it to another. The arguments are
/// in a block of main. This block is kept, because another supervisor needs another template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) entry: u64,
    pub(crate) type_hash: u64,
    pub(crate) args: u64,
}

/// The request that every supervisor of main runs.
static WANTED: Mutex<Option<Request>> = Mutex::new(None);

pub(super) fn wanted() -> Option<Request> {
    *WANTED.lock().unwrap_or_else(|e| e.into_inner())
}

/// Makes every later supervisor run this request. Returns false if another request is already set.
pub(super) fn want(request: Option<Request>) -> bool {
    let mut wanted = WANTED.lock().unwrap_or_else(|e| e.into_inner());
    if request.is_some() && wanted.is_some() {
        return false;
    }
    *wanted = request;
    true
}

impl Request {
    pub(super) const BYTES: usize = 24;

    pub(super) fn to_bytes(this: Option<Request>) -> [u8; Request::BYTES] {
        let words = this.map_or([0; 3], |request| [request.entry, request.type_hash, request.args]);
        let mut bytes = [0; Request::BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Request> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let request = Request { entry: word(0)?, type_hash: word(8)?, args: word(16)? };
        (request.entry != 0).then_some(request)
    }
}

/// Why a template did not become a supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum TemplateFailure {
    ReturnedErr(String),
    Refused(Error),
    /// The message of the panic, and its location.
    Panicked(String, String),
    Exited(i32),
    Killed {
        signal: i32,
        core: bool,
    },
}

/// Returns what the watcher has reported.
pub(super) fn template_failure(socket: BorrowedFd<'_>) -> Option<TemplateFailure> {
    let mut bytes = [0; LONGEST];
    let len = fd::peek(socket, &mut bytes).ok()?;
    codec::from_slice(bytes.get(..len)?).ok()
}

/// Returns whether a process has ended without reading the hello. Asks the kernel, which answers only once.
pub(super) fn hello_was_unread(socket: BorrowedFd<'_>) -> bool {
    fd::peek(socket, &mut [0]).is_err_and(|e| e.raw_os_error() == Some(libc::ECONNRESET))
}

/// The maximum length of a report.
const LONGEST: usize = 4096;

pub(super) fn tell(socket: BorrowedFd<'_>, mut template_failure: TemplateFailure) {
    if let TemplateFailure::Panicked(text, _) | TemplateFailure::ReturnedErr(text) = &mut template_failure {
        let end = (0..=text.len().min(LONGEST / 2)).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    if let Ok(bytes) = codec::to_vec(&template_failure) {
        let _ = fd::send_with_fds(socket, &bytes[..bytes.len().min(LONGEST)], &[]);
    }
}

/// Runs the function. Returns only in the process that is to be the supervisor. `main` is main's pidfd, and `socket` is
/// connected to main.
pub(super) fn build(
    arena: &'static Arena,
    request: Request,
    main: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    mask: signal::Mask,
) {
    // SAFETY: before there is a supervisor this process has one thread.
    match unsafe { member::fork() } {
        Ok(Some(template)) => watch(arena, template, main, socket),
        Ok(None) => become_template(arena, request, socket, mask),
        Err(e) => {
            tell(socket, TemplateFailure::Refused(Error::unstarted("forking a template process", &e)));
            process::exit_now(1);
        }
    }
}

/// Runs as the watcher, and then as the guard of the supervisor that the template has forked.
fn watch(arena: &'static Arena, template: i32, main: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> ! {
    let Ok(watched) = process::pidfd_open(template) else { process::exit_now(1) };
    let [ended, _] = fd::poll([watched.as_raw_fd(), main.as_raw_fd()], -1);
    // A template that is still alive dies with this process.
    if ended {
        match arena.header().supervisor_pid.load(Ordering::Acquire) {
            0 => {}
            supervisor => guard::keep(arena, supervisor as i32),
        }
        match process::next_ended() {
            Ok(Some((_, Ended::Exited(code)))) => tell(socket, TemplateFailure::Exited(code)),
            Ok(Some((_, Ended::Signaled { signal, core }))) => {
                tell(socket, TemplateFailure::Killed { signal, core })
            }
            _ => {}
        }
    }
    process::exit_now(0)
}

/// Runs as the template. Returns in its fork, the supervisor.
fn become_template(arena: &'static Arena, request: Request, socket: BorrowedFd<'_>, mask: signal::Mask) {
    dies_with(process::parent_pid());
    process::set_title(b"procession-pre");
    let blocked = signal::block_all();
    signal::set_mask(mask);
    let template_failure = match unwind::catch(|| call(arena, request)) {
        Ok(Ok(Returned::Err(_, text))) => Some(TemplateFailure::ReturnedErr(text)),
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(TemplateFailure::Refused(error)),
        Err(payload) => {
            Some(TemplateFailure::Panicked(text_of(payload.as_any()), crash_report::place_of_last_panic()))
        }
    };
    if let Some(template_failure) = template_failure {
        tell(socket, template_failure);
        process::exit_now(1);
    }
    signal::set_mask(blocked);
    // Otherwise every fork would print what is buffered.
    let _ = std::io::stdout().flush();
    process::flush_c_streams();
    become_supervisor(arena, socket);
}

fn call(arena: &'static Arena, request: Request) -> Result<Returned> {
    entrypoint::resolve(request.entry, request.type_hash)?.run()(arena, request.args)
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Forks the supervisor, and exits once the supervisor does not depend on this process. Returns in the
/// supervisor.
fn become_supervisor(arena: &Arena, socket: BorrowedFd<'_>) {
    let Ok((mut ours, mut theirs)) = UnixStream::pair() else { process::exit_now(1) };
    let template = process::pid();
    // SAFETY: the fork's only thread is a copy of this one, and the C library takes care of its own locks.
    match unsafe { member::fork() } {
        Ok(Some(pid)) => {
            arena.header().supervisor_pid.store(pid as u32, Ordering::Release);
            // Waits for the supervisor's answer or its end.
            let _ = ours.write_all(&[0]).and_then(|()| {
                drop(theirs);
                ours.read_exact(&mut [0])
            });
            process::exit_now(0)
        }
        Ok(None) => {
            dies_with(template);
            drop(ours);
            if theirs.read_exact(&mut [0]).is_err() {
                process::exit_now(1);
            }
            // The template ends when it has this answer. From then on the death of the guard counts.
            process::die_with_parent(signal::WAKE_SIGNAL);
            let _ = theirs.write_all(&[0]);
        }
        Err(e) => {
            tell(socket, TemplateFailure::Refused(Error::unstarted("forking the supervisor", &e)));
            process::exit_now(1);
        }
    }
}

fn dies_with(parent: i32) {
    process::die_with_parent(libc::SIGKILL);
    if process::parent_pid() != parent {
        process::exit_now(1);
    }
}
