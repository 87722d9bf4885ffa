//! Behavior of `pool`.

mod basics;
mod limits;
mod suspended_tasks;
