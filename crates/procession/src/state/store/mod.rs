//! Nodes, and the tables that name them: the shared-memory half of [`Dict`](super::Dict) and [`List`](super::List).
//! `README.md` explains the theory.
//!
//! | file          | what it holds                                                       |
//! |---------------|---------------------------------------------------------------------|
//! | `part.rs`     | one lock, the journal of one change, the commit, and its recovery    |
//! | `node.rs`     | a key and a value in a block that never changes                      |
//! | `found.rs`    | a value that a reader has found, and how it is decoded               |
//! | `table.rs`    | words that name nodes                                                |
//! | `blocks.rs`   | the words and parts in an object's blocks, and their allocation      |
//! | `map.rs`      | a hash table of parts; `search.rs` finds keys in it, `rehash.rs` changes its size |
//! | `entry.rs`    | a key's entry in a locked part                                       |
//! | `sequence.rs` | a list in one part; `list_ring.rs` its table and ends, `rebuild.rs` replaces the table |
//! | `item.rs`     | an item of a locked list                                             |
//! | `value.rs`    | one value: a lock and three blocks                                   |
//! | `old.rs`      | the value that an operation replaced or removed                      |
//! | `recover.rs`  | recovery of dicts, lists and values                                  |
//! | `copy.rs`     | bytes copied out of memory that may change meanwhile                 |
//! | `retry_budget.rs` | how long a reader tries without the lock                         |
//! | `hash.rs`     | the hash of a key                                                    |
#![allow(unsafe_code)] // Reads words of tables and nodes by their offsets.

mod blocks;
mod copy;
mod entry;
mod found;
mod hash;
mod item;
mod list_ring;
mod map;
mod node;
mod old;
mod part;
mod rebuild;
pub(crate) mod recover;
mod rehash;
mod retry_budget;
mod search;
mod sequence;
mod table;
pub(super) mod value;

pub(super) use copy::Buffer;
pub(super) use entry::Entry;
pub(super) use map::Map;

pub(super) use found::{decode, decode_both};
pub(super) use item::Item;
pub use node::Encoded;
pub(crate) use old::Old;
pub(super) use part::UserCode;
pub(super) use sequence::{End, Sequence};

use blocks::{allocate, make_parts, parts_at, word};
use old::exchange_word;
use retry_budget::RetryBudget;
