//! Crash tests of `supervisor`.

mod child;
mod exits;
mod left_signals;
mod recovery;
mod signals;
mod spawn;
