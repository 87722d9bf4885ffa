//! A hash table in shared memory: 32 parts, each with a table that is searched word by word.

use std::sync::atomic::{AtomicU64, Ordering};

use super::copy::Buffer;
use super::found::Found;
use super::hash::hash;
use super::node::{self, Encoded, Node};
use super::part::{Change, Part, PartGuard, WITH_NODES};
use super::search::Place;
use super::table::{EMPTY, Emptied, GONE, Table, naming, node_of};
use super::{Old, exchange_word, make_parts, parts_at};
use crate::arena::blocks::Tag;
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::recover::{Dead, Journaled};
use crate::arena::{Arena, collect, heap, member};
use crate::{Error, Result};

/// The number of parts. At most this many changes can run at the same time.
pub(super) const PARTS: usize = 32;

/// The body of a dict. All data of the dict is in blocks.
#[repr(C)]
pub(crate) struct DictBody(AtomicU64);

// SAFETY: the body is an atomic, and zero is a valid value.
unsafe impl Body for DictBody {
    const KIND: Kind = Kind::Dict;
}

/// This process's view of a hash table.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub(super) arena: &'static Arena,
    pub(super) parts: &'static [Part; PARTS],
    object: u32,
    seed: u64,
}

impl Map {
    /// Creates an empty map, and the object that owns it.
    pub(crate) fn make() -> Result<(Handle, Map)> {
        let handle = make_parts::<DictBody, PARTS>()?;
        let map = Map::of(handle.id().index())?;
        Ok((handle, map))
    }

    /// Returns the map that an object owns. The caller holds the object.
    pub(crate) fn of(index: u32) -> Result<Map> {
        member::arena()?;
        Map::find(index).ok_or_else(|| Error::StaleHandle("this dict no longer exists".into()))
    }

    /// As [`of`](Map::of), for recovery.
    pub(super) fn find(index: u32) -> Option<Map> {
        let arena = member::mapped()?;
        let block = arena.object(index).blocks[0].load(Ordering::Acquire);
        arena.layout.span_of(block)?;
        let seed = arena.header().nonce.load(Ordering::Relaxed);
        Some(Map { arena, parts: parts_at(arena, block), object: index, seed })
    }

    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    pub(super) fn owner(&self) -> Tag {
        Tag::object(self.object)
    }

    #[cfg(feature = "internals")]
    pub(super) fn object(&self) -> u32 {
        self.object
    }

