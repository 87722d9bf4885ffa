//! The supervisor's loop: it sleeps until it gets SIGCHLD or main is dead. Then it checks everything.
//!
//! It runs no user code, has one thread, and never waits for a lock that another process can hold. The holder
//! may be dead, and only this loop can recover it. If the supervisor is killed, the kernel kills its
//! children, because each child has asked for that. Main then launches another supervisor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::children::{Children, Inheritance};
use super::guard::Guard;
use super::hook::Meant;
use super::launch_report::Transcript;
use super::preload::Request;
use super::{child, entrypoint, guard, hook, preload};
use crate::arena::header::stage;
use crate::arena::{Arena, collect, member, process_body};
use crate::os::clock::now_ns;
use crate::os::credentials::Credentials;
use crate::os::{credentials, fd, futex, process, signal};
use crate::rules::{self, Rule};
use crate::{Error, Result, codec};

/// The first message from main to a new supervisor: the arena, main's pidfd and its standard streams.
pub(super) struct Hello {
    memfd: OwnedFd,
    stdin: OwnedFd,
    main: OwnedFd,
    socket: OwnedFd,
    mask: signal::Mask,
    pub(super) added_bind_now: bool,
    /// The transcript, which is standard error at first, and main's standard error.
    pub(super) transcript: Option<(Transcript, OwnedFd)>,
    preload: Option<Request>,
}

/// The length of the hello: a magic word, the hook's offset, main's signal mask, whether the launch added
/// `LD_BIND_NOW` to main's environment, the function to preload.
const HELLO: usize = 32 + Request::BYTES;
const HELLO_MAGIC: u64 = u64::from_le_bytes(*b"prchello");

/// Returns the bytes of a hello.
pub(super) fn hello_bytes(mask: signal::Mask, added_bind_now: bool, preload: Option<Request>) -> [u8; HELLO] {
    let mut bytes = [0; HELLO];
    let words = [HELLO_MAGIC, hook::address(), mask, u64::from(added_bind_now)];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes[32..].copy_from_slice(&Request::to_bytes(preload));
    bytes
}

/// Returns whether descriptor 0 holds main's hello, which proves that main launched this process.
pub(super) fn is_launched(stdin: BorrowedFd<'_>) -> bool {
    let mut bytes = [0; HELLO];
    let len = fd::peek(stdin, &mut bytes).unwrap_or(0);
    fd::is_seqpacket(stdin) && len == HELLO && bytes[..8] == HELLO_MAGIC.to_le_bytes()
}

/// Receives main's hello from descriptor 0, and replaces that descriptor by main's standard input.
pub(super) fn receive_hello(stdin: BorrowedFd<'_>, hook: u64) -> Result<Hello, Meant> {
    let mut bytes = [0; HELLO];
    // Main sent the hello before the launch.
    let len = fd::peek(stdin, &mut bytes).map_err(|_| Meant::ForNobody)?;
    if !fd::is_seqpacket(stdin) || len != HELLO || bytes[..8] != HELLO_MAGIC.to_le_bytes() {
        return Err(Meant::ForNobody);
    }
    if bytes[8..16] != hook.to_le_bytes() {
        return Err(Meant::ForAnother);
    }
    accept_hello(stdin, bytes).ok_or(Meant::ForNobody)
}

fn accept_hello(stdin: BorrowedFd<'_>, mut bytes: [u8; HELLO]) -> Option<Hello> {
    let (_, fds) = fd::receive_with_fds(stdin, &mut bytes).ok()?;
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (mask, added_bind_now) = (word(16)?, word(24)? != 0);
    let preload = Request::from_bytes(&bytes[32..]);
    let socket = fd::above_stdio(stdin.try_clone_to_owned().ok()?).ok()?;
    let mut fds = fds.into_iter();
    let (memfd, stdin, main) = (fds.next()?, fds.next()?, fds.next()?);
    let transcript = fds.next().and_then(|stderr| Some((Transcript::from_fd(fds.next()?), stderr)));
    fd::duplicate_onto(stdin.as_fd(), 0).ok()?;
    Some(Hello { memfd, stdin, main, socket, mask, added_bind_now, transcript, preload })
}

