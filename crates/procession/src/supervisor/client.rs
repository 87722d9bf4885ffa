//! The family's side of the supervisor: claiming a spare, and completing its request.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::launching::ensure_supervisor;
use super::options::{Options, SentFds};
use crate::arena::handle::Handle;
use crate::arena::header::{NO_SLOT, stage};
use crate::arena::process_body::{ProcessBody, RESULT, ending, ready};
use crate::arena::slots::Slot;
use crate::arena::thread::{Me, with_me};
use crate::arena::{Arena, blocks, member, slots};
use crate::os::clock::Deadline;
use crate::os::credentials::Credentials;
use crate::os::{capabilities, credentials, futex, process};
use crate::sync::raw::park::Wait;
use crate::{Error, Result, codec};

/// What a spawner asks for.
pub(crate) struct Order<'a> {
    pub(crate) entry: u64,
    pub(crate) type_hash: u64,
    /// The block with the arguments. It belongs to this process until it is handed to the new process or
    /// freed.
    pub(crate) args: u64,
    pub(crate) name: &'a str,
    pub(crate) daemon: bool,
    pub(crate) ignores_interrupts: bool,
    pub(crate) setup: Option<&'a Setup<'a>>,
}

impl Order<'_> {
    /// Returns the flags of the new process's slot.
    fn flags(&self) -> u32 {
        let daemon = if self.daemon { slots::DAEMON } else { 0 };
        daemon | if self.ignores_interrupts { slots::IGNORES_INTERRUPTS } else { 0 }
    }
}

/// What a new process applies before its function runs.
pub(crate) struct Setup<'a> {
    pub(crate) options: &'a Options,
    /// The absolute path of the new process's working directory, if that differs from this process's.
    pub(crate) directory: Option<&'a Path>,
    pub(crate) sent_fds: SentFds,
}

/// The blocks of a request, besides the arguments. They belong to this process until the request is complete.
#[derive(Clone, Copy, Default)]
struct Extras {
    cwd: u64,
    options: u64,
}

impl Extras {
    fn pack(arena: &Arena, order: &Order<'_>) -> Result<Extras> {
        let mut extras = Extras::default();
        let executes = order.setup.is_some_and(|setup| setup.options.fresh);
        let credentials = foreign_credentials(arena, executes)?;
        match (&order.setup, credentials) {
            (None, None) => extras.cwd = foreign_cwd(arena)?,
            (None, credentials) => {
                extras.cwd = foreign_cwd(arena)?;
                let options = Options { credentials, ..Options::default() };
                extras.options = codec::pack(&options).inspect_err(|_| extras.free())?;
            }
            (Some(setup), credentials) => {
                extras.cwd = match setup.directory {
                    Some(path) => codec::pack(&path.as_os_str().as_bytes().to_vec())?,
                    None => foreign_cwd(arena)?,
                };
                let options = Options { credentials, ..setup.options.clone() };
                extras.options = codec::pack(&options).inspect_err(|_| extras.free())?;
            }
        }
        Ok(extras)
    }

    fn free(self) {
        [self.cwd, self.options].into_iter().for_each(release);
    }
}

/// Starts a process, and waits until its setup is applied. When this returns, the request is complete and
/// cannot be lost. A child that died before that is replaced. From then on, the death of the child is the end
/// of the process.
pub(crate) fn spawn(order: &Order<'_>) -> Result<Prepared> {
    let (handle, prepares) = begin(order).inspect_err(|_| release(order.args))?;
    match prepares {
        false => Ok(Prepared::Ready(handle)),
        true => await_preparation(handle, order.setup.map(|setup| &setup.sent_fds)),
    }
}

/// Frees a block of this process, if there is one.
pub(crate) fn release(block: u64) {
    if let (Some(arena), true) = (member::mapped(), block != 0) {
        blocks::free(arena, member::slot(), block, blocks::Tag::process(member::slot()));
    }
}

/// Completes a request. Returns whether the child applies options before its function runs.
fn begin(order: &Order<'_>) -> Result<(Handle, bool)> {
    let arena = member::arena()?;
    ensure_supervisor(arena)?;
    let handle = Handle::create::<ProcessBody>(|object| object.set_name(order.name))?;
    let extras = Extras::pack(arena, order)?;
    let claimed = with_me(|me| claim_spare(arena, me)).and_then(|claimed| claimed);
    let index = claimed.inspect_err(|_| extras.free())?;
    send_off(arena, index, &handle, order, extras);
    Ok((handle, extras.options != 0))
}

