//! The shared-memory half of `sync`, on which everything that waits stands. The theory of the lock word is in
//! `README.md`.
//!
//! | file           | what it holds                                                          |
//! |----------------|------------------------------------------------------------------------|
//! | `word.rs`      | the lock word: a pure algorithm over a word and an environment that sleeps |
//! | `event.rs`     | the event count, as pure                                               |
//! | `lock.rs`      | the lock word in the arena, with its journal                           |
//! | `lock_body.rs` | a lock as an object: its word, and who left it poisoned                |
//! | `park.rs`      | how a thread sleeps where recovery can find it                         |
//! | `deadlock.rs`  | the search for a cycle of waits                                        |
//! | `permits.rs`   | the cells of a semaphore's permits                                     |
//! | `barrier_state.rs` | a barrier's word; `barrier_cells.rs` its parties                   |
//! | `recover.rs`   | recovery of all of these; `barrier_recover.rs` of barriers             |
//! | `readers.rs`   | the cells of a read-write lock's readers                               |
#![allow(unsafe_code)] // The futex word is half of the lock word.

pub(crate) mod barrier_cells;
mod barrier_recover;
pub(crate) mod barrier_state;
pub(crate) mod deadlock;
pub mod event;
pub(crate) mod lock;
pub(crate) mod lock_body;
pub(crate) mod park;
pub(crate) mod permits;
pub(crate) mod readers;
pub(crate) mod recover;
pub mod word;
