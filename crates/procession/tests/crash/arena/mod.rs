//! Crash tests of `arena`.

mod blocks;
mod collector;
mod objects;
