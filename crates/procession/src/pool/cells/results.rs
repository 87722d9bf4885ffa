//! What a chunk of a map has brought forth: numbers side by side, or records.
//!
//! ```text
//! ┌──────────────┬────────────────────────┐ ┌──────────────┬───
//! │ kind, len    │ len bytes, padded to 8 │ │ kind, len    │         in a block that belongs to the pool
//! └──────────────┴────────────────────────┘ └──────────────┴───
//! ```
//!
//! | kind    | the bytes are                                        |
//! |---------|------------------------------------------------------|
//! | `VALUE` | a value                                              |
//! | `BLOCK` | the offset of a block with a value, which has handles |
//! | `ERROR` | a [`TaskError`]                                      |
//!
//! The block is filled item by item, and [`Filled`] says how far: what is finished is not lost with the worker.
#![allow(unsafe_code)] // Writes into the block of a chunk that this worker has claimed.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::cell::{Cell, Filled, INLINE, RECORDS, block_in};
use super::error::TaskError;
use crate::arena::blocks::{HEADER, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::Id;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, blocks, member, payload};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::{Result, codec};

const VALUE: u64 = 0;
const BLOCK: u64 = 1;
const ERROR: u64 = 2;
const WORD: u64 = 8;
/// The first block of records has room for so many bytes an item.
const GUESS: u64 = 24;

/// Where a worker puts the results of a chunk.
pub(crate) struct ResultWriter<'a, R> {
    arena: &'static Arena,
    owner: Tag,
    cell: &'a Cell,
    /// 0 when there is none yet.
    block: u64,
    room: u64,
    records: bool,
    pub(crate) filled: Filled,
    _results: PhantomData<fn() -> R>,
}

