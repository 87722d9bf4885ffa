//! Crash tests of `queue`.

mod get;
mod leases;
mod pairs;
mod pipe;
mod put;
mod recovery;
