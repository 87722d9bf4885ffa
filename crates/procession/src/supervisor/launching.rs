//! Launching the supervisor, from main.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::client;
use super::launch_report::{Attempt, Failed, Transcript};
use super::preload::{Request, TemplateFailure};
use super::serve::hello_bytes;
use super::{child, hook, preload, shutdown};
use crate::arena::header::stage;
use crate::arena::{Arena, member};
use crate::os::clock::Deadline;
use crate::os::credentials::Credentials;
use crate::os::{capabilities, fd, futex, hidden_parent, image, launch, process, signal};
use crate::{Error, Result, codec};

/// Main's end of the connection to the supervisor. Locked while a supervisor is launched.
static LAUNCHING: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// The inode of main's end. The program may have closed the descriptor, and another file may have got its
/// number.
static SOCKET_INODE: AtomicU64 = AtomicU64::new(0);

/// Ends the connection to the supervisor, unless a thread is launching a supervisor.
pub(super) fn close_connection() {
    if let Ok(socket) = LAUNCHING.try_lock()
        && let Some(socket) = socket.as_ref()
        && process::inode(socket.as_fd()).is_ok_and(|inode| inode == SOCKET_INODE.load(Ordering::Relaxed))
    {
        fd::shut_down(socket.as_fd());
    }
}

/// Launches a supervisor unless there is one.
pub(super) fn ensure_supervisor(arena: &'static Arena) -> Result<()> {
    let header = arena.header();
    while header.stage.load(Ordering::Acquire) == stage::RUNNING {
        if !member::is_main() || !shutdown::await_repair() {
            return Ok(());
        }
    }
    if !member::is_main() {
        return match header.stage.load(Ordering::Acquire) {
            stage::LOST => Err(Error::FamilyLost),
            _ => Ok(()), // a child of an ending family may still have children
        };
    }
    let mut socket = LAUNCHING.lock().unwrap_or_else(|e| e.into_inner());
    match header.stage.load(Ordering::Acquire) {
        stage::RUNNING => return Ok(()),
        stage::ENDING => return Err(Error::Unsupported("the program is ending".into())),
        _ => {}
    }
    if image::executed_path().is_none() {
        return Err(Error::Unsupported(
            "the kernel does not tell by which path a program was executed, and a helper would not know what it is".into(),
        ));
    }
    if image::is_privileged() {
        return Err(Error::Unsupported(
            "a program that runs with more rights than its user (set-user-id, file capabilities) cannot spawn processes: what it would run again could not tell its family from an attacker".into(),
        ));
    }
    let mine =
        Credentials::of_this_thread().map_err(|e| Error::os("reading this thread's credentials", &e))?;
    if mine.is_split() {
        return Err(Error::Unsupported(
            "the effective user or group of this process is not its real one, so the kernel would not trust the environment of the program that this library executes: spawn the first process while the two are the same".into(),
        ));
    }
    if let Some((call, error)) = process::forbidden_call() {
        return Err(Error::unstarted(&format!("starting the supervisor: {call}"), &error));
    }
    #[cfg(any(feature = "tracing", feature = "log"))]
    crate::events::listen(arena)?;
    image::check_is_executable(hook::anchor())
        .map_err(|e| Error::unstarted("finding the executable in /proc/self/maps", &e))?;
    std::hint::black_box(child::keep());
    header.bounding_watched.store(capabilities::bounding_set_to_watch(), Ordering::Relaxed);
    let mine = codec::pack(&mine)?;
    // The block belongs to main, so a process that reads it later finds the block or nothing.
    client::release(header.credentials.swap(mine, Ordering::AcqRel));
    let bind_now = launch::binds_lazily() && !BINDS_LATE.load(Ordering::Relaxed);
    let started = match start_supervisor(arena, &mut socket, bind_now) {
        Err(Failed { may_be_binding: true, .. }) => {
            let late = start_supervisor(arena, &mut socket, false);
            BINDS_LATE.store(late.is_ok(), Ordering::Relaxed);
            late
        }
        started => started,
    };
    started.map_err(|failed| failed.error)?;
    client::release(header.credentials.swap(0, Ordering::AcqRel));
    SERVED.store(true, Ordering::Release);
    Ok(())
}

/// Whether a launch succeeded only without [`launch::BIND_NOW`].
static BINDS_LATE: AtomicBool = AtomicBool::new(false);

