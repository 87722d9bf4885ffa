//! Shared data: what processes read and write together, of which any may die at any instruction.
//!
//! * [`Dict`]: keys and values of any type.

mod dict;
mod lookup;
pub(crate) mod store;

pub use dict::{Dict, Iter, Keys};
pub use lookup::Lookup;
