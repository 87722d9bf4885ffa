//! [`Barrier`]: where so many meet before any of them goes on.
//!
//! ```text
//!  63          36 35    32 31                0
//! ┌──────────────┬────────┬───────────────────┐
//! │   history    │ cause  │       round       │   how each of the last 28 rounds ended: 1 by a reset
//! └──────────────┴────────┴───────────────────┘
//! ```
//!
//! | state            | meaning                       | who moves it                                    |
//! |------------------|-------------------------------|-------------------------------------------------|
//! | round r, whole   | parties arrive                | who sees all there → `r + 1`; a reset → `r + 1` |
//! | round r, a cause | broken: everyone fails        | a reset → `r + 1`, whole                        |
//!
//! Each arrival is a cell that names its thread and its round, so the number of those who have arrived is
//! counted, not stored, and the dead can be told apart. Within a round cells are only added, so whoever
//! counts all of them may close the round, by one exchange that fails when the barrier was broken before.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::raw::event::notify;
use super::wait::{self, Broken, WaitError, travels};
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind, Object};
use crate::arena::storage::{self, LINE};
use crate::arena::thread::with_me;
use crate::arena::{Arena, member};
use crate::os::clock::Deadline;
use crate::rules::{self, Rule};
use crate::{Error, Result};

const CAUSE_SHIFT: u32 = 32;
const CAUSE: u64 = 0xf << CAUSE_SHIFT;
const HISTORY_SHIFT: u32 = 36;
const HISTORY: u32 = 28;
const DIED: u64 = 1;
const TIMED_OUT: u64 = 2;
const ABORTED: u64 = 3;
const PANICKED: u64 = 4;

/// In a cell: it stands for a party of a dead process; the rest of the lower half is its slot + 1, the upper
/// half its incarnation. Otherwise the lower half is a thread and the upper half the round it arrived for.
const DEAD: u64 = 1 << 31;

/// A barrier in shared memory; its cells lie in a block.
#[repr(C)]
struct BarrierBody {
    state: AtomicU64,
    events: AtomicU32,
    shrinks: AtomicU32,
    /// Who broke it by dying.
    pid: AtomicU32,
    /// The last round that was ended by a reset, or was about to be.
    last_reset: AtomicU32,
}

// SAFETY: atomics only, 32 bytes, and all zero is a barrier without cells.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for BarrierBody {
    const KIND: Kind = Kind::Barrier;
}

/// A point where a number of parties (threads, of whatever processes) wait for each other, again and again.
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
/// There is no `try_wait`: to arrive is to be counted. A wait that runs out of time breaks the barrier for
/// all.
///
/// # If a process dies
///
/// When a process that has a handle to the barrier is killed or calls `exit`, whether it had arrived or not,
/// the barrier is **broken**: everyone who waits, and everyone who comes, gets [`WaitError::Broken`] with
/// its process id, until somebody calls [`reset`](Barrier::reset). So nobody waits for the dead. A panic that
/// unwinds through a handle breaks it too. So give a handle only to who takes part. A process that returns,
/// be it an `Err`, has let its handles go and breaks nothing. One that dies with the handle still in its
/// arguments, or in a message that it has just taken, counts as well.
///
/// With [`shrink`](BarrierBuilder::shrink) the barrier goes on instead without the parties of the dead: its
/// threads that took part in this round or the last one, at least one.
#[derive(Clone)]
pub struct Barrier {
    handle: Handle,
    cells: &'static [AtomicU64],
}

/// How a [`Barrier`] is made that is not the usual one: see [`Barrier::builder`].
///
/// ```
/// let builder = procession::sync::Barrier::builder(2).shrink(true);
/// let (one, other) = (builder.build()?, builder.build()?);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BarrierBuilder {
    parties: u32,
    shrink: bool,
}

/// What a party learns when all have met.
///
/// ```
/// let met = procession::sync::Barrier::new(1)?.wait()?;
/// assert_eq!((met.index(), met.is_leader()), (0, true));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
    leader: bool,
}

impl BarrierWaitResult {
    /// A number below the number of parties that the barrier was made with, for each of those who meet another
    /// one.
    ///
    /// ```
    /// assert_eq!(procession::sync::Barrier::new(1)?.wait()?.index(), 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn index(&self) -> u32 {
        self.index
    }

    /// True for exactly one of them.
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

impl BarrierBuilder {
    /// Whether the barrier goes on without the parties of a dead process, instead of being broken.
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::builder(3).shrink(true).build()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[must_use]
    pub fn shrink(self, yes: bool) -> BarrierBuilder {
        BarrierBuilder { shrink: yes, ..self }
    }

