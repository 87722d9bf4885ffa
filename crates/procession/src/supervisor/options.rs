//! Options that a child applies before its function runs, and how descriptors reach it.
//!
//! The child applies its options while its slot is `GO`. Its spawner waits for [`ProcessBody::ready`], so the
//! death of a child in that time is an error of `spawn`:
//!
//! | word                    | meaning                                        | moved by                  |
//! |-------------------------|------------------------------------------------|---------------------------|
//! | 0                       | no spawner waits                               | never                     |
//! | `AWAITED`               | the child has not answered yet                 | child → any of the others, spawner → `WITHDRAWN` |
//! | `LISTENING` name        | the child waits for descriptors at this socket | child → `APPLIED`, spawner → `WITHDRAWN` |
//! | `WITHDRAWN`             | the descriptors cannot be sent                 | child → `ENDED`           |
//! | `APPLIED`               | its options are applied, and its function runs | never                     |
//! | `ENDED`                 | it ended before that                           | never                     |
//!
//! CRASH: if the child dies, the supervisor moves the word to `ENDED`. If the spawner dies, the child notices
//! that through a pidfd and ends.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::arena::process_body::ProcessBody;
use crate::arena::process_body::ready;
use crate::arena::slots::Slot;
use crate::arena::{Arena, process_body, slots};
use crate::codec;
use crate::os::credentials::Credentials;
use crate::os::{attributes, fd, fd_passing, process};
use crate::{Error, Result};

/// The options in a request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Options {
    /// The child executes the program again: see `reexec.rs`.
    pub(crate) fresh: bool,
    /// The spawner's credentials, where they differ from the supervisor's.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) clear_env: bool,
    /// Name and value, or no value to remove the variable. Later entries win.
    pub(crate) env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) streams: [Stream; 3],
    pub(crate) memory_limit: Option<u64>,
    pub(crate) processors: Option<Vec<u32>>,
    pub(crate) nice: Option<i32>,
    pub(crate) process_group: Option<i32>,
}

/// One of the standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    /// The child inherits the stream.
    #[default]
    Kept,
    /// `/dev/null`.
    Null,
    /// The next descriptor that the spawner sends.
    Sent,
}

/// Applies the options of its request to this process, whose slot is `GO`.
pub(super) fn apply(arena: &'static Arena, slot: &Slot, options: &Options) -> Result<()> {
    // Credentials come first, so that nothing is done with rights that the spawner does not have. A child
    // that executes the program again adopts them after the execution, because the kernel may give
    // capabilities to a program.
    if let (Some(credentials), false) = (&options.credentials, options.fresh) {
        adopt(arena, credentials)?;
    }
    let cwd = slot.request.cwd.load(Ordering::Acquire);
    if cwd != 0 {
        super::child::change_directory(arena, cwd)?;
    }
    apply_streams(arena, slot, options)?;
    if let Some(group) = options.process_group {
        attributes::join_group(group)
            .map_err(|e| Error::os(&format!("joining process group {group}"), &e))?;
    }
    if let Some(value) = options.nice {
        attributes::be_nice(value).map_err(|e| Error::os(&format!("setting the nice value {value}"), &e))?;
    }
    if let Some(processors) = &options.processors {
        attributes::run_on(processors).map_err(|e| {
            let what =
                format!("running on processors {processors:?} alone (does this process have all of them?)");
            Error::os(&what, &e)
        })?;
    }
    apply_env(options);
    // The memory limit comes last, because the steps before it take memory too.
    options.memory_limit.map_or(Ok(()), limit_memory)
}

/// Adopts the credentials of the spawner.
pub(super) fn adopt(arena: &Arena, credentials: &Credentials) -> Result<()> {
    credentials.adopt().map_err(|e| {
        Error::os("starting a process with the user, groups and capabilities that its spawner has now", &e)
    })?;
    // When credentials change, the kernel forgets the first request to die with the parent.
    process::die_with_parent(libc::SIGKILL);
    if process::parent_pid() != arena.header().supervisor_pid.load(Ordering::Relaxed) as i32 {
        process::exit_now(1);
    }
    Ok(())
}

fn limit_memory(limit: u64) -> Result<()> {
    /// The memory that is needed to call a function and to record its result.
    const LEAST: u64 = 256 << 10;
    let failed = |e| Error::os(&format!("limiting memory to {limit} bytes"), &e);
    let used = attributes::data_in_use().map_err(failed)?;
    if limit < used + LEAST {
        return Err(Error::InvalidArgument(format!(
            "a memory limit of {limit} bytes is too low: a process of this program has {used} before it begins, and needs {LEAST} more to begin"
        )));
    }
    attributes::limit_data(limit).map_err(failed)
}

fn apply_env(options: &Options) {
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let set = |name: OsString, value: Option<OsString>| {
        // SAFETY: a child that has not begun has one thread. The builder has checked for zeros and equals
        // signs.
        unsafe {
            match value {
                Some(value) => std::env::set_var(name, value),
                None => std::env::remove_var(name),
            }
        }
    };
    if options.clear_env {
        std::env::vars_os().for_each(|(name, _)| set(name, None));
    }
    for (name, value) in &options.env {
        set(text(name), value.as_deref().map(text));
    }
}

