//! Internal operations that the benchmarks measure. Users cannot call them.

use std::hint::black_box;

use crate::Result;
use crate::arena::blocks::{self, Tag};
use crate::arena::{heap, member, thread};
use crate::os::clock::Deadline;

/// Allocates and frees a block of `bytes` bytes of the family's memory, `times` times.
pub fn allocation_pairs(bytes: u64, times: u64) -> Result<()> {
    let (arena, slot) = (member::arena()?, member::slot());
    thread::with_me(|_| ())?;
    for _ in 0..times {
        let block = heap::allocate_until(arena, slot, black_box(bytes), Deadline::NEVER)?;
        blocks::free(arena, slot, black_box(block), Tag::process(slot));
    }
    Ok(())
}
