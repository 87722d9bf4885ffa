//! Crash tests of `pool`.

mod cancelling;
mod panics;
mod rare;
mod recoveries;
mod tasks;
