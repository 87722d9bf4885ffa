//! [`CellTable`]: the cells of a pool. They lie in blocks that are never moved or freed while the pool
//! exists.
#![allow(unsafe_code)] // Makes references to cells, from checked offsets.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::cell;
use super::cell::Cell;
use super::control::Control;
use crate::arena::blocks::{HEADER, Tag};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, blocks};
use crate::rules::Rule;
use crate::{Error, Result, rules};

/// The number of cells in the first block. Each further block has twice as many, up to `LARGEST`. Blocks of these sizes
/// fill whole spans.
const FIRST: u32 = 508;
const DOUBLINGS: u32 = 9;
const LARGEST: u32 = FIRST << DOUBLINGS;
/// The number of cells in all blocks before the first block of size `LARGEST`.
const SMALLER: u32 = LARGEST - FIRST;
/// The maximum number of blocks. They have room for 130 million tasks.
const BLOCKS: usize = 512;

/// The cells of a pool. All zero at first.
#[repr(C)]
pub(crate) struct CellTable {
    /// Cells with this number or a higher one were never used.
    used: AtomicU32,
    /// Hint: where to look next for a `RETURNED` cell that is not listed. It is the place after the last such
    /// cell that was found.
    pub(crate) returned_from: AtomicU32,
    blocks: [AtomicU64; BLOCKS],
}

/// Returns the cell at this offset. The offset comes from another process, which got the cell from
/// [`Control::cell`].
pub(crate) fn cell_at(arena: &Arena, offset: u64) -> Option<&'static Cell> {
    let sound = offset.is_multiple_of(align_of::<Cell>() as u64) && arena.layout.span_of(offset).is_some();
    // SAFETY: aligned, within a span; atomics only.
    sound.then(|| unsafe { arena.at(offset) })
}

/// Returns the block of a cell, and the cell's place in that block.
fn locate(index: u32) -> (usize, u32) {
    if index >= SMALLER {
        let beyond = index - SMALLER;
        return ((DOUBLINGS + beyond / LARGEST) as usize, beyond % LARGEST);
    }
    let block = (index / FIRST + 1).ilog2();
    (block as usize, index - FIRST * ((1 << block) - 1))
}

impl Control {
    /// Returns the number of cells that were ever used.
    pub(crate) fn used(&self) -> u32 {
        self.cells.used.load(Ordering::SeqCst)
    }

    /// Returns a hint: where to look first for a `RETURNED` cell that is not listed.
    pub(crate) fn returned_from(&self) -> &AtomicU32 {
        &self.cells.returned_from
    }

    #[inline]
    pub(crate) fn cell(&self, arena: &Arena, index: u32) -> Option<&'static Cell> {
        let (block, within) = locate(index);
        let at = self.cells.blocks.get(block)?.load(Ordering::Acquire);
        if at == 0 {
            return None;
        }
        let first = (at + HEADER).next_multiple_of(align_of::<Cell>() as u64);
        cell_at(arena, first + u64::from(within) * size_of::<Cell>() as u64)
    }

    /// Returns every cell that was ever used, with its number.
    pub(crate) fn cells(&self, arena: &'static Arena) -> impl Iterator<Item = (u32, &'static Cell)> {
        (0..self.used()).filter_map(move |index| Some((index, self.cell(arena, index)?)))
    }

    /// Returns the number of a cell that was never used.
    pub(crate) fn fresh(&self, arena: &'static Arena, pool: Tag) -> Result<u32> {
        loop {
            let index = self.used();
            if self.cell(arena, index).is_none() {
                self.add_block(pool, index)?;
            }
            let used = &self.cells.used;
            if used.compare_exchange(index, index + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Ok(index);
            }
        }
    }

    /// Allocates the block of the cell `index`, unless another process does so first.
    #[cold]
    fn add_block(&self, pool: Tag, index: u32) -> Result<()> {
        let (block, _) = locate(index);
        let full =
            || Error::Full(format!("the pool has {index} unfinished tasks, the most that it can have"));
        let link = self.cells.blocks.get(block).ok_or_else(full)?;
        let cells = u64::from(FIRST) << block.min(DOUBLINGS as usize);
        let bytes = cells * size_of::<Cell>() as u64 + align_of::<Cell>() as u64;
        // `storage::make` would zero the pages by returning them to the kernel. It is not used here because
        // all of these pages are needed soon.
        let mut block = OwnedBlock::allocate(bytes)?;
        block.bytes_mut(HEADER + bytes).fill(0);
        // CRASH: after the exchange, the block is linked but still ours. If we die then, recovery hands it
        // over to the pool (`adopt_blocks`).
        if link.compare_exchange(0, block.at(), Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            block.give_to(pool);
        }
        Ok(())
    }

    /// Hands blocks of cells over to the pool, if the dead process had linked them but still owned them.
    pub(crate) fn adopt_blocks(&self, arena: &Arena, dead: Tag, pool: Tag) {
        let links = self.cells.blocks.iter().map(|link| link.load(Ordering::Acquire));
        for at in links.take_while(|&at| at != 0) {
            if blocks::owner(arena, at).same_owner(dead) && rules::holds(Rule::ChunkAdopted) {
                blocks::hand_over(arena, at, dead, pool);
            }
        }
    }
}

/// Hands the blocks that a cell names over from the pool to the process `to`, and clears the cell's words.
/// Returns the blocks, which the caller has to free or leave to the sweep. `to` must be the process that the
/// cell's state names.
pub(crate) fn detach_blocks(arena: &Arena, pool: Tag, to: Tag, cell: &Cell) -> Vec<u64> {
    let words = [&cell.args, &cell.result, &cell.note];
    let mut detached = Vec::new();
    super::results::for_each_block(arena, cell, &mut |block| detached.push(block));
    let named = words.iter().map(|word| cell::block_in(word.load(Ordering::Acquire)));
    detached.extend(named.filter(|&at| at != 0));
    // CRASH: once a block belongs to `to`, the sweep of `to` frees it. The words are cleared before any block
    // is freed. Otherwise, a freed block could belong to another task of this pool before recovery looks at
    // the cell.
    detached.retain(|&block| blocks::hand_over(arena, block, pool, to));
    words.iter().for_each(|word| word.store(0, Ordering::Release));
    detached
}
