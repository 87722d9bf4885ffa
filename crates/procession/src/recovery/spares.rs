//! Spares that a dead spawner had claimed.

use std::sync::atomic::Ordering;

use crate::arena::{Arena, slots, sweep};
use crate::rules;
use crate::rules::Rule;

/// Releases the spares that the dead process had claimed without completing a request, so that others can
/// claim them.
pub(super) fn release_claims(arena: &Arena, slot: u32) {
    let used = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    for index in 1..used {
        let state = arena.slot(index).state.load(Ordering::Acquire);
        let by_dead = slots::phase(state) == slots::CLAIMED
            && arena.slot_of_record(slots::claimant(state)) == Some(slot);
        if by_dead && rules::holds(Rule::ClaimReturned) {
            return_spare(arena, index);
        }
    }
}

/// Clears the request in a claimed slot, and makes the slot a spare again.
fn return_spare(arena: &Arena, index: u32) {
    let spare = arena.slot(index);
    // The sleeping child itself owns nothing. Everything that the slot owns was given to it for the request.
    let collect = sweep::objects(arena, index) | sweep::blocks(arena, index);
    if collect {
        arena.header().collect_wanted.store(1, Ordering::SeqCst);
    }
    spare.request.clear();
    spare.process.store(0, Ordering::Relaxed);
    spare.flags.store(0, Ordering::Relaxed);
    spare.forget_birth();
    spare.state.store(slots::SPARE, Ordering::Release);
}
