//! The relatives of a process in its family: the process itself, its parent and its children.

use std::sync::atomic::Ordering;

use super::any::AnyProcess;
use crate::arena::handle::Handle;
use crate::arena::objects::{Id, Kind};
use crate::arena::process_body::ProcessBody;
use crate::arena::slots::MAIN;
use crate::arena::{Arena, member};
use crate::{Error, Result};

/// Returns a handle to the calling process.
///
/// # Errors
/// [`Error::Os`] or [`Error::Full`] if the shared memory cannot be created, [`Error::Forked`] in a plain fork.
///
/// ```
/// use procession::{Process, current_process};
/// let p = Process::spawn(|| Ok::<u32, String>(current_process().map_err(|e| e.to_string())?.pid()), ())?;
/// assert_eq!(Some(p.join()?.unwrap()), p.pid());
/// # Ok::<(), procession::Error>(())
/// ```
pub fn current_process() -> Result<AnyProcess> {
    let arena = member::arena()?;
    of_slot(arena, member::slot()).map(|found| AnyProcess { pid: std::process::id(), ..found })
}

/// Returns the process that spawned this one. Returns `None` in main, and if the spawning process has ended.
///
/// # Errors
/// [`Error::Os`] or [`Error::Full`] if the shared memory cannot be created, [`Error::Forked`] in a plain fork.
///
/// ```
/// use procession::{Process, current_process, parent_process};
/// assert!(parent_process()?.is_none()); // of main
/// let pid_of_parent = || parent_process().ok().flatten().map(|parent| parent.pid());
/// let p = Process::spawn(pid_of_parent, ())?;
/// assert_eq!(p.join()?, Some(current_process()?.pid()));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn parent_process() -> Result<Option<AnyProcess>> {
    let arena = member::arena()?;
    if member::is_main() {
        return Ok(None);
    }
    let me = arena.slot(member::slot());
    let parent = me.parent.load(Ordering::Acquire);
    let same =
        || parent == MAIN || arena.incarnation(parent) == me.parent_incarnation.load(Ordering::Acquire);
    // `same` is checked before and after, because the slot may meanwhile have been given to another process.
    Ok(same().then(|| of_slot(arena, parent).ok()).flatten().filter(|_| same()))
}

/// Returns the processes that this one spawned and that have not ended.
///
/// # Errors
/// [`Error::Os`] or [`Error::Full`] if the shared memory cannot be created, [`Error::Forked`] in a plain fork.
///
/// ```
/// use procession::{Process, active_children};
/// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
/// assert!(active_children()?.iter().any(|child| Some(child.pid()) == p.pid()));
/// p.kill()?;
/// # Ok::<(), procession::Error>(())
/// ```
pub fn active_children() -> Result<Vec<AnyProcess>> {
    let arena = member::arena()?;
    let used = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    let mine = (1..used).filter(|&slot| {
        let slot = arena.slot(slot);
        slot.is_live()
            && slot.parent.load(Ordering::Relaxed) == member::slot()
            && slot.parent_incarnation.load(Ordering::Relaxed) == arena.incarnation(member::slot())
    });
    Ok(mine.filter_map(|slot| of_slot(arena, slot).ok()).filter(AnyProcess::is_alive).collect())
}

/// Returns how many processes can run at the same time. This is the number of processors that this process
/// may use, or less if its control group has a smaller quota. The result is at least 1.
///
/// ```
/// let workers = procession::cpu_count();
/// assert!(workers >= 1);
/// ```
pub fn cpu_count() -> usize {
    // This call reads the affinity of the calling thread, and the quotas of control groups of both versions.
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn of_slot(arena: &Arena, index: u32) -> Result<AnyProcess> {
    if index == MAIN {
        let pid = arena.slot(MAIN).pid.load(Ordering::Relaxed).cast_unsigned();
        return Ok(AnyProcess { pid, handle: None });
    }
    let gone = || Error::StaleHandle("the process has ended".into());
    if index >= arena.layout.slots {
        return Err(gone());
    }
    let slot = arena.slot(index);
    // The process in the slot holds its own object. If the process ends meanwhile, `take` returns an error.
    let handle = Handle::take(Id(slot.process.load(Ordering::Acquire)), Kind::Process)?;
    handle.object().touch();
    // If the process is alive after the touch, the collector sees the touch before it frees the object.
    if !slot.is_live() {
        return Err(gone());
    }
    let pid = match handle.body::<ProcessBody>().pid.load(Ordering::Acquire) {
        // The spawner has not yet stored the process id.
        0 => slot.pid.load(Ordering::SeqCst),
        pid => pid,
    };
    Ok(AnyProcess { pid: pid.cast_unsigned(), handle: Some(handle) })
}
