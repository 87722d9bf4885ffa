//! [`Pool`]: a handle to a pool of worker processes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::builder;
use super::builder::Builder;
use super::progress::Progress;
use super::raw_task::TaskOptions;
use super::reporter::Hook;
use super::shared::Shared;
use super::window::MapOptions;
use super::worker::Transfer;
use crate::arena::blocks::Tag;
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Id, Kind};
use crate::arena::{member, payload};
use crate::{Error, Result, codec};

/// Worker processes that run tasks.
///
/// A `Pool` is a handle. It can be cloned and sent to other processes, and these then submit tasks to the
/// same workers. The pool is terminated when its last handle outside its own workers is dropped, or when the
/// process that created it ends.
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
/// * A **worker**: the task that it ran is retried, or fails with
///   [`TaskError::WorkerDied`](super::TaskError::WorkerDied). No other task is affected, and another worker
///   replaces the dead one.
/// * A process that **submitted** tasks: they still run.
/// * The process that **created** the pool: all unfinished tasks fail with
///   [`TaskError::Terminated`](super::TaskError::Terminated), and the workers are killed.
pub struct Pool {
    owner: Handle,
    pub(super) shared: Arc<Shared>,
    options: PoolOptions,
    /// The progress hook. It stays in this process.
    hook: Option<Hook>,
}

/// The settings of this handle that differ from those of its pool.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct PoolOptions {
    timeout_us: Option<u64>,
    retries: Option<u32>,
    chunk: Option<u32>,
    prefetch: Option<usize>,
}

/// The object that users' handles name. Its block holds a handle to the pool. The keeper is notified when the
/// object is freed.
#[repr(C)]
struct PoolBody(AtomicU64);

#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
// SAFETY: an atomic, and zero is valid.
unsafe impl Body for PoolBody {
    const KIND: Kind = Kind::Pool;
}