/// How the setup of a new process ended.
pub(crate) enum Prepared {
    /// The setup is applied, and the function runs.
    Ready(Handle),
    /// The process ended before that, and its function will not run. Contains the error that the process
    /// reported, if any.
    Ended(Handle, Option<Error>),
}

/// Waits until the child of a request has applied its options.
fn await_preparation(handle: Handle, sent_fds: Option<&SentFds>) -> Result<Prepared> {
    let (arena, body) = (member::arena()?, handle.body::<ProcessBody>());
    let mut served = 0;
    let ready = with_me(|me| -> Result<bool> {
        loop {
            let word = body.ready.load(Ordering::SeqCst);
            match ready::name(word) {
                _ if word == ready::APPLIED => return Ok(true),
                _ if word == ready::ENDED => return Ok(false),
                Some(name) if word != served => {
                    served = word;
                    let slot = arena.slot(body.slot.load(Ordering::Relaxed));
                    sent_fds.map_or(Ok(()), |sent_fds| sent_fds.deliver(slot, body, word, name))?;
                }
                _ => {
                    Wait::announce(arena, me.record(), &body.ready).sleep(&body.ready, word, Deadline::NEVER)
                }
            }
        }
    })??;
    if ready {
        return Ok(Prepared::Ready(handle));
    }
    let said =
        match (body.ending.load(Ordering::Acquire), handle.object().blocks[RESULT].load(Ordering::Acquire)) {
            (ending::LOST, _) => Some(Error::FamilyLost),
            (ending::NOT_STARTED, block @ 1..) => codec::unpack(arena, block).ok(),
            _ => None,
        };
    Ok(Prepared::Ended(handle, said))
}

/// Fills in the request of a claimed slot and wakes the child in it.
fn send_off(arena: &Arena, index: u32, handle: &Handle, order: &Order<'_>, extras: Extras) {
    let slot = arena.slot(index);
    let body: &ProcessBody = handle.body();
    let (mine, theirs) = (blocks::Tag::process(member::slot()), blocks::Tag::process(index));
    // CRASH: the slot is `CLAIMED` by this process until the last store. If we die before that store,
    // recovery clears the request, and the child sleeps on.
    body.slot.store(index, Ordering::Relaxed);
    body.incarnation.store(slot.incarnation.load(Ordering::Relaxed), Ordering::Relaxed);
    if extras.options != 0 {
        body.ready.store(ready::AWAITED, Ordering::Relaxed);
    }
    handle.object().set_partner(index);
    arena.held_objects(index).set(handle.id().index());
    slot.process.store(handle.id().0, Ordering::Relaxed);
    slot.parent.store(member::slot(), Ordering::Relaxed);
    slot.parent_incarnation.store(arena.incarnation(member::slot()), Ordering::Relaxed);
    slot.flags.store(order.flags(), Ordering::Relaxed);
    if !order.daemon {
        slot.spawner.set();
    }
    slot.request.entry.store(order.entry, Ordering::Relaxed);
    slot.request.type_hash.store(order.type_hash, Ordering::Relaxed);
    let request = &slot.request;
    let blocks =
        [(order.args, &request.args), (extras.cwd, &request.cwd), (extras.options, &request.options)];
    for (block, place) in blocks {
        if block != 0 {
            blocks::hand_over(arena, block, mine, theirs);
        }
        place.store(block, Ordering::Relaxed);
    }
    slot.state.store(slots::GO, Ordering::Release);
    if futex::wake_all(&slot.state) == 0 && is_dead(slot) {
        // The spare is dead, and the supervisor has not noticed yet. The supervisor will replace the spare.
        return;
    }
    // CRASH: the child can still be replaced before this store. If we die here, a child that begins records
    // its process id itself.
    if let Some(pid) = slot.make_known(body.incarnation.load(Ordering::Relaxed)) {
        body.name_pid(pid);
    }
}

/// Returns whether the child of a slot has ended.
#[cold]
fn is_dead(slot: &Slot) -> bool {
    let pid = slot.pid.load(Ordering::SeqCst);
    pid != 0 && process::is_dead(pid)
}

