//! Blocks and spans.

use std::sync::atomic::{AtomicU32, Ordering};

use super::arena;
use crate::arena::blocks::{Tag, Use};
use crate::arena::{blocks, heap, member};
use crate::os::clock::Deadline;
use crate::{Message, Result, codec};

/// Returns whether a word of the arena lies in a block with an owner.
pub fn is_owned(word: &'static AtomicU32) -> bool {
    let arena = arena();
    blocks::around(arena, arena.offset_of(word)).is_some_and(|(at, _)| blocks::owner(arena, at) != Tag::FREE)
}

/// Returns how many bytes the block at `at` has, header included.
pub fn block_bytes(at: u64) -> u64 {
    blocks::around(arena(), at).map_or(0, |(_, bytes)| bytes)
}

/// Encodes a value into a block of this process.
pub fn pack<T: Message>(value: &T) -> Result<u64> {
    codec::pack(value)
}

/// Decodes the value in a block.
pub fn unpack<T: Message>(block: u64) -> Result<T> {
    codec::unpack(arena(), block)
}

/// Allocates a block of this process, without filling it.
pub fn reserve(bytes: u64) -> Result<u64> {
    heap::allocate_until(arena(), member::slot(), bytes, Deadline::NEVER)
}

/// Overwrites a block if it is free, as the block's next owner may do.
pub fn write_over(block: u64) {
    let arena = arena();
    if blocks::owner(arena, block) == Tag::FREE
        && let Some((at, bytes)) = blocks::around(arena, block)
    {
        // SAFETY: the block is free, and the tests allocate nothing during this call.
        unsafe { arena.write(at, &vec![0xff; bytes as usize]) };
    }
}

/// Frees a block of this process.
pub fn free(block: u64) {
    blocks::free(arena(), member::slot(), block, Tag::process(member::slot()));
}

/// Releases kept runs and empty spans to the kernel.
pub fn trim() {
    heap::trim(arena(), member::slot());
}

/// Transfers a block of this process to the process of `slot`.
pub fn hand_over(block: u64, slot: u32) -> bool {
    blocks::hand_over(arena(), block, Tag::process(member::slot()), Tag::process(slot))
}

/// Counts the spans in kept runs.
pub fn kept_spans() -> u32 {
    let arena = arena();
    let kept = arena.spans_in_use().map(|span| match arena.span_use(span) {
        Use::Head { tag: Tag::FREE, spans } => spans,
        _ => 0,
    });
    kept.sum()
}

/// Sets the hint to its maximum, so that no more runs are kept.
pub fn keep_no_more() {
    arena().header().kept_spans.store(blocks::kept_most(arena()), Ordering::Relaxed);
}

/// Releases kept runs to the kernel, in the name of this process. Returns the number of released spans.
pub fn release_kept() -> u32 {
    blocks::release_kept(arena(), member::slot(), u32::MAX)
}
