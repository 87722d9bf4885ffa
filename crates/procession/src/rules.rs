//! The rules that crash safety rests on, so that the tests can switch one off and see it matter.
//!
//! Without the feature `internals` every rule always holds, and the checks compile to nothing.

/// A rule that a test may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// A lock is in its taker's journal before its word names the taker.
    Journal,
    /// After an unclean death everybody who sleeps is woken.
    SweepWakes,
    /// A promise to a dead heir is removed.
    HeirRemoved,
    /// Who makes or frees an object has named it in its record.
    ObjectIntent,
    /// A span is marked as touched before anything in it belongs to a process or an object.
    TouchedFirst,
    /// A run of spans that got no head is swept.
    UnfinishedRunSwept,
    /// A spare that a dead spawner had claimed becomes a spare again.
    ClaimReturned,
    /// Who moves a handle touches the object in between.
    Touch,
    /// Who times out hands a wake-up on that it may have used up.
    WakePassedOn,
    /// Before blocks become a queue's, the batch that will name them is noted.
    BatchIntent,
    /// What an uncommitted batch names is not freed before the batch is forgotten.
    UncommittedKept,
    /// A segment is not freed while a producer's cursor is in it.
    SegmentKept,
    /// A producer that died after its commit has its cursor moved behind it.
    BatchSettled,
    /// A message that a dead consumer was about to take is the queue's again.
    TakenBack,
    /// A lease of the dead goes back to its queue.
    LeaseReturned,
    /// The task of a dead worker is tried again, or ends.
    TaskReturned,
    /// A task that waits, and that a dead worker had reached for, goes to another.
    ReservationReturned,
    /// Whose a task is is read behind the word that speaks of it.
    OwnerReadLast,
    /// The keeper of a pool hears of each death of a process that has to do with it.
    KeeperNotified,
    /// A task whose handle was sent stays though its submitter lets it go.
    TaskShared,
    /// A task is in its worker's hands before its word says so.
    TaskClaimNoted,
    /// A task that comes back is listed before its word says so.
    ReturnedListed,
    /// Room for tasks that a dead process had just linked is the pool's.
    ChunkAdopted,
    /// What a dead worker had finished of a chunk is the pool's.
    ResultsKept,
    /// Who takes a task that came back wakes another, for there may be one more.
    ReturnedNotified,
    /// A worker tells the keeper of a task's limit when it is to be seen that the task runs.
    LimitNotified,
    /// The permits of a dead process come back.
    PermitsReturned,
    /// A barrier hears of the death of a process that has a handle to it.
    BarrierTold,
    /// Who waits for long wakes up to look for a deadlock. (Broken where a test is about wake-ups, which
    /// this would make up for.)
    Looks,
    /// Who waits looks again for a moment before it sleeps. (Broken where a test counts instructions up to the
    /// sleep.)
    Spins,
    /// What a death leaves of a change to a value is freed.
    ValueRepaired,
    /// A dead reader's cell is emptied.
    ReadersLeave,
    /// The kernel can wait for several words at once. Off, it is as one before 5.16.
    WaitsForAny,
    /// A change of a dict or list is in its journal before blocks become the object's.
    ChangeNoted,
    /// What a change that was interrupted leaves over is freed.
    ChangeSettled,
    /// Who takes something out of a dict or list has its version grow before it is freed.
    VersionGrows,
    /// Nothing is freed that whoever sweeps after a death may be about to write to.
    FreedAfterSweep,
    /// What a dict or list counts is counted anew after a death.
    Recounted,
    /// A spawner that waits for a child to be given its options hears of the child's end.
    SpawnerTold,
    /// A waiter that has been passed over for long is handed what it waits for.
    HandedOn,
    /// A barrier hears also of a death before the handle to it was taken out of an argument.
    ArgumentsTold,
    /// What is reserved for an heir that does not come goes to another waiter.
    HeirBypassed,
    /// Whoever reserves something for an heir that does not sleep wakes another waiter, to see whether it comes.
    HeirWatched,
    /// Time for which a worker was stopped does not count against the limit of its task.
    SuspensionExcluded,
    /// A line of a bitmap loses its mark only after every bit in it was found clear.
    LineDrained,
    /// An exit is clean only if the process had no other thread that it could tear off.
    AloneAtExit,
    /// No other child takes the place of one whose number is known.
    KnownIsFinal,
    /// What main holds at its end is not handed on while a thread runs that may use it.
    KeptWhileRunning,
    /// No signal stops a process between the publication of its end and its exit.
    EndUninterrupted,
    /// The end of the family does not wait for a process that was stopped after it had published its end.
    FinishedNotAwaited,
    /// The guard kills the processes that the supervisor's death leaves.
    GuardKills,
    /// A process that may not signal the supervisor calls it through the guard.
    BellRings,
}

#[cfg(feature = "internals")]
mod switch {
    use std::sync::atomic::{AtomicU64, Ordering};

    static BROKEN: AtomicU64 = AtomicU64::new(0);

    /// Breaks a rule in this process and its later forks.
    pub fn break_rule(rule: super::Rule) {
        BROKEN.fetch_or(1 << rule as u32, Ordering::Relaxed);
    }

    /// Whether a rule is in force.
    #[inline]
    pub fn holds(rule: super::Rule) -> bool {
        BROKEN.load(Ordering::Relaxed) >> rule as u32 & 1 == 0
    }
}

#[cfg(feature = "internals")]
pub use switch::{break_rule, holds};

/// Whether a rule is in force.
#[cfg(not(feature = "internals"))]
#[inline(always)]
pub(crate) fn holds(_: Rule) -> bool {
    true
}
