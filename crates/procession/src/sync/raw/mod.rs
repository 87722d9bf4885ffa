//! The shared-memory half of `sync`. All types that wait are built on it. `README.md` has the theory of the
//! lock word.
//!
//! | file           | what it holds                                                          |
//! |----------------|------------------------------------------------------------------------|
//! | `word.rs`      | the lock word: a pure algorithm over an atomic word and a waiter       |
//! | `event.rs`     | the event count, as pure as `word.rs`                                  |
//! | `lock.rs`      | the lock word in the arena: journal, sleeping, release after a death   |
//! | `guard.rs`     | the guard of a lock inside the library                                 |
//! | `lock_body.rs` | a lock as an object: its word, and the process that poisoned it        |
//! | `park.rs`      | sleeping where recovery finds the sleeper                              |
//! | `deadlock.rs`  | the search for a cycle of waits                                        |
//! | `permits.rs`   | the cells of a semaphore's permits                                     |
//! | `barrier_state.rs` | a barrier's word; `barrier_cells.rs` its parties                   |
//! | `recover.rs`   | the entry to recovery of each kind; `barrier_recover.rs` of barriers   |
//! | `readers.rs`   | the cells of a read-write lock's readers                               |
#![allow(unsafe_code)] // The futex is one half of the lock word.

pub(crate) mod barrier_cells;
mod barrier_recover;
pub(crate) mod barrier_state;
pub(crate) mod deadlock;
pub mod event;
pub(crate) mod guard;
pub(crate) mod lock;
pub(crate) mod lock_body;
pub(crate) mod park;
pub(crate) mod permits;
pub(crate) mod readers;
pub(crate) mod recover;
pub mod word;
