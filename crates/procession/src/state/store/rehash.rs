//! Replaces the table of a dict's part by a table of another size. The nodes stay where they are. The new
//! table is written first, and then one store replaces the old table.

use std::sync::atomic::Ordering;

use super::map::{Map, add};
use super::part::{Change, Part};
use super::table::{EMPTY, Emptied, GONE, Table};
use crate::Result;
use crate::arena::Arena;
use crate::arena::owned_block::OwnedBlock;

impl Map {
    /// Ensures that the table has room for one more node. Returns whether it has replaced the table. The
    /// caller holds the lock.
    pub(super) fn make_room(&self, part: &'static Part) -> Result<bool> {
        let table = Table(part.table.load(Ordering::Relaxed));
        let len = if table.0 == 0 { 0 } else { table.len() };
        // At most three of four words are used, so that searches stay short.
        if 4 * (part.used.load(Ordering::Relaxed) + 1) <= 3 * len {
            return Ok(false);
        }
        let live = part.live.load(Ordering::Relaxed) + 1;
        // If many of the used words are `GONE`, the new table has the same size.
        let words = if 8 * live <= 3 * len { len } else { 2 * len };
        drop(self.rehash(part, words, false)?);
        Ok(true)
    }

    /// Shrinks the table if few entries are left. Dropping the returned value frees the old table.
    pub(super) fn shrink(&self, part: &'static Part) -> Option<Smaller> {
        let table = Table(part.table.load(Ordering::Relaxed));
        let live = part.live.load(Ordering::Relaxed);
        if live == 0 {
            return self.drop_table(part).map(|emptied| Smaller {
                words: table.len(),
                _table: None,
                _emptied: Some(emptied),
            });
        }
        if table.len() <= Table::FEWEST || 8 * live >= table.len() {
            return None;
        }
        // If there is no memory for a smaller table, the old table stays.
        self.rehash(part, 2 * live, true).ok().map(|old| Smaller {
            words: table.len(),
            _table: old,
            _emptied: None,
        })
    }

    fn rehash(&self, part: &'static Part, words: u64, now: bool) -> Result<Option<OwnedBlock>> {
        let old = Table(part.table.load(Ordering::Relaxed));
        let (new, block) = Table::make(self.arena, words, now)?;
        let mut live = 0;
        if old.0 != 0 {
            for word in old.words(self.arena).filter(|&word| word > GONE) {
                copy_word(self.arena, new, word);
                live += 1;
            }
        }
        self.commit(
            part,
            Change { at: part.table_cell(), to: new.0, fresh: [block.at(), 0], stale: [old.0, 0] },
        );
        block.into_raw();
        part.live.store(live, Ordering::Relaxed);
        part.used.store(live, Ordering::Relaxed);
        Ok((old.0 != 0).then(|| part.take_stale(self.arena, old.offset())))
    }

    /// Recomputes the counts. For recovery.
    pub(super) fn recount(&self, part: &'static Part) {
        let table = Table(part.table.load(Ordering::Acquire));
        part.live.store(0, Ordering::Relaxed);
        part.used.store(0, Ordering::Relaxed);
        if table.0 != 0 {
            for word in table.words(self.arena).filter(|&word| word != EMPTY) {
                add(&part.used, 1);
                add(&part.live, u64::from(word != GONE));
            }
        }
    }

    #[cfg(feature = "internals")]
    pub(crate) fn table_len(&self, part: usize) -> Option<u64> {
        let table = Table(self.parts()[part].table.load(Ordering::Acquire));
        (table.0 != 0).then(|| table.len())
    }

    #[cfg(feature = "internals")]
    pub(crate) fn is_locked(&self, part: usize) -> bool {
        self.parts()[part].is_locked()
    }

    /// Returns every block that can be reached. Also returns, for each part, the stored counts and their
    /// correct values.
    #[cfg(feature = "internals")]
    pub(crate) fn inventory(&self) -> (Vec<u64>, Vec<[u64; 4]>) {
        let (mut blocks, mut counts) =
            (vec![self.arena.object(self.object()).blocks[0].load(Ordering::Acquire)], vec![]);
        for part in self.parts() {
            let table = Table(part.table.load(Ordering::Acquire));
            let words: Vec<u64> = if table.0 == 0 { vec![] } else { table.words(self.arena).collect() };
            blocks.extend((table.0 != 0).then(|| table.offset()));
            blocks.extend(words.iter().copied().filter_map(super::table::node_of));
            let count = |of: fn(&&u64) -> bool| words.iter().filter(of).count() as u64;
            let there = [count(|&&word| word > GONE), count(|&&word| word != EMPTY)];
            let counted = [&part.live, &part.used].map(|count| count.load(Ordering::Relaxed));
            counts.push([counted[0], there[0], counted[1], there[1]]);
        }
        (blocks, counts)
    }
}

/// Copies a word into a table that no other thread can see yet and that has room.
fn copy_word(arena: &Arena, table: Table, word: u64) {
    let mask = table.len() - 1;
    let mut index = word >> 32 & mask;
    for _ in 0..table.len() {
        let Some(cell) = table.cell(arena, index) else { return };
        if cell.load(Ordering::Relaxed) == EMPTY {
            return cell.store(word, Ordering::Relaxed);
        }
        index = (index + 1) & mask;
    }
}

/// What remains to be freed after a table was shrunk or removed. Dropping it frees it.
pub(super) struct Smaller {
    words: u64,
    _table: Option<OwnedBlock>,
    _emptied: Option<Emptied>,
}

impl Smaller {
    /// Returns whether the old table was so large that freeing it is likely to leave empty spans.
    pub(super) fn was_large(&self) -> bool {
        self.words >= 1024
    }
}
