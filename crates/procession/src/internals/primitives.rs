//! Locks and queues from the inside: words, ends, blocks.

use std::sync::atomic::{AtomicU32, Ordering};

use super::arena;
use super::census::census;
use crate::arena::blocks::Tag;
use crate::arena::member;
use crate::arena::thread::with_me;
use crate::queue::ring::{End, Occupied};
use crate::sync::raw::{park, word};
use crate::sync::{Condvar, RwLock, Semaphore};
use crate::{Lock, Queue};

/// Announces that this thread waits for an item of a queue. If `yes` is false, withdraws the announcement.
pub fn say_waiting<T>(queue: &Queue<T>, yes: bool) {
    let word = arena().offset_of(&queue.ring().control().filled.word) | park::EVENT;
    let said = with_me(|me| me.record().waits_for.store(if yes { word } else { 0 }, Ordering::SeqCst));
    said.expect("the tests are members");
}

/// Returns the word on which a queue's consumers sleep.
pub fn queue_events<T>(queue: &Queue<T>) -> &'static AtomicU32 {
    let arena = arena();
    let at = arena.offset_of(&queue.ring().control().filled.word);
    arena.futex_word(at).expect("it is in the arena")
}

/// Returns the offset of the lock's word.
pub fn lock_place(lock: &Lock) -> u64 {
    arena().offset_of(lock.raw())
}

/// Returns the lock's word.
pub fn lock_word(lock: &Lock) -> u64 {
    lock.word()
}

/// Acquires the lock of one end of a queue, and holds it like a process in the middle of an operation.
pub fn occupy<T>(queue: &Queue<T>, end: End) -> Occupied {
    queue.ring().occupy(end).expect("the tests are members")
}

/// Returns the word of the lock of one end of a queue.
pub fn queue_lock_word<T>(queue: &Queue<T>, end: End) -> u64 {
    queue.ring().lock_word(end)
}

/// Returns the id of the process that holds the lock of one end of a queue.
pub fn queue_occupant<T>(queue: &Queue<T>, end: End) -> Option<i32> {
    let record = word::owner(queue_lock_word(queue, end)).checked_sub(1)?;
    let slot = arena().slot_of_record(record)?;
    Some(arena().slot(slot).pid.load(Ordering::Acquire))
}

/// Returns the position of one end of a queue: the offsets of its segment and of its record.
pub fn queue_place<T>(queue: &Queue<T>, end: End) -> (u64, u64) {
    queue.ring().place(end)
}

/// Returns two lists: the blocks that a queue owns according to their tags, and the blocks that can be
/// reached from its control block. If no block is lost, both lists contain the same blocks.
pub fn queue_blocks<T>(queue: &Queue<T>) -> (Vec<u64>, Vec<u64>) {
    let ring = queue.ring();
    let owned = census().blocks.into_iter().filter(|&(_, tag)| Tag(tag).same_owner(ring.owner()));
    (owned.map(|(at, _)| at).collect(), ring.reachable())
}

/// Returns how many of the queue's records recovery would examine for blocks that a dead consumer was taking.
pub fn queue_claim<T>(queue: &Queue<T>) -> u64 {
    queue.ring().claim()
}

/// Returns the thread for which a semaphore's next permit is reserved, or 0.
pub fn semaphore_heir(semaphore: &Semaphore) -> u32 {
    semaphore.heir()
}

/// Returns the word on which a condition variable's waiters sleep.
pub fn condvar_events(condvar: &Condvar) -> u32 {
    condvar.events().load(Ordering::SeqCst)
}

/// Returns whether a thread holds a read-write lock for reading.
pub fn has_readers<T>(lock: &RwLock<T>) -> bool {
    lock.has_readers()
}

/// Returns all permits of this process to the semaphore.
pub fn give_permits_back(semaphore: &Semaphore) {
    semaphore.return_permits_of(member::slot());
}
