//! A worker: a process that runs one task after another until it has to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cells::control::phase;
use super::claim::Claimed;
use super::run;
use super::shared::Shared;
use crate::arena::handle::Handle;
use crate::arena::objects::Kind;
use crate::os::clock::Deadline;
use crate::os::{limits, process};
use crate::queue::ring::Refusal;
use crate::queue::waiting;
use crate::supervisor::entrypoint::{self, Returned};

/// A pool in the form in which it is sent to a worker.
pub(super) struct Transfer(pub(super) Arc<Shared>);

impl Serialize for Transfer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.handle().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Transfer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Transfer, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::PoolShared)?;
        Shared::of(handle).map(Transfer).map_err(serde::de::Error::custom)
    }
}

/// The id of the pool's object if this process is a worker of the pool; 0 if this process is no worker.
static POOL_ID: AtomicU64 = AtomicU64::new(0);

/// The number of this worker in its pool.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Returns the number of this worker in its pool; 0 if this process is no worker.
#[inline]
pub(super) fn number() -> u32 {
    NUMBER.load(Ordering::Relaxed)
}

/// Reports whether this process is a worker of that pool.
pub(super) fn is_worker_of(shared: &Shared) -> bool {
    POOL_ID.load(Ordering::Relaxed) == shared.handle().id().0
}

/// How a worker has ended, if its function returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum WorkerExit {
    /// The pool has ended or shrunk, or the worker has reached a limit.
    Done,
    /// The worker's initializer failed with this error.
    Uninitialized(String),
}

/// The function that a worker runs.
pub(super) fn work(shared: Transfer, number: u32) -> WorkerExit {
    let shared = shared.0;
    // Keep this handle until the process ends. From the handle, recovery knows the worker's pool, and
    // notifies the pool's keeper.
    std::mem::forget(shared.clone());
    NUMBER.store(number, Ordering::Relaxed);
    POOL_ID.store(shared.handle().id().0, Ordering::Relaxed);
    let (control, me) = (shared.control, number as usize);
    if let Some(pid) = control.pids.get(me) {
        pid.store(process::pid(), Ordering::SeqCst);
    }
    // ORDERING: SeqCst, after our process id is stored. When the creator dies, recovery changes the phase,
    // and then kills the workers whose process ids it finds. So either recovery kills us, or we see the new
    // phase here.
    if shared.phase() >= phase::FINISHED {
        return WorkerExit::Done;
    }
    let memory = control.memory.load(Ordering::Relaxed);
    if memory != 0 {
        limits::limit_private_bytes(memory.saturating_mul(2));
    }
    if let Err(why) = initialize(&shared) {
        return WorkerExit::Uninitialized(why);
    }
    if let Some(ready) = control.ready.get(me) {
        ready.store(process::pid(), Ordering::SeqCst);
    }
    let most = match control.max_tasks.load(Ordering::Relaxed) {
        0 => u64::MAX,
        most => u64::from(most),
    };
    let mut finished = 0;
    while let Some(claimed) = next(&shared, number) {
        finished += run::run(&shared, claimed);
        if finished >= most || (memory != 0 && limits::private_bytes() > memory) {
            break;
        }
    }
    WorkerExit::Done
}

fn initialize(shared: &Shared) -> Result<(), String> {
    let control = shared.control;
    let (entry, hash) =
        (control.init_entry.load(Ordering::Acquire), control.init_hash.load(Ordering::Acquire));
    if entry == 0 {
        return Ok(());
    }
    let found = entrypoint::resolve(entry, hash).map_err(|e| e.to_string())?;
    match found.run()(shared.arena, control.init_args.load(Ordering::Acquire)) {
        Ok(Returned::Value(_)) => Ok(()),
        Ok(Returned::Err(_, text)) => Err(text),
        Ok(Returned::Unsendable(error, _)) | Err(error) => Err(error.to_string()),
    }
}

/// Waits for the next task. Returns `None` when this worker has to end.
fn next(shared: &Shared, number: u32) -> Option<Claimed> {
    let (ring, control) = (&shared.ring, shared.control);
    let leaves = || shared.phase() >= phase::FINISHED || number >= control.wanted.load(Ordering::SeqCst);
    let come = || ring.has_news() || control.returned.word.load(Ordering::SeqCst) != 0 || leaves();
    let attempt = || if leaves() { Ok(None) } else { take(shared).map(Some) };
    let filled = &ring.control().filled.word;
    let deadline = match control.idle_us.load(Ordering::Relaxed) {
        0 => Deadline::NEVER,
        us => Deadline::after(Duration::from_micros(us)),
    };
    match waiting::wait(shared.arena, filled, deadline, || ring.has_taken(), come, attempt) {
        Ok(next) => next,
        Err(Refusal::Empty | Refusal::TimedOut) => end_as_idle(shared, number),
        Err(_) => None,
    }
}

/// Marks this worker as idle, so that it ends. If a task has come at the last moment, claims and returns that
/// task instead.
fn end_as_idle(shared: &Shared, number: u32) -> Option<Claimed> {
    let idle = shared.control.idle.get(number as usize)?;
    idle.store(1, Ordering::SeqCst);
    shared.control.some_idle.store(1, Ordering::SeqCst);
    // ORDERING: SeqCst. If a task is submitted now, either we see the task, or its submitter sees the flag
    // `some_idle`.
    // CRASH: the mark `idle` only means that the keeper need not replace us until there are tasks.
    let claimed = take(shared).ok();
    if claimed.is_some() {
        idle.store(0, Ordering::SeqCst);
    }
    claimed
}

fn take(shared: &Shared) -> Result<Claimed, Refusal> {
    loop {
        if let Some(claimed) = shared.claim_returned() {
            return Ok(claimed);
        }
        let reservation = shared.ring.take_with(Deadline::NEVER, |bytes| {
            let word = bytes.try_into().ok().map(u64::from_le_bytes)?;
            shared.reserve(word as u32, (word >> 32) as u32)
        });
        // If the task is done, or another worker has taken it, skip its number.
        if let Some(claimed) = reservation?.and_then(|reservation| shared.claim(reservation)) {
            return Ok(claimed);
        }
    }
}

/// Returns the next task, without waiting for one.
#[cfg(feature = "internals")]
pub(super) fn try_next(shared: &Shared) -> Option<Claimed> {
    take(shared).ok()
}
