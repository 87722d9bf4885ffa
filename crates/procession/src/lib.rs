//! Process-based parallelism: processes and locks of which any may be killed at any instruction
//! while the others go on.
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
//! Nothing has to be set up: the first spawn starts a *supervisor*, which is this very program
//! executed again, and which leaves before `main` would run. It forks every child, notices every
//! death, and hands on what the dead held. It works in binaries, libraries and `#[test]`s alike.
//!
//! # What crosses between processes
//!
//! Functions that capture nothing ([`process::Entry`]), values that serde can take apart
//! ([`Message`]), and handles such as [`Lock`] and [`Process`], which arrive as what they stand for.
//!
//! The types that are used most are here at the root; the rest of a family is in its module: [`sync`],
//! [`queue`], [`state`], [`process`], [`manager`].
//!
//! # Waiting
//!
//! What can block has four forms: `x()` waits, `try_x()` does not, `x_timeout(Duration)` and
//! `x_deadline(Instant)` wait for a limited time. A call that returns without what it was called for returns an error of
//! its family, and the same one whether it waited or not, except that locks and waits tell the two apart:
//!
//! | family | `try_x` | `x_timeout`, `x_deadline` |
//! |---|---|---|
//! | locks, [`Once`](sync::Once): [`LockError`]; [`Value`]: [`Error::Lock`] | `WouldBlock` | `TimedOut` |
//! | [`Semaphore`], [`Event`], [`Barrier`], [`Latch`](sync::Latch): [`WaitError`]; [`AnyProcess`], [`wait_any`](process::wait_any): [`Error::Wait`] | `WouldBlock` | `TimedOut` |
//! | to put and send: [`PutError`](queue::PutError), with the item | `Full` | `Full` |
//! | to get, receive and poll: [`GetError`](queue::GetError) | `Empty` | `Empty` |
//! | to join a queue or pool: [`JoinError`](queue::JoinError); to get a task's result: [`TaskError`](pool::TaskError) | `NotDone` | `NotDone` |
//! | [`select()`]: [`SelectError`](queue::SelectError) | `NotReady` | `NotReady` |
//!
//! There are two exceptions. [`Process::join_timeout`] and its kin return `Ok(None)`, because their error says how the
//! process failed. [`Condvar::wait_timeout`] returns the guard, because the lock is held in any case.
//!
//! Where the shared memory itself is full, the error is `Full` in each family, `NoMemory` in
//! [`PutError`](queue::PutError), and [`Error::Full`] behind `?`. Its text says who holds how much.
//!
//! What only looks, such as `len` or `is_set`, never waits and returns a plain value. A timeout of zero tries once.
//!
//! # If a process dies
//!
//! However it dies: [`Process::join`] says how; a [`Lock`] it held is free again, and says so to the
//! next one; whoever waits for it at a [`Barrier`] is told; the memory, handles and child processes it had
//! are given back. If the **supervisor** is killed, the kernel kills its children, waits return
//! [`Error::FamilyLost`] or [`Failure::FamilyLost`], and the next spawn starts afresh. If **main** is
//! killed, the whole family ends, and nothing is left behind anywhere.
//!
//! # The end of the program
//!
//! When main returns (or calls `exit`), it waits for every process that is not a
//! [daemon](process::Builder::daemon), and after five seconds says on stderr for whom. Daemons are
//! asked to end by SIGTERM, and made to a second later.
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
//! `tracing`: if main has a subscriber when it spawns its first process, the events that processes emit appear in
//! it, with their level, target and fields, and two more, `pid` and `process` (`pid_of_child` and
//! `process_of_child` where an event has such fields itself). An event is safe when the call that emits it has
//! returned, whatever happens to the process then. It comes in the spans that it was emitted in, with their fields;
//! they are opened for it and closed behind it, so they tell where it was and not how long anything took, and a
//! span without events is not told of. Processes then have this library's subscriber as their global default.
//!
//! `log`: if main has a logger when it spawns its first process, and a level other than `Off`, the records that
//! processes make with the crate `log` come to it, with the process before the message: `buyer (pid 17): sold out`.
//! They are as safe as events. The level is that of main then.
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
//! By SIGSTOP, by Ctrl-Z, by a debugger, or because its control group is frozen. What it **holds** stays its own, and
//! others wait for it. What it **waits** for goes to others ([`Lock`], [`Semaphore`], [`Queue`], pools). Time for which
//! it is stopped does not count against a [`task_timeout`](pool::Builder::task_timeout), nor against the second that
//! daemons have between SIGTERM and SIGKILL. All other timeouts and deadlines are wall time: those of waits,
//! [`idle_timeout`](pool::Builder::idle_timeout), [`max_restarts`](pool::Builder::max_restarts).
//!
//! While the **supervisor** is stopped, nothing can be recovered: who waits for what a dead process held waits on, and
//! `join` does not return for a process that was killed. The `Debug` of a lock says so. Spawning goes on while there are
//! spares. The supervisor ignores Ctrl-Z, and the kernel continues it when main ends.
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
pub use error::{Error, OtherError, Result};
pub use manager::Manager;
pub use pool::{Pool, Task};
pub use process::{
    AnyProcess, Failure, Process, ProcessError, active_children, cpu_count, current_process, parent_process,
    preload,
};
pub use queue::{Connection, JoinableQueue, Queue, pipe, select};
pub use state::{Array, Dict, List, Value};
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
