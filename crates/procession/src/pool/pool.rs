//! [`Pool`]: workers that do what they are given.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::builder::{self, Builder};
use super::cell::{CONDEMNED, DONE, NEW, QUEUED, RETURNED, RUNNING, TAKEN};
use super::control::phase;
use super::core::Core;
use super::error::{MapError, TaskError};
use super::flow::{Flow, Manner};
use super::map::{self, Imap};
use super::run::{Each, Spread};
use super::task::{Task, Terms, Ticket};
use super::worker::{self, Carried};
use crate::arena::blocks::{self, Tag};
use crate::arena::encoding::Message;
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Id, Kind};
use crate::arena::{member, payload};
use crate::os::clock::Deadline;
use crate::process::Entry;
use crate::process::entry::assert_captures_nothing;
use crate::queue::JoinError;
use crate::queue::ring::Refusal;
use crate::queue::waiting;
use crate::sync::raw::event;
use crate::{Error, Result};

/// Processes that do tasks.
///
/// A handle: it can be cloned and sent to other processes, which then submit to the same workers. When the last
/// handle outside its own workers is dropped, or the process that made it ends, the pool is terminated.
///
/// ```
/// use procession::pool::Pool;
///
/// let pool = Pool::new(2)?;
/// assert_eq!(pool.map(|n: u64| n * n + 1, 0..1000)?[999], 998_002);
///
/// let task = pool.submit(|a: String, b: String| a + &b, ("pro".to_string(), "cession".to_string()))?;
/// assert_eq!(task.get()?, "procession");
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If a process dies
///
/// A **worker**: the task that it ran fails with [`TaskError::WorkerDied`], or is tried again; nothing else is
/// lost, whatever it was doing, and another worker takes its place. A **submitter**: its tasks are done all the
/// same. The process that **made** the pool: all tasks that are not done fail with [`TaskError::Terminated`].
pub struct Pool {
    front: Handle,
    core: Arc<Core>,
    ways: Ways,
}

/// What this handle does otherwise than its pool.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Ways {
    timeout_us: Option<u64>,
    retries: Option<u32>,
    chunk: Option<u32>,
    prefetch: Option<usize>,
}

/// What the users' handles name. Its end is told to the keeper; its block holds the pool.
#[repr(C)]
struct PoolBody(AtomicU64);

#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
// SAFETY: an atomic, and zero is valid.
unsafe impl Body for PoolBody {
    const KIND: Kind = Kind::Pool;
}

/// How a pool is doing. A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// How many workers there should be.
    pub workers: usize,
    /// The workers' process ids, of those that are ready for tasks.
    pub pids: Vec<i32>,
    /// Tasks, or chunks of maps, that nobody has begun.
    pub waiting: usize,
    /// Those that are being done.
    pub running: usize,
    /// Those that are done, one way or another.
    pub done: u64,
    /// How many workers were started.
    pub started: u64,
    /// How many workers have died.
    pub deaths: u64,
    /// How many tasks were killed because they took too long.
    pub timeouts: u64,
}

impl Pool {
    /// A pool with so many workers, and otherwise as it comes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for zero workers; otherwise as [`Process::spawn`](crate::Process::spawn).
    pub fn new(workers: usize) -> Result<Pool> {
        Builder::default().workers(workers).build()
    }

