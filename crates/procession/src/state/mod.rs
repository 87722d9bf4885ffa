//! Shared data: what processes read and write together.
//!
//! | for | there is |
//! |---|---|
//! | one value of any type that serde knows, never torn | [`Value`] |
//! | many plain numbers, changed in place | [`Array`] |
//! | one plain value, changed in place and often | [`Mutex`](crate::sync::Mutex), [`RwLock`](crate::sync::RwLock) |

mod array;
mod value;

pub use array::{Array, ArrayGuard};
pub use value::Value;
pub(crate) use value::bury as bury_value;
