//! The supervisor's loop: sleep until a child ends, somebody rings, or main is gone; then look at
//! everything.
//!
//! It runs no user code, has one thread, and never waits for a lock that another process can hold:
//! the holder may be dead and waiting for this very loop. If it is killed, the kernel kills the
//! children (each asked for that when it was born) and main starts over.

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

/// What main sends a new supervisor: its own pidfd, its standard streams, the arena.
pub(super) struct Hello {
    memfd: OwnedFd,
    stdin: OwnedFd,
    main: OwnedFd,
    socket: OwnedFd,
    mask: signal::Mask,
    pub(super) added_bind_now: bool,
    /// What standard error is at first, and main's.
    pub(super) transcript: Option<(Transcript, OwnedFd)>,
    preload: Option<Request>,
}

/// The length of the hello: a magic word, where the hook is, main's signal mask, whether [`BIND_NOW`] was added to
/// main's environment, what to preload.
const HELLO: usize = 32 + Request::BYTES;
const HELLO_MAGIC: u64 = u64::from_le_bytes(*b"prchello");

/// The bytes of a hello.
pub(super) fn hello_bytes(mask: signal::Mask, added_bind_now: bool, preload: Option<Request>) -> [u8; HELLO] {
    let mut bytes = [0; HELLO];
    let words = [HELLO_MAGIC, hook::address(), mask, u64::from(added_bind_now)];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes[32..].copy_from_slice(&Request::to_bytes(preload));
    bytes
}

/// Whether main has left its hello at descriptor 0, which says for certain that it launched this process.
pub(super) fn is_launched(stdin: BorrowedFd<'_>) -> bool {
    let mut bytes = [0; HELLO];
    let len = fd::peek(stdin, &mut bytes).unwrap_or(0);
    fd::is_seqpacket(stdin) && len == HELLO && bytes[..8] == HELLO_MAGIC.to_le_bytes()
}

/// Receives main's hello from descriptor 0, and puts main's standard input there.
pub(super) fn receive_hello(stdin: BorrowedFd<'_>, hook: u64) -> Result<Hello, Meant> {
    let mut bytes = [0; HELLO];
    // Main sent it before it launched us.
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

/// Is the supervisor, until the family ends.
pub(super) fn run(hello: Hello) -> ! {
    // Nothing that is sent to the group of main ends this process, and no disposition differs from main's.
    signal::block_everything();
    let child_signal = signal::prepare_reaper();
    process::set_title(super::SUPERVISOR_TITLE.as_bytes());
    process::become_subreaper();
    let memfd_inode = process::inode(hello.memfd.as_fd()).unwrap_or(0);
    let started = Arena::open(hello.memfd.as_fd())
        .map_err(Error::from)
        .and_then(|arena| member::join_as_supervisor(arena, memfd_inode))
        .and_then(|arena| Ok((arena, signal::pending_fd()?)));
    let (arena, bell) = started.unwrap_or_else(|error| refuse(&hello.socket, error));
    adopt_credentials(arena).unwrap_or_else(|error| refuse(&hello.socket, error));
    entrypoint::constants();
    child::prepare_ancestor();
    drop(hello.stdin);
    guard::announce(arena);
    if let Some(request) = hello.preload {
        let (main, socket) = (hello.main.as_fd(), hello.socket.as_fd());
        preload::build(arena, request, main, socket, hello.mask);
        // The function may have changed these in the process that this one is a fork of.
        signal::block_everything();
        signal::prepare_reaper();
        process::set_title(super::SUPERVISOR_TITLE.as_bytes());
    } else {
        guard::fork_supervisor(arena).unwrap_or_else(|error| refuse(&hello.socket, error));
    }
    process::become_subreaper();
    let guard = Guard::of_this_process(arena);
    // If the family is stopped and then main is killed, we are to see it. Should that be refused, we see it when
    // somebody continues us.
    let _ = fd::continue_on_news(hello.socket.as_fd());
    let inheritance = Inheritance {
        mask: hello.mask,
        child_signal,
        group: process::group(),
        private_fds: vec![bell.as_raw_fd(), hello.main.as_raw_fd(), hello.socket.as_raw_fd()],
        memfd: hello.memfd,
    };
    let nursery = Children::new(arena, inheritance)
        .unwrap_or_else(|e| refuse(&hello.socket, Error::os("preparing the supervisor", &e)));
    let mut supervisor = Supervisor {
        arena,
        nursery,
        bell,
        main: hello.main,
        socket: Some(hello.socket),
        guard,
        farewell: Farewell::default(),
    };
    supervisor.announce();
    loop {
        supervisor.round();
    }
}

/// Tells main why there will be no supervisor, and ends.
fn refuse(socket: &OwnedFd, error: Error) -> ! {
    preload::tell(socket.as_fd(), preload::Fate::Refused(error));
    process::exit_now(1)
}

/// Gives this process the credentials that main had when it launched it. They differ where the kernel gave
/// capabilities to the program or took some away when it was executed.
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
    nursery: Children,
    bell: OwnedFd,
    main: OwnedFd,
    /// Open while main has its end: it closes when main ends or executes another program.
    socket: Option<OwnedFd>,
    guard: Guard,
    farewell: Farewell,
}

/// How often the supervisor looks at how far the end of the family has come.
const STEP_MS: i32 = 50;

