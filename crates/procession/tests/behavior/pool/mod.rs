//! Behavior of `pool`.

mod basics;
mod limits;
