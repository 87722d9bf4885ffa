//! Crash tests of `supervisor`.

mod child;
mod recovery;
mod signals;
mod spawn;
