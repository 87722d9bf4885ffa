//! Shared data: what processes read and write together, of which any may die at any instruction.
//!
//! | for | there is |
//! |---|---|
//! | keys and values of any type | [`Dict`] |
//! | items of any type, one behind the other | [`List`] |
//! | one value of any type that serde knows, never torn | [`Value`] |
//! | many plain numbers, changed in place | [`Array`] |
//! | one plain value, changed in place and often | [`Mutex`](crate::sync::Mutex), [`RwLock`](crate::sync::RwLock) |

// | file       | what it holds |
// |------------|---|
// | `dict.rs`  | `Dict`; `dict_iter.rs` its iterators; `lookup.rs` what a key can be looked up by |
// | `list.rs`  | `List` |
// | `value.rs` | `Value` |
// | `array.rs` | `Array` |
// | `store/`   | the shared-memory half: nodes, tables, parts, recovery |

mod array;
mod dict;
mod dict_iter;
mod list;
mod lookup;
pub(crate) mod store;
mod value;

pub use array::{Array, ArrayGuard};
pub use dict::Dict;
pub use dict_iter::{Iter, Keys, Values};
pub use list::{List, ListIter};
pub use lookup::Lookup;
pub use value::Value;
