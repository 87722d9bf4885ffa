//! The word algorithms that everything in `sync` stands on. The theory is in `README.md`.
//!
//! `word.rs` is pure: a word, and an environment that can sleep. `lock.rs` joins it to the arena,
//! `park.rs` is how a thread sleeps where others can see it.
#![allow(unsafe_code)] // The futex word is half of the lock word.

pub(crate) mod lock;
pub(crate) mod park;
pub mod word;