    /// A pool with settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn in_front_of(core: &Arc<Core>) -> Result<Pool> {
        let (arena, me) = (member::arena()?, Tag::process(member::slot()));
        let block = payload::pack(&Carried(core.clone()))?;
        let told = arena.offset_of(&raw const core.control.keeper.word);
        let made = Handle::create::<PoolBody>(|object| {
            object.blocks[0].store(block, Ordering::Relaxed);
            object.tell([told, told]);
        });
        let front = made.inspect_err(|_| _ = blocks::free(arena, member::slot(), block, me))?;
        // CRASH: before this the block is swept with us, and the pool goes with its only handle.
        blocks::hand_over(arena, block, me, Tag::object(front.id().index()));
        Ok(Pool { front, core: core.clone(), ways: Ways::default() })
    }

    fn of(front: Handle, ways: Ways) -> Result<Pool> {
        let arena = member::arena()?;
        let block = front.object().blocks[0].load(Ordering::Acquire);
        let mut carried: Option<Id> = None;
        payload::for_each_handle(arena, block, u64::MAX, &mut |id| carried = Some(id));
        let stale = || Error::StaleHandle("this pool no longer exists".into());
        let core = Core::take(carried.ok_or_else(stale)?)?;
        Ok(Pool { front, core, ways })
    }

    fn terms(&self) -> Terms {
        let control = self.core.control;
        Terms {
            timeout_us: self.ways.timeout_us.unwrap_or_else(|| control.timeout_us.load(Ordering::Relaxed)),
            retries: self.ways.retries.unwrap_or_else(|| control.retries.load(Ordering::Relaxed)),
        }
    }

    fn manner(&self) -> Manner {
        Manner { terms: self.terms(), chunk: self.ways.chunk, prefetch: self.ways.prefetch }
    }

    fn with(&self, change: impl FnOnce(&mut Ways)) -> Pool {
        let mut pool = self.clone();
        change(&mut pool.ways);
        pool
    }

    /// The same pool, whose maps go out in chunks of so many items. Without this, chunk sizes are found by
    /// measuring.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// assert_eq!(pool.with_chunk_size(2)?.map(|n: u8| n + 1, [1, 2, 3])?, [2, 3, 4]);
    /// assert!(pool.with_chunk_size(0).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn with_chunk_size(&self, items: usize) -> Result<Pool> {
        match u32::try_from(items) {
            Ok(0) | Err(_) => {
                Err(Error::InvalidArgument(format!("a chunk has 1 to {} items, and not {items}", u32::MAX)))
            }
            Ok(items) => Ok(self.with(|ways| ways.chunk = Some(items))),
        }
    }

    /// The same pool, whose maps have at most so many items on their way.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    pub fn with_prefetch(&self, items: usize) -> Result<Pool> {
        if items == 0 {
            return Err(Error::InvalidArgument("at least one item has to be on its way".into()));
        }
        Ok(self.with(|ways| ways.prefetch = Some(items)))
    }

    /// The same pool with another [`task_timeout`](Builder::task_timeout).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for less than a microsecond.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::pool::{Pool, TaskError};
    /// let hasty = Pool::new(1)?.with_task_timeout(Duration::from_millis(20))?;
    /// let task = hasty.submit(|| -> () { loop {} }, ())?;
    /// assert!(matches!(task.get(), Err(TaskError::TimedOut { .. })));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn with_task_timeout(&self, limit: Duration) -> Result<Pool> {
        let us = builder::as_limit(limit)?;
        Ok(self.with(|ways| ways.timeout_us = Some(us)))
    }

    /// The same pool with other [`retries`](Builder::retries).
    pub fn with_retries(&self, times: u32) -> Pool {
        self.with(|ways| ways.retries = Some(times))
    }

    /// Gives the workers a task: to call `f` with these arguments. Does not wait for it.
    ///
    /// # Errors
    /// [`TaskError`], when the arguments cannot be sent, or the pool takes no tasks any more.
    pub fn submit<F, A>(&self, f: F, args: A) -> Result<Task<F::Output>, TaskError>
    where
        F: Entry<A, Output: Message>,
        A: Message,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        Ticket::single::<Spread<F>, A>(&self.core, &args, self.terms()).map(Task::new)
    }

    /// Has a worker call `f` with these arguments, and waits for the result.
    ///
    /// # Errors
    /// As [`submit`](Pool::submit) and [`Task::get`].
    ///
    /// ```
    /// assert_eq!(procession::Pool::new(1)?.apply(|a: u8, b: u8| a + b, (1, 2))?, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn apply<F, A>(&self, f: F, args: A) -> Result<F::Output, TaskError>
    where
        F: Entry<A, Output: Message>,
        A: Message,
    {
        self.submit(f, args)?.get()
    }

    /// Calls `f` with each item, and gives the results in order when all are there. If a task fails, the first
    /// one in order is the error, and what is not begun never is.
    ///
    /// # Errors
    /// [`MapError`] with the position of the item and what became of it.
    ///
    /// # Panics
    /// If the iterator does; the pool can be used on.
    pub fn map<F, I, R>(&self, f: F, items: I) -> Result<Vec<R>, MapError>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        map::all(self.flow::<F, I, R>(f, items))
    }

    /// As [`map`](Pool::map), but each item has a result of its own, and all are done.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let halves = pool.try_map(|n: u32| 100 / n, [1, 0, 2]);
    /// assert_eq!((halves[0].clone()?, halves[2].clone()?), (100, 50));
    /// assert!(halves[1].is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_map<F, I, R>(&self, f: F, items: I) -> Vec<Result<R, TaskError>>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        map::each(self.flow::<F, I, R>(f, items))
    }

    /// As [`map`](Pool::map), for tuples of arguments.
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    ///
    /// # Panics
    /// As [`map`](Pool::map).
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// assert_eq!(pool.starmap(|a: u32, b: u32| a * b, [(2, 3), (4, 5)])?, [6, 20]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn starmap<F, I>(&self, f: F, tuples: I) -> Result<Vec<F::Output>, MapError>
    where
        I: IntoIterator<Item: Message>,
        F: Entry<I::Item, Output: Message>,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        let items = tuples.into_iter();
        map::all(Flow::new::<Spread<F>>(&self.core, items, self.manner()))
    }

    /// The results of a map in order, as they come. Items are read when they are needed: a few for each worker
    /// (see [`with_prefetch`](Pool::with_prefetch)); so there may be endlessly many.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let first = pool.imap(|n: u64| n * n, 0..).take(3).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(first, [0, 1, 4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn imap<F, I, R>(&self, f: F, items: I) -> Imap<I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        Imap::new(self.flow::<F, I, R>(f, items), true)
    }

    /// As [`imap`](Pool::imap), in the order in which they are done.
    pub fn imap_unordered<F, I, R>(&self, f: F, items: I) -> Imap<I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        Imap::new(self.flow::<F, I, R>(f, items), false)
    }

    fn flow<F, I, R>(&self, f: F, items: I) -> Flow<I::IntoIter>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        Flow::new::<Each<F, R>>(&self.core, items.into_iter(), self.manner())
    }

    /// Has more workers, or fewer: those that are too many leave after their task.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for zero workers, or too many.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// pool.resize(3)?;
    /// assert_eq!(pool.stats().workers, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn resize(&self, workers: usize) -> Result<()> {
        member::arena()?;
        builder::check_workers(workers)?;
        self.core.control.wanted.store(workers as u32, Ordering::SeqCst);
        self.core.tell_keeper();
        event::notify(&self.core.ring.control().filled.word, i32::MAX);
        Ok(())
    }

    /// How it is doing.
    pub fn stats(&self) -> Stats {
        let control = self.core.control;
        let workers = control.wanted.load(Ordering::Relaxed) as usize;
        let count = |word: &std::sync::atomic::AtomicU32| u64::from(word.load(Ordering::Relaxed));
        let mut stats = Stats {
            workers,
            pids: Vec::new(),
            waiting: 0,
            running: 0,
            done: 0,
            started: count(&control.started),
            deaths: count(&control.deaths),
            timeouts: count(&control.timeouts),
        };
        if member::is_forked() {
            return stats;
        }
        stats.pids =
            control.ready.iter().map(|pid| pid.load(Ordering::SeqCst)).filter(|&pid| pid != 0).collect();
        for (_, cell) in control.cells(self.core.arena) {
            let state = cell.state();
            stats.done += u64::from(state.generation());
            match state.phase() {
                NEW | QUEUED | RETURNED => stats.waiting += 1,
                TAKEN | RUNNING | CONDEMNED => stats.running += 1,
                DONE => stats.done += 1,
                _ => {}
            }
        }
        stats
    }

    /// Takes no more tasks; those that are there are done. Then the workers leave.
    ///
    /// ```
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::new(1)?;
    /// let last = pool.submit(|| 1, ())?;
    /// pool.close()?;
    /// assert_eq!(pool.submit(|| 2, ()).unwrap_err(), TaskError::Closed);
    /// pool.join()?;
    /// assert_eq!(last.get()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # Errors
    /// In a plain fork of a member of the family.
    pub fn close(&self) -> Result<()> {
        member::arena()?;
        self.core.advance(phase::CLOSED);
        Ok(())
    }

    /// Ends the pool now: kills its workers, and fails the tasks that are not done with
    /// [`TaskError::Terminated`]. [`join`](Pool::join) waits until that has happened.
    ///
    /// # Errors
    /// In a plain fork of a member of the family.
    pub fn terminate(&self) -> Result<()> {
        member::arena()?;
        self.core.advance(phase::TERMINATED);
        Ok(())
    }

    /// Waits until a closed or terminated pool has no workers any more.
    ///
    /// # Errors
    /// [`JoinError::Unusable`] when it is not closed, and in its own workers: both would wait for ever.
    pub fn join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::NEVER)
    }

    /// Whether a closed or terminated pool has no workers any more.
    ///
    /// # Errors
    /// [`JoinError::NotDone`] when it has; otherwise as [`join`](Pool::join).
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::after(Duration::ZERO))
    }

    /// As [`join`](Pool::join), but at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError::NotDone`] when the time was up; otherwise as [`join`](Pool::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`join`](Pool::join), but at most until `deadline`.
    ///
    /// # Errors
    /// As [`join_timeout`](Pool::join_timeout).
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<(), JoinError> {
        let (core, control) = (&self.core, self.core.control);
        let unusable = |why: &str| Err(JoinError::Unusable(why.into()));
        if member::is_forked() {
            return Err(JoinError::Unusable(Error::Forked.to_string()));
        }
        if core.phase() == phase::OPEN {
            return unusable("the pool is open: close or terminate it first, or this would wait for ever");
        }
        if worker::works_for(core) {
            return unusable("a worker that waits for the end of its own pool would wait for ever");
        }
        let over = || if control.over.load(Ordering::SeqCst) == 1 { Ok(()) } else { Err(Refusal::Empty) };
        match waiting::wait(core.arena, &control.ended.word, deadline, || 0, || over().is_ok(), over) {
            Ok(()) => Ok(()),
            Err(Refusal::Unusable(error)) => Err(JoinError::Unusable(error.to_string())),
            Err(_) => Err(JoinError::NotDone),
        }
    }
}

impl Clone for Pool {
    fn clone(&self) -> Pool {
        Pool { front: self.front.clone(), core: self.core.clone(), ways: self.ways }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Pool");
        if member::is_forked() {
            return out.finish_non_exhaustive();
        }
        let stats = self.stats();
        out.field("workers", &stats.workers).field("waiting", &stats.waiting);
        out.field("running", &stats.running).field("done", &stats.done).finish_non_exhaustive()
    }
}

impl Serialize for Pool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Front(self.front.clone()), self.ways).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pool, D::Error> {
        let (Front(front), ways) = <(Front, Ways)>::deserialize(deserializer)?;
        Pool::of(front, ways).map_err(serde::de::Error::custom)
    }
}

/// The handle as it travels.
struct Front(Handle);

impl Serialize for Front {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Front {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Front, D::Error> {
        Handle::deserialize(deserializer, Kind::Pool).map(Front)
    }
}
