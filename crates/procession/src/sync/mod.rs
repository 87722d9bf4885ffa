//! Synchronization between processes and threads: locks that outlive their owners, semaphores, events, barriers and
//! more.
//!
//! Each type is a handle. You can clone it, or send it to another process in an argument, a result or a
//! message. Every copy names the same object. The object is freed when its last handle is dropped.
//!
//! # Which one should I use?
//!
//! | you want | use |
//! |---|---|
//! | mutual exclusion around a file, the terminal or a protocol | [`Lock`] |
//! | the same, where a function that holds the lock calls another that acquires it | [`RLock`] |
//! | mutual exclusion around plain data that the lock contains | [`Mutex<T>`](Mutex) |
//! | many readers of such data, and an occasional writer | [`RwLock<T>`](RwLock) |
//! | mutual exclusion around a `bool`, `String`, enum or any other serde type | [`Value<T>`](crate::state::Value) |
//! | mutual exclusion around a long slice of numbers | [`Array<T>`](crate::state::Array) |
//! | at most *n* users at a time, or a count that producers raise and consumers lower | [`Semaphore`] |
//! | to wait for a flag that can be cleared and set again | [`Event`] |
//! | to wait until data under a lock meets a condition | [`Condvar`] |
//! | *n* parties that wait for each other, repeatedly | [`Barrier`] |
//! | to wait, once, until something was reported *n* times | [`Latch`] |
//! | to run something once in the whole family | [`Once`] |
//! | to pass items between processes | a [queue](crate::queue) |
//!
//! When in doubt, use [`Mutex`] for data and [`Lock`] for everything else. [`RwLock`] pays off only where reads are
//! frequent and take longer than acquiring a lock.
//!
//! # Waiting
//!
//! Each blocking operation comes in four forms. `lock()` waits without a limit, `try_lock()` does not wait,
//! `lock_timeout` waits for at most a duration, and `lock_deadline` waits until an instant. If the wait fails, the
//! error is a [`LockError`] for objects that have an owner, and a [`WaitError`] for all others.
//!
//! A release reserves the lock or permit for a waiter that has waited for a millisecond. So no waiter is passed over
//! forever. A thread that waits for an event, latch, barrier or condition first spins for at most 50 µs, which is
//! about as long as waking a sleeper takes. It spins for less time after spins that did not help.
//!
//! # Deadlocks
//!
//! A wait for a lock, or for the end of a process, may close a cycle in which each thread waits for the next.
//! That wait fails with [`LockError::Deadlock`] after a tenth of a second. The error lists each thread in the
//! cycle with its process and its lock, so name your locks. The other threads continue as soon as the thread
//! that got the error releases something. Detecting deadlocks costs nothing while locks are free. Permits,
//! events, barriers and conditions have no single owner, so a cycle through them is not detected.
//!
//! # If a process dies
//!
//! Everything that a dead process held is released. A lock that the process held is *poisoned*, because it
//! may guard half-written data. [`Lock::lock`] then fails with [`LockError::OwnerDied`].
//! [`Lock::lock_or_recover`] acquires the lock and reports the dead process, so the caller can check and
//! repair the data. The death of a process that only *waits* does not affect the other processes.
//!
//! | a process dies while it | the others find |
//! |---|---|
//! | holds a [`Lock`], [`RLock`], [`Mutex`], [`Array`](crate::state::Array); writes under an [`RwLock`]; runs a [`Once`] | a free, poisoned lock: `OwnerDied` until a process recovers it |
//! | reads under an [`RwLock`] | one reader less |
//! | holds permits of a [`Semaphore`] | the permits free |
//! | changes a [`Value`](crate::state::Value) | the old value or the new one |
//! | is a party of a [`Barrier`], arrived or not | `Broken`, for every party; or a smaller barrier |
//! | sets an event, notifies, counts down or opens a latch | the whole change, with every waiter woken; or no change |
//! | waits, asleep or just woken | no change |
//!
//! # If main ends
//!
//! When main ends, it waits for the other processes while its other threads keep running. A lock or permit
//! that such a thread holds is never released. A call that waits for it fails after five seconds with
//! [`LockError::MainEnded`] or [`WaitError::MainEnded`]. See [the end of the
//! program](crate#the-end-of-the-program).

pub(crate) mod acquire;
// | file              | what it holds |
// |-------------------|---|
// | `lock.rs`         | `Lock`; `guard.rs` its guard |
// | `rlock.rs`        | `RLock` |
// | `mutex.rs`        | `Mutex` |
// | `rwlock.rs`       | `RwLock`; `rwlock_acquire.rs` acquires it, `rwlock_guards.rs` its guards |
// | `semaphore.rs`    | `Semaphore`; `semaphore_wait.rs` waits for a permit, `permit.rs` returns it, `semaphore_cells.rs` its cells |
// | `owned_permit.rs` | `OwnedPermit`, which borrows nothing |
// | `event.rs`        | `Event` |
// | `condvar.rs`      | `Condvar`; `condvar_wait.rs` waits, `condvar_guard.rs` names the guards it accepts |
// | `barrier.rs`      | `Barrier`; `barrier_builder.rs` its options, `barrier_round.rs` one round |
// | `latch.rs`        | `Latch` |
// | `once.rs`         | `Once`; `once_run.rs` runs the initialization |
// | `error.rs`        | why a lock was not acquired |
// | `acquire.rs`      | acquiring and releasing, the same for every lock |
// | `lock_methods.rs` | the eight methods that acquire, the same for every lock |
// | `guard_state.rs`  | what a guard stores besides its lock, in one word |
// | `wait.rs`         | waiting for anything but a lock |
// | `spin.rs`         | spinning for a moment before sleeping |
// | `raw/`            | the shared-memory half: words, cells, recovery |

mod barrier;
mod barrier_builder;
mod barrier_round;
mod condvar;
mod condvar_guard;
mod condvar_wait;
pub(crate) mod error;
mod event;
mod guard;
pub(crate) mod guard_state;
mod latch;
mod lock;
pub(crate) mod lock_methods;
mod mutex;
mod once;
mod once_run;
mod owned_permit;
mod permit;
pub(crate) mod raw;
mod rlock;
mod rwlock;
mod rwlock_acquire;
mod rwlock_guards;
mod semaphore;
mod semaphore_cells;
mod semaphore_wait;
pub(crate) mod spin;
pub(crate) mod wait;

pub use barrier::{Barrier, BarrierWaitResult};
pub use barrier_builder::BarrierBuilder;
pub use condvar::{Condvar, WaitTimeoutResult};
pub use condvar_guard::Guard;
pub use error::{DeadlockMember, LockError, OwnerDied};
pub use event::Event;
pub use guard::LockGuard;
pub use latch::Latch;
pub use lock::Lock;
pub use mutex::{Mutex, MutexGuard, Plain};
pub use once::Once;
pub use owned_permit::OwnedPermit;
pub use permit::Permit;
pub use rlock::{RLock, RLockGuard};
pub use rwlock::RwLock;
pub use rwlock_guards::{ReadGuard, WriteGuard};
pub use semaphore::Semaphore;
pub use wait::{Broken, WaitError};