/// Returns the credentials of the calling thread if children of the supervisor begin with different ones.
/// Always returns them for a child that `executes` the program, because the kernel may change that child's
/// credentials.
fn foreign_credentials(arena: &Arena, executes: bool) -> Result<Option<Credentials>> {
    let header = arena.header();
    // A process with several threads, such as main, cannot enter another user namespace.
    if !member::is_main() && credentials::user_namespace() != header.user_namespace.load(Ordering::Relaxed) {
        return Err(Error::Unsupported(
            "this process has entered another user namespace, and processes that it spawns would not be in it".into(),
        ));
    }
    let failed = |e| Error::os("reading this thread's credentials", &e);
    if !executes
        && Credentials::without_bounding_set().map_err(failed)?.digest()
            == header.credentials_digest.load(Ordering::Relaxed)
        && !capabilities::bounding_set_differs(
            header.bounding_watched.load(Ordering::Relaxed),
            header.bounding.load(Ordering::Relaxed),
        )
    {
        return Ok(None);
    }
    Credentials::of_this_thread().map(Some).map_err(failed)
}

/// Returns a block with this process's working directory, or 0 if the supervisor has the same one.
fn foreign_cwd(arena: &Arena) -> Result<u64> {
    let header = arena.header();
    let theirs = (header.cwd_device.load(Ordering::Relaxed), header.cwd_inode.load(Ordering::Relaxed));
    if process::cwd_identity().is_ok_and(|mine| mine == theirs) {
        return Ok(0);
    }
    let failed = |e| Error::os("finding the working directory", &e);
    let cwd = match std::env::current_dir() {
        // A directory that was deleted, or lies outside the root directory, has no path, but /proc leads to
        // it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            process::cwd_in_proc().ok_or_else(|| failed(e))?
        }
        other => other.map_err(failed)?,
    };
    // A path can be too long, or lead through a directory that this process may no longer enter.
    let cwd = match process::is_path_of_cwd(&cwd) {
        true => cwd,
        false => process::cwd_in_proc().unwrap_or(cwd),
    };
    codec::pack(&cwd.as_os_str().as_bytes().to_vec())
}

/// Claims a spare, and waits for one if there is none.
fn claim_spare(arena: &'static Arena, me: &Me) -> Result<u32> {
    let header = arena.header();
    loop {
        let seen = header.spares.load(Ordering::SeqCst);
        if let Some(index) = try_claim(arena, me) {
            if header.spare_slots.iter().all(|hint| !is_spare(arena, hint.load(Ordering::Relaxed))) {
                member::wake_supervisor(arena);
            }
            return Ok(index);
        }
        match header.fork_errno.swap(0, Ordering::AcqRel) {
            0 => {}
            NO_SLOT => {
                let most = arena.layout.slots - 1;
                return Err(Error::Full(format!(
                    "the family has {most} processes, which is the most it can have"
                )));
            }
            errno => {
                let e = std::io::Error::from_raw_os_error(errno as i32);
                return Err(Error::unstarted("forking a process", &e));
            }
        }
        if header.stage.load(Ordering::Acquire) == stage::LOST {
            return Err(Error::FamilyLost);
        }
        // The bit asks the supervisor for another spare. The supervisor clears it.
        if header.spares.compare_exchange(seen, seen | 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            continue;
        }
        member::wake_supervisor(arena);
        let wait = Wait::announce(arena, me.record(), &header.spares);
        wait.sleep(&header.spares, seen | 1, Deadline::NEVER);
    }
}

fn is_spare(arena: &Arena, index: u32) -> bool {
    index != 0
        && index < arena.layout.slots
        && slots::phase(arena.slot(index).state.load(Ordering::Relaxed)) == slots::SPARE
}

fn try_claim(arena: &Arena, me: &Me) -> Option<u32> {
    let claimed = slots::claimed_by(me.owner() - 1);
    let claim = |slot: &Slot| {
        // CRASH: the word names this thread. If we die, recovery makes the slot a spare again.
        slot.state.compare_exchange(slots::SPARE, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let hints = arena.header().spare_slots.iter().map(|hint| hint.load(Ordering::Relaxed));
    hints.filter(|&index| is_spare(arena, index)).find(|&index| claim(arena.slot(index)))
}
