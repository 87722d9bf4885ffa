//! Recovery of shared data: dicts, lists, values.

use std::sync::atomic::Ordering;

use super::value::{BEFORE, NEXT, NOW, ValueBody};
use super::{Map, Sequence};
use crate::arena::blocks::{self, Tag};
use crate::arena::recover::{Dead, Found, Journaled, Recover};
use crate::rules::{self, Rule};
use crate::sync::raw::lock;

/// Recovers dicts: repairs the parts whose locks the dead thread held.
pub(crate) struct Dicts;

impl Recover for Dicts {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        if let Some(map) = Map::find(found.index) {
            map.release(dead, entry);
        }
    }
}

/// Recovers lists: repairs a list's only part.
pub(crate) struct Lists;

impl Recover for Lists {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        if let Some(list) = Sequence::find(found.index) {
            list.release(dead, entry);
        }
    }
}

/// Recovers values: releases the lock, and frees the blocks that are not the value.
pub(crate) struct Values;

impl Recover for Values {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        let body: &'static ValueBody = found.object.body();
        if dead.arena.offset_of(&raw const body.lock) == entry.offset {
            lock::recover(entry.record, &body.lock, || {
                free_leftovers(dead, found);
                false
            });
        }
    }
}

/// Frees the blocks of an interrupted change, except the block that is now the value.
fn free_leftovers(dead: &Dead<'_>, found: &Found) {
    let blocks = &found.object.blocks;
    let now = blocks[NOW].load(Ordering::Acquire);
    for block in [&blocks[NEXT], &blocks[BEFORE]] {
        let at = block.load(Ordering::Acquire);
        if at != 0 && at != now && rules::holds(Rule::ValueRepaired) {
            blocks::free(dead.arena, dead.slot, at, Tag::object(found.index));
        }
        block.store(0, Ordering::Release);
    }
}
