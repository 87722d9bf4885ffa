//! [`Barrier`]: a point where a number of parties wait for each other.
//!
//! `raw/barrier_state.rs` holds the word that stores the current round and how the last rounds ended.
//! `raw/barrier_cells.rs` records which parties have arrived. `raw/barrier_recover.rs` repairs a barrier
//! after a death.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::barrier_builder::BarrierBuilder;
use super::raw::barrier_cells::{DEAD, arrived_for, cells};
use super::raw::barrier_state::{ABORTED, BarrierBody, PANICKED, cause, next, round};
use super::raw::event::notify;
use super::wait::{WaitError, travels};
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::Kind;
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// A point where a number of parties wait for each other, repeatedly. Each party is a thread of any process.
///
/// ```
/// use procession::{Process, sync::Barrier};
///
/// let start = Barrier::new(2)?;
/// let p = Process::spawn(|start: Barrier| start.wait().map(|met| met.index()), (start.clone(),))?;
/// let here = start.wait()?;
/// assert_eq!(here.index() + p.join()??, 1);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// There is no `try_wait`, because arriving counts. A wait that times out breaks the barrier for all parties.
///
/// # If a process dies
///
/// When a process that has a handle to the barrier is killed or calls `exit`, whether it had arrived or not, the
/// barrier is **broken**. Every waiter and every later arrival gets [`WaitError::Broken`] with the dead process's id,
/// until a process calls [`reset`](Barrier::reset). A panic that unwinds through a handle breaks the barrier too. So
/// give handles only to processes that take part.
///
/// A process whose function returns, even with an `Err`, has dropped its handles and breaks nothing. A handle
/// that is still in the dead process's arguments, or in a message that the process has just received, counts
/// as one of that process's handles. This holds even if the arguments could not be decoded.
///
/// With [`shrink`](BarrierBuilder::shrink), a death does not break the barrier. The barrier continues without
/// the dead process's parties. The process counts as one party for each of its threads that took part in this
/// round or the last one, and as at least one party. When all parties are dead, a thread that arrives passes
/// alone.
#[derive(Clone)]
pub struct Barrier {
    handle: Handle,
    pub(super) cells: &'static [AtomicU64],
}

/// The result of [`wait`](Barrier::wait) when all parties have arrived.
///
/// ```
/// let met = procession::sync::Barrier::new(1)?.wait()?;
/// assert_eq!((met.index(), met.is_leader()), (0, true));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    pub(super) index: u32,
    pub(super) leader: bool,
}

impl BarrierWaitResult {
    /// Returns a number that is different for each party of this round. It is less than the number of parties that
    /// the barrier was created with.
    ///
    /// ```
    /// assert_eq!(procession::sync::Barrier::new(1)?.wait()?.index(), 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Returns true for exactly one party of each round.
    ///
    /// ```
    /// if procession::sync::Barrier::new(1)?.wait()?.is_leader() {
    ///     println!("done by one of them, after each round");
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

impl Barrier {
    /// The maximum number of parties of a barrier.
    pub const MAX_PARTIES: u32 = 1 << 20;

    /// Creates a barrier for this number of parties.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0 parties or more than [`MAX_PARTIES`](Barrier::MAX_PARTIES). Also fails if the
    /// shared memory is full or cannot be created.
    ///
    /// ```
    /// use procession::sync::Barrier;
    /// assert!(Barrier::new(0).is_err());
    /// assert!(Barrier::new(1)?.wait()?.is_leader()); // one party never waits
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(parties: u32) -> Result<Barrier> {
        Barrier::builder(parties).build()
    }

    /// Returns a builder for a barrier with options.
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::builder(3).shrink(true).build()?;
    /// assert_eq!(barrier.parties(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn builder(parties: u32) -> BarrierBuilder {
        BarrierBuilder::new(parties)
    }

    pub(super) fn of(handle: Handle) -> Result<Barrier> {
        let arena = member::arena()?;
        let cells = cells(arena, handle.object(), handle.id().index());
        let cells = cells.ok_or_else(|| {
            Error::StaleHandle("the barrier's memory is damaged: its cells were not found".into())
        })?;
        Ok(Barrier { handle, cells })
    }