fn apply_streams(arena: &'static Arena, slot: &Slot, options: &Options) -> Result<()> {
    let failed = |e| Error::os("redirecting a standard stream", &e);
    let sent = options.streams.iter().filter(|stream| **stream == Stream::Sent).count();
    let mut sent = if sent > 0 { receive(arena, slot, sent)? } else { Vec::new() }.into_iter();
    let null = || OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    for (number, stream) in options.streams.iter().enumerate() {
        let source = match stream {
            Stream::Kept => continue,
            Stream::Null => null().map_err(failed)?,
            Stream::Sent => match sent.next() {
                Some(fd) => fd,
                None => unreachable!("INVARIANT: `receive` counts"),
            },
        };
        fd::duplicate_onto(source.as_fd(), number as RawFd).map_err(failed)?;
    }
    Ok(())
}

/// Receives `count` descriptors from the spawner.
fn receive(arena: &'static Arena, slot: &Slot, count: usize) -> Result<Vec<OwnedFd>> {
    let failed = |e| Error::os("receiving descriptors from the process that spawned this one", &e);
    let (parent, alive) = parent_of(arena, slot).map_err(failed)?;
    let meeting = fd_passing::DescriptorSocket::open().map_err(failed)?;
    let word = ready::listening(meeting.name());
    let (_, _, body) = process_body::object_of(arena, slot).ok_or(Error::FamilyLost)?;
    process_body::publish_ready(body, word);
    let expected = || body.ready.load(Ordering::SeqCst) == word;
    let fds = meeting.receive(parent, alive.as_fd(), expected).map_err(failed)?;
    if fds.len() == count {
        return Ok(fds);
    }
    // The kernel drops descriptors that exceed the limit on open files.
    Err(failed(std::io::Error::from_raw_os_error(libc::EMFILE)))
}

/// Returns the process id and a pidfd of the process that spawned this one.
fn parent_of(arena: &Arena, slot: &Slot) -> std::io::Result<(i32, OwnedFd)> {
    let index = slot.parent.load(Ordering::Acquire).min(arena.layout.slots - 1);
    let pid = arena.slot(index).pid.load(Ordering::SeqCst);
    let alive = process::pidfd_open(pid)?;
    // If that slot still has the same process, its process id was not reused in the meantime.
    let same = index == slots::MAIN
        || arena.incarnation(index) == slot.parent_incarnation.load(Ordering::Acquire)
            && arena.slot(index).pid.load(Ordering::SeqCst) == pid;
    if same { Ok((pid, alive)) } else { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// The spawner's descriptors for a child, in the order of its streams.
pub(crate) struct SentFds(pub(crate) Vec<RawFd>);

impl SentFds {
    /// Sends the descriptors to the child of `slot`, which listens at the socket `name`. The death of the
    /// child is no error here, because the supervisor reports it.
    pub(super) fn deliver(&self, slot: &Slot, body: &ProcessBody, word: u32, name: u32) -> Result<()> {
        let pid = slot.pid.load(Ordering::SeqCst);
        let brought = match fd_passing::deliver(name, pid, &self.0) {
            Ok(false)
                if pid != 0 && is_in_another_network(pid) && body.ready.load(Ordering::SeqCst) == word =>
            {
                Err(Error::Unsupported(
                    "descriptors cannot be sent to a process in another network namespace".into(),
                ))
            }
            other => other.map(drop).map_err(|e| Error::os("sending descriptors to a new process", &e)),
        };
        brought.inspect_err(|_| withdraw(body))
    }
}

/// Notifies the child that the descriptors cannot be sent.
pub(crate) fn withdraw(body: &ProcessBody) {
    let open = |word| (word != ready::APPLIED && word != ready::ENDED).then_some(ready::WITHDRAWN);
    let _ = body.ready.fetch_update(Ordering::SeqCst, Ordering::SeqCst, open);
}

/// Returns whether a process whose socket is not found is alive in another network namespace. A dying process
/// loses its socket some time before it is dead.
fn is_in_another_network(pid: i32) -> bool {
    /// How long to wait for the death of a process whose namespace cannot be read.
    const DEATH_TIMEOUT_MS: i32 = 5000;
    match process::shares_network_with(pid) {
        Some(same) => !same,
        None => {
            process::pidfd_open(pid).is_ok_and(|pidfd| !fd::poll([pidfd.as_raw_fd()], DEATH_TIMEOUT_MS)[0])
        }
    }
}

/// Returns the options in a request.
pub(crate) fn read(arena: &Arena, slot: &Slot) -> Option<Result<Options>> {
    match slot.request.options.load(Ordering::Acquire) {
        0 => None,
        block => Some(codec::unpack(arena, block)),
    }
}
