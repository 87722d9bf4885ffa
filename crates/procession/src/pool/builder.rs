//! The settings of a new pool: [`Builder`].

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cells::control::{Control, WORKERS};
use super::job::{InitPoint, Initialized};
use super::keeper::{self, KeeperOptions};
use super::pool::Pool;
use super::shared::Shared;
use crate::arena::blocks::{self, Tag};
use crate::arena::member;
use crate::arena::objects::check_name;
use crate::codec;
use crate::codec::encoding::Message;
use crate::process::entry::assert_captures_nothing;
use crate::process::{Captureless, Entry, Interrupts};
use crate::{Error, Result};

/// The settings of a new pool, returned by [`Pool::builder`]. Settings that are not made keep their defaults.
///
/// ```
/// use std::time::Duration;
/// use procession::pool::Pool;
///
/// let pool = Pool::builder()
///     .workers(2)
///     .name("crunch")
///     .retries(1)
///     .task_timeout(Duration::from_secs(5))
///     .build()?;
/// assert_eq!(pool.map(|n: u32| n * n, [1, 2, 3])?, [1, 4, 9]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "a builder creates nothing until `build` is called"]
#[derive(Default)]
pub struct Builder {
    workers: Option<usize>,
    name: Option<String>,
    max_tasks: Option<u32>,
    memory: Option<u64>,
    idle: Option<Duration>,
    timeout: Option<Duration>,
    retries: u32,
    max_restarts: Option<(u32, Duration)>,
    interrupts: Option<Interrupts>,
    initializer: Option<Initializer>,
}

struct Initializer {
    names: (u64, u64),
    pack: Box<dyn Fn() -> Result<u64> + Send>,
}

