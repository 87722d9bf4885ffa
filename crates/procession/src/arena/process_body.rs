//! A process as an object: how the process ended, and how far its start has come. A `Process` handle names
//! this object.
//!
//! | `done` | meaning                          | who moves it                                       |
//! |--------|----------------------------------|----------------------------------------------------|
//! | 0      | the process has not ended        | the child as its last act, or the supervisor → 1   |
//! | 1      | the other fields say how it ended | no process                                         |
//!
//! The supervisor writes only after the child has died, so the supervisor and the child never write at the
//! same time.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::objects::{Body, Id, Kind, Object};
use super::slots::{self, Slot};
use super::{Arena, blocks, payload};
use crate::os::futex;
use crate::os::process::{self, Ended};
use crate::rules::{self, Rule};

/// [`ProcessBody::ending`].
pub(crate) mod ending {
    pub(crate) const RETURNED: u32 = 1;
    pub(crate) const FAILED: u32 = 2;
    pub(crate) const PANICKED: u32 = 3;
    pub(crate) const EXITED: u32 = 4;
    pub(crate) const KILLED: u32 = 5;
    pub(crate) const NOT_STARTED: u32 = 6;
    pub(crate) const LOST: u32 = 7;
    pub(crate) const UNDECODABLE: u32 = 8;
}

/// [`ProcessBody::details`].
pub(crate) mod detail {
    pub(crate) const CORE_DUMPED: u32 = 1;
    pub(crate) const OUT_OF_MEMORY: u32 = 2;
    pub(crate) const STACK_OVERFLOW: u32 = 4;
}

/// [`ProcessBody::ready`].
pub(crate) mod ready {
    pub(crate) const AWAITED: u32 = 1;
    pub(crate) const APPLIED: u32 = 2;
    pub(crate) const ENDED: u32 = 3;
    pub(crate) const LISTENING: u32 = 4;
    pub(crate) const WITHDRAWN: u32 = 5;

    /// Returns the value of `ready` for a child that waits at the socket `name`.
    pub(crate) fn listening(name: u32) -> u32 {
        LISTENING | name << 8
    }

    /// Returns the name of the socket at which the child waits, or `None` if it does not wait.
    pub(crate) fn name(word: u32) -> Option<u32> {
        (word & 7 == LISTENING).then_some(word >> 8)
    }
}

/// The body of a process object, which exists as long as a handle to it does.
#[repr(C)]
pub(crate) struct ProcessBody {
    /// A futex word: joiners sleep here.
    pub(crate) done: AtomicU32,
    pub(crate) ending: AtomicU32,
    /// The exit code or the signal.
    pub(crate) code: AtomicI32,
    /// Further facts about the process's end: bits of [`detail`].
    pub(crate) details: AtomicU32,
    /// The process id, or 0 until it is final: see `arena/slots.rs`.
    pub(crate) pid: AtomicI32,
    pub(crate) slot: AtomicU32,
    pub(crate) incarnation: AtomicU32,
    /// Not 0 once a call has returned how the process ended.
    pub(crate) observed: AtomicU32,
    /// A futex word with the progress of a child with options, for its spawner: see
    /// `supervisor/options.rs`.
    pub(crate) ready: AtomicU32,
}

// SAFETY: it consists of atomics only, has 36 bytes, and all zeros mean a process that has not ended.
unsafe impl Body for ProcessBody {
    const KIND: Kind = Kind::Process;
}

/// [`Object::blocks`] of a process: its function's result, and a text about its end (the panic's message, the `Err`
/// as text, or why it did not start).
pub(crate) const RESULT: usize = 0;
pub(crate) const TEXT: usize = 1;

impl ProcessBody {
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) != 0
    }

    /// Stores the process id, unless one is stored already.
    pub(crate) fn name_pid(&self, pid: i32) {
        let _ = self.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Publishes how the process ended, and wakes the waiters.
    pub(crate) fn finish(&self) {
        // CRASH: if the process dies before this store, the supervisor publishes the end. If it dies after
        // this store, recovery wakes the waiters.
        self.done.store(1, Ordering::Release);
        futex::wake_all(&self.done);
        self.end_preparation();
    }

    /// If a spawner still waits for the child, notifies it that the child will not call its function.
    fn end_preparation(&self) {
        let waited_for = !matches!(self.ready.load(Ordering::Relaxed), 0 | ready::APPLIED);
        if waited_for && rules::holds(Rule::SpawnerNotified) {
            publish_ready(self, ready::ENDED);
        }
    }
}

/// Publishes how far the child's start has come, and wakes the child's spawner.
pub(crate) fn publish_ready(body: &ProcessBody, word: u32) {
    // CRASH: if the child dies after this store, recovery wakes the spawner.
    body.ready.store(word, Ordering::SeqCst);
    futex::wake_all(&body.ready);
}