/// Forks the supervisor and stays behind as its guard. In the fork, runs as the supervisor until the family ends.
pub(super) fn run(hello: Hello) -> ! {
    // No signal to main's group ends this process, and no disposition differs from main's.
    signal::block_everything();
    let child_signal = signal::prepare_reaper();
    process::set_title(super::SUPERVISOR_TITLE.as_bytes());
    process::become_subreaper();
    let memfd_inode = process::inode(hello.memfd.as_fd()).unwrap_or(0);
    let started = Arena::open(hello.memfd.as_fd())
        .map_err(Error::from)
        .and_then(|arena| member::join_as_supervisor(arena, memfd_inode))
        .and_then(|arena| {
            let failed = |e| Error::unstarted("starting the supervisor: signalfd", &e);
            Ok((arena, signal::pending_fd().map_err(failed)?))
        });
    let (arena, signal_fd) = started.unwrap_or_else(|error| refuse(&hello.socket, error));
    adopt_credentials(arena).unwrap_or_else(|error| refuse(&hello.socket, error));
    entrypoint::constants();
    child::prepare_ancestor();
    drop(hello.stdin);
    guard::announce(arena);
    if let Some(request) = hello.preload {
        let (main, socket) = (hello.main.as_fd(), hello.socket.as_fd());
        preload::build(arena, request, main, socket, hello.mask);
        // The function may have changed these settings in the template, and this process is a fork of the
        // template.
        signal::block_everything();
        signal::prepare_reaper();
        process::set_title(super::SUPERVISOR_TITLE.as_bytes());
    } else {
        guard::fork_supervisor(arena).unwrap_or_else(|error| refuse(&hello.socket, error));
    }
    process::become_subreaper();
    let guard = Guard::of_this_process(arena);
    // If main is killed while the family is stopped, the kernel continues this process. Where the kernel
    // refuses that, this process notices main's death only after it is continued.
    let _ = fd::continue_on_news(hello.socket.as_fd());
    let inheritance = Inheritance {
        mask: hello.mask,
        child_signal,
        group: process::group(),
        private_fds: vec![signal_fd.as_raw_fd(), hello.main.as_raw_fd(), hello.socket.as_raw_fd()],
        memfd: hello.memfd,
    };
    let children = Children::new(arena, inheritance)
        .unwrap_or_else(|e| refuse(&hello.socket, Error::os("preparing the supervisor", &e)));
    let mut supervisor = Supervisor {
        arena,
        children,
        signal_fd,
        main: hello.main,
        socket: Some(hello.socket),
        guard,
        family_end: FamilyEnd::default(),
    };
    supervisor.announce();
    loop {
        supervisor.round();
    }
}

/// Reports to main why there will be no supervisor, and exits.
fn refuse(socket: &OwnedFd, error: Error) -> ! {
    preload::tell(socket.as_fd(), preload::TemplateFailure::Refused(error));
    process::exit_now(1)
}

/// Adopts the credentials that main had at the launch. They differ from this process's credentials if the
/// execution of the program added or removed capabilities.
fn adopt_credentials(arena: &Arena) -> Result<()> {
    let failed = |e| {
        Error::os(
            "giving the supervisor the user, groups and capabilities of main (a program that is executed loses capabilities that are not in the bounding set, and without root those that are not ambient)",
            &e,
        )
    };
    match arena.header().credentials.load(Ordering::Acquire) {
        0 => {}
        block => codec::unpack::<Credentials>(arena, block)?.adopt().map_err(failed)?,
    }
    Ok(())
}

struct Supervisor {
    arena: &'static Arena,
    children: Children,
    signal_fd: OwnedFd,
    main: OwnedFd,
    /// `None` once main's end has closed: main has ended, has executed another program, or has closed it.
    socket: Option<OwnedFd>,
    guard: Guard,
    family_end: FamilyEnd,
}

/// How often the supervisor checks the progress while the family ends.
const STEP_MS: i32 = 50;

/// The progress of the end of the family.
#[derive(Default)]
struct FamilyEnd {
    began: bool,
    named: bool,
    /// How long the end has lasted, without the time in which the family was suspended.
    lasted_ns: u64,
    looked_ns: u64,
    /// How long the end had lasted when the daemons got SIGTERM.
    terminated_ns: Option<u64>,
}

impl FamilyEnd {
    /// Adds the time since the last call, up to a limit. The limit is needed because the supervisor may have
    /// been suspended together with the processes that are to end.
    fn pass(&mut self, now: u64) {
        const MOST_NS: u64 = 4 * STEP_MS as u64 * 1_000_000;
        if self.began {
            self.lasted_ns += now.saturating_sub(self.looked_ns).min(MOST_NS);
        }
        self.looked_ns = now;
    }
}