impl<'a, R: Message> ResultWriter<'a, R> {
    /// Goes on where the last worker stopped.
    pub(crate) fn open(arena: &'static Arena, owner: Tag, cell: &'a Cell) -> ResultWriter<'a, R> {
        let word = cell.result.load(Ordering::Acquire);
        let block = block_in(word);
        let room = if block == 0 { 0 } else { room_of(arena, block) };
        let mut filled = Filled::read(cell.filled.load(Ordering::Acquire));
        let records =
            if block == 0 { encoding::size_of_number::<R>().is_none() } else { word & RECORDS != 0 };
        if records {
            // The last worker may have died between two forms, so the bytes are counted.
            let bytes = self::records(*arena, cell)
                .map(|(_, bytes)| WORD + (bytes.len() as u64).next_multiple_of(WORD));
            filled.bytes = bytes.sum();
        }
        ResultWriter { arena, owner, cell, block, room, records, filled, _results: PhantomData }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: &R) -> Result<()> {
        if self.records {
            return self.push_record(value);
        }
        encoding::with_bytes(value, |bytes, _| {
            let len = bytes.len() as u64;
            let at = self.filled.bytes;
            if at + len > self.room {
                let items = u64::from(self.cell.count.load(Ordering::Relaxed).max(1));
                self.grow(at + len, len * items)?;
            }
            self.write(at, bytes);
            self.commit(len);
            Ok(())
        })?
    }

    /// Writes bytes behind the finished items, where there is room for them.
    #[inline]
    fn write(&self, at: u64, bytes: &[u8]) {
        debug_assert!(at + bytes.len() as u64 <= self.room);
        // SAFETY: only the worker that runs the chunk writes here, and nobody reads behind what `filled` counts.
        unsafe { self.arena.write(self.block + HEADER + at, bytes) };
    }

    #[inline]
    fn commit(&mut self, len: u64) {
        self.filled = Filled { items: self.filled.items + 1, bytes: self.filled.bytes + len };
        // CRASH: until this store the item is not finished, and its bytes are written over.
        self.cell.filled.store(self.filled.word(), Ordering::Release);
    }

    fn push_record(&mut self, value: &R) -> Result<()> {
        encoding::with_bytes(value, |bytes, ids| {
            if ids.is_empty() {
                return self.record(VALUE, bytes);
            }
            let block = payload::pack_bytes(bytes, ids)?;
            self.record(BLOCK, &block.at().to_le_bytes())?;
            // CRASH: named and still ours: recovery gives it to the pool.
            block.give_to(self.owner);
            Ok(())
        })?
    }

    pub(crate) fn push_error(&mut self, error: &TaskError) -> Result<()> {
        if !self.records {
            self.convert()?;
        }
        let bytes = postcard::to_stdvec(error).unwrap_or_default();
        self.record(ERROR, &bytes)
    }

    fn record(&mut self, kind: u64, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        let need = WORD + len.next_multiple_of(WORD);
        let at = self.filled.bytes;
        if at + need > self.room {
            let items = u64::from(self.cell.count.load(Ordering::Relaxed).max(1));
            let guess = if self.room == 0 { items * GUESS } else { 2 * self.room };
            self.grow(at + need, guess)?;
        }
        self.write(at, &(len << 8 | kind).to_le_bytes());
        self.write(at + WORD, bytes);
        self.commit(need);
        Ok(())
    }

    /// Continues in a larger block: of `guess` bytes if there is memory for that, and of at least `least`.
    #[cold]
    fn grow(&mut self, least: u64, guess: u64) -> Result<()> {
        let mut fresh =
            OwnedBlock::allocate_now(guess.max(least)).or_else(|_| OwnedBlock::allocate(least))?;
        if self.block != 0 {
            let old = bytes_at(self.arena, self.block, 0, self.filled.bytes);
            fresh.room_mut(self.filled.bytes).copy_from_slice(old);
        }
        self.replace(fresh, self.filled);
        Ok(())
    }

    /// CRASH: at each step the cell names one block, the pool's or ours, that holds what `filled` says;
    /// recovery gives it to the pool.
    fn replace(&mut self, mut fresh: OwnedBlock, filled: Filled) {
        // No handles; the length is in `filled`.
        fresh.bytes_mut(HEADER).fill(0);
        let (arena, me) = (self.arena, Tag::process(member::slot()));
        if self.block != 0 {
            blocks::hand_over(arena, self.block, self.owner, me);
        }
        self.cell.result.store(fresh.at() | if self.records { RECORDS } else { 0 }, Ordering::Release);
        let fresh = fresh.give_to(self.owner);
        if self.block != 0 {
            blocks::free(arena, member::slot(), self.block, me);
        }
        (self.block, self.room, self.filled) = (fresh, room_of(arena, fresh), filled);
    }

    /// Turns numbers side by side into records, because there is an error among them.
    #[cold]
    fn convert(&mut self) -> Result<()> {
        let size = encoding::size_of_number::<R>().unwrap_or(1) as u64;
        let (items, step) = (u64::from(self.filled.items), WORD + size.next_multiple_of(WORD));
        let count = u64::from(self.cell.count.load(Ordering::Relaxed));
        let mut fresh = OwnedBlock::allocate((count.max(items) * step).max(WORD))?;
        let records = fresh.room_mut(items * step);
        for i in 0..items {
            let (head, value) = records[(i * step) as usize..].split_at_mut(WORD as usize);
            head.copy_from_slice(&(size << 8 | VALUE).to_le_bytes());
            value[..size as usize].copy_from_slice(bytes_at(self.arena, self.block, i * size, size));
        }
        self.records = true;
        let filled = Filled { items: self.filled.items, bytes: items * step };
        self.replace(fresh, filled);
        self.cell.filled.store(filled.word(), Ordering::Release);
        Ok(())
    }
}

/// Returns bytes of a block of results, from `at` behind its header on.
fn bytes_at(arena: &Arena, block: u64, at: u64, len: u64) -> &'static [u8] {
    // SAFETY: the worker that runs the chunk only writes behind what `filled` counts, and once the chunk is finished
    // nobody writes. The block goes with its task, which the reader of a result holds.
    unsafe { arena.bytes(block + HEADER + at, len) }
}

fn room_of(arena: &Arena, block: u64) -> u64 {
    blocks::around(arena, block).map_or(0, |(at, size)| at + size - block - HEADER).min(Filled::MOST_BYTES)
}

fn word(arena: &Arena, block: u64, at: u64) -> u64 {
    u64::from_le_bytes(bytes_at(arena, block, at, WORD).try_into().unwrap_or_default())
}

/// The records of a cell: kind, bytes.
fn records(arena: Arena, cell: &Cell) -> impl Iterator<Item = (u64, &'static [u8])> + use<> {
    let result = cell.result.load(Ordering::Acquire);
    let is_there = result & RECORDS != 0 && result & INLINE == 0;
    let block = if is_there { block_in(result) } else { 0 };
    let filled = Filled::read(cell.filled.load(Ordering::Acquire));
    let room = if block == 0 { 0 } else { room_of(&arena, block) };
    let (mut at, mut left) = (0, if block == 0 { 0 } else { filled.items });
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        if at + WORD > room {
            return None;
        }
        let head = word(&arena, block, at);
        let (kind, len) = (head & 0xff, head >> 8);
        if len > room - at - WORD {
            return None;
        }
        let bytes = bytes_at(&arena, block, at + WORD, len);
        at += WORD + len.next_multiple_of(WORD);
        Some((kind, bytes))
    })
}

