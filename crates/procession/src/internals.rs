//! The inside, for the crash tests: joining the arena as a process that no supervisor made,
//! declaring one dead, and taking a census of what there is. Not part of the public interface.
#![allow(unsafe_code)] // Announces that a process is a member although nobody forked it as one.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use crate::arena::blocks::{Tag, Use, blocks_in};
use crate::arena::{Arena, blocks, collect, member, payload, slots};
use crate::os::process::{self, Ended};
use crate::supervisor::recovery;
use crate::{Lock, Message, Result};

pub use crate::rules::{Rule, break_rule};
pub use crate::sync::raw::word;

fn arena() -> &'static Arena {
    member::arena().expect("the tests have an arena")
}

/// Address, length and descriptor of the arena in this process.
pub fn mapping() -> (*mut u8, usize, RawFd) {
    let fd = member::memfd().expect("the tests are main").as_raw_fd();
    (arena().base(), arena().layout.bytes as usize, fd)
}

/// Sets a slot up for a process that joins by [`become_member`].
pub fn open_slot(slot: u32) {
    let arena = arena();
    arena.header().slots_used.fetch_max(slot + 1, Ordering::AcqRel);
    arena.slot(slot).state.store(slots::RUNNING, Ordering::Release);
}

/// Makes a slot a spare in which no child sleeps, for a spawner to claim.
pub fn open_spare(slot: u32) {
    let arena = arena();
    arena.header().slots_used.fetch_max(slot + 1, Ordering::AcqRel);
    arena.slot(slot).state.store(slots::SPARE, Ordering::Release);
    arena.header().spare_slots[0].store(slot, Ordering::Release);
    arena.header().stage.store(crate::arena::header::stage::RUNNING, Ordering::Release);
}

/// The phase of a slot's state: see `arena/slots.rs`.
pub fn slot_phase(slot: u32) -> u32 {
    slots::phase(arena().slot(slot).state.load(Ordering::Acquire))
}

/// In a fork that bypassed the library's own handler: this process is the one of `slot` now.
pub fn become_member(slot: u32) {
    member::become_child(slot);
    arena().slot(slot).pid.store(process::pid(), Ordering::Release);
}

/// Declares the process of `slot` dead by SIGKILL and repairs what it left.
pub fn recover(slot: u32) {
    recovery::recover(arena(), slot, Some(Ended::Signaled { signal: libc::SIGKILL, core: false }));
}

/// Has the collector make a pass, as this process.
pub fn collect() {
    arena().header().collect_wanted.store(0, Ordering::SeqCst);
    collect::want(arena());
}

/// The lock's word.
pub fn lock_word(lock: &Lock) -> u64 {
    lock.word()
}

/// Encodes a value into a block of this process.
pub fn pack<T: Message>(value: &T) -> Result<u64> {
    payload::pack(value)
}

/// Decodes the value in a block.
pub fn unpack<T: Message>(block: u64) -> Result<T> {
    payload::unpack(arena(), block)
}

/// Frees a block of this process.
pub fn free(block: u64) {
    blocks::free(arena(), member::slot(), block, Tag::process(member::slot()));
}

/// Hands a block of this process to the process of `slot`.
pub fn hand_over(block: u64, slot: u32) -> bool {
    blocks::hand_over(arena(), block, Tag::process(member::slot()), Tag::process(slot))
}

/// What there is in the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Objects that are not free.
    pub objects: u32,
    /// Blocks that belong to a process or an object, as (offset, tag).
    pub blocks: Vec<(u64, u32)>,
    /// Spans that are neither free nor a small span: heads of runs, parts, unfinished ones.
    pub large_spans: u32,
    /// Small spans, by the slot that owns them (0xffff: nobody).
    pub small_spans: Vec<(u32, u32)>,
    /// Extra records that belong to a process.
    pub records: u32,
    /// (slot, object) for each object that a process holds.
    pub holdings: Vec<(u32, u32)>,
}

/// Counts everything.
pub fn census() -> Census {
    let arena = arena();
    let header = arena.header();
    let mut census = Census::default();
    let objects = header.objects_used.load(Ordering::Acquire).min(arena.layout.objects);
    census.objects = (0..objects).filter(|&index| !arena.object(index).is_free()).count() as u32;
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Free => {}
            Use::Small { by, class } => {
                census.small_spans.push((span, by));
                for index in 0..blocks_in(class) {
                    let tag = arena.tag(span, index).load(Ordering::Acquire);
                    if tag != 0 {
                        census.blocks.push((arena.block_offset(span, class, index), tag));
                    }
                }
            }
            Use::Head { tag, .. } => {
                census.large_spans += 1;
                census.blocks.push((arena.span_offset(span), tag.0));
            }
            _ => census.large_spans += 1,
        }
    }
    let extras = header.records_used.load(Ordering::Acquire).min(arena.layout.extra_records);
    census.records =
        (0..extras).filter(|&r| arena.record_owner(r).load(Ordering::Acquire) != 0).count() as u32;
    for slot in 0..header.slots_used.load(Ordering::Acquire).min(arena.layout.slots) {
        arena.held_objects(slot).for_each(|object| census.holdings.push((slot, object)));
    }
    census
}
