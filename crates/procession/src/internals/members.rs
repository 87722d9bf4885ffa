//! Lets tests join the family without a supervisor, and declare processes dead and recover them.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use super::arena;
use crate::arena::thread::with_me;
use crate::arena::{member, payload, process_body, slots, sweep};
use crate::os::credentials::Credentials;
use crate::os::faults::Switch;
use crate::os::process::Ended;
use crate::os::{credentials, futex, process, threads};
use crate::recovery;
use crate::sync::raw::park;

/// Returns the address, the length and the descriptor of the arena in this process.
pub fn mapping() -> (*mut u8, usize, RawFd) {
    let (base, bytes) = (arena().base(), arena().layout.bytes as usize);
    (base, bytes, member::memfd().expect("the tests are main").as_raw_fd())
}

/// Returns the switch that makes system calls fail in any process of the family.
pub fn faults() -> &'static Switch {
    &arena().header().faults
}

/// Sets up a slot for a process that joins with [`become_member`].
pub fn open_slot(slot: u32) {
    let arena = arena();
    arena.header().slots_used.fetch_max(slot + 1, Ordering::AcqRel);
    arena.slot(slot).state.store(slots::RUNNING, Ordering::Release);
}

/// Makes a slot a spare in which no child sleeps, for a spawner to claim.
pub fn open_spare(slot: u32) {
    let arena = arena();
    arena.header().slots_used.fetch_max(slot + 1, Ordering::AcqRel);
    arena.slot(slot).state.store(slots::SPARE, Ordering::Release);
    arena.header().spare_slots[0].store(slot, Ordering::Release);
    arena.header().stage.store(crate::arena::header::stage::RUNNING, Ordering::Release);
    // The test's children are forked from this process and have its credentials, so this process stands for
    // the supervisor.
    let mine = Credentials::of_this_thread().expect("the tests have credentials");
    arena.header().credentials_digest.store(mine.digest(), Ordering::Relaxed);
    arena.header().bounding.store(mine.bounding(), Ordering::Relaxed);
    arena.header().bounding_watched.store(!0, Ordering::Relaxed);
    arena.header().user_namespace.store(credentials::user_namespace(), Ordering::Relaxed);
}

/// Notifies spawners that wait for a spare.
pub fn wake_spawners() {
    arena().header().spares.fetch_add(2, Ordering::SeqCst);
    futex::wake_all(&arena().header().spares);
}

/// Declares this process's working directory to be the supervisor's, so that a request need not name a
/// directory.
pub fn adopt_working_directory() {
    let (device, inode) = process::cwd_identity().expect("the tests have a working directory");
    arena().header().cwd_device.store(device, Ordering::Relaxed);
    arena().header().cwd_inode.store(inode, Ordering::Relaxed);
}

/// Returns the phase of a slot's state: see `arena/slots.rs`.
pub fn slot_phase(slot: u32) -> u32 {
    slots::phase(arena().slot(slot).state.load(Ordering::Acquire))
}

/// Makes this process the process of `slot`. For a fork that the library's fork handler did not see.
pub fn become_member(slot: u32) {
    member::become_child(slot);
    arena().slot(slot).pid.store(process::pid(), Ordering::Release);
}

/// For a fork of the process of `slot`: marks the objects of the inherited handles as held by this process,
/// too.
pub fn inherit_handles(slot: u32) {
    let (arena, me) = (arena(), member::slot());
    arena.held_objects(slot).for_each(|index| arena.held_objects(me).set(index));
}

/// Declares that SIGKILL has killed the process of `slot`, and recovers the process.
pub fn recover(slot: u32) {
    let how = Some(Ended::Signaled { signal: libc::SIGKILL, core: false });
    // If the kernel takes long to free the memory of the process, the supervisor makes this call first.
    recovery::release(arena(), slot, how);
    recovery::recover(arena(), slot, how);
}

