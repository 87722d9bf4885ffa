//! Process-based parallelism: pools, processes, locks, queues and shared data. Any process may be killed at
//! any instruction, and the others continue.
//!
//! ```
//! use procession::Pool;
//! use procession::pool::{MapError, TaskError};
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
//!     let died = matches!(results[1], Err(MapError { index: 1, error: TaskError::WorkerDied { signal: Some(6), .. } }));
//!     assert!(died);
//!     Ok(())
//! }
//! ```
//!
//! Two functions, each in its own process, and a lock that they share:
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
//! Nothing has to be set up. The first spawn starts a *supervisor*: a second execution of this program that
//! never reaches `main`. The supervisor forks every child, notices every death, and releases what the dead
//! process held. The library works in programs, libraries and `#[test]`s alike.
//!
//! # Which one should I use?
//!
//! | you want | use |
//! |---|---|
//! | to run many tasks on all cores, and to continue if one crashes or hangs | [`Pool`] |
//! | one function in a process of its own, perhaps with limits or redirected streams | [`Process`] |
//! | the same large data in each process, built once | [`preload`](preload()) |
//! | to send work from producers to consumers | [`Queue`]; [`JoinableQueue`] if no item may be lost when a consumer dies |
//! | consumers that are replaced when they die | [`JoinableQueue::consumers`] |
//! | a conversation between two processes | [`pipe`](pipe()) |
//! | the first of several things to happen | [`select`](select()), [`wait_any`](process::wait_any) |
//! | to keep others out of a file, a terminal, a device | [`Lock`] |
//! | a number or a struct that all processes see | [`Value`]; with a guard around it [`Mutex`] or [`RwLock`] |
//! | many numbers that all processes see | [`Array`] |
//! | a map or a sequence that all processes change | [`Dict`], [`List`] |
//! | to find an object by name instead of receiving a handle | [`Manager`] |
//! | to wait until others have reached some point | [`Event`], [`Barrier`], [`Condvar`], [`Latch`](sync::Latch) |
//! | at most *n* at a time | [`Semaphore`] |
//! | something done once, by the process that comes first | [`Once`](sync::Once) |
//! | all of this in an async program | [In async programs](async_programs) |
//! | threads, because nothing ever crashes, hangs or leaks, and tasks take microseconds | rayon, crossbeam |
//!
//! The modules: [`pool`] runs tasks, [`process`] starts processes and waits for them, [`queue`] passes
//! messages, [`consumers`] keeps processes at work on a queue, [`sync`] has locks and everything else that waits, [`state`] has shared data, [`manager`] finds
//! things by name. The most common types are also here at the root.
//!
//! # Children have none of main's statics
//!
//! A child runs the same executable, but does not run `main`. It has nothing of main's memory. Main may have
//! set a `static`, a `thread_local!`, a `OnceLock`, a logger, a panic hook or a runtime. In the child, all of
//! these are as they were before `main`. A child gets what it needs from its arguments, from
//! [`preload`](preload()), or from the [initializer](pool::Builder::initializer) of a pool. A change that a
//! child makes to a `static` stays in that child.
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
//! * Functions that capture nothing ([`process::Entry`]).
//! * Values that serde can encode. [`Message`] has a table of what can cross, and what to send instead of
//!   other values.
//! * Handles such as [`Lock`] and [`Process`]. A handle names the same object in every process.
//!
//! [When it does not compile](when_it_does_not_compile) explains the compiler's messages about mistakes.
//!
//! # Waiting and timeouts
//!
//! A call that can block has four forms. `x()` waits, `try_x()` does not wait, and `x_timeout(Duration)` and
//! `x_deadline(Instant)` wait for a limited time. This table shows what a call returns if it ends without
//! success:
//!
//! | object or call, and its error type | `try_x` | `x_timeout`, `x_deadline` |
//! |---|---|---|
//! | locks, [`Once`](sync::Once): [`LockError`]; [`Value`]: [`Error::Lock`] | `WouldBlock` | `TimedOut` |
//! | [`Semaphore`], [`Event`], [`Barrier`], [`Latch`](sync::Latch): [`WaitError`]; [`AnyProcess`], [`wait_any`](process::wait_any): [`Error::Wait`] | `WouldBlock` | `TimedOut` |
//! | to put and send: [`PutError`](queue::PutError), with the item | `Full` | `Full` |
//! | to get, receive and poll: [`GetError`](queue::GetError) | `Empty` | `Empty` |
//! | to join a queue, a pool or [`Consumers`]: [`JoinError`](queue::JoinError); [`select()`]: [`SelectError`](queue::SelectError) | `WouldBlock` | `TimedOut` |
//! | to get a task's result: [`TaskError`](pool::TaskError), whose `TimedOut` is the task's own time limit | `NotDone` | `NotDone` |
//! | to join a [`Process`]; its error says how the process failed | `Ok(None)` | `Ok(None)` |
//! | [`Condvar`]: the lock is held in any case | no such form | the guard, and whether it timed out |
//! | to await a [`Process`], a [`Task`] or [`Consumers`] | no such form | that of the async runtime |
//!
//! If the shared memory itself is full, the variant is `Full` in each of these error types, except in
//! [`PutError`](queue::PutError), where it is `NoMemory`. The `?` operator converts all of them to
//! [`Error::Full`]. The text says which processes and objects use how much.
//!
//! A call that only looks, such as `len` or `is_set`, never waits and returns a plain value. A timeout of zero tries once.
//!
//! # If a process dies
//!
//! However a process dies, the others continue. [`Process::join`] returns how the process died. A [`Lock`]
//! that the process held is released, and the next call to `lock` returns
//! [`OwnerDied`](sync::LockError::OwnerDied). Other processes that wait for the dead one at a [`Barrier`] get
//! an error. The memory and the handles of the dead process are freed, and its child processes are killed.
//!
//! If the **supervisor** is killed, the kernel kills its children, and waits return [`Error::FamilyLost`] or
//! [`Failure::FamilyLost`]. The next spawn starts a new supervisor. If **main** is killed, the whole family
//! ends and leaves nothing behind.
//!
//! # Ctrl-C
//!
//! Ctrl-C in a terminal sends SIGINT to the whole process group: to main and to its processes.
//!
//! * If main has **no handler**, it dies, and the whole family ends with it immediately. This includes what
//!   tasks and processes have started. Nothing has to be set up for this.
//! * If main **handles** SIGINT (`tokio::signal`, the crate `ctrlc`, `signal(2)`), main decides. The workers of
//!   a [`Pool`] ignore SIGINT, so tasks continue. Main can let them finish ([`Pool::close`], [`Pool::join`])
//!   or kill them ([`Pool::terminate`]). `terminate` also ends the calls of other threads that wait for results.
//! * A [`Process`] does not have main's handler. SIGINT ends it, unless its function installs a handler. To
//!   leave the decision to main, start it with
//!   [`interrupts(Interrupts::MainOnly)`](process::Builder::interrupts). It then ignores SIGINT, and main calls
//!   [`Process::terminate`] or [`Process::kill`].
//!
//! Programs that a process executes inherit from it whether SIGINT is ignored. The pool's
//! [`interrupts`](pool::Builder::interrupts) makes workers share SIGINT with main. SIGTERM and SIGHUP are
//! different: a service manager usually sends them to each process, and they end every process that does not
//! handle them.
//!
//! # The end of the program
//!
//! When main returns (or calls `exit`), it waits for every process that is not a
//! [daemon](process::Builder::daemon). After five seconds, stderr shows the names of the processes for which
//! main still waits. If a thread other than main's first one spawned a process, its name is shown too: under
//! `cargo test`, this is the name of the test. Daemons get SIGTERM, and SIGKILL a second later.
//!
//! Meanwhile, main's other threads continue to run. Locks of threads that have ended, and of the thread that
//! called `exit`, are released as if their owner had died: the next owner gets
//! [`OwnerDied`](sync::LockError::OwnerDied). A [`Mutex`], [`RwLock`] or [`Array`] is released in this way
//! only if main has no other thread. Another thread might have borrowed the data through the guard.
//!
//! Locks and permits that a running thread of main holds stay held. If a call has waited for one of them for
//! five seconds since main ended, the call fails with [`LockError::MainEnded`]. If main holds every permit of
//! a semaphore, the call fails with [`WaitError::MainEnded`]. So the waiting process can end, and then main
//! can end as well. To avoid this, join the threads that take locks before main returns. A process that waits
//! for anything else that only main can do, such as a message, an event, or the end of a leased item, keeps main
//! waiting.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `tracing` | events of children appear in main's subscriber |
//! | `log` | records of children come to main's logger |
//!
//! `tracing`: main must have a subscriber when it spawns its first process. Events of children then appear in
//! that subscriber, with their level, target and fields, and the fields `pid` and `process`. (They are called
//! `pid_of_child` and `process_of_child` if the event has fields of these names.) Once the call that emits an
//! event has returned, the event arrives, even if the process then dies. The event arrives inside copies of
//! the spans in which it was emitted. Each copy is opened only for this one event, so the duration of the
//! copy has no meaning. A span without events does not appear. In a child, this library is the global default
//! subscriber.
//!
//! `log`: main must have a logger when it spawns its first process, and a maximum level other than `Off`.
//! Records of children then reach that logger, and their text begins with the name of the process:
//! `buyer (pid 17): sold out`. Records arrive as reliably as the events of `tracing`. Children use the
//! maximum level that main had at the first spawn.
//!
//! # What a process inherits
//!
//! Processes are forks of the supervisor, and the first spawn starts the supervisor. So a process has the
//! following as main had them at its **first spawn**: the environment, the umask, the nice value, resource
//! limits, the control group, namespaces, the root directory, seccomp filters, and the standard streams. If
//! main changes one of these later, processes do not see the change. The working directory, the user, the
//! groups, the capabilities and `no_new_privs` are those of the spawner at the time of the spawn. So if main
//! has given up a privilege, processes that it spawns later do not have it. [`process::Builder`] changes most
//! of these settings for one process.
//!
//! A process has no other open file of main's, nothing of main's memory and none of main's threads. Whether a process may
//! be dumped and traced (`PR_SET_DUMPABLE`) is not inherited either: set it again in the process. If a
//! thread forgets a guard (`mem::forget`) and then ends, the lock stays held until the thread's process ends.
//!
//! The size of the shared memory is derived from the control group's limit when the first handle is created.
//! A call of `mlockall(MCL_FUTURE)` before that does not lock the shared memory. A call of
//! `mlockall(MCL_CURRENT)` after that locks all of it, unless `MCL_ONFAULT` is added.
//!
//! # If a process is stopped
//!
//! A process can be stopped by SIGSTOP, by Ctrl-Z, by a debugger, or because its control group is frozen.
//! Whatever a stopped process **holds**, it keeps, and others wait for it. If it **waits** for something,
//! others can get that thing first ([`Lock`], [`Semaphore`], [`Queue`], pools). The time in which it is
//! stopped does not count against a [`task_timeout`](pool::Builder::task_timeout), nor against the second
//! that daemons have between SIGTERM and SIGKILL. All other timeouts and deadlines count wall time, even if
//! the process is stopped: those of waits, of [`idle_timeout`](pool::Builder::idle_timeout) and of
//! [`max_restarts`](pool::Builder::max_restarts).
//!
//! While the **supervisor** is stopped, no death is recovered. What a dead process held is not released, and
//! `join` of a killed process does not return. The `Debug` output of a lock shows this. Spawning still works
//! as long as there are spare processes. The supervisor ignores Ctrl-Z, and the kernel resumes it when main
//! ends.
//!
//! # Limits
//!
//! Linux on 64-bit little-endian machines, kernel 5.10 or later. All processes run the same executable and
//! trust each other: the library isolates crashes, not malice.

mod arena;
mod codec;
pub mod consumers;
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
mod unwind;

#[doc(hidden)]
pub use codec::encoding::BorrowsNothing;
pub use codec::encoding::Message;
#[doc(inline)]
pub use consumers::Consumers;
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
