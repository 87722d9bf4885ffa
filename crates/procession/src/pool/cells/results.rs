//! The results of a chunk: adjacent numbers, or records.
//!
//! ```text
//! ┌──────────────┬────────────────────────┐ ┌──────────────┬───
//! │ kind, len    │ len bytes, padded to 8 │ │ kind, len    │         in a block that belongs to the pool
//! └──────────────┴────────────────────────┘ └──────────────┴───
//! ```
//!
//! | kind    | the bytes are                                     |
//! |---------|---------------------------------------------------|
//! | `VALUE` | a value                                           |
//! | `BLOCK` | the offset of a block with a value that has handles |
//! | `ERROR` | a [`TaskError`]                                   |
//!
//! The block is filled item by item, and a [`ChunkProgress`] says how many items are finished. The results of
//! the finished items survive the worker.
#![allow(unsafe_code)] // Writes into the block of a chunk that this worker has claimed.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::cell::{Cell, INLINE, RECORDS, block_in};
use super::chunk_counts::count_failure;
use super::error::TaskError;
use super::progress::ChunkProgress;
use crate::arena::blocks::{HEADER, Tag};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, blocks, member, payload};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::{Result, codec};

const VALUE: u64 = 0;
const BLOCK: u64 = 1;
const ERROR: u64 = 2;
const WORD: u64 = 8;
/// The estimated size of a record. Determines the size of the first block.
const GUESS: u64 = 24;

/// Writes the results of a chunk.
pub(crate) struct ResultWriter<'a, R> {
    arena: &'static Arena,
    owner: Tag,
    cell: &'a Cell,
    /// The block with the results; 0 if there is none yet.
    block: u64,
    room: u64,
    records: bool,
    pub(crate) progress: ChunkProgress,
    _results: PhantomData<fn() -> R>,
}

impl<'a, R: Message> ResultWriter<'a, R> {
    /// Returns a writer that continues after the last finished item.
    pub(crate) fn open(arena: &'static Arena, owner: Tag, cell: &'a Cell) -> ResultWriter<'a, R> {
        let word = cell.result.load(Ordering::Acquire);
        let block = block_in(word);
        let room = if block == 0 { 0 } else { room_of(arena, block) };
        let mut progress = ChunkProgress::read(cell.progress.load(Ordering::Acquire));
        let records =
            if block == 0 { encoding::size_of_number::<R>().is_none() } else { word & RECORDS != 0 };
        if records {
            // The previous worker may have died while it converted numbers to records. So the size in
            // `progress` may be wrong, and is computed from the records.
            let bytes = self::records(*arena, cell)
                .map(|(_, bytes)| WORD + (bytes.len() as u64).next_multiple_of(WORD));
            progress.bytes = bytes.sum();
        }
        ResultWriter { arena, owner, cell, block, room, records, progress, _results: PhantomData }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: &R) -> Result<()> {
        if self.records {
            return self.push_record(value);
        }
        encoding::with_bytes(value, |bytes, _| {
            let len = bytes.len() as u64;
            let at = self.progress.bytes;
            if at + len > self.room {
                let items = u64::from(self.cell.count.load(Ordering::Relaxed).max(1));
                self.grow(at + len, len * items)?;
            }
            self.write(at, bytes);
            self.commit(len);
            Ok(())
        })?
    }

    /// Writes bytes after the finished items. The block must have room for them.
    #[inline]
    fn write(&self, at: u64, bytes: &[u8]) {
        debug_assert!(at + bytes.len() as u64 <= self.room);
        // SAFETY: only the worker that runs the chunk writes here, and no process reads beyond the bytes that
        // `progress` counts.
        unsafe { self.arena.write(self.block + HEADER + at, bytes) };
    }

    #[inline]
    fn commit(&mut self, len: u64) {
        self.progress = ChunkProgress { items: self.progress.items + 1, bytes: self.progress.bytes + len };
        // CRASH: until this store, the item is not finished. If we die before it, the next worker overwrites
        // the result.
        self.cell.progress.store(self.progress.word(), Ordering::Release);
    }

    fn push_record(&mut self, value: &R) -> Result<()> {
        encoding::with_bytes(value, |bytes, ids| {
            if ids.is_empty() {
                return self.record(VALUE, bytes);
            }
            let block = payload::pack_bytes(bytes, ids)?;
            self.record(BLOCK, &block.at().to_le_bytes())?;
            // CRASH: a record names the block, but the block is still ours. If we die here, recovery hands it
            // over to the pool.
            block.give_to(self.owner);
            Ok(())
        })?
    }

    pub(crate) fn push_error(&mut self, error: &TaskError) -> Result<()> {
        if !self.records {
            self.convert()?;
        }
        count_failure(self.cell, self.progress.items);
        let bytes = codec::to_vec(error).unwrap_or_default();
        self.record(ERROR, &bytes)
    }

    fn record(&mut self, kind: u64, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        let need = WORD + len.next_multiple_of(WORD);
        let at = self.progress.bytes;
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

    /// Continues in a larger block. The block has `guess` bytes if there is memory for them, and otherwise
    /// `least` bytes.
    #[cold]
    fn grow(&mut self, least: u64, guess: u64) -> Result<()> {
        let mut fresh =
            OwnedBlock::allocate_now(guess.max(least)).or_else(|_| OwnedBlock::allocate(least))?;
        if self.block != 0 {
            let old = bytes_at(self.arena, self.block, 0, self.progress.bytes);
            fresh.room_mut(self.progress.bytes).copy_from_slice(old);
        }
        self.replace(fresh, self.progress);
        Ok(())
    }

    /// Replaces the block by `fresh`, which holds the same results.
    ///
    /// CRASH: at each step, the cell names one block, and this block belongs to the pool or to us. It holds
    /// the results that `progress` counts. Recovery hands it over to the pool.
    fn replace(&mut self, mut fresh: OwnedBlock, progress: ChunkProgress) {
        // The header is zero because the block carries no handles, and because the length is in `progress`.
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
        (self.block, self.room, self.progress) = (fresh, room_of(arena, fresh), progress);
    }

    /// Converts adjacent numbers to records, because one item failed.
    #[cold]
    fn convert(&mut self) -> Result<()> {
        let size = encoding::size_of_number::<R>().unwrap_or(1) as u64;
        let (items, step) = (u64::from(self.progress.items), WORD + size.next_multiple_of(WORD));
        let count = u64::from(self.cell.count.load(Ordering::Relaxed));
        let mut fresh = OwnedBlock::allocate((count.max(items) * step).max(WORD))?;
        let records = fresh.room_mut(items * step);
        for i in 0..items {
            let (head, value) = records[(i * step) as usize..].split_at_mut(WORD as usize);
            head.copy_from_slice(&(size << 8 | VALUE).to_le_bytes());
            value[..size as usize].copy_from_slice(bytes_at(self.arena, self.block, i * size, size));
        }
        self.records = true;
        let progress = ChunkProgress { items: self.progress.items, bytes: items * step };
        self.replace(fresh, progress);
        self.cell.progress.store(progress.word(), Ordering::Release);
        Ok(())
    }
}

