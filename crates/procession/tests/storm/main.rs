//! Thousands of random kills under load. The accounting is outside the library.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod consumers;
mod crew;
mod dict;
mod joinable;
mod lock;
mod pool;
mod queue;
