//! Shared data: dicts, lists, values and arrays that all processes of a family read and write.
//!
//! Any process may be killed at any instruction. After such a death, [`Dict`], [`List`] and [`Value`] hold
//! either the old or the new data, never a mixture.
//!
//! | to share | use |
//! |---|---|
//! | keys and values of any type | [`Dict`] |
//! | a sequence of items of any type | [`List`] |
//! | one value of any type that serde can encode | [`Value`] |
//! | many plain numbers, changed in place | [`Array`] |
//! | one plain value, changed in place and often | [`Mutex`](crate::sync::Mutex), [`RwLock`](crate::sync::RwLock) |

// | file       | what it holds |
// |------------|---|
// | `dict.rs`  | `Dict`; `dict_update.rs` its changes of a value under the lock; `dict_iter.rs` its iterators; `lookup.rs` the types to look keys up by |
// | `list.rs`  | `List`; `list_iter.rs` its iterator |
// | `value.rs` | `Value`; `value_timeouts.rs` its methods that do not wait, or wait until a time |
// | `array.rs` | `Array` |
// | `store/`   | the shared-memory half: nodes, tables, parts, recovery |

mod array;
mod dict;
mod dict_iter;
mod dict_update;
mod list;
mod list_iter;
mod lookup;
pub(crate) mod store;
mod value;
mod value_timeouts;

pub use array::{Array, ArrayGuard};
pub use dict::Dict;
pub use dict_iter::{Iter, Keys, Values};
pub use list::List;
pub use list_iter::ListIter;
pub use lookup::Lookup;
pub use value::Value;