/// Returns `len` bytes of a block of results, starting `at` bytes after its header.
fn bytes_at(arena: &Arena, block: u64, at: u64, len: u64) -> &'static [u8] {
    // SAFETY: the worker that runs the chunk writes only beyond the bytes that `progress` counts. After the
    // chunk is finished, no process writes. The block is freed with its task, and the reader of a result has
    // a handle to the task.
    unsafe { arena.bytes(block + HEADER + at, len) }
}

fn room_of(arena: &Arena, block: u64) -> u64 {
    blocks::around(arena, block)
        .map_or(0, |(at, size)| at + size - block - HEADER)
        .min(ChunkProgress::MOST_BYTES)
}

fn word(arena: &Arena, block: u64, at: u64) -> u64 {
    u64::from_le_bytes(bytes_at(arena, block, at, WORD).try_into().unwrap_or_default())
}

/// Returns the kind and the bytes of each record of a cell.
fn records(arena: Arena, cell: &Cell) -> impl Iterator<Item = (u64, &'static [u8])> + use<> {
    let result = cell.result.load(Ordering::Acquire);
    let is_there = result & RECORDS != 0 && result & INLINE == 0;
    let block = if is_there { block_in(result) } else { 0 };
    let progress = ChunkProgress::read(cell.progress.load(Ordering::Acquire));
    let room = if block == 0 { 0 } else { room_of(&arena, block) };
    let (mut at, mut left) = (0, if block == 0 { 0 } else { progress.items });
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

/// Calls `f` with the blocks that the records of a chunk name.
pub(crate) fn for_each_block(arena: &Arena, cell: &Cell, f: &mut impl FnMut(u64)) {
    for (kind, bytes) in records(*arena, cell) {
        if let (BLOCK, Some(block)) = (kind, block_named(bytes)) {
            f(block);
        }
    }
}

/// Calls `take` with each result of a chunk that is done, in order. Does not call `take` for items that were
/// not finished.
pub(crate) fn read<R: Message>(
    arena: &'static Arena,
    cell: &Cell,
    take: &mut impl FnMut(Result<R, TaskError>),
) {
    let result = cell.result.load(Ordering::Acquire);
    let progress = ChunkProgress::read(cell.progress.load(Ordering::Acquire));
    if result & RECORDS == 0 && block_in(result) != 0 {
        let bytes = bytes_at(arena, block_in(result), 0, progress.bytes);
        if let Ok(numbers) = encoding::from_bytes::<Vec<R>>(bytes) {
            numbers.into_iter().for_each(|number| take(Ok(number)));
        }
        return;
    }
    let undecodable =
        |e: crate::Error| TaskError::Undecodable(format!("the task's result cannot be decoded: {e}"));
    for (kind, bytes) in records(*arena, cell) {
        take(match kind {
            VALUE => encoding::from_bytes(bytes).map_err(undecodable),
            BLOCK => codec::unpack(arena, block_named(bytes).unwrap_or(0)).map_err(undecodable),
            _ => Err(codec::from_slice(bytes).unwrap_or_else(|e| TaskError::Undecodable(e.to_string()))),
        });
    }
}
