//! The rules on which crash safety depends. The tests switch one off and check that it matters.
//!
//! Without the feature `internals` every rule holds, and the checks compile to nothing.

/// A rule that a test may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// A thread writes a lock into its journal before the lock's word names the thread.
    Journal,
    /// After an unclean death every sleeper is woken.
    SweepWakes,
    /// A reservation for a dead heir is cleared.
    HeirRemoved,
    /// A thread that creates or frees an object has named it in its record.
    ObjectIntent,
    /// A span is marked as touched before anything in it belongs to a process or an object.
    TouchedFirst,
    /// A run of spans without a head is swept.
    UnfinishedRunSwept,
    /// A spare that a dead spawner had claimed becomes available again.
    ClaimReturned,
    /// A process that moves a handle touches the object in between.
    Touch,
    /// A waiter that times out passes on a wake-up that it may have consumed.
    WakePassedOn,
    /// A batch is recorded before the blocks that it names become the queue's.
    BatchIntent,
    /// The blocks of an uncommitted batch are not freed before the batch's record is cleared.
    UncommittedKept,
    /// A segment is not freed while a producer's cursor is in it.
    SegmentKept,
    /// The cursor of a producer that died after its commit is moved behind the batch.
    BatchSettled,
    /// A message that a dead consumer was about to take is returned to the queue.
    TakenBack,
    /// A dead process's lease is returned to its queue.
    LeaseReturned,
    /// The task of a dead worker is retried or ended.
    TaskReturned,
    /// A queued task that a dead worker had reserved is returned to the workers.
    ReservationReturned,
    /// Recovery reads a task's submitter after its state.
    OwnerReadLast,
    /// The keeper of a pool is notified of each death of a process that uses the pool.
    KeeperNotified,
    /// A task whose handle was sent is kept although its submitter has dropped its handles.
    TaskShared,
    /// A worker adds its claim to a cell before the cell's state names it.
    TaskClaimNoted,
    /// A task that is returned to the workers is listed before its state says so.
    ReturnedListed,
    /// A block of cells that a dead process had linked becomes the pool's.
    ChunkAdopted,
    /// The results of a chunk that a dead worker had finished become the pool's.
    ResultsKept,
    /// A worker that takes a returned task wakes another, because there may be more of them.
    ReturnedNotified,
    /// A worker notifies the keeper of a task's limit after the state says that the task runs.
    LimitNotified,
    /// A dead process's permits are returned.
    PermitsReturned,
    /// A barrier is notified of the death of a process that holds it.
    BarrierTold,
    /// A long waiter wakes up to look for a deadlock. (Broken in tests of wake-ups, for which this would compensate.)
    Looks,
    /// A waiter spins for a moment before it sleeps. (Broken in tests that count instructions up to the sleep.)
    Spins,
    /// The blocks of a change to a value that a death interrupted are freed.
    ValueRepaired,
    /// A dead reader's cell is cleared.
    ReadersLeave,
    /// The kernel can wait for several words at once. Switched off, it behaves like a kernel before 5.16.
    WaitsForAny,
    /// A change of a dict or list is in its journal before its blocks become the object's.
    ChangeNoted,
    /// The superfluous blocks of an interrupted change are freed.
    ChangeSettled,
    /// A writer that removes a block from a dict or list increments the version before it frees the block.
    VersionGrows,
    /// Memory to which a recovery may be about to write is not freed.
    FreedAfterSweep,
    /// The counts of a dict or list are recomputed after a death.
    Recounted,
    /// A spawner that waits for a child's options to be applied is notified of the child's end.
    SpawnerTold,
    /// A waiter that others have overtaken for long is handed the lock.
    HandedOn,
    /// A barrier is also notified of a death before its handle was taken out of an argument.
    ArgumentsTold,
    /// A lock reserved for an heir that does not come goes to another waiter.
    HeirBypassed,
    /// A thread that reserves a lock for an heir that does not sleep wakes another waiter, which checks that the heir
    /// comes.
    HeirWatched,
    /// Time for which a worker was stopped does not count against its task's limit.
    SuspensionExcluded,
    /// A line of a bitmap loses its mark only after every bit in it was found clear.
    LineDrained,
    /// An exit is clean only if the process had no other thread that the exit could interrupt.
    AloneAtExit,
    /// A child whose process id is final is not replaced by another one.
    KnownIsFinal,
    /// The locks that main holds at its end are not released while a thread runs that may use what they guard.
    KeptWhileRunning,
    /// No signal stops a process between the publication of its end and its exit.
    EndUninterrupted,
    /// The end of the family does not wait for a process that was stopped after it had published its end.
    FinishedNotAwaited,
    /// The guard kills the processes that the supervisor's death leaves behind.
    GuardKills,
    /// A process that may not signal the supervisor wakes it through the guard.
    BellRings,
    /// What a dead process held is released before it can be reaped.
    ReleasedEarly,
    /// A process is recovered only if every thread of it exits, not if one does.
    EveryThreadExits,
    /// The supervisor reaps its children. (Broken by tests of what happens before.)
    Reaps,
    /// In a main that adopts orphans, the guard's parent stays.
    ParentStays,
    /// The supervisor sends the signals that a process may not send.
    SupervisorSignals,
}

#[cfg(feature = "internals")]
mod switch {
    use std::sync::atomic::{AtomicU64, Ordering};

    static BROKEN: AtomicU64 = AtomicU64::new(0);

    /// Breaks a rule in this process and its later forks.
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