impl Supervisor {
    /// Forks the first spares, and announces that this process serves.
    fn announce(&mut self) {
        let header = self.arena.header();
        if let Ok((device, inode)) = process::cwd_identity() {
            header.cwd_device.store(device, Ordering::Relaxed);
            header.cwd_inode.store(inode, Ordering::Relaxed);
        }
        // The function of `preload` may have changed the credentials.
        let mine = Credentials::of_this_thread();
        header.credentials_digest.store(mine.as_ref().map_or(0, Credentials::digest), Ordering::Relaxed);
        header.bounding.store(mine.as_ref().map_or(0, Credentials::bounding), Ordering::Relaxed);
        header.user_namespace.store(credentials::user_namespace(), Ordering::Relaxed);
        // ORDERING: SeqCst, before this process begins any pass of the collector: see `arena/collect.rs`.
        header.supervisor_pid.store(process::pid() as u32, Ordering::SeqCst);
        // The first spawn needs one spare. The others are forked while the spawned process runs.
        self.children.make_first();
        if self.guard.is_dead() {
            // Main may have killed the guard, and may launch another supervisor.
            self.leave();
        }
        let to = (stage::STARTING, stage::RUNNING);
        // If main has begun to end the family, the stage stays `ENDING`.
        let _ = header.stage.compare_exchange(to.0, to.1, Ordering::AcqRel, Ordering::Relaxed);
        futex::wake_all(&header.stage);
        self.children.refill();
    }

    fn round(&mut self) {
        let socket = self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let fds = [self.signal_fd.as_raw_fd(), self.main.as_raw_fd(), socket];
        let timeout_ms = match (self.poll_timeout_ms(), self.children.looks_again().left_ms()) {
            (-1, timeout_ms) | (timeout_ms, -1) => timeout_ms,
            (one, other) => one.min(other),
        };
        let [_, main_ended, socket_ready] = fd::poll(fds, timeout_ms);
        let now = now_ns();
        self.arena.header().awake.tick(now);
        self.family_end.pass(now);
        if main_ended || (socket_ready && self.main_is_another_program()) {
            self.leave();
        }
        if self.guard.is_dead() {
            // Without the guard, a process that changes its user could outlive this one.
            self.leave();
        }
        // SIGCHLD means: a child has ended or stopped, a process has left a request in the arena, or the guard has
        // seen a death. Each round looks for all of these, so the signal only has to end the sleep.
        if signal::drain(self.signal_fd.as_raw_fd()) {
            // A signal other than SIGCHLD came. If it was sent to every process of the family, the spares
            // have received it, too.
            self.children.wake_spares();
        }
        self.children.release_dying();
        if rules::holds(Rule::Reaps) {
            self.children.reap();
        }
        self.children.send_signals();
        self.children.catch_up();
        self.children.note_stops();
        collect::if_wanted(self.arena, self.children.intent(), process_body::report_unobserved);
        match self.arena.header().stage.load(Ordering::Acquire) {
            stage::ENDING => self.end(),
            _ => self.children.refill(),
        }
    }

    /// Returns whether main has executed another program, which ends the family. Called when the socket is
    /// readable. A closed socket is not enough, because main may have closed all its descriptors, as daemons
    /// do. Discards what was sent to the socket.
    fn main_is_another_program(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        if fd::drain(socket.as_fd()) {
            return false;
        }
        self.socket = None;
        let pid = self.arena.slot(crate::arena::slots::MAIN).pid.load(Ordering::Relaxed);
        process::maps_memfd(pid, crate::arena::MEMFD_NAME, member::memfd_inode()) == Some(false)
    }

    fn poll_timeout_ms(&self) -> i32 {
        let family_end = match self.family_end {
            FamilyEnd { began: false, .. } => None,
            FamilyEnd { terminated_ns: None, named: true, .. } => None,
            _ => Some(STEP_MS),
        };
        let tick = self.arena.header().awake.next_tick_ms();
        family_end.into_iter().chain(tick).min().unwrap_or(-1)
    }

    /// Performs one step of the family's end. Waits for the processes that are not daemons, and names them after five
    /// seconds. Then sends the daemons SIGTERM, and kills them a second later.
    fn end(&mut self) {
        const NAMING_NS: u64 = 5_000_000_000;
        const GRACE_NS: u64 = 1_000_000_000;
        self.children.replace_dead();
        self.family_end.began = true;
        let now = self.family_end.lasted_ns;
        let awaited = self.children.awaited();
        if !awaited.is_empty() {
            if !self.family_end.named && now > NAMING_NS {
                self.family_end.named = true;
                let names = awaited.join(", ");
                let line = format!("main has ended and waits for: {names}\n");
                process::write_without_waiting(2, line.as_bytes());
            }
            return self.children.refill();
        }
        let terminated = *self.family_end.terminated_ns.get_or_insert_with(|| {
            self.children.terminate_daemons();
            now
        });
        if self.children.has_daemons() && now - terminated < GRACE_NS {
            return;
        }
        self.leave();
    }

    /// Kills every child and ends.
    fn leave(&mut self) -> ! {
        self.children.kill_everybody();
        self.guard.resume();
        process::exit_now(0)
    }
}