impl Builder {
    /// Sets the number of workers, at most 1000. The default is the number of processors that this process may use.
    ///
    /// ```
    /// let pool = procession::Pool::builder().workers(3).build()?;
    /// assert_eq!(pool.stats().workers, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = Some(workers);
        self
    }

    /// Names the pool, with at most 90 bytes. Its workers are called `name-0`, `name-1` and so on. The default is
    /// `pool`.
    ///
    /// ```
    /// use procession::{Pool, current_process};
    /// let pool = Pool::builder().workers(1).name("crunch").build()?;
    /// let name = pool.apply(|| current_process().map_or(String::new(), |me| me.name()), ())?;
    /// assert!(name.starts_with("crunch"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Makes each worker call `f` with these arguments before its first task. `f` returns `()` or a `Result<(), E>`. A
    /// worker is a process, so a `static` that `f` sets is set for all tasks of that worker.
    ///
    /// If the initializer of a worker fails or panics, the worker ends, and another one replaces it. If that
    /// happens too often (see [`max_restarts`](Builder::max_restarts)), the pool is broken, and
    /// [`TaskError::Broken`](super::TaskError::Broken) says why.
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use procession::pool::Pool;
    ///
    /// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    /// let pool = Pool::builder()
    ///     .workers(2)
    ///     .initializer(|n: u64| _ = TABLE.set((0..n).map(|i| i * i).collect()), (100,))
    ///     .build()?;
    /// assert_eq!(pool.map(|i: usize| TABLE.get().unwrap()[i], [3, 9])?, [9, 81]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn initializer<F, A>(mut self, f: F, args: A) -> Builder
    where
        F: Captureless + Entry<A, Output: Initialized>,
        A: Message + Send,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        let pack = Box::new(move || codec::pack(&args));
        self.initializer = Some(Initializer { names: InitPoint::<F, A>::name(), pack });
        self
    }

    /// Makes a worker end after it has finished `tasks` tasks, and starts another worker in its place. This
    /// bounds what accumulates in one process, such as leaked memory.
    ///
    /// Each item of a map counts as one task, and so does each call of [`submit`](Pool::submit) or
    /// [`apply`](Pool::apply). A task counts once, even if it is retried or fails. If a task waits for
    /// another task, and its worker runs that other task meanwhile, the other task does not count.
    ///
    /// The worker ends between two chunks of a map. With this setting a chunk has one item, unless
    /// [`with_chunk_size`](Pool::with_chunk_size) sets another size. A chunk never has more than `tasks`
    /// items. So a worker finishes fewer than twice `tasks` items. If the chunk size divides `tasks`, the
    /// worker finishes exactly `tasks` items.
    ///
    /// ```
    /// let pool = procession::Pool::builder().workers(1).max_tasks_per_worker(1).build()?;
    /// assert_ne!(pool.apply(std::process::id, ())?, pool.apply(std::process::id, ())?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn max_tasks_per_worker(mut self, tasks: u32) -> Builder {
        self.max_tasks = Some(tasks);
        self
    }

    /// Bounds the memory of a worker, in two ways.
    ///
    /// * If a worker has more than `bytes` bytes of private memory after a task, the worker ends and another
    ///   one replaces it. No task fails because of this.
    /// * A worker cannot allocate more than twice `bytes` in addition to the memory that it had when it
    ///   started. Any further allocation fails. Most programs then abort, and the task fails with
    ///   [`TaskError::WorkerDied`](super::TaskError::WorkerDied), whose `out_of_memory` is true.
    ///
    /// Private memory is the memory that the worker shares with no other process. Queues, dicts and other
    /// shared objects do not count. The default is no limit.
    ///
    /// ```
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::builder().workers(1).memory_limit(64 << 20).build()?;
    /// let greedy = pool.apply(|| vec![1u8; 1 << 30].iter().map(|&b| u64::from(b)).sum::<u64>(), ());
    /// assert!(matches!(greedy, Err(TaskError::WorkerDied { .. })));
    /// assert_eq!(pool.apply(|| 6 * 7, ())?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> Builder {
        self.memory = Some(bytes);
        self
    }

    /// Ends a worker that has waited this long for a task. When there are tasks again, the worker is started
    /// again. By default, idle workers never end.
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = procession::Pool::builder().workers(2).idle_timeout(Duration::from_millis(1)).build()?;
    /// assert_eq!(pool.apply(|| 6 * 7, ())?, 42); // a worker that had ended was started again
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn idle_timeout(mut self, idle: Duration) -> Builder {
        self.idle = Some(idle);
        self
    }

    /// Limits the time of a task, or of each item of a map. If the task takes longer, its worker is killed,
    /// and the task is retried or fails with [`TaskError::TimedOut`](super::TaskError::TimedOut). The default
    /// is no limit.
    ///
    /// All time in which the worker could run counts, whether the worker sleeps or computes. Time in which
    /// the worker is stopped (SIGSTOP, Ctrl-Z) does not count. Time in which the whole family is suspended
    /// does not count either: its process group is stopped, its container is frozen, or the machine sleeps.
    /// But up to an eighth of the limit, or 20 ms if that is more, may still count for each such suspension.
    ///
    /// If the machine is so busy that the supervisor waits for a processor, a task gets more time. While the
    /// supervisor is stopped, no limit is enforced.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::builder().workers(1).task_timeout(Duration::from_millis(20)).build()?;
    /// let endless = pool.apply(|| -> () { loop { std::thread::park() } }, ());
    /// assert!(matches!(endless, Err(TaskError::TimedOut { .. })));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn task_timeout(mut self, limit: Duration) -> Builder {
        self.timeout = Some(limit);
        self
    }

    /// Retries a task, or an item of a map, up to `times` times. A retry follows if the worker dies, or if
    /// the task panics or takes too long. A task that returns an `Err` has completed, and is not retried. The
    /// default is 0. The maximum is 65,534.
    ///
    /// ```
    /// use procession::{Pool, Value};
    /// let attempts = Value::new(0u32)?;
    /// let fragile = |attempts: Value<u32>| {
    ///     if attempts.update(|n| *n += 1).is_ok() && attempts.get() == Ok(1) {
    ///         std::process::abort();
    ///     }
    /// };
    /// let pool = Pool::builder().workers(1).retries(1).build()?;
    /// pool.apply(fragile, (attempts.clone(),))?;
    /// assert_eq!(attempts.get()?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn retries(mut self, times: u32) -> Builder {
        self.retries = times;
        self
    }

    /// Sets how many workers may die before the pool gives up. If more than `most` workers die within the
    /// time `within`, the pool is broken. A broken pool starts no more workers and kills the remaining ones.
    /// All unfinished and later tasks fail with [`TaskError::Broken`](super::TaskError::Broken).
    ///
    /// Every unexpected death counts, even if it happens while a task runs. Workers that are killed because
    /// their task was cancelled or took too long do not count.
    ///
    /// By default, only workers that die before they are ready for tasks count. The pool is broken when 3
    /// workers in a row do not get past the [`initializer`](Builder::initializer). Without an initializer,
    /// the pool is broken when 100 workers in a row die before they are ready.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::builder().workers(1).max_restarts(2, Duration::from_secs(60)).build()?;
    /// let crash = || -> () { std::process::abort() };
    /// let ends: Vec<_> = (0..5).map(|_| pool.apply(crash, ())).collect();
    /// assert!(matches!(ends[0], Err(TaskError::WorkerDied { .. })));
    /// assert!(matches!(ends[4], Err(TaskError::Broken(_))));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn max_restarts(mut self, most: u32, within: Duration) -> Builder {
        self.max_restarts = Some((most, within));
        self
    }

    /// Sets whether Ctrl-C reaches the workers. The default is [`Interrupts::MainOnly`]: workers ignore SIGINT,
    /// and so do the programs that tasks execute. If SIGINT ends main, the workers end with it. If main handles
    /// SIGINT, tasks continue, and main decides: it can [`close`](Pool::close) or
    /// [`terminate`](Pool::terminate) the pool. With [`Interrupts::Shared`], SIGINT kills the workers. Their
    /// tasks are then retried or fail.
    ///
    /// ```
    /// use procession::{Pool, process::Interrupts};
    /// let pool = Pool::builder().workers(1).interrupts(Interrupts::Shared).build()?;
    /// assert_eq!(pool.apply(|| 6 * 7, ())?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn interrupts(mut self, interrupts: Interrupts) -> Builder {
        self.interrupts = Some(interrupts);
        self
    }

    /// Creates the pool and starts its workers. Returns without waiting until the workers are ready.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a number of workers, tasks or bytes, or a time, is zero. The same error
    /// for more than 1000 workers, and for a name that is too long. Otherwise as
    /// [`Process::spawn`](crate::Process::spawn).
    ///
    /// ```
    /// let pool = procession::Pool::builder().workers(2).build()?;
    /// assert_eq!(pool.map(|n: u32| n + 1, 0..3)?, [1, 2, 3]);
    /// assert!(procession::Pool::builder().workers(0).build().is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn build(&self) -> Result<Pool> {
        let workers = match self.workers {
            Some(n) => n,
            None => std::thread::available_parallelism().map_or(1, Into::into),
        };
        check_workers(workers)?;
        let name = self.name.clone().unwrap_or_else(|| "pool".into());
        check_name(&format!("{name}-{WORKERS}"))?;
        if self.max_tasks == Some(0) {
            return Err(Error::InvalidArgument("max_tasks_per_worker needs at least one task".into()));
        }
        if self.memory == Some(0) {
            return Err(Error::InvalidArgument("memory_limit of a pool needs at least one byte".into()));
        }
        let timeout_us = self.timeout.map_or(Ok(0), as_limit)?;
        let idle_us = self.idle.map_or(Ok(0), as_limit)?;
        let init = match &self.initializer {
            Some(init) => Some((init.names, (init.pack)()?)),
            None => None,
        };
        let shared = Shared::create(|control: &Control| {
            control.wanted.store(workers as u32, Ordering::Relaxed);
            control.max_tasks.store(self.max_tasks.unwrap_or(0), Ordering::Relaxed);
            control.retries.store(self.retries, Ordering::Relaxed);
            control.timeout_us.store(timeout_us, Ordering::Relaxed);
            control.memory.store(self.memory.unwrap_or(0), Ordering::Relaxed);
            control.idle_us.store(idle_us, Ordering::Relaxed);
            if let Some((names, args)) = init {
                control.init_entry.store(names.0, Ordering::Relaxed);
                control.init_hash.store(names.1, Ordering::Relaxed);
                control.init_args.store(args, Ordering::Relaxed);
            }
        });
        let shared = shared.inspect_err(|_| {
            // No pool was created, so the block with the initializer's arguments is freed.
            if let (Some((_, args)), Ok(arena)) = (init, member::arena()) {
                let slot = member::slot();
                blocks::free(arena, slot, args, Tag::process(slot));
            }
        })?;
        if let Some((_, args)) = init {
            shared.adopt(args);
        }
        let within_ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let max_restarts = self.max_restarts.map(|(most, within)| (most, within_ns(within)));
        let pool = Pool::with_owner(&shared)?;
        let interrupts = self.interrupts.unwrap_or(Interrupts::MainOnly);
        keeper::start(shared, KeeperOptions { name, max_restarts, interrupts })?;
        Ok(pool)
    }
}

pub(super) fn check_workers(workers: usize) -> Result<()> {
    if (1..=WORKERS).contains(&workers) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("a pool has 1 to {WORKERS} workers, not {workers}")))
}

/// Returns a time limit in µs.
pub(super) fn as_limit(limit: Duration) -> Result<u64> {
    match u64::try_from(limit.as_micros()).unwrap_or(u64::MAX / 2000) {
        0 => Err(Error::InvalidArgument("a time limit of a pool is at least one microsecond".into())),
        us => Ok(us.min(u64::MAX / 2000)),
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Builder");
        out.field("workers", &self.workers).field("name", &self.name).field("max_tasks", &self.max_tasks);
        out.field("memory", &self.memory).field("idle", &self.idle);
        out.field("timeout", &self.timeout).field("retries", &self.retries);
        out.field("max_restarts", &self.max_restarts)
            .field("interrupts", &self.interrupts)
            .finish_non_exhaustive()
    }
}
