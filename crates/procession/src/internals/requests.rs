//! A spawner's request, and the child that carries it out.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arena;
use crate::arena::process_body;
use crate::supervisor::{entrypoint, options};
use crate::{Result, supervisor};

/// Looks up the function that a request names.
pub fn resolve(entry: u64, type_hash: u64) -> Result<()> {
    entrypoint::resolve(entry, type_hash).map(drop)
}

/// Returns the request in a slot: the entry, the block with the arguments, the block with the working
/// directory, and the id of the process object.
pub fn request(slot: u32) -> (u64, u64, u64, u64) {
    let slot = arena().slot(slot);
    let read = |word: &AtomicU64| word.load(Ordering::Acquire);
    (read(&slot.request.entry), read(&slot.request.args), read(&slot.request.cwd), read(&slot.process))
}

/// Returns the block with the options of the request in a slot, or 0.
pub fn request_options(slot: u32) -> u64 {
    arena().slot(slot).request.options.load(Ordering::Acquire)
}

/// Publishes that the options of the child in `slot` were applied.
pub fn prepared(slot: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        process_body::publish_ready(body, process_body::ready::APPLIED);
    }
}

/// Does everything that the child in a slot does after its request is complete, up to its last act. The
/// calling process has already become the slot's member.
pub fn run_to_last_act(slot: u32) {
    supervisor::child::run_to_last_act(arena(), slot);
}

/// Returns the process id of the process in a slot.
pub fn slot_pid(slot: u32) -> i32 {
    arena().slot(slot).pid.load(Ordering::Acquire)
}

/// Publishes that the child in a slot waits for descriptors at this socket.
pub fn say_listening(slot: u32, name: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        process_body::publish_ready(body, process_body::ready::listening(name));
    }
}

/// Publishes that the spawner of the child in a slot cannot send descriptors.
pub fn say_withdrawn(slot: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        options::withdraw(body);
    }
}

/// Stores a process id for the process in a slot.
pub fn say_pid(slot: u32, pid: i32) {
    arena().slot(slot).pid.store(pid, Ordering::SeqCst);
}

/// Decides whether another child takes the place of the child in a slot. The supervisor does this when the
/// child is dead.
pub fn replace_child(slot: u32) -> bool {
    arena().slot(slot).replace_child()
}

/// Makes the process id of the child in a slot final. The spawner does this before `spawn` returns.
pub fn make_known(slot: u32, incarnation: u32) -> Option<i32> {
    arena().slot(slot).make_known(incarnation)
}

/// Assigns a slot to a new process, as the supervisor does. The test has made the slot a spare.
pub fn begin_incarnation(slot: u32, incarnation: u32) {
    arena().slot(slot).begin_incarnation(incarnation);
}

/// Returns whether the child in a slot waits for descriptors.
pub fn listens(slot: u32) -> bool {
    let body = process_body::object_of(arena(), arena().slot(slot)).map(|(_, _, body)| body);
    body.is_some_and(|body| process_body::ready::name(body.ready.load(Ordering::SeqCst)).is_some())
}

/// Returns how the process with this object id ended, as a value of `process_body::ending`, or `None` if it
/// has not ended. Also returns whether the process's spawner need not wait for its options any longer.
pub fn ending(process: u64) -> (Option<u32>, bool) {
    let object = arena().object(process as u32);
    let body: &process_body::ProcessBody = object.body();
    let told = [0, process_body::ready::APPLIED, process_body::ready::ENDED]
        .contains(&body.ready.load(Ordering::SeqCst));
    (body.is_done().then(|| body.ending.load(Ordering::Acquire)), told)
}