/// How far the end of the family has come.
#[derive(Default)]
struct Farewell {
    began: bool,
    named: bool,
    /// How long it has lasted, without the time in which the family was suspended.
    lasted_ns: u64,
    looked_ns: u64,
    /// How long it had lasted when the daemons were asked to go.
    terminated_ns: Option<u64>,
}

impl Farewell {
    /// Time passes. What the supervisor sleeps longer than it wanted to counts up to a limit: it may have been
    /// suspended together with those who were asked to go.
    fn pass(&mut self, now: u64) {
        const MOST_NS: u64 = 4 * STEP_MS as u64 * 1_000_000;
        if self.began {
            self.lasted_ns += now.saturating_sub(self.looked_ns).min(MOST_NS);
        }
        self.looked_ns = now;
    }
}

impl Supervisor {
    /// Makes the first spares and says that children can be had.
    fn announce(&mut self) {
        let header = self.arena.header();
        if let Ok((device, inode)) = process::cwd_identity() {
            header.cwd_device.store(device, Ordering::Relaxed);
            header.cwd_inode.store(inode, Ordering::Relaxed);
        }
        // The function of `preload` may have changed them.
        let mine = Credentials::of_this_thread();
        header.credentials_digest.store(mine.as_ref().map_or(0, Credentials::digest), Ordering::Relaxed);
        header.bounding.store(mine.as_ref().map_or(0, Credentials::bounding), Ordering::Relaxed);
        header.user_namespace.store(credentials::user_namespace(), Ordering::Relaxed);
        // ORDERING: SeqCst, before any pass of ours: see `arena/collect.rs`.
        header.supervisor_pid.store(process::pid() as u32, Ordering::SeqCst);
        // One is enough to begin with; the others are made while it is being used.
        self.nursery.make_first();
        let to = (stage::STARTING, stage::RUNNING);
        // Main may be on its way out already; that is not to be overwritten.
        let _ = header.stage.compare_exchange(to.0, to.1, Ordering::AcqRel, Ordering::Relaxed);
        futex::wake_all(&header.stage);
        self.nursery.refill();
    }

    fn round(&mut self) {
        let socket = self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let fds = [self.bell.as_raw_fd(), self.main.as_raw_fd(), socket];
        let patience = match (self.patience_ms(), self.nursery.looks_again().left_ms()) {
            (-1, patience) | (patience, -1) => patience,
            (one, other) => one.min(other),
        };
        let [_, main_ended, socket_ready] = fd::poll(fds, patience);
        let now = now_ns();
        self.arena.header().awake.tick(now);
        self.farewell.pass(now);
        if main_ended || (socket_ready && self.main_is_another_program()) {
            self.leave();
        }
        if self.guard.is_dead() {
            // Without it, what changes its user could outlive us.
            self.leave();
        }
        if signal::drain(self.bell.as_raw_fd()) {
            // Who signals every process of the program by its number has signalled the spares, too.
            self.nursery.rouse_spares();
        }
        self.nursery.release_dying();
        if rules::holds(Rule::Reaps) {
            self.nursery.reap();
        }
        self.nursery.catch_up();
        self.nursery.note_stops();
        collect::if_wanted(self.arena, self.nursery.intent(), process_body::report_unobserved);
        match self.arena.header().stage.load(Ordering::Acquire) {
            stage::ENDING => self.end(),
            _ => self.nursery.refill(),
        }
    }

    /// The socket says something: garbage, which is thrown away, or its end. Main may have closed
    /// all its descriptors, as daemons do; if it has executed another program, the family is over.
    fn main_is_another_program(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        if fd::drain(socket.as_fd()) {
            return false;
        }
        self.socket = None;
        let pid = self.arena.slot(crate::arena::slots::MAIN).pid.load(Ordering::Relaxed);
        process::maps_memfd(pid, crate::arena::MEMFD_NAME, member::memfd_inode()) == Some(false)
    }

    fn patience_ms(&self) -> i32 {
        let farewell = match self.farewell {
            Farewell { began: false, .. } => None,
            Farewell { terminated_ns: None, named: true, .. } => None,
            _ => Some(STEP_MS),
        };
        let tick = self.arena.header().awake.patience_ms();
        farewell.into_iter().chain(tick).min().unwrap_or(-1)
    }

    /// One step of the family's end: wait for those who are not daemons, naming them after five
    /// seconds; then ask the daemons to go, and a second later make them.
    fn end(&mut self) {
        const NAMING_NS: u64 = 5_000_000_000;
        const GRACE_NS: u64 = 1_000_000_000;
        self.nursery.replace_dead();
        self.farewell.began = true;
        let now = self.farewell.lasted_ns;
        let awaited = self.nursery.awaited();
        if !awaited.is_empty() {
            if !self.farewell.named && now > NAMING_NS {
                self.farewell.named = true;
                let names = awaited.join(", ");
                let line = format!("main has ended and waits for: {names}\n");
                process::write_without_waiting(2, line.as_bytes());
            }
            return self.nursery.refill();
        }
        let terminated = *self.farewell.terminated_ns.get_or_insert_with(|| {
            self.nursery.terminate_daemons();
            now
        });
        if self.nursery.has_daemons() && now - terminated < GRACE_NS {
            return;
        }
        self.leave();
    }

    /// Kills every child and ends.
    fn leave(&mut self) -> ! {
        self.nursery.kill_everybody();
        self.guard.resume();
        process::exit_now(0)
    }
}
