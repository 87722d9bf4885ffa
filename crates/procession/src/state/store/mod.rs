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
//! | `value.rs`    | one value: a lock and three blocks                                   |
//! | `recover.rs`  | recovery of dicts, lists and values                                  |
//! | `copy.rs`     | bytes copied out of memory that may change meanwhile                 |
//! | `hash.rs`     | where a key belongs                                                  |
#![allow(unsafe_code)] // Words of tables and nodes are read by their offsets.

mod copy;
mod hash;
mod map;

mod node;
mod part;
pub(crate) mod recover;
mod rehash;
mod sequence;
mod table;
pub(super) mod value;

pub(super) use copy::Buffer;
pub(super) use map::{Entry, Map};

pub use node::Encoded;
pub(super) use node::{decode, decode_both};
pub(super) use part::Inside;
pub(super) use sequence::{End, Item, Sequence};

use std::sync::atomic::{AtomicU64, Ordering};

use crate::arena::blocks::{HEADER, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::Body;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, member};
use crate::codec::encoding;
use crate::{Message, Result};
use node::Node;
use part::Part;

/// How long a reader looks without the lock: a hundred looks that came to nothing, or fewer when much was copied
/// in vain.
struct Patience(u64);

impl Patience {
    #[inline]
    fn new() -> Patience {
        Patience(100)
    }

    #[inline]
    fn lasts(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }

    /// So many bytes were copied in vain.
    #[inline]
    fn spend(&mut self, bytes: u64) {
        self.0 = self.0.saturating_sub(bytes >> 14);
    }
}

/// The aligned word at `offset`, if there is one.
#[inline]
fn word(arena: &Arena, offset: u64) -> Option<&'static AtomicU64> {
    let sound = offset.is_multiple_of(8) && offset < arena.layout.bytes - 7;
    // SAFETY: checked just now; any eight aligned bytes of the arena can be read as an atomic. What is
    // written through it lies in blocks of the caller's, or under its lock.
    sound.then(|| unsafe { arena.at(offset) })
}

/// Where a block has its parts: on cache lines of their own.
fn parts_at<const N: usize>(arena: &Arena, block: u64) -> &'static [Part; N] {
    // SAFETY: aligned just now, in a block that has room for them behind the alignment; atomics only.
    unsafe { arena.at((block + HEADER).next_multiple_of(PART_ALIGNMENT)) }
}

/// Two cache lines, because processors fetch them in pairs.
const PART_ALIGNMENT: u64 = 128;

/// An object that owns so many empty parts.
fn make_parts<B: Body, const N: usize>() -> Result<Handle> {
    let arena = member::arena()?;
    let size = size_of::<[Part; N]>() as u64 + PART_ALIGNMENT;
    let mut block = OwnedBlock::allocate(size)?;
    block.bytes_mut(HEADER + size).fill(0);
    parts_at::<N>(arena, block.at()).iter().for_each(Part::initialise);
    let handle = Handle::create::<B>(|object| object.blocks[0].store(block.at(), Ordering::Relaxed))?;
    // CRASH: before this the block is swept with us, and the object goes with its only handle.
    block.give_to(Tag::object(handle.id().index()));
    Ok(handle)
}

/// Allocates a block of this process of `bytes` bytes, without a payload's header. With `now`, does not wait for memory.
fn allocate(bytes: u64, now: bool) -> Result<OwnedBlock> {
    let room = bytes.saturating_sub(HEADER);
    if now { OwnedBlock::allocate_now(room) } else { OwnedBlock::allocate(room) }
}

/// What was there before.
pub(crate) enum Old {
    Nothing,
    /// A value of so many bytes.
    Word(u64, usize),
    Node(OwnedBlock),
}

impl Old {
    /// Puts the value together.
    #[inline]
    pub(crate) fn decode<V: Message>(self, arena: &Arena) -> Result<Option<V>> {
        match self {
            Old::Nothing => Ok(None),
            Old::Word(word, len) => encoding::from_bytes(&word.to_le_bytes()[..len]).map(Some),
            Old::Node(node) => node::decode(arena, &node).map(Some),
        }
    }
}

/// Exchanges a value that is one word for another, if both are. For who holds the lock.
#[inline]
fn exchange_word(arena: &Arena, node: &Node, value: Encoded<'_>) -> Option<Old> {
    let len = value.bytes.len();
    let word = node.value_word(arena, len).filter(|_| value.ids.is_empty())?;
    let mut new = [0; 8];
    new[..len].copy_from_slice(value.bytes);
    let old = word.load(Ordering::Relaxed);
    // CRASH: before this store it is the old value, after it the new one. Readers see one or the other, too.
    word.store(u64::from_le_bytes(new), Ordering::Release);
    Some(Old::Word(old, len))
}
