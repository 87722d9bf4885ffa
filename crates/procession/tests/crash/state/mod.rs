//! Crash tests of `state`.

mod dict;
mod dict_recovery;
mod dict_tables;
mod list;
