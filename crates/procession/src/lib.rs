//! Process-based parallelism: pools, processes, locks, queues and shared data, of which any process may be killed at any
//! instruction while the others go on.
//!
//! ```
//! use procession::{Pool, pool::TaskError};
//!
//! fn square(n: u64) -> u64 {
//!     match n {
//!         13 => std::process::abort(), // as a bug in native code would
//!         n => n * n,
//!     }
//! }
//!
//! fn main() -> procession::Result<()> {
//!     let pool = Pool::new(4)?; // four processes
//!     assert_eq!(pool.map(square, 1..5)?, [1, 4, 9, 16]);
//!
//!     let results = pool.try_map(square, 12..15); // item 13 costs itself alone
//!     assert_eq!((results[0].clone()?, results[2].clone()?), (144, 196));
//!     assert!(matches!(results[1], Err(TaskError::WorkerDied { signal: Some(6), .. })));
//!     Ok(())
//! }
//! ```
//!
//! A function in a process of its own, and a lock that it shares with others:
//!
//! ```
//! use procession::{Lock, Process};
//!
//! fn work(name: String, lock: Lock) -> procession::Result<usize> {
//!     let _held = lock.lock()?;
//!     println!("task <{name}> has the terminal to itself");
//!     Ok(name.len())
//! }
//!
//! fn main() -> procession::Result<()> {
//!     let lock = Lock::new()?;
//!     let egon = Process::spawn(work, ("Egon".to_string(), lock.clone()))?;
//!     let alex = Process::spawn(work, ("Alex".to_string(), lock))?;
//!     assert_eq!(egon.join()?? + alex.join()??, 8);
//!     Ok(())
//! }
//! ```
//!
//! Nothing has to be set up. The first spawn starts a *supervisor*: a second execution of this program that never reaches
//! `main`. It forks every child, notices every death, and releases what the dead process held. The library works in
//! programs, libraries and `#[test]`s alike.
//!
//! # Which one should I use?
//!
//! | you want | use |
//! |---|---|
//! | many tasks on all cores, and to go on when one crashes or hangs | [`Pool`] |
//! | one function in a process of its own, perhaps with limits or redirected streams | [`Process`] |
//! | the same large data in each process, built once | [`preload`](preload()) |
//! | work handed from producers to consumers | [`Queue`]; [`JoinableQueue`] where a consumer's death must lose nothing |
//! | a conversation between two processes | [`pipe`](pipe()) |
//! | the first of several things to happen | [`select`](select()), [`wait_any`](process::wait_any) |
//! | to keep others out of a file, a terminal, a device | [`Lock`] |
//! | a number or a struct that all see | [`Value`]; with a guard around it [`Mutex`] or [`RwLock`] |
//! | many numbers that all see | [`Array`] |
//! | a map or a sequence that all change | [`Dict`], [`List`] |
//! | to find a thing by name instead of being handed it | [`Manager`] |
//! | to wait until others are so far | [`Event`], [`Barrier`], [`Condvar`], [`Latch`](sync::Latch) |
//! | at most *n* at a time | [`Semaphore`] |
//! | something done once, by whoever comes first | [`Once`](sync::Once) |
//! | all of this in an async program | [In async programs](async_programs) |
//! | threads, because nothing ever crashes, hangs or leaks, and tasks take microseconds | rayon, crossbeam |
//!
//! The modules: [`pool`] runs tasks, [`process`] starts processes and waits for them, [`queue`] passes messages, [`sync`] has locks and
//! everything else that waits, [`state`] has shared data, [`manager`] finds things by name. The types that are used most are
//! here at the root, too.
//!
//! # Children have none of main's statics
//!
//! A child runs the same executable and does not run `main`. It has none of main's memory. A `static`, a `thread_local!`, a
//! `OnceLock`, a logger, a panic hook or a runtime that main has set is as it was before `main`. What a child needs comes in
//! its arguments, or from [`preload`](preload()), or from the [initializer](pool::Builder::initializer) of a pool. A change
//! that a child makes to a `static` stays in that child.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use procession::Process;
//!
//! static LEVEL: AtomicU32 = AtomicU32::new(1);
//!
//! LEVEL.store(7, Ordering::Relaxed); // in main
//! let level = Process::spawn(|| LEVEL.load(Ordering::Relaxed), ())?.join()?;
//! assert_eq!(level, 1);
//! # Ok::<(), procession::Error>(())
//! ```
//!
//! # What crosses between processes
//!
//! Functions that capture nothing ([`process::Entry`]), values that serde can take apart ([`Message`] has the table of what
//! crosses and what to send instead), and handles such as [`Lock`] and [`Process`], which stay the same object. What the
//! compiler says of a mistake is explained in [When it does not compile](when_it_does_not_compile).
//!
//! # Waiting and timeouts
//!
//! A call that can block has four forms: `x()` waits, `try_x()` does not, `x_timeout(Duration)` and
//! `x_deadline(Instant)` wait for a limited time. A call that ends without what it was called for returns an error of
//! its family:
//!
//! | family | `try_x` | `x_timeout`, `x_deadline` |
//! |---|---|---|
//! | locks, [`Once`](sync::Once): [`LockError`]; [`Value`]: [`Error::Lock`] | `WouldBlock` | `TimedOut` |
//! | [`Semaphore`], [`Event`], [`Barrier`], [`Latch`](sync::Latch): [`WaitError`]; [`AnyProcess`], [`wait_any`](process::wait_any): [`Error::Wait`] | `WouldBlock` | `TimedOut` |
//! | to put and send: [`PutError`](queue::PutError), with the item | `Full` | `Full` |
//! | to get, receive and poll: [`GetError`](queue::GetError) | `Empty` | `Empty` |
//! | to join a queue or pool: [`JoinError`](queue::JoinError); to get a task's result: [`TaskError`](pool::TaskError) | `NotDone` | `NotDone` |
//! | [`select()`]: [`SelectError`](queue::SelectError) | `NotReady` | `NotReady` |
//! | to join a [`Process`]; its error says how the process failed | `Ok(None)` | `Ok(None)` |
//! | [`Condvar`]: the lock is held in any case | no such form | the guard, and whether it timed out |
//! | to await a [`Process`] or a [`Task`] | no such form | that of the async runtime |
//!
//! Where the shared memory itself is full, the error is `Full` in each family, `NoMemory` in
//! [`PutError`](queue::PutError), and [`Error::Full`] behind `?`. Its text says who holds how much.
//!
//! A call that only looks, such as `len` or `is_set`, never waits and returns a plain value. A timeout of zero tries once.
//!
//! # If a process dies
//!
//! However a process dies, the others go on. [`Process::join`] returns how it died. A [`Lock`] that it held is released, and
//! the next call to `lock` returns [`OwnerDied`](sync::LockError::OwnerDied). Processes that wait for it at a [`Barrier`] get an
//! error. Its memory and handles are freed, and its child processes are killed.
//!
//! If the **supervisor** is killed, the kernel kills its children, and waits return [`Error::FamilyLost`] or
//! [`Failure::FamilyLost`]. The next spawn starts another supervisor. If **main** is killed, the whole family ends and leaves
//! nothing behind.
//!
//! # The end of the program
//!
//! When main returns (or calls `exit`), it waits for every process that is not a [daemon](process::Builder::daemon). After
//! five seconds it names on stderr the processes that it waits for. Daemons get SIGTERM, and SIGKILL a second later.
//!
//! Main's other threads run on meanwhile. Locks of threads that have ended, and of the thread that called `exit`, are
//! released as if their owner had died: the next owner gets [`OwnerDied`](sync::LockError::OwnerDied). A [`Mutex`],
//! [`RwLock`] or [`Array`] is released in this way only when main has no other thread, because another thread may
//! have borrowed what its guard gives access to.
//!
//! Whatever a running thread of main holds stays held. A call that has waited for it for five seconds since main ended
//! fails with [`LockError::MainEnded`], or [`WaitError::MainEnded`] if main holds every permit of a semaphore. So the
//! waiting process can end, and main as well. To avoid this, join the threads that take locks before main returns.
//! A process that waits for anything else that only main can do, such as a message or an event, keeps main waiting.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `tracing` | events of children appear in main's subscriber |
//! | `log` | records of children come to main's logger |
//! | `indicatif` | a progress bar for maps |
//!
//! `tracing`: main must have a subscriber when it spawns its first process. Events of children then appear in that subscriber,
//! with their level, target and fields, and the fields `pid` and `process`. (They are called `pid_of_child` and
//! `process_of_child` if the event has fields of these names.) Once the call that emits an event has returned, the event
//! arrives, whatever happens to the process. It arrives in copies of the spans in which it was emitted. Each copy is opened for this
//! one event, so its duration means nothing, and a span without events does not appear. In a child, this library is the
//! global default subscriber.
//!
//! `log`: main must have a logger when it spawns its first process, and a maximum level other than `Off`. Records of children then
//! come to that logger, and their text begins with the process: `buyer (pid 17): sold out`. They arrive as reliably as events.
//! Children use the maximum level that main had at the first spawn.
//!
//! # What a process inherits
//!
//! Processes are forks of the supervisor, and the first spawn starts the supervisor. So these are as main had them at its
//! **first spawn**: the environment, the umask, the nice value, resource limits, the control group, namespaces, the root
//! directory, seccomp filters, and the standard streams. A later change in main changes none of them in processes.
//! The working directory is that of the spawner when it spawns, and so are user, groups, capabilities and
//! `no_new_privs`: what main has given up, its later processes do not have. [`process::Builder`] changes most of these
//! for one process.
//!
//! A process has no other open file of main's, none of its memory and none of its threads. A thread that ends while it
//! has forgotten a guard (`mem::forget`) keeps the lock until its process ends.
//!
//! The shared memory is sized by the control group's limit when the first handle is made. `mlockall(MCL_FUTURE)` before
//! that does not lock it; `mlockall(MCL_CURRENT)` afterwards locks all of it, unless `MCL_ONFAULT` is added.
//!
//! # If a process is stopped
//!
//! A process can be stopped by SIGSTOP, by Ctrl-Z, by a debugger, or because its control group is frozen. What it **holds**
//! stays its own, and others wait for it. What it **waits** for goes to others ([`Lock`], [`Semaphore`], [`Queue`], pools). Time for which
//! it is stopped does not count against a [`task_timeout`](pool::Builder::task_timeout), nor against the second that
//! daemons have between SIGTERM and SIGKILL. All other timeouts and deadlines are wall time: those of waits,
//! [`idle_timeout`](pool::Builder::idle_timeout), [`max_restarts`](pool::Builder::max_restarts).
//!
//! While the **supervisor** is stopped, no death is recovered: what a dead process held is not released, and `join` of a killed
//! process does not return. The `Debug` of a lock says that. Spawning goes on while there are spares. The supervisor ignores Ctrl-Z, and the kernel continues it when main ends.
//!
//! # Limits
//!
//! Linux on 64-bit little-endian machines, kernel 5.10 or later. All processes run the same
//! executable and trust each other: this isolates crashes, not malice.