fn block_named(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

/// Calls `f` with the blocks that a chunk's records name.
pub(crate) fn for_each_block(arena: &Arena, cell: &Cell, f: &mut impl FnMut(u64)) {
    for (kind, bytes) in records(*arena, cell) {
        if let (BLOCK, Some(block)) = (kind, block_named(bytes)) {
            f(block);
        }
    }
}

/// Reads the results of a finished chunk, in order. Items that it has not come to are missing.
pub(crate) fn read<R: Message>(
    arena: &'static Arena,
    cell: &Cell,
    take: &mut impl FnMut(Result<R, TaskError>),
) {
    let result = cell.result.load(Ordering::Acquire);
    let filled = Filled::read(cell.filled.load(Ordering::Acquire));
    if result & RECORDS == 0 && block_in(result) != 0 {
        let bytes = bytes_at(arena, block_in(result), 0, filled.bytes);
        if let Ok(numbers) = encoding::from_bytes::<Vec<R>>(bytes) {
            numbers.into_iter().for_each(|number| take(Ok(number)));
        }
        return;
    }
    let undecodable = |e: crate::Error| TaskError::Undecodable(format!("the result cannot be read: {e}"));
    for (kind, bytes) in records(*arena, cell) {
        take(match kind {
            VALUE => encoding::from_bytes(bytes).map_err(undecodable),
            BLOCK => codec::unpack(arena, block_named(bytes).unwrap_or(0)).map_err(undecodable),
            _ => Err(postcard::from_bytes(bytes).unwrap_or_else(|e| TaskError::Undecodable(e.to_string()))),
        });
    }
}

/// The bytes of a chunk's items, as they travel: numbers side by side, or records.
#[derive(Default)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
    ids: Vec<Id>,
    /// The objects of `ids`, held by this process until a block carries them: whoever made an item may have had the
    /// only handle.
    held: Vec<Handle>,
}

impl Packed {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an item; an error leaves everything as it was.
    #[inline]
    pub(crate) fn push<T: Message>(&mut self, item: &T) -> Result<()> {
        let number = encoding::size_of_number::<T>().is_some();
        encoding::with_bytes(item, |bytes, ids| {
            if number {
                self.bytes.extend_from_slice(bytes);
                return Ok(());
            }
            encoding::check_arrival::<T>(bytes)?;
            self.bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(bytes);
            self.ids.extend_from_slice(ids);
            if ids.is_empty() { Ok(()) } else { self.hold(ids) }
        })?
    }

    /// Holds objects while the item that named them, and still lives, does.
    #[cold]
    fn hold(&mut self, ids: &[Id]) -> Result<()> {
        let arena = member::arena()?;
        for &id in ids.iter().filter(|id| id.index() < arena.layout.objects) {
            if let Some(kind) = arena.object(id.index()).kind() {
                self.held.push(Handle::take(id, kind)?);
            }
        }
        Ok(())
    }

    /// A block of this process with all of them.
    pub(crate) fn pack(&self) -> Result<u64> {
        payload::pack_bytes(&self.bytes, &self.ids).map(OwnedBlock::into_raw)
    }
}

/// The items of a chunk, in a worker.
pub(crate) struct Items<T> {
    numbers: std::vec::IntoIter<T>,
    /// What is left, when they are no numbers.
    bytes: &'static [u8],
}

impl<T: Message> Items<T> {
    /// From the item `first` on.
    pub(crate) fn open(arena: &'static Arena, block: u64, first: u32) -> Result<Items<T>> {
        let mut bytes = payload::contents(arena, block)?;
        if let Some(size) = encoding::size_of_number::<T>() {
            let rest = bytes.get(first as usize * size..).unwrap_or_default();
            let numbers = encoding::from_bytes::<Vec<T>>(rest)?;
            return Ok(Items { numbers: numbers.into_iter(), bytes: &[] });
        }
        for _ in 0..first {
            split_first(&mut bytes);
        }
        Ok(Items { numbers: Vec::new().into_iter(), bytes })
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<T> {
        if let Some(number) = self.numbers.next() {
            return Ok(number);
        }
        encoding::decode_carried(split_first(&mut self.bytes))
    }
}

fn split_first(bytes: &mut &'static [u8]) -> &'static [u8] {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return &[] };
    let len = (u64::from_le_bytes(*head) as usize).min(rest.len());
    let (first, rest) = rest.split_at(len);
    *bytes = rest;
    first
}