/// Transfers a block of the process in `slot_index` to its process object.
pub(crate) fn attach(arena: &Arena, slot_index: u32, object: &Object, index: u32, which: usize, block: u64) {
    if block == 0 {
        return;
    }
    // CRASH: a death before `hand_over` leaves a reference to a block that does not belong to the object.
    // When the object is freed, such a reference is ignored. The block itself is swept with its process.
    let old = object.blocks[which].swap(block, Ordering::AcqRel);
    if old != 0 && old != block {
        blocks::free(arena, slot_index, old, blocks::Tag::object(index));
    }
    let (from, to) = (blocks::Tag::process(slot_index), blocks::Tag::object(index));
    blocks::hand_over(arena, block, from, to);
}

/// Returns the process object of a slot.
pub(crate) fn object_of<'a>(arena: &Arena, slot: &Slot) -> Option<(u32, &'a Object, &'a ProcessBody)> {
    let id = Id(slot.process.load(Ordering::Acquire));
    if id.index() >= arena.layout.objects {
        return None;
    }
    // A repeated recovery may find that the object was freed and that another object has taken its place.
    let object = arena.object(id.index());
    object.is(id, Kind::Process).then(|| (id.index(), object, object.body()))
}

/// Stores the process id of the process in `slot`, unless one is stored already. The stored process id is
/// final: see [`Slot::pid`].
pub(crate) fn name_pid(arena: &Arena, slot: &Slot, pid: i32) {
    if let Some((_, _, body)) = object_of(arena, slot) {
        body.name_pid(pid);
    }
}

/// If a process returned an `Err` and no call has returned it, writes it to stderr. Called when no call can
/// return it any longer.
pub(crate) fn report_unobserved(arena: &Arena, object: &Object) {
    if !object.is_any(Kind::Process) {
        return;
    }
    let body: &ProcessBody = object.body();
    let failed = body.ending.load(Ordering::Acquire) == ending::FAILED;
    if failed && body.observed.swap(1, Ordering::AcqRel) == 0 {
        let (name, pid) = (object.name(), body.pid.load(Ordering::Relaxed));
        let text = payload::contents(arena, object.blocks[TEXT].load(Ordering::Acquire));
        let text = text.map_or("an error".into(), String::from_utf8_lossy);
        let line = format!("process {name} (pid {pid}) returned {text}\n");
        // The supervisor calls this, too, and it must not block here: the process that reads stderr may be
        // waiting for the supervisor.
        process::write_without_waiting(2, line.as_bytes());
    }
}

/// Calls [`report_unobserved`] for each process object that `slot` holds and no other process holds. At
/// main's end, calls it for every process object that main holds.
pub(crate) fn report_all_unobserved(arena: &Arena, slot: u32) {
    arena.held_objects(slot).for_each(|index| {
        let Some(object) = (index < arena.layout.objects).then(|| arena.object(index)) else { return };
        if object.is_any(Kind::Process)
            && object.body::<ProcessBody>().is_done()
            && (slot == slots::MAIN || !arena.is_held_by_others(index, slot))
        {
            report_unobserved(arena, object);
        }
    });
}

/// Stores how the dead process in `slot_index` ended, unless the process had stored this itself.
pub(crate) fn record(arena: &Arena, slot_index: u32, how: Option<Ended>) {
    let slot = arena.slot(slot_index);
    let Some((index, object, body)) = object_of(arena, slot) else { return };
    if body.is_done() {
        // The process may have died before it woke the waiters.
        if rules::holds(Rule::SweepWakes) {
            futex::wake_all(&body.done);
        }
        body.end_preparation();
        return;
    }
    let text = slot.panic_text.load(Ordering::Acquire);
    let flags = slot.flags.load(Ordering::Relaxed);
    let has = |flag| flags & flag != 0;
    let (ending, code) = match how {
        None => (ending::LOST, 0),
        // The function had returned, and then an exit handler ended the process early, but with the same
        // code.
        Some(Ended::Exited(code))
            if slot.leaving.load(Ordering::Acquire) != 0 && code == body.code.load(Ordering::Relaxed) =>
        {
            return body.finish();
        }
        Some(Ended::Exited(code)) => (ending::EXITED, code),
        // A caught panic may have left a text, too.
        Some(Ended::Signaled { signal: libc::SIGABRT, .. }) if text != 0 && has(slots::PANICKING) => {
            (ending::PANICKED, 101)
        }
        Some(Ended::Signaled { signal, .. }) => (ending::KILLED, signal),
    };
    // If the process was a worker of a pool, the text may already belong to the pool.
    if ending == ending::PANICKED && blocks::owner(arena, text).same_owner(blocks::Tag::process(slot_index)) {
        attach(arena, slot_index, object, index, TEXT, text);
    }
    body.ending.store(ending, Ordering::Relaxed);
    body.code.store(code, Ordering::Relaxed);
    let details = [
        (matches!(how, Some(Ended::Signaled { core: true, .. })), detail::CORE_DUMPED),
        (has(slots::NO_MEMORY), detail::OUT_OF_MEMORY),
        (has(slots::OVERFLOWED), detail::STACK_OVERFLOW),
    ];
    let details = details.iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit);
    body.details.store(details, Ordering::Relaxed);
    body.finish();
}