    /// Makes the barrier.
    ///
    /// # Errors
    /// As [`Barrier::new`].
    ///
    /// ```
    /// assert!(procession::sync::Barrier::builder(0).build().is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn build(&self) -> Result<Barrier> {
        if !(1..=Barrier::MAX_PARTIES).contains(&self.parties) {
            let most = Barrier::MAX_PARTIES;
            let text = format!("a barrier has 1 to {most} parties, not {}", self.parties);
            return Err(Error::InvalidArgument(text));
        }
        let arena = member::arena()?;
        let room = storage::make(arena, u64::from(self.parties) * 8, LINE)?;
        let fill = |object: &Object| {
            let body: &BarrierBody = object.body();
            body.state.store(1, SeqCst); // cells of round 0 are free
            body.shrinks.store(self.shrink.into(), SeqCst);
        };
        Barrier::of(storage::create::<BarrierBody>(&[room], fill)?)
    }
}

fn round(state: u64) -> u32 {
    state as u32
}

fn cause(state: u64) -> u64 {
    (state & CAUSE) >> CAUSE_SHIFT
}

fn next(state: u64, by_reset: bool) -> u64 {
    let history = state >> HISTORY_SHIFT << 1 | u64::from(by_reset);
    history << HISTORY_SHIFT | u64::from(round(state).wrapping_add(1))
}

fn arrived_for(cell: u64, round: u32) -> bool {
    cell & DEAD == 0 && (cell >> 32) as u32 == round
}

/// Whether who arrives for `round` may take the cell. One of a later round is somebody who waits: the round
/// that we saw is over.
fn is_free_for(cell: u64, round: u32) -> bool {
    let older = round.wrapping_sub((cell >> 32) as u32) as i32 > 0;
    cell == 0 || (cell & DEAD == 0 && older)
}

impl Barrier {
    /// The most parties that a barrier can have.
    pub const MAX_PARTIES: u32 = 1 << 20;

    /// Makes a barrier for so many parties.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0 parties or more than [`MAX_PARTIES`](Barrier::MAX_PARTIES); when the
    /// shared memory is full or cannot be had.
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

