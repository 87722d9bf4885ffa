//! The rules on which crash safety depends. A test switches one rule off and checks that crash safety then
//! breaks.
//!
//! Without the feature `internals`, every rule holds, and the checks of the rules compile to nothing.

/// A rule that a test may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// A thread writes a lock into its journal before the lock's word names the thread.
    Journal,
    /// After an unclean death, recovery wakes every sleeper.
    SweepWakes,
    /// A reservation for a dead heir is cleared.
    HeirRemoved,
    /// A thread names an object in its own record before it creates or frees the object.
    ObjectIntent,
    /// A span is marked as touched before anything in it belongs to a process or an object.
    TouchedFirst,
    /// A run of spans without a head is swept.
    UnfinishedRunSwept,
    /// If a spawner dies after it has claimed a spare, the spare becomes available again.
    ClaimReturned,
    /// A process that moves a handle touches the object after the destination holds it and before the source
    /// releases it.
    Touch,
    /// A waiter that times out passes on a wake-up that it may have consumed.
    WakePassedOn,
    /// A producer records a batch before the batch's blocks become the queue's.
    BatchIntent,
    /// The blocks of an uncommitted batch are not freed before the batch's record is cleared.
    UncommittedKept,
    /// A segment is not freed while a producer's cursor is in it.
    SegmentKept,
    /// If a producer dies after its commit, recovery moves the producer's cursor past the batch.
    CursorAdvanced,
    /// A message that a dead consumer was about to take is returned to the queue.
    TakenMessageReturned,
    /// A dead process's lease is returned to its queue.
    LeaseReturned,
    /// If a worker dies, its task is retried or ended.
    TaskReturned,
    /// If a worker dies after it has reserved a queued task, the task is returned to the other workers.
    ReservationReturned,
    /// Recovery reads a task's state first, and then the task's submitter.
    OwnerReadLast,
    /// A pool's keeper is notified whenever a process that uses the pool dies.
    KeeperNotified,
    /// A task whose handle was sent is kept even after the submitter has dropped its own handles.
    TaskShared,
    /// A worker adds a claim to its row before the state of the task's cell names the worker.
    ClaimAddedFirst,
    /// Recovery lists a returned task before the task's state says that it was returned.
    ReturnedListed,
    /// If a process dies after it has linked a block of cells, the block becomes the pool's.
    ChunkAdopted,
    /// A failure or a retry that a dead worker has counted is not counted again.
    CountedOnce,
    /// If a worker dies after it has finished a chunk, the chunk's results become the pool's.
    ResultsKept,
    /// A worker that takes a returned task wakes another worker, because there may be more returned tasks.
    ReturnedNotified,
    /// A worker notifies the keeper of a task's limit after the state says that the task runs.
    LimitNotified,
    /// A dead process's permits are returned.
    PermitsReturned,
    /// A barrier is notified of the death of a process that holds it.
    BarrierNotified,
    /// A thread that waits for long wakes up to look for a deadlock. (Tests of wake-ups break this rule,
    /// because it would hide a lost wake-up.)
    DeadlockSearch,
    /// A waiter spins for a moment before it sleeps. (Tests that count instructions up to the sleep break
    /// this rule.)
    Spins,
    /// If a death interrupts a change to a value, the change's blocks are freed.
    ValueRepaired,
    /// A dead reader's cell is cleared.
    ReaderCellCleared,
    /// The kernel can wait for several words at the same time. With this rule broken, the library behaves as
    /// on a kernel before 5.16.
    WaitsForAny,
    /// A writer notes a change to a dict or list in the journal before the change's blocks become the
    /// object's.
    ChangeJournaled,
    /// After an interrupted change, the blocks that are no longer needed are freed.
    ChangeBlocksFreed,
    /// A writer that removes a block from a dict or list increments the object's version before it frees the
    /// block.
    VersionIncremented,
    /// While a recovery may be about to write to some memory, that memory is not freed.
    FreedAfterSweep,
    /// The counts of a dict or list are recomputed after a death.
    Recounted,
    /// If a child ends while its spawner waits for the child's options to be applied, the spawner is
    /// notified.
    SpawnerNotified,
    /// A waiter that others have overtaken for a long time is handed the lock.
    LockHandedOver,
    /// A barrier is also notified of the death of a process that had not yet decoded the barrier's handle
    /// from its arguments.
    UndecodedBarrierNotified,
    /// If a lock is reserved for an heir and the heir does not come, the lock goes to another waiter.
    HeirBypassed,
    /// If a thread reserves a lock for an heir that does not sleep, it wakes another waiter. That waiter
    /// checks that the heir comes.
    HeirWatched,
    /// The time for which a worker is stopped does not count against its task's limit.
    SuspensionExcluded,
    /// A line of a bitmap loses its mark only after every bit in it was found clear.
    LineDrained,
    /// An exit is clean only if the process had no other thread that the exit could interrupt.
    AloneAtExit,
    /// A child whose process id is final is not replaced by another one.
    FinalIdKept,
    /// When main ends, its locks are not released while a thread still runs that may use what they guard.
    KeptWhileRunning,
    /// Between publishing its end and exiting, a process cannot be stopped by a signal.
    EndUninterrupted,
    /// The end of the family does not wait for a process that was stopped after it published its end.
    FinishedNotAwaited,
    /// After the supervisor's death, the guard kills the processes that are left.
    GuardKills,
    /// A process that lacks the permission to signal the supervisor wakes the supervisor through the guard.
    WakesThroughGuard,
    /// What a dead process held is released before the kernel lets its parent reap it.
    ReleasedEarly,
    /// A process is recovered only if all its threads exit, not if only one of them does.
    EveryThreadExits,
    /// The supervisor reaps its children. (Tests of what happens before the reaping break this rule.)
    Reaps,
    /// If main adopts orphans, the guard's parent stays.
    ParentStays,
    /// Before a worker clears a cell's note, it takes over the text of a panic that the note names.
    PanicTextTakenOver,
    /// The supervisor sends the signals that a process lacks the permission to send.
    SupervisorSignals,
}

#[cfg(feature = "internals")]
mod switch {
    use std::sync::atomic::{AtomicU64, Ordering};

    static BROKEN: AtomicU64 = AtomicU64::new(0);

    /// Breaks a rule in this process and in its later forks.
    pub fn break_rule(rule: super::Rule) {
        BROKEN.fetch_or(1 << rule as u32, Ordering::Relaxed);
    }

    /// Returns whether a rule is in force.
    #[inline]
    pub fn holds(rule: super::Rule) -> bool {
        BROKEN.load(Ordering::Relaxed) >> rule as u32 & 1 == 0
    }
}

#[cfg(feature = "internals")]
pub use switch::{break_rule, holds};

/// Returns whether a rule is in force.
#[cfg(not(feature = "internals"))]
#[inline(always)]
pub(crate) fn holds(_: Rule) -> bool {
    true
}
