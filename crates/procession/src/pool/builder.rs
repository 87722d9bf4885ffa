//! A pool's settings, before it starts.

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
use crate::process::{Captureless, Entry};
use crate::{Error, Result};

/// How a pool is to be: made by [`Pool::builder`].
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
#[must_use = "a builder makes nothing until `build`"]
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
    initializer: Option<Initializer>,
}

struct Initializer {
    names: (u64, u64),
    pack: Box<dyn Fn() -> Result<u64> + Send>,
}

impl Builder {
    /// How many workers; without this as many as there are processors for this process.
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

    /// A name of at most 90 bytes, which its workers have as well.
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

    /// What each worker does first. It returns `()` or a `Result<(), E>`. A worker is a process, so what it
    /// leaves in a `static` is there for each task of that worker. When it fails again and again (see
    /// [`max_restarts`](Builder::max_restarts)), the pool is broken, and says why.
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

    /// After so many tasks a worker leaves, and another takes its place: against what piles up in a process.
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

    /// A worker that has more than so many bytes of memory to itself leaves after its task, and another takes its
    /// place. One that wants twice as much besides what it began with gets no more memory: then it usually aborts,
    /// and its task fails with [`TaskError::WorkerDied`](super::TaskError::WorkerDied).
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

    /// A worker that has had nothing to do for so long leaves; it comes back when there is work.
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = procession::Pool::builder().workers(2).idle_timeout(Duration::from_millis(1)).build()?;
    /// assert_eq!(pool.apply(|| 6 * 7, ())?, 42); // whoever had left is back
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn idle_timeout(mut self, idle: Duration) -> Builder {
        self.idle = Some(idle);
        self
    }

    /// How long a task may take. One that takes longer is killed with its worker. A map's limit is for each item.
    ///
    /// The limit is time in which the worker could run, asleep or not. Time for which the worker was stopped (SIGSTOP,
    /// Ctrl-Z), or the whole family was suspended (its group stopped, its container frozen, the machine asleep or
    /// paused), does not count, except for up to an eighth of the limit, or 20 ms, each time that the family is. On a
    /// machine so busy that the supervisor itself waits that long for a processor, a task gets somewhat more time. While
    /// the supervisor is stopped, no limit is kept.
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

    /// How often a task is tried again whose worker died, or that took too long or panicked. (One that returns
    /// an `Err` has done its work.) Without this, never. The most is 65,534: larger numbers mean that.
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

    /// More than `most` deaths of workers `within` that time, and the pool is broken: it fails all its tasks, and
    /// starts no more workers. Without this it is broken when three workers in a row did not come through their
    /// initializer, or a hundred without one did not come to work.
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

    /// Makes the pool and starts its workers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for zero workers, tasks or time, and for a name that is too long; otherwise as
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
            return Err(Error::InvalidArgument("a worker has to do at least one task".into()));
        }
        if self.memory == Some(0) {
            return Err(Error::InvalidArgument("a worker needs some memory".into()));
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
            // What the initializer was to be called with is of no use.
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
        keeper::start(shared, KeeperOptions { name, max_restarts })?;
        Ok(pool)
    }
}

pub(super) fn check_workers(workers: usize) -> Result<()> {
    if (1..=WORKERS).contains(&workers) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("a pool has 1 to {WORKERS} workers, and not {workers}")))
}

/// A time limit in µs.
pub(super) fn as_limit(limit: Duration) -> Result<u64> {
    match u64::try_from(limit.as_micros()).unwrap_or(u64::MAX / 2000) {
        0 => Err(Error::InvalidArgument("a limit is at least a microsecond".into())),
        us => Ok(us.min(u64::MAX / 2000)),
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Builder");
        out.field("workers", &self.workers).field("name", &self.name).field("max_tasks", &self.max_tasks);
        out.field("memory", &self.memory).field("idle", &self.idle);
        out.field("timeout", &self.timeout).field("retries", &self.retries);
        out.field("max_restarts", &self.max_restarts).finish_non_exhaustive()
    }
}
