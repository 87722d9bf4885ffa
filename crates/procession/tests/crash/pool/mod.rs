//! Crash tests of `pool`.

mod cancelling;
mod rare;
mod recoveries;
mod tasks;
