//! Shared data: what processes read and write together, of which any may die at any instruction.
//!
//! * [`Dict`]: keys and values of any type.
//! * [`List`]: items of any type, one behind the other.

mod dict;
mod list;
mod lookup;
pub(crate) mod store;

pub use dict::{Dict, Iter, Keys};
pub use list::{List, ListIter};
pub use lookup::Lookup;