    #[cfg(feature = "internals")]
    pub(super) fn parts(&self) -> &'static [Part] {
        self.parts
    }

    #[cfg(feature = "internals")]
    pub(crate) fn part_index(&self, key: &[u8]) -> usize {
        (self.hash(key) >> 59) as usize
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        hash(key, self.seed)
    }

    #[inline]
    pub(super) fn part(&self, hash: u64) -> &'static Part {
        &self.parts[(hash >> 59) as usize]
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.live.load(Ordering::Relaxed)).sum()
    }

    #[inline]
    pub(super) fn acquire(&self, part: &'static Part) -> Result<PartGuard> {
        part.acquire(self.arena, self.parts)
    }

    /// Sets the value of a key. Returns the previous value.
    #[inline]
    pub(crate) fn insert(&self, key: Encoded<'_>, value: Encoded<'_>) -> Result<Old> {
        let hash = self.hash(key.bytes);
        let part = self.part(hash);
        // For a small value, this first tries to replace the old value with one store, and makes a node only
        // if that fails. For any other value, it makes the node before it acquires the lock.
        let small = value.bytes.len() <= 8 && value.ids.is_empty();
        let mut fresh = if small { None } else { Some(node::make(self.arena, key, value, false)?) };
        loop {
            let guard = self.acquire(part)?;
            if let Place::Taken { node, .. } = self.search(part, hash, key.bytes)
                && let Some(old) = exchange_word(self.arena, &node, value)
            {
                return Ok(old);
            }
            let node = match fresh.take() {
                Some(node) => Ok(node),
                None => node::make(self.arena, key, value, true),
            };
            match node {
                Ok(node) => return self.place(&guard, hash, key.bytes, node),
                Err(_) => drop(guard),
            }
            fresh = Some(node::make(self.arena, key, value, false)?);
        }
    }

    /// Makes the table name a node, in place of the node that has the same key, if there is one.
    pub(super) fn place(&self, guard: &PartGuard, hash: u64, key: &[u8], node: OwnedBlock) -> Result<Old> {
        let part = guard.part;
        let mut place = self.search(part, hash, key);
        if !matches!(place, Place::Taken { .. }) && self.make_room(part)? {
            place = self.search(part, hash, key);
        }
        let (cell, stale) = match &place {
            Place::Taken { cell, at, .. } => (*cell, *at),
            Place::Free { cell, .. } => (*cell, 0),
            Place::Nowhere => {
                return Err(Error::Full(
                    "internal error: the table of a dict has no room after it was enlarged".into(),
                ));
            }
        };
        let to = naming(hash, node.at());
        self.commit(part, Change { at: cell, to, fresh: [node.at(), 0], stale: [stale, 0] });
        node.into_raw();
        match place {
            Place::Taken { at, .. } => return Ok(Old::Node(part.take_stale(self.arena, at))),
            Place::Free { was: EMPTY, .. } => add(&part.used, 1),
            _ => {}
        }
        add(&part.live, 1);
        Ok(Old::Nothing)
    }

    pub(super) fn commit(&self, part: &Part, change: Change) {
        part.commit(self.arena, self.owner(), change, 0);
    }

    /// Removes a key. Returns the key's value.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<Old> {
        let hash = self.hash(key);
        let part = self.part(hash);
        let guard = self.acquire(part)?;
        let Place::Taken { cell, index, at, .. } = self.search(part, hash, key) else {
            return Ok(Old::Nothing);
        };
        let table = Table(part.table.load(Ordering::Relaxed));
        let next = table.cell(self.arena, (index + 1) & (table.len() - 1));
        let is_last = next.is_some_and(|next| next.load(Ordering::Relaxed) == EMPTY);
        let to = if is_last { EMPTY } else { GONE };
        self.commit(part, Change { at: cell, to, fresh: [0; 2], stale: [at, 0] });
        let old = part.take_stale(self.arena, at);
        add(&part.live, u64::MAX);
        if is_last {
            self.clear_trailing_gone(part, table, index);
        }
        let smaller = self.shrink(part);
        drop(guard);
        if smaller.is_some_and(|smaller| smaller.was_large()) {
            self.trim();
        }
        Ok(Old::Node(old))
    }

    /// Turns the `GONE` words directly before `index` back into `EMPTY`. The word at `index` is `EMPTY`, so a
    /// search need not continue past them.
    fn clear_trailing_gone(&self, part: &Part, table: Table, mut index: u64) {
        add(&part.used, u64::MAX);
        for _ in 0..table.len() {
            index = index.wrapping_sub(1) & (table.len() - 1);
            match table.cell(self.arena, index) {
                // CRASH: after each of these stores, every key in the table can still be found.
                Some(cell) if cell.load(Ordering::Relaxed) == GONE => cell.store(EMPTY, Ordering::Release),
                _ => break,
            }
            add(&part.used, u64::MAX);
        }
    }

    /// Removes all entries, part by part.
    pub(crate) fn clear(&self) -> Result<()> {
        let mut any = false;
        for part in self.parts {
            let guard = self.acquire(part)?;
            let emptied = self.drop_table(part);
            drop(guard);
            any |= emptied.is_some();
        }
        if any {
            // Frees the objects that only the removed values held.
            collect::alone_if_wanted(self.arena);
            self.trim();
        }
        Ok(())
    }

    /// Releases free memory to the kernel.
    fn trim(&self) {
        heap::trim(self.arena, member::slot());
    }

    /// Removes the table with all the nodes that it names.
    pub(super) fn drop_table(&self, part: &'static Part) -> Option<Emptied> {
        let table = Table(part.table.load(Ordering::Relaxed));
        if table.0 == 0 {
            return None;
        }
        // CRASH: if we die after the commit's store, recovery gives the table and its nodes to the dead
        // process, whose blocks are then swept. No node is freed while the journal names the table.
        self.commit(
            part,
            Change { at: part.table_cell(), to: 0, fresh: [0; 2], stale: [table.0 | WITH_NODES, 0] },
        );
        part.live.store(0, Ordering::Relaxed);
        part.used.store(0, Ordering::Relaxed);
        Some(Emptied { arena: self.arena, table, first: 0 })
    }

    /// The number of parts that [`copy_part`](Map::copy_part) can copy.
    pub(crate) const PARTS: usize = PARTS;

    /// Copies one part as it is at one moment. For a node without handles, calls `plain` with its key and
    /// value. Returns copies of the nodes with handles.
    pub(crate) fn copy_part(
        &self,
        index: usize,
        mut plain: impl FnMut(&[u8], &[u8]),
    ) -> Result<Vec<OwnedBlock>> {
        let part = &self.parts[index];
        let guard = self.acquire(part)?;
        let (mut carried, mut unused) = (Vec::new(), Buffer::new());
        let table = Table(part.table.load(Ordering::Acquire));
        if table.0 != 0 {
            for at in table.words(self.arena).filter_map(node_of) {
                let node = Node::read(self.arena, at).ok_or_else(node::damaged)?;
                if node.is_plain() {
                    plain(node.key(self.arena)?, node.value(self.arena)?);
                } else if let Some(Found::Carried(copy)) = node.copy(self.arena, &mut unused, || true)? {
                    carried.push(copy);
                }
            }
        }
        drop(guard);
        Ok(carried)
    }

    /// Releases the lock that the journal entry names. The dead thread held this lock or was about to acquire
    /// it.
    pub(super) fn release(&self, dead: &Dead<'_>, entry: Journaled) {
        for part in self.parts {
            if part.is_locked_by_word_at(dead.arena, entry.offset) {
                part.recover(dead, entry, self.owner(), 0, || self.recount(part));
            }
        }
    }
}

/// Changes a count. Only the holder of the lock writes to this count.
#[inline]
pub(super) fn add(count: &AtomicU64, change: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(change), Ordering::Relaxed);
}