    pub(super) fn body(&self) -> &'static BarrierBody {
        self.handle.body()
    }

    /// Returns how many parties the barrier waits for. Only a barrier that shrinks can have fewer parties
    /// than it was created with.
    ///
    /// ```
    /// assert_eq!(procession::sync::Barrier::new(5)?.parties(), 5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn parties(&self) -> usize {
        self.cells.iter().filter(|cell| cell.load(SeqCst) & DEAD == 0).count()
    }

    /// Returns how many parties wait. The answer may be out of date when this returns.
    ///
    /// ```
    /// assert_eq!(procession::sync::Barrier::new(5)?.waiting(), 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn waiting(&self) -> usize {
        let state = self.body().state.load(SeqCst);
        if cause(state) != 0 {
            return 0;
        }
        self.cells.iter().filter(|cell| arrived_for(cell.load(SeqCst), round(state))).count()
    }

    /// Returns whether the barrier is broken. The answer may be out of date when this returns.
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::new(2)?;
    /// barrier.abort()?;
    /// assert!(barrier.is_broken());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_broken(&self) -> bool {
        cause(self.body().state.load(SeqCst)) != 0
    }

    /// Arrives at the barrier. Waits for the other parties without a limit.
    ///
    /// # Errors
    /// * [`WaitError::Broken`]: the barrier is broken; the error says why.
    /// * [`WaitError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::new(2)?;
    /// let other = barrier.clone();
    /// let t = std::thread::spawn(move || other.wait().map(|met| met.is_leader()));
    /// assert!(barrier.wait()?.is_leader() != t.join().unwrap()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait(&self) -> Result<BarrierWaitResult, WaitError> {
        self.meet(Deadline::NEVER)
    }

    /// Arrives at the barrier. Waits for the other parties for at most `timeout`. If they have not arrived by then,
    /// the barrier breaks for all parties.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the other parties did not arrive in time. Otherwise, the errors of
    /// [`wait`](Barrier::wait).
    ///
    /// ```
    /// use procession::sync::{Barrier, WaitError};
    /// let barrier = Barrier::new(2)?;
    /// assert_eq!(barrier.wait_timeout(std::time::Duration::from_millis(10)), Err(WaitError::TimedOut));
    /// assert!(barrier.is_broken());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, WaitError> {
        self.meet(Deadline::after(timeout))
    }

    /// Arrives at the barrier like [`wait_timeout`](Barrier::wait_timeout). Waits until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`wait_timeout`](Barrier::wait_timeout).
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// barrier.wait_deadline(std::time::Instant::now())?; // all are there
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWaitResult, WaitError> {
        self.meet(Deadline::at(deadline))
    }

    /// Breaks the barrier: every waiter and every later arrival fails. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`] in a process that was created by a plain `fork()`.
    ///
    /// ```
    /// use procession::sync::{Barrier, Broken, WaitError};
    /// let barrier = Barrier::new(2)?;
    /// barrier.abort()?;
    /// assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::Aborted)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn abort(&self) -> Result<()> {
        member::arena()?;
        self.body().break_it(None, ABORTED);
        Ok(())
    }

    /// Repairs and empties the barrier: every waiter fails, and the next arrival begins a new round. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`] in a process that was created by a plain `fork()`.
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// barrier.abort()?;
    /// barrier.reset()?;
    /// assert!(barrier.wait().is_ok());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn reset(&self) -> Result<()> {
        member::arena()?;
        // CRASH: the reset is one store. If we die between this store and the wake, the death sweep wakes the
        // sleepers.
        let _ = self.body().state.fetch_update(SeqCst, SeqCst, |now| {
            self.body().last_reset.store(round(now), SeqCst);
            Some(next(now, true))
        });
        notify(&self.body().events, i32::MAX);
        Ok(())
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if std::thread::panicking() && !member::is_forked() {
            self.body().break_by(PANICKED, std::process::id());
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Barrier");
        out.field("parties", &self.parties()).field("waiting", &self.waiting());
        out.field("broken", &self.is_broken()).finish_non_exhaustive()
    }
}

travels!(Barrier, Kind::Barrier);