mod arena;
mod codec;
mod error;
#[cfg(any(feature = "tracing", feature = "log"))]
mod events;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod manager;
#[cfg(feature = "measure")]
#[doc(hidden)]
pub mod measure;
mod os;
pub mod pool;
pub mod process;
pub mod queue;
mod recovery;
mod rules;
pub mod state;
mod supervisor;
pub mod sync;

#[doc(hidden)]
pub use codec::encoding::BorrowsNothing;
pub use codec::encoding::Message;
#[doc(inline)]
pub use error::{Error, OtherError, Result};
#[doc(inline)]
pub use manager::Manager;
#[doc(inline)]
pub use pool::{Pool, Task};
#[doc(inline)]
pub use process::{
    AnyProcess, Failure, Process, ProcessError, active_children, cpu_count, current_process, parent_process,
    preload,
};
#[doc(inline)]
pub use queue::{Connection, JoinableQueue, Queue, pipe, select};
#[doc(inline)]
pub use state::{Array, Dict, List, Value};
#[doc(inline)]
pub use sync::{Barrier, Condvar, Event, Lock, LockError, Mutex, RLock, RwLock, Semaphore, WaitError};

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/async.md")]
pub mod async_programs {}

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/when-it-does-not-compile.md")]
pub mod when_it_does_not_compile {}

/// Compiles and runs the example of the crate's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