    /// For a barrier with options.
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::builder(3).shrink(true).build()?;
    /// assert_eq!(barrier.parties(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn builder(parties: u32) -> BarrierBuilder {
        BarrierBuilder { parties, shrink: false }
    }

    fn of(handle: Handle) -> Result<Barrier> {
        let arena = member::arena()?;
        let cells = cells(arena, handle.object(), handle.id().index());
        let cells = cells.ok_or_else(|| Error::StaleHandle("a damaged barrier".into()))?;
        Ok(Barrier { handle, cells })
    }

    fn body(&self) -> &'static BarrierBody {
        self.handle.body()
    }

    /// How many parties it waits for. Fewer than it was made with only if it shrinks.
    ///
    /// ```
    /// assert_eq!(procession::sync::Barrier::new(5)?.parties(), 5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn parties(&self) -> usize {
        self.cells.iter().filter(|cell| cell.load(SeqCst) & DEAD == 0).count()
    }

    /// How many wait. A snapshot.
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

    /// Whether it is broken. A snapshot.
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

    /// Arrives, and waits for the others as long as it takes.
    ///
    /// # Errors
    /// [`WaitError::Broken`], with the cause; [`WaitError::Unusable`] in a plain fork of a member of the
    /// family.
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

    /// Arrives, and waits for the others at most `timeout`. If they have not come by then, the barrier is
    /// broken for all.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; otherwise as [`wait`](Barrier::wait).
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

    /// As [`wait_timeout`](Barrier::wait_timeout), until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Barrier::wait_timeout).
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// barrier.wait_deadline(std::time::Instant::now())?; // all are there
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWaitResult, WaitError> {
        self.meet(Deadline::at(deadline))
    }

    /// Breaks it: everyone who waits, and everyone who comes, fails. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`] in a plain fork of a member of the family.
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

    /// Makes it whole and empty: everyone who waits fails, and who comes from now on begins a new round. Never
    /// waits.
    ///
    /// # Errors
    /// [`Error::Forked`] in a plain fork of a member of the family.
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
        // CRASH: one store; between it and the wake the death sweep wakes who sleeps.
        let _ = self.body().state.fetch_update(SeqCst, SeqCst, |now| {
            self.body().last_reset.store(round(now), SeqCst);
            Some(next(now, true))
        });
        notify(&self.body().events, i32::MAX);
        Ok(())
    }

    fn meet(&self, deadline: Deadline) -> Result<BarrierWaitResult, WaitError> {
        member::arena().map_err(|e| WaitError::unusable(&e))?;
        let me = with_me(|me| me.owner()).map_err(|e| WaitError::unusable(&e))?;
        let (round, index) = self.arrive(me, deadline)?;
        if self.complete(round) {
            return Ok(BarrierWaitResult { index, leader: true });
        }
        let body = self.body();
        let over = || match body.ended(round) {
            // The last one may have died before it closed the round, and a barrier may have shrunk.
            None if self.complete(round) => Some(Ok(true)),
            None => None,
            Some(ended) => Some(ended.map(|()| false)),
        };
        match wait::until(&body.events, deadline, over) {
            Ok(met) => met.map(|leader| BarrierWaitResult { index, leader }),
            Err(WaitError::TimedOut) => {
                body.break_it(Some(round), TIMED_OUT);
                match body.ended(round) {
                    Some(Ok(())) => Ok(BarrierWaitResult { index, leader: false }),
                    Some(Err(WaitError::Broken(Broken::TimedOut))) | None => Err(WaitError::TimedOut),
                    Some(Err(other)) => Err(other),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// Takes a cell in the round that is under way. Gives the round, and the cell's place.
    fn arrive(&self, me: u32, deadline: Deadline) -> Result<(u32, u32), WaitError> {
        let body = self.body();
        loop {
            let state = body.state.load(SeqCst);
            if cause(state) != 0 {
                return Err(body.broken(state));
            }
            let round = round(state);
            for (index, cell) in self.cells.iter().enumerate() {
                let now = cell.load(SeqCst);
                if !is_free_for(now, round) {
                    continue;
                }
                let mine = u64::from(round) << 32 | u64::from(me);
                // CRASH: from this store on we have arrived; our death breaks the barrier, or shrinks it.
                // A cell of an earlier round is not there any more when this round is over, unless by a
                // reset, which then counts as having come after us.
                if cell.compare_exchange(now, mine, SeqCst, SeqCst).is_ok() {
                    return Ok((round, index as u32));
                }
            }
            // More come than there are parties: one of those will close the round in a moment.
            wait::until(&body.events, deadline, || body.ended(round).map(drop))?;
        }
    }

    /// Closes the round if everyone has arrived. True for the one who does.
    fn complete(&self, round_now: u32) -> bool {
        let body = self.body();
        if !self.cells.iter().all(|cell| {
            let now = cell.load(SeqCst);
            now & DEAD != 0 || arrived_for(now, round_now)
        }) {
            return false;
        }
        let state = body.state.load(SeqCst);
        let whole = round(state) == round_now && cause(state) == 0;
        // CRASH: before this store another who waits, or comes, closes the round; after it the death sweep
        // wakes who sleeps.
        let done = whole && body.state.compare_exchange(state, next(state, false), SeqCst, SeqCst).is_ok();
        if done {
            notify(&body.events, i32::MAX);
        }
        done
    }
}

impl BarrierBody {
    /// How a round ended, if it has.
    fn ended(&self, round_then: u32) -> Option<Result<(), WaitError>> {
        let state = self.state.load(SeqCst);
        match round(state).wrapping_sub(round_then) {
            0 if cause(state) == 0 => None,
            0 => Some(Err(self.broken(state))),
            later if later <= HISTORY && state >> HISTORY_SHIFT >> (later - 1) & 1 == 0 => Some(Ok(())),
            // With more threads than parties one may wake up so late; it has passed if there was no reset.
            later
                if later > HISTORY && self.last_reset.load(SeqCst).wrapping_sub(round_then) as i32 <= -1 =>
            {
                Some(Ok(()))
            }
            _ => Some(Err(WaitError::Broken(Broken::Reset))),
        }
    }

    fn broken(&self, state: u64) -> WaitError {
        WaitError::Broken(match cause(state) {
            DIED => Broken::ProcessDied { pid: self.pid.load(SeqCst) as i32 },
            PANICKED => Broken::Panicked { pid: self.pid.load(SeqCst) as i32 },
            TIMED_OUT => Broken::TimedOut,
            _ => Broken::Aborted,
        })
    }

    /// Breaks the barrier if it is whole, and if it is still in that round.
    fn break_it(&self, in_round: Option<u32>, why: u64) {
        let broken = |now: u64| {
            let same = in_round.is_none_or(|then| then == round(now));
            (same && cause(now) == 0).then_some(now | why << CAUSE_SHIFT)
        };
        let _ = self.state.fetch_update(SeqCst, SeqCst, broken);
        notify(&self.events, i32::MAX);
    }
}

fn cells(arena: &Arena, object: &Object, index: u32) -> Option<&'static [AtomicU64]> {
    let data = storage::find(arena, index, object.blocks[0].load(SeqCst), LINE)?;
    Some(storage::wide_cells(arena, data))
}

/// What the death of the process in `slot` does to a barrier that it has a handle to: see [`Barrier`]. Says
/// whether it did anything.
pub(crate) fn bury(arena: &Arena, slot: u32, object: &'static Object, index: u32, returned: bool) -> bool {
    let body: &'static BarrierBody = object.body();
    let Some(cells) = cells(arena, object, index).filter(|_| rules::holds(Rule::BarrierTold)) else {
        return false;
    };
    let of_dead = |cell: u64| {
        let id = (cell & (DEAD - 1)) as u32;
        cell & DEAD == 0 && id != 0 && arena.slot_of_record(id - 1) == Some(slot)
    };
    let waits = |cell: u64| of_dead(cell) && arrived_for(cell, round(body.state.load(SeqCst)));
    if returned && !cells.iter().any(|cell| waits(cell.load(SeqCst))) {
        return false;
    }
    if body.shrinks.load(SeqCst) == 0 {
        body.pid.store(arena.slot(slot).pid.load(SeqCst) as u32, SeqCst);
        body.break_it(None, DIED);
    } else {
        let round_now = || round(body.state.load(SeqCst));
        let mut seen = round_now();
        // When the round ends meanwhile, what was free in it may be taken in the next.
        let tombstone = u64::from(arena.incarnation(slot)) << 32 | DEAD | u64::from(slot + 1);
        while !shrink(cells, tombstone, seen, &of_dead) && seen != round_now() {
            seen = round_now();
        }
        super::raw::event::Word::count(&body.events);
        crate::os::futex::wake_all(&body.events); // someone of those closes the round
    }
    true
}

/// Puts the dead process's parties to rest: one cell for each of its threads that took part lately, or one.
/// Can be begun anew. False when there is no cell for that, because as many as there are parties wait.
fn shrink(cells: &[AtomicU64], tombstone: u64, round: u32, of_dead: &impl Fn(u64) -> bool) -> bool {
    let lately =
        |cell: u64| of_dead(cell) && (arrived_for(cell, round) || arrived_for(cell, round.wrapping_sub(1)));
    for (place, cell) in cells.iter().enumerate() {
        let now = cell.load(SeqCst);
        if !lately(now) {
            continue;
        }
        let again = cells[place + 1..].iter().any(|other| {
            let other = other.load(SeqCst);
            lately(other) && other as u32 == now as u32
        });
        // CRASH: a thread's further cell goes first, so that it is counted once however often we begin.
        let _ = cell.compare_exchange(now, if again { 0 } else { tombstone }, SeqCst, SeqCst);
    }
    if cells.iter().any(|cell| cell.load(SeqCst) == tombstone) {
        return true;
    }
    // It never took part. Whoever arrives meanwhile takes another cell.
    cells.iter().any(|cell| {
        let now = cell.load(SeqCst);
        is_free_for(now, round) && cell.compare_exchange(now, tombstone, SeqCst, SeqCst).is_ok()
    })
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if std::thread::panicking() && !member::is_forked() {
            let body = self.body();
            body.pid.store(std::process::id(), SeqCst);
            body.break_it(None, PANICKED);
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

#[cfg(test)]
mod tests {
    use super::*;

    const TOMBSTONE: u64 = DEAD | 9;

    fn arrived(round: u32, thread: u64) -> u64 {
        u64::from(round) << 32 | thread
    }

    fn shrunk(cells: [u64; 3], round: u32, dead: u64) -> (bool, [u64; 3]) {
        let cells = cells.map(AtomicU64::new);
        let of_dead = |cell: u64| cell & DEAD == 0 && cell & (DEAD - 1) == dead;
        (shrink(&cells, TOMBSTONE, round, &of_dead), cells.map(AtomicU64::into_inner))
    }

    #[test]
    fn who_arrives_in_the_next_round_keeps_its_cell_from_the_dead_of_this_one() {
        let next = arrived(6, 1);
        assert_eq!(shrunk([next, arrived(5, 2), arrived(4, 3)], 5, 7).1, [next, arrived(5, 2), TOMBSTONE]);
        assert!(!shrunk([next, arrived(5, 2), arrived(6, 3)], 5, 7).0);
        assert_eq!(shrunk([next, arrived(5, 2), arrived(6, 3)], 6, 7).1, [next, TOMBSTONE, arrived(6, 3)]);
    }

    #[test]
    fn a_cell_is_free_also_after_two_to_the_31_rounds() {
        for round in [1, 1 << 31, u32::MAX, 0] {
            assert!(is_free_for(0, round) && is_free_for(arrived(round.wrapping_sub(1), 1), round));
            assert!(!is_free_for(arrived(round, 1), round));
            assert!(!is_free_for(arrived(round.wrapping_add(1), 1), round));
            assert!(!is_free_for(TOMBSTONE, round));
        }
    }
}
