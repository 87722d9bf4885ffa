//! Thousands of random kills under load, accounted for outside of the library.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod crew;
mod dict;
mod joinable;
mod lock;
mod pool;
mod queue;