/// Declares that the process of `slot` has aborted, and recovers the process.
pub fn recover_aborted(slot: u32) {
    let how = Some(Ended::Signaled { signal: libc::SIGABRT, core: false });
    recovery::release(arena(), slot, how);
    recovery::recover(arena(), slot, how);
}

/// Keeps the text of a panic, as a process does that a panic aborts.
pub fn leave_panic_text(message: &str) {
    let text = (message, "", "");
    let text = crate::codec::to_vec(&text).expect("bytes");
    let block = payload::try_pack_bytes(&text).expect("a block");
    let slot = arena().slot(member::slot());
    slot.flags.fetch_or(slots::PANICKING, Ordering::Relaxed);
    slot.panic_text.store(block, Ordering::Release);
}

/// Unblocks other processes that wait for the process of `slot`, which was stopped.
pub fn pass_by(slot: u32) {
    recovery::pass_by(arena(), slot);
}

/// Declares that the process of `slot` has exited with code 0, and recovers the process.
pub fn recover_exited(slot: u32) {
    recovery::recover(arena(), slot, Some(Ended::Exited(0)));
}

/// Completes what a dead supervisor was doing, as main does when the family is lost.
pub fn recover_supervisor() {
    sweep::after_supervisor(arena());
}

/// Notes that the function of this process has returned, as a child does before it exits.
pub fn say_returned() {
    arena().slot(member::slot()).leaving.store(slots::RETURNED, Ordering::Release);
}

/// Declares `threads` more threads of this process to be the library's own threads. Such threads use nothing
/// that the process holds.
pub fn count_own_threads(threads: u32) {
    (0..threads).for_each(|_| std::mem::forget(threads::Own::begin()));
}

/// Notifies barriers that this process will not come. A child does this if its arguments cannot be decoded.
pub fn say_that_it_does_not_come() {
    recovery::notify_barriers(arena(), member::slot(), false);
}

/// Publishes that the process in `slot` has finished, as the process itself does in its last act.
pub fn finish(slot: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        body.finish();
    }
}

/// Transfers a block of this process to its process object, as the result. `slot` is this process's slot.
pub fn give_result(slot: u32, block: u64) {
    if let Some((index, object, _)) = process_body::object_of(arena(), arena().slot(slot)) {
        process_body::attach(arena(), slot, object, index, process_body::RESULT, block);
    }
}

/// Claims a record for this thread.
pub fn register_thread() {
    with_me(|_| ()).expect("the tests are members");
}

/// Announces that a recovery is sweeping, although none is.
pub fn say_sweeping() {
    arena().header().sweeping.store(1, Ordering::SeqCst);
}

/// Wakes all sleepers, as after a death.
pub fn notify_all_sleepers() {
    park::notify_all_sleepers(arena());
}

/// Returns the offset of the word that the first thread of the process in `slot` waits for, or 0.
pub fn waits_for(slot: u32) -> u64 {
    arena().record(slot).waits_for.load(Ordering::SeqCst)
}

/// Returns the offset and the size of the slot.
pub fn slot_place(slot: u32) -> (u64, u64) {
    (arena().offset_of(&raw const *arena().slot(slot)), size_of::<slots::Slot>() as u64)
}

/// Returns whether the library considers process `pid` dead.
pub fn looks_dead(pid: i32) -> bool {
    process::is_dead(pid)
}

/// Returns whether process `pid` maps a memory file, as the library sees it.
pub fn maps_memfd(pid: i32, name: &str, inode: u64) -> Option<bool> {
    process::maps_memfd(pid, name, inode)
}

/// Returns the memory limit for these contents of `/proc/self/cgroup` and `/proc/self/mountinfo`.
pub fn memory_limit_by(groups: &[u8], mounts: &[u8]) -> Option<u64> {
    crate::os::cgroup::memory_limit_by(groups, mounts)
}

/// Returns whether a process has left a signal that the supervisor has not looked for yet.
pub fn has_left_signals() -> bool {
    arena().header().signals_left.load(Ordering::SeqCst) != 0
}
