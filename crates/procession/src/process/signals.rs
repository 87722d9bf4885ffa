//! Sending a signal to exactly the right process, never to another process that was given the same process
//! id.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::arena::handle::Handle;
use crate::arena::process_body::ProcessBody;
use crate::arena::slots::{self, Slot};
use crate::arena::{Arena, MEMFD_NAME, member};
use crate::os::process;
use crate::rules::Rule;
use crate::{Error, Result, rules};

/// Returns the slot of a process that is alive.
fn live_slot<'a>(arena: &'a Arena, body: &ProcessBody) -> Option<&'a Slot> {
    let index = body.slot.load(Ordering::Relaxed);
    if body.is_done() || index == 0 || index >= arena.layout.slots {
        return None;
    }
    let slot = arena.slot(index);
    let same = slot.incarnation.load(Ordering::Acquire) == body.incarnation.load(Ordering::Relaxed);
    (same && slot.is_live()).then_some(slot)
}

/// Returns a descriptor for the process; `None` if it has ended, or has no process id at this moment.
pub(super) fn pidfd(handle: &Handle) -> Result<Option<OwnedFd>> {
    let arena = member::arena()?;
    let body: &ProcessBody = handle.body();
    let Some(slot) = live_slot(arena, body) else { return Ok(None) };
    let pid = slot.pid.load(Ordering::SeqCst);
    if pid == 0 {
        return Ok(None);
    }
    match process::pidfd_open(pid) {
        // The supervisor frees the slot, or clears the process id in it, before it reaps the process. So if
        // the slot is still live and has the same process id, the id was not given to another process.
        Ok(fd) => {
            let same = live_slot(arena, body).is_some_and(|s| s.pid.load(Ordering::SeqCst) == pid);
            Ok((same && (is_served(arena) || is_relative(pid))).then_some(fd))
        }
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(e) => Err(Error::os("opening a process", &e)),
    }
}

/// As [`pidfd`], but returns an error if there is no descriptor.
pub(super) fn pidfd_or_why(handle: &Handle) -> Result<OwnedFd> {
    let why = |name: String| match handle.body::<ProcessBody>().is_done() {
        true => format!("process {name} has ended"),
        false => {
            format!(
                "process {name} has just died, or has no process id yet: it can be joined, or asked for again"
            )
        }
    };
    pidfd(handle)?.ok_or_else(|| Error::StaleHandle(why(handle.object().name())))
}

/// Reports whether the supervisor is alive. When it dies, the kernel kills its children, and any process may reap them.
fn is_served(arena: &Arena) -> bool {
    let supervisor = arena.header().supervisor_pid.load(Ordering::SeqCst) as i32;
    supervisor != 0 && !process::is_dead(supervisor)
}

/// Reports whether a process maps the family's memory, as far as main can see.
fn is_relative(pid: i32) -> bool {
    process::maps_memfd(pid, MEMFD_NAME, member::memfd_inode()) == Some(true)
}

/// Returns a descriptor for main. The family ends when main ends, but for a moment before the family has
/// ended, main's process id may already belong to another process.
pub(super) fn pidfd_of_main(pid: i32) -> Result<OwnedFd> {
    let pidfd = process::pidfd_open(pid).map_err(|e| Error::os("opening main", &e))?;
    // This check comes after the descriptor is open, because from then on the descriptor always refers to the
    // same process.
    match process::maps_memfd(pid, MEMFD_NAME, member::memfd_inode()) {
        Some(false) if !member::is_main() => Err(Error::StaleHandle("main has ended".into())),
        _ => Ok(pidfd),
    }
}

/// Sends a signal to main.
pub(super) fn send_to_main(pid: i32, signal: i32) -> Result<()> {
    process::pidfd_signal(pidfd_of_main(pid)?.as_fd(), signal).map_err(|e| Error::os("sending a signal", &e))
}

/// Sends `signal`. Does nothing if the process has ended. If the kernel does not permit this because one of
/// the two processes has changed its user, the supervisor sends the signal.
pub(super) fn send(handle: &Handle, signal: i32) -> Result<()> {
    let arena = member::arena()?;
    let body: &ProcessBody = handle.body();
    let Some(slot) = live_slot(arena, body) else { return Ok(()) };
    let incarnation = body.incarnation.load(Ordering::Relaxed);
    // A child that has not begun cannot handle signals yet. It checks this set of signals as soon as it can.
    // Either the child sees the bit, or we see that the child runs, and send the signal ourselves.
    if !slot.add_early_signal(incarnation, signal) {
        return Ok(()); // the slot belongs to another process
    }
    let begun = slots::phase(slot.state.load(Ordering::SeqCst)) == slots::RUNNING;
    if !begun && signal != libc::SIGKILL {
        return Ok(());
    }
    // A child that was stopped before it began never checks the set, so SIGKILL is sent even if the child has
    // not begun. The bit stays set in case the child has no process id yet.
    if begun && !slot.remove_early_signal(incarnation, signal) {
        return Ok(());
    }
    let Some(pidfd) = pidfd(handle)? else { return Ok(()) };
    match process::pidfd_signal(pidfd.as_fd(), signal) {
        Err(e)
            if e.raw_os_error() == Some(libc::EPERM)
                && is_served(arena)
                && rules::holds(Rule::SupervisorSignals) =>
        {
            leave_to_supervisor(arena, slot, incarnation, signal);
            Ok(())
        }
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(Error::os("sending a signal", &e)),
        _ => Ok(()),
    }
}

/// Makes the supervisor send a signal.
fn leave_to_supervisor(arena: &Arena, slot: &Slot, incarnation: u32, signal: i32) {
    // CRASH: before the second store, no process looks for the bit. If we die after the second store, our own
    // end wakes the supervisor.
    if slot.add_early_signal(incarnation, signal) {
        arena.header().signals_left.store(1, Ordering::SeqCst);
        member::wake_supervisor(arena);
    }
}
