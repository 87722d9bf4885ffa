//! Behavior of `queue`.

mod basics;
mod batches;
mod bytes;
mod consumers;
mod deaths;
mod encoding;
mod handles;
mod joinable;
mod leases;
mod manners;
mod pipe;
mod select;
mod sharing;
mod sizes;
