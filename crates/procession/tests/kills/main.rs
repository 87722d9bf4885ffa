//! Processes that are killed at chosen moments: after their wake-up, between a store and its wake, or while
//! they wait.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
#[path = "../family/mod.rs"]
mod family;

mod deaths_seen;
mod leases;
mod lost_wakes;
mod queue_waiters;
mod stopped_waiters;
mod sweeps;
mod swept_memory;
mod waiters;
