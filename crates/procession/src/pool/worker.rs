//! A worker: a process that takes tasks until there will be none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cells::control::phase;
use super::claim::Held;
use super::run;
use super::shared::Core;
use crate::arena::handle::Handle;
use crate::arena::objects::Kind;
use crate::os::clock::Deadline;
use crate::os::{limits, process};
use crate::queue::ring::Refusal;
use crate::queue::waiting;
use crate::supervisor::entrypoint::{self, Returned};

/// A pool on its way to a worker.
pub(super) struct Transfer(pub(super) Arc<Core>);

impl Serialize for Transfer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.handle().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Transfer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Transfer, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::PoolCore)?;
        Core::of(handle).map(Transfer).map_err(serde::de::Error::custom)
    }
}

/// The pool that this process works for: its object's id; 0 for none.
static EMPLOYER: AtomicU64 = AtomicU64::new(0);

/// Which of its workers it is.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Which worker of its pool this process is; 0 for one that is none.
#[inline]
pub(super) fn number() -> u32 {
    NUMBER.load(Ordering::Relaxed)
}

/// Whether this process is a worker of that pool.
pub(super) fn works_for(core: &Core) -> bool {
    EMPLOYER.load(Ordering::Relaxed) == core.handle().id().0
}

/// Why a worker has ended, if it has ended properly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Left {
    /// There is nothing more to do, or it has done enough.
    Done,
    /// Its initializer failed, and what it said.
    Uninitialized(String),
}

/// What a worker's process runs.
pub(super) fn work(core: Transfer, number: u32) -> Left {
    let core = core.0;
    // Held to the very end, so that recovery knows whose worker this was, and tells the keeper.
    std::mem::forget(core.clone());
    NUMBER.store(number, Ordering::Relaxed);
    EMPLOYER.store(core.handle().id().0, Ordering::Relaxed);
    let (control, me) = (core.control, number as usize);
    if let Some(pid) = control.pids.get(me) {
        pid.store(process::pid(), Ordering::SeqCst);
    }
    // ORDERING: SeqCst: whoever ends a pool whose maker is dead kills the workers that it sees after that.
    if core.phase() >= phase::FINISHED {
        return Left::Done;
    }
    let memory = control.memory.load(Ordering::Relaxed);
    if memory != 0 {
        limits::limit_private_bytes(memory.saturating_mul(2));
    }
    if let Err(why) = initialize(&core) {
        return Left::Uninitialized(why);
    }
    if let Some(ready) = control.ready.get(me) {
        ready.store(process::pid(), Ordering::SeqCst);
    }
    let most = control.max_tasks.load(Ordering::Relaxed);
    let mut done = 0;
    while let Some(held) = next(&core, number) {
        run::run(&core, held);
        done += 1;
        if done == most || (memory != 0 && limits::private_bytes() > memory) {
            break;
        }
    }
    Left::Done
}

fn initialize(core: &Core) -> Result<(), String> {
    let control = core.control;
    let (entry, hash) =
        (control.init_entry.load(Ordering::Acquire), control.init_hash.load(Ordering::Acquire));
    if entry == 0 {
        return Ok(());
    }
    let found = entrypoint::resolve(entry, hash).map_err(|e| e.to_string())?;
    match found.run()(core.arena, control.init_args.load(Ordering::Acquire)) {
        Ok(Returned::Value(_)) => Ok(()),
        Ok(Returned::Err(_, text)) => Err(text),
        Ok(Returned::Unsendable(error, _)) | Err(error) => Err(error.to_string()),
    }
}

/// The next task, or none when this worker is to leave.
fn next(core: &Core, number: u32) -> Option<Held> {
    let (ring, control) = (&core.ring, core.control);
    let leaves = || core.phase() >= phase::FINISHED || number >= control.wanted.load(Ordering::SeqCst);
    let come = || ring.has_news() || control.returned.word.load(Ordering::SeqCst) != 0 || leaves();
    let attempt = || if leaves() { Ok(None) } else { take(core).map(Some) };
    let filled = &ring.control().filled.word;
    let deadline = match control.idle_us.load(Ordering::Relaxed) {
        0 => Deadline::NEVER,
        us => Deadline::after(Duration::from_micros(us)),
    };
    match waiting::wait(core.arena, filled, deadline, || ring.has_taken(), come, attempt) {
        Ok(next) => next,
        Err(Refusal::Empty | Refusal::TimedOut) => retire(core, number),
        Err(_) => None,
    }
}

/// Leaves for want of work, unless some comes in the last moment.
fn retire(core: &Core, number: u32) -> Option<Held> {
    let idle = core.control.idle.get(number as usize)?;
    idle.store(1, Ordering::SeqCst);
    core.control.some_idle.store(1, Ordering::SeqCst);
    // ORDERING: SeqCst: we see the task, or who submits it sees that somebody has left.
    // CRASH: the mark says no more than that the keeper need not replace us before there is work.
    let held = take(core).ok();
    if held.is_some() {
        idle.store(0, Ordering::SeqCst);
    }
    held
}

fn take(core: &Core) -> Result<Held, Refusal> {
    loop {
        if let Some(held) = core.take_returned() {
            return Ok(held);
        }
        let reach = core.ring.take_marked(Deadline::NEVER, |bytes| {
            let word = bytes.try_into().ok().map(u64::from_le_bytes)?;
            core.reach_for(word as u32, (word >> 32) as u32)
        });
        // A number of a task that is not to be begun any more is passed over.
        if let Some(held) = reach?.and_then(|reach| core.grasp(reach)) {
            return Ok(held);
        }
    }
}

/// The next task, if there is one now.
#[cfg(feature = "internals")]
pub(super) fn try_next(core: &Core) -> Option<Held> {
    take(core).ok()
}
