//! Shared data: what processes read and write together.
//!
//! * [`Array`]: many plain numbers, in place. For one plain value there is
//!   [`Mutex`](crate::sync::Mutex).

mod array;

pub use array::{Array, ArrayGuard};