/// Launches a supervisor once, and waits until it serves.
fn start_supervisor(
    arena: &'static Arena,
    socket: &mut Option<OwnedFd>,
    bind_now: bool,
) -> Result<(), Failed> {
    let header = arena.header();
    let refused = |error| Failed { error, may_be_binding: false };
    header.supervisor_pid.store(0, Ordering::Relaxed);
    header.spares.store(0, Ordering::Relaxed);
    header.stage.store(stage::STARTING, Ordering::Release);
    let (launched, ours, transcript) = launch_supervisor(arena, bind_now).map_err(|error| {
        header.stage.store(stage::LOST, Ordering::Release);
        refused(error)
    })?;
    let ours = socket.insert(ours);
    let attempt = Attempt::new(transcript, &launched, bind_now);
    shutdown::watch(arena, launched, ours.as_fd()).map_err(refused)?;
    loop {
        match header.stage.load(Ordering::Acquire) {
            stage::STARTING => futex::wait(&header.stage, stage::STARTING, Deadline::NEVER),
            stage::RUNNING => return Ok(()),
            _ => return Err(attempt.failed(ours.as_fd())),
        }
    }
}

/// Launches the supervisor with a function that runs in it first. Returns an error if there is or was a supervisor.
pub(crate) fn preload(request: Request) -> Result<Result<(), TemplateFailure>> {
    let arena = member::arena()?;
    let late = || {
        Error::Unsupported(
            "preload comes once, in main, and before the first process: this one is too late".into(),
        )
    };
    if !member::is_main() || !preload::want(Some(request)) {
        return Err(late());
    }
    if SERVED.load(Ordering::Acquire) {
        preload::want(None);
        return Err(late());
    }
    match ensure_supervisor(arena) {
        Ok(()) if LAUNCHED_WITH.load(Ordering::Acquire) => Ok(Ok(())),
        // Another thread has launched the supervisor, without the function.
        Ok(()) => {
            preload::want(None);
            Err(late())
        }
        Err(error) => {
            preload::want(None);
            let socket = LAUNCHING.lock().unwrap_or_else(|e| e.into_inner());
            socket.as_ref().and_then(|socket| preload::template_failure(socket.as_fd())).map(Err).ok_or(error)
        }
    }
}

/// Whether there has been a supervisor that served.
static SERVED: AtomicBool = AtomicBool::new(false);
/// Whether the last supervisor was launched with a function to preload.
static LAUNCHED_WITH: AtomicBool = AtomicBool::new(false);

/// Launches the process. Returns the process, main's end of the connection to it, and its transcript.
fn launch_supervisor(
    arena: &Arena,
    bind_now: bool,
) -> Result<(launch::Launched, OwnedFd, Option<Transcript>)> {
    let failed = |tried: &'static str| {
        move |e: std::io::Error| Error::unstarted(&format!("starting the supervisor: {tried}"), &e)
    };
    let (ours, theirs) = fd::socket_pair().map_err(failed("socketpair"))?;
    let me = process::pidfd_open(process::pid()).map_err(failed("pidfd_open of this process"))?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| Error::os("starting the supervisor: opening /dev/null", &e))?;
    let null = fd::above_stdio(null.into()).map_err(failed("dup of a descriptor"))?;
    let transcript = Transcript::create();
    let memfd = member::memfd().ok_or_else(|| {
        Error::Unsupported(
            "this program has closed the descriptor of the family's memory, which a new supervisor needs"
                .into(),
        )
    })?;
    let mask = signal::block_all();
    signal::set_mask(mask);
    let wanted = preload::wanted();
    LAUNCHED_WITH.store(wanted.is_some(), Ordering::Release);
    let hello = hello_bytes(mask, bind_now, wanted);
    // The hello is sent before the launch, and the socket keeps it. Standard streams of this process may be
    // closed, and then /dev/null is sent instead.
    let or_null = |number| if fd::is_open(number) { number } else { null.as_raw_fd() };
    let send = |stdin, stderr| {
        let at_first = transcript.as_ref().map_or(-1, |transcript| transcript.fd().as_raw_fd());
        let fds = [memfd.as_raw_fd(), stdin, me.as_raw_fd(), stderr, at_first];
        let count = if at_first == -1 { 3 } else { 5 };
        fd::send_with_fds(ours.as_fd(), &hello, &fds[..count])
    };
    send(0, 2).or_else(|_| send(or_null(0), or_null(2))).map_err(failed("sendmsg"))?;
    let hidden = hidden_parent::is_needed();
    arena.header().guard_has_parent.store(hidden.into(), Ordering::Relaxed);
    let stderr = transcript.as_ref().map(Transcript::fd);
    let launched = launch::launch_self(theirs.as_fd(), stderr, bind_now, hidden)
        .map_err(|refusal| failed(refusal.tried)(refusal.error))?;
    member::register_main_socket(ours.as_fd());
    SOCKET_INODE.store(process::inode(ours.as_fd()).unwrap_or(0), Ordering::Relaxed);
    Ok((launched, ours, transcript))
}
