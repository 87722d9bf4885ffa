//! Handles, their counts, and the collector.

use std::sync::atomic::Ordering;

use super::arena;
use crate::arena::handle::HasHandle;
use crate::arena::records::Record;
use crate::arena::{collect, handle, member};

/// Makes a pass of the collector in this process.
pub fn collect() {
    arena().header().collect_wanted.store(0, Ordering::SeqCst);
    collect::want(arena());
}

/// If a pass of the collector was requested, makes one, as the supervisor does after each death.
pub fn collect_if_wanted() {
    collect::if_wanted(arena(), &Record::private(), |_, _| ());
}

/// Makes a pass of the collector, as the supervisor.
pub fn collect_as_supervisor() {
    arena().header().collect_wanted.store(1, Ordering::SeqCst);
    collect_if_wanted();
}

/// Marks an object as held by this process, as if the process had received a handle to it.
pub fn hold(handle: &impl HasHandle) {
    arena().held_objects(member::slot()).set(handle.object_index());
}

/// Replaces this process's count of its handles to an object. Returns the previous count.
pub fn say_handles(handle: &impl HasHandle, count: u32) -> u32 {
    handle::counted(handle.object_index()).swap(count, Ordering::SeqCst)
}

/// As [`say_handles`], for the handles to a task.
pub fn say_task_handles<R>(task: &crate::pool::Task<R>, count: u32) -> u32 {
    task.handles().swap(count, Ordering::SeqCst)
}

/// Wears out a free place in the table of objects, so that it can be used only once more.
pub fn exhaust_generations(object: u32) {
    arena().object(object).exhaust_generations();
}
