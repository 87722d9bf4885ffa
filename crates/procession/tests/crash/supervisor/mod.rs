//! Crash tests of `supervisor`.

mod child;
mod exits;
mod recovery;
mod signals;
mod spawn;
