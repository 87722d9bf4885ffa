//! Behavior of `queue`.

mod basics;
mod bytes;
mod deaths;
mod handles;
mod joinable;
mod manners;
mod pipe;
mod select;
mod sizes;
