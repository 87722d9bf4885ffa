//! Crash tests of `pool`.

mod rare;
mod tasks;
