//! The word algorithms that everything in `sync` and `queue` stands on. The theory of the lock word is in
//! `README.md`.
//!
//! `word.rs` and `event.rs` are pure: a word, and an environment that can sleep. `lock.rs` joins the
//! lock word to the arena, `park.rs` is how a thread sleeps where others can see it.
#![allow(unsafe_code)] // The futex word is half of the lock word.

pub mod event;
pub(crate) mod lock;
pub(crate) mod park;
pub mod word;
