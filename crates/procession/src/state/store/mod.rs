//! Nodes, and the tables that name them: what [`Dict`](super::Dict) and [`List`](super::List) stand on. The
//! theory is in `README.md`.
//!
//! | file          | what it holds                                                       |
//! |---------------|---------------------------------------------------------------------|
//! | `part.rs`     | one lock, its journal, and the commit; what recovery does            |
//! | `node.rs`     | a key and a value in a block that never changes                      |
//! | `table.rs`    | words that name nodes                                                |
//! | `map.rs`      | a hash table of parts; `rehash.rs` changes its size                  |
//! | `sequence.rs` | a list in one part                                                   |
//! | `copy.rs`     | bytes copied out of memory that may change meanwhile                 |
//! | `hash.rs`     | where a key belongs                                                  |
#![allow(unsafe_code)] // Words of tables and nodes are read by their offsets.

mod copy;
mod hash;
mod map;
mod mine;
mod node;
mod part;
mod rehash;
mod table;

pub(super) use copy::Buffer;
pub(super) use map::{Entry, Map};
pub(super) use mine::Mine;
pub use node::Encoded;
pub(super) use node::decode_both;
pub(super) use part::Inside;

use std::sync::atomic::AtomicU64;

use crate::arena::Arena;
use crate::arena::objects::Kind;

/// The aligned word at `offset`, if there is one.
#[inline]
fn word(arena: &Arena, offset: u64) -> Option<&'static AtomicU64> {
    let sound = offset.is_multiple_of(8) && offset < arena.layout.bytes - 7;
    // SAFETY: checked just now; any eight aligned bytes of the arena can be read as an atomic. What is
    // written through it lies in blocks of the caller's, or under its lock.
    sound.then(|| unsafe { arena.at(offset) })
}

/// Releases the lock at `offset` of the object `index`, a dict or a list, which the dead thread with record
/// `id`, of process `slot`, held or was about to take.
pub(crate) fn bury(arena: &Arena, slot: u32, id: u32, index: u32, kind: Kind, offset: u64) {
    if kind == Kind::Dict
        && let Some(map) = Map::find(index)
    {
        map.bury(arena, slot, id, offset);
    }
}
