//! Locks for processes and threads alike, whose owners may die; and everything else that waits.
//!
//! Everything here is a handle: clone it, send it to another process in an argument, a result or
//! a message, and it is still the same lock. It lives as long as any handle to it does.
//!
//! # Which one should I use?
//!
//! | you want | use |
//! |---|---|
//! | one at a time, around a file, the terminal, a protocol | [`Lock`] |
//! | the same, where functions that hold it call functions that take it | [`RLock`] |
//! | one at a time, around plain data that the lock carries with it | [`Mutex<T>`](Mutex) |
//! | many who read such data, now and then one who writes | [`RwLock<T>`](RwLock) |
//! | around a `bool`, `String`, enum or anything that serde knows | [`Value<T>`](crate::state::Value) |
//! | around a long slice of numbers | [`Array<T>`](crate::state::Array) |
//! | at most *n* at a time; or to count things that some make and others take | [`Semaphore`] |
//! | to wait until a flag is set, which may be cleared and set again | [`Event`] |
//! | to wait until data under a lock is as it should be | [`Condvar`] |
//! | *n* parties that wait for each other, again and again | [`Barrier`] |
//! | to wait until something has been reported *n* times, once | [`Latch`] |
//! | that something is done by whoever comes first, and by nobody else | [`Once`] |
//! | to pass things on | a queue, not a lock |
//!
//! When in doubt: [`Mutex`] for data, [`Lock`] for the rest. An [`RwLock`] pays only where reads are many and
//! take longer than taking a lock does.
//!
//! # Waiting
//!
//! What blocks comes in four forms: `lock()` waits as long as it takes, `try_lock()` does not wait,
//! `lock_timeout` and `lock_deadline` wait for so long. What cannot be had is an error: [`LockError`] of what has
//! an owner, [`WaitError`] of what has none.
//!
//! A waiter for a lock or a permit is handed the next one when it has waited for a millisecond, so none
//! is passed over for ever. Who waits for an event, a latch, a barrier or a condition looks again for at most 50 µs
//! before it sleeps, and for less when that was in vain: to wake a sleeper takes as long.
//!
//! # Deadlocks
//!
//! When a wait for a lock, or for the end of a process, closes a cycle in which each one waits for the
//! next, it ends with [`LockError::Deadlock`], which tells everyone in it: process, thread and lock. So give
//! your locks names. The others go on waiting, and go on when the one that was told lets go of
//! something. It takes a tenth of a second to be noticed, and costs a free lock nothing. Permits, events,
//! barriers and conditions have no one owner, so they are no part of it.
//!
//! # If a process dies
//!
//! What a dead process held is handed on, never lost. The next one to call [`Lock::lock`] gets
//! [`LockError::OwnerDied`] instead of the lock, because what the lock guards may have been left
//! half-done; [`Lock::lock_or_recover`] gives the lock and the news together, so that the data can
//! be looked at and put right. A process that dies while it *waits* is not noticed by anybody.
//!
//! | who dies | what the others see |
//! |---|---|
//! | holds a [`Lock`], [`RLock`], [`Mutex`], [`Array`](crate::state::Array); writes under an [`RwLock`]; does a [`Once`] | free, and poisoned: `OwnerDied` until somebody recovers it |
//! | reads under an [`RwLock`] | it has left |
//! | has permits of a [`Semaphore`] | they are back |
//! | changes a [`Value`](crate::state::Value) | the old value or the new one |
//! | is a party of a [`Barrier`], there or on its way | `Broken`, for everyone; or the barrier shrinks |
//! | is about to set, notify, count down, open | it has, and everyone is woken; or it has not |
//! | waits, asleep or just woken | nothing |
//!
//! # If main ends
//!
//! Main waits for the other processes, and its other threads run on meanwhile. What such a thread holds is never
//! handed on. A call that waits for it fails after five seconds with [`LockError::MainEnded`] or
//! [`WaitError::MainEnded`]: see [the end of the program](crate#the-end-of-the-program).

pub(crate) mod acquire;
// | file              | what it holds |
// |-------------------|---|
// | `lock.rs`         | `Lock`; `guard.rs` its guard |
// | `rlock.rs`        | `RLock` |
// | `mutex.rs`        | `Mutex` |
// | `rwlock.rs`       | `RwLock` |
// | `semaphore.rs`    | `Semaphore` and its permits |
// | `event.rs`        | `Event` |
// | `condvar.rs`      | `Condvar` |
// | `barrier.rs`      | `Barrier` |
// | `latch.rs`        | `Latch` |
// | `once.rs`         | `Once` |
// | `error.rs`        | why a lock was not acquired |
// | `acquire.rs`      | acquiring and releasing, the same for every lock |
// | `lock_methods.rs` | the eight methods that acquire, the same for every lock |
// | `guard_state.rs`  | what a guard knows besides its lock, in one word |
// | `wait.rs`         | waiting for anything but a lock |
// | `spin.rs`         | spinning for a moment before sleeping |
// | `raw/`            | the shared-memory half: words, cells, recovery |

mod barrier;
mod condvar;
pub(crate) mod error;
mod event;
mod guard;
pub(crate) mod guard_state;
mod latch;
mod lock;
pub(crate) mod lock_methods;
mod mutex;
mod once;
pub(crate) mod raw;
mod rlock;
mod rwlock;
mod semaphore;
pub(crate) mod spin;
pub(crate) mod wait;

pub use barrier::{Barrier, BarrierBuilder, BarrierWaitResult};
pub use condvar::{Condvar, Guard, WaitTimeoutResult};
pub use error::{DeadlockMember, LockError, OwnerDied};
pub use event::Event;
pub use guard::LockGuard;
pub use latch::Latch;
pub use lock::Lock;
pub use mutex::{Mutex, MutexGuard, Plain};
pub use once::Once;
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use wait::{Broken, WaitError};
