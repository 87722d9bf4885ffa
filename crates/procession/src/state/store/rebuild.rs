//! Replacing a list's table: to grow, to shrink, and to insert or remove in the middle.

use std::sync::atomic::Ordering;

use super::list_ring::{FIRST, ListRing};
use super::node;
use super::part::Change;
use super::sequence::Sequence;
use super::table::{Emptied, Table, naming};
use crate::{Error, Result};

impl Sequence {
    /// Shrinks the table if few items are left. If no item is left, removes the table and returns it.
    pub(super) fn shrink(&self) -> Option<Emptied> {
        let ring = self.ring();
        if ring.len == 0 {
            return self.drop_table();
        }
        if ring.table.len() > Table::FEWEST && 8 * ring.len < ring.table.len() {
            // If there is no memory for a smaller table, the old table stays.
            let _ = self.rebuild(ring, 2 * ring.len, None, [None, None], true);
        }
        None
    }

    /// Replaces the table by one with room for `room` items. The same store can insert or remove an item.
    /// `change` is the item's index, with the node to insert, or with 0 to remove the item. `come_and_gone`
    /// are the inserted node and the removed node. With `now`, does not wait for memory.
    pub(super) fn rebuild(
        &self,
        ring: ListRing,
        room: u64,
        change: Option<(u64, u64)>,
        come_and_gone: [Option<u64>; 2],
        now: bool,
    ) -> Result<ListRing> {
        if room >= u64::from(u32::MAX) {
            return Err(Error::Full(
                "the list is full: it has the most items that a list can have, four thousand million".into(),
            ));
        }
        let words = (room + FIRST).max(Table::FEWEST);
        let (table, block) = Table::make(self.arena, words, now)?;
        let mut items: Vec<u64> = Vec::with_capacity(ring.len as usize + 1);
        items.extend((0..ring.len).filter_map(|i| Some(ring.cell(self.arena, i)?.load(Ordering::Relaxed))));
        match change {
            Some((index, 0)) => _ = items.remove(index as usize),
            Some((index, node)) => items.insert(index as usize, naming(0, node)),
            None => {}
        }
        let new = ListRing { table, first: 0, len: items.len() as u64 };
        for (i, item) in items.into_iter().enumerate() {
            new.cell(self.arena, i as u64).ok_or_else(node::damaged)?.store(item, Ordering::Relaxed);
        }
        let ends = table.cell(self.arena, 0).ok_or_else(node::damaged)?;
        ends.store(ListRing::ends(0, new.len), Ordering::Relaxed);
        let [come, gone] = come_and_gone.map(|node| node.unwrap_or(0));
        self.commit(Change {
            at: self.part().table_cell(),
            to: table.0,
            fresh: [block.at(), come],
            stale: [ring.table.0, gone],
        });
        block.into_raw();
        if ring.table.0 != 0 {
            drop(self.part().take_stale(self.arena, ring.table.offset()));
        }
        Ok(new)
    }
}
