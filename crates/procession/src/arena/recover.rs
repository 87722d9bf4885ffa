//! [`Recover`]: what recovery asks of each kind of object after a death.
//!
//! Recovery walks the dead process's journals and handles. For each object that recovery finds, it calls the
//! [`Recover`] of the object's kind. Each subsystem implements the trait in its own `recover.rs`.

use super::Arena;
use super::objects::Object;
use crate::os::process::Ended;

/// A dead process. Its slot still names it, so no other process uses the slot.
pub(crate) struct Dead<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) slot: u32,
    /// How the process ended, or `None` if the whole family was lost.
    pub(crate) how: Option<Ended>,
    /// The process's function has returned, and the process exited with code 0.
    pub(crate) returned: bool,
}

/// An object that the dead process used.
pub(crate) struct Found {
    pub(crate) index: u32,
    pub(crate) object: &'static Object,
}

/// An entry of a dead thread's journal.
#[derive(Clone, Copy)]
pub(crate) struct Journaled {
    /// The thread's record.
    pub(crate) record: u32,
    /// The offset of the lock or cell that the thread held or was about to acquire.
    pub(crate) offset: u64,
}

/// Repairs objects of one kind. The process that recovers may die too, so each method can be called again.
pub(crate) trait Recover: Sync {
    /// Releases the lock or cell that the journal names, if the dead thread held it. Before that, repairs
    /// what the lock guards, while the lock's word still names the dead thread.
    fn release(&self, _dead: &Dead<'_>, _found: &Found, _entry: Journaled) {}

    /// Removes the dead process from an object that it held: returns its permits, and leaves the parties that
    /// it belonged to. Returns whether there were any.
    fn remove_process(&self, _dead: &Dead<'_>, _found: &Found) -> bool {
        false
    }

    /// Takes the lock from a stopped thread that has not used the lock yet. The thread is alive, so it
    /// acquires the lock again when it continues.
    fn withdraw(&self, _arena: &Arena, _found: &Found, _entry: Journaled) {}

    /// Returns the leases and tasks that the dead process had to their queues and pools. Called after all
    /// locks of the process were released.
    fn return_work(&self, _dead: &Dead<'_>, _found: &Found) {}
}

/// The kinds that have nothing to repair.
pub(crate) struct Nothing;

impl Recover for Nothing {}