impl Pool {
    /// Creates a pool with this many workers, and defaults for everything else.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for zero workers or more than 1000. Otherwise as
    /// [`Process::spawn`](crate::Process::spawn).
    ///
    /// ```
    /// let pool = procession::Pool::new(procession::cpu_count())?;
    /// assert_eq!(pool.apply(|| 6 * 7, ())?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(workers: usize) -> Result<Pool> {
        Builder::default().workers(workers).build()
    }

    /// Returns a builder, which creates a pool with settings other than the defaults.
    ///
    /// ```
    /// let pool = procession::Pool::builder().workers(2).retries(1).build()?;
    /// assert_eq!(pool.apply(|| 6 * 7, ())?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn with_owner(shared: &Arc<Shared>) -> Result<Pool> {
        let arena = member::arena()?;
        let block = codec::pack_block(&Transfer(shared.clone()))?;
        let word = arena.offset_of(&raw const shared.control.keeper.word);
        let owner = Handle::create::<PoolBody>(|object| {
            object.blocks[0].store(block.at(), Ordering::Relaxed);
            object.register_end_words([word, word]);
        })?;
        // CRASH: if we die before this store, the sweep frees the block, and the pool with its only handle.
        block.give_to(Tag::object(owner.id().index()));
        Ok(Pool { owner, shared: shared.clone(), options: PoolOptions::default(), hook: None })
    }

    fn of(owner: Handle, options: PoolOptions) -> Result<Pool> {
        let arena = member::arena()?;
        let block = owner.object().blocks[0].load(Ordering::Acquire);
        let mut carried: Option<Id> = None;
        payload::for_each_handle(arena, block, u64::MAX, &mut |id| carried = Some(id));
        let stale = || Error::StaleHandle("this pool no longer exists".into());
        let shared = Shared::with_id(carried.ok_or_else(stale)?)?;
        Ok(Pool { owner, shared, options, hook: None })
    }

    pub(super) fn task_options(&self) -> TaskOptions {
        if member::is_forked() {
            return TaskOptions::default();
        }
        let control = self.shared.control;
        TaskOptions {
            timeout_us: self.options.timeout_us.unwrap_or_else(|| control.timeout_us.load(Ordering::Relaxed)),
            retries: self.options.retries.unwrap_or_else(|| control.retries.load(Ordering::Relaxed)),
            late: false,
        }
    }

    pub(super) fn map_options(&self) -> MapOptions {
        MapOptions {
            task_options: self.task_options(),
            chunk: self.options.chunk,
            prefetch: self.options.prefetch,
            hook: self.hook.clone(),
        }
    }

    fn with(&self, change: impl FnOnce(&mut PoolOptions)) -> Pool {
        let mut pool = self.clone();
        change(&mut pool.options);
        pool
    }

    /// Returns a handle to the same pool whose maps send this many items at a time to a worker. By default,
    /// the pool measures how long items take, and chooses the size so that a chunk takes about 0.4 ms.
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
                Err(Error::InvalidArgument(format!("a chunk has 1 to {} items, not {items}", u32::MAX)))
            }
            Ok(items) => Ok(self.with(|options| options.chunk = Some(items))),
        }
    }

    /// Returns a handle to the same pool whose maps have at most this many items in flight. An item is in
    /// flight from the time it is sent to the workers until its result is returned.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?.with_prefetch(4)?;
    /// let first: Vec<u64> = pool.imap(|n: u64| n, 0..).take(3).collect::<Result<_, _>>()?;
    /// assert_eq!(first, [0, 1, 2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn with_prefetch(&self, items: usize) -> Result<Pool> {
        if items == 0 {
            return Err(Error::InvalidArgument("with_prefetch needs at least one item".into()));
        }
        Ok(self.with(|options| options.prefetch = Some(items)))
    }

    /// Returns a handle to the same pool with another [`task_timeout`](Builder::task_timeout).
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
        Ok(self.with(|options| options.timeout_us = Some(us)))
    }

    /// Returns a handle to the same pool with another number of [`retries`](Builder::retries).
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let stubborn = pool.with_retries(3);
    /// assert_eq!(stubborn.apply(|| 6 * 7, ())?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn with_retries(&self, times: u32) -> Pool {
        self.with(|options| options.retries = Some(times))
    }

    /// Returns a handle to the same pool that reports the progress of its maps: of [`map`](Pool::map),
    /// [`try_map`](Pool::try_map), [`starmap`](Pool::starmap), [`submit_map`](Pool::submit_map), and of
    /// [`imap`](Pool::imap) and its variants. [`progress_bar`](super::progress_bar) returns a hook that draws a bar.
    ///
    /// The hook is called by the thread that waits for the results: inside the call of `map`, or inside `next`
    /// of an iterator. `submit_map` has a thread of its own. The hook is called when the map begins, then at
    /// most ten times a second, and for the last time when the map is over (see [`Progress::is_over`]). While
    /// nothing changes, it is called about once a second. It is not called while that thread waits inside the
    /// input, nor while a worker of the same pool waits for the map.
    ///
    /// All maps of this handle and of its clones share the hook. Each call describes one map. If several maps
    /// run at the same time, one calls the hook while the others wait for it to return. A handle that is sent to
    /// another process has no hook there.
    ///
    /// # Panics
    /// The map panics if the hook panics.
    ///
    /// ```
    /// use procession::pool::{Pool, progress_bar};
    /// let pool = Pool::new(2)?;
    /// assert_eq!(pool.with_progress(progress_bar()).map(|n: u32| n + 1, [1, 2, 3])?, [2, 3, 4]);
    ///
    /// let log = pool.with_progress(|progress| println!("{progress}"));
    /// for (index, result) in log.imap_unordered(|n: usize| n * 2, 0..100).indexed() {
    ///     assert_eq!(result?, index * 2);
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn with_progress(&self, hook: impl FnMut(Progress) + Send + 'static) -> Pool {
        let mut pool = self.clone();
        pool.hook = Some(Hook::new(hook));
        pool
    }
}

impl Clone for Pool {
    fn clone(&self) -> Pool {
        Pool {
            owner: self.owner.clone(),
            shared: self.shared.clone(),
            options: self.options,
            hook: self.hook.clone(),
        }
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
        (Owner(self.owner.clone()), self.options).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pool, D::Error> {
        let (Owner(owner), options) = <(Owner, PoolOptions)>::deserialize(deserializer)?;
        Pool::of(owner, options).map_err(serde::de::Error::custom)
    }
}

/// The handle in the form in which it is sent to another process.
struct Owner(Handle);

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Owner, D::Error> {
        Handle::deserialize(deserializer, Kind::Pool).map(Owner)
    }
}
