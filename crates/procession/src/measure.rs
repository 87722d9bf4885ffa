//! What the benchmarks measure and users cannot reach.

use std::hint::black_box;

use crate::Result;
use crate::arena::blocks::{self, Tag};
use crate::arena::{heap, member, thread};

/// Takes a block of `bytes` bytes of the family's memory and gives it back, so many times.
pub fn allocation_pairs(bytes: u64, times: u64) -> Result<()> {
    let (arena, slot) = (member::arena()?, member::slot());
    thread::with_me(|_| ())?;
    for _ in 0..times {
        let block = heap::allocate(arena, slot, black_box(bytes))?;
        blocks::free(arena, slot, black_box(block), Tag::process(slot));
    }
    Ok(())
}
