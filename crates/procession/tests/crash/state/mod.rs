//! Crash tests of `state`.

mod dict;
mod list;
