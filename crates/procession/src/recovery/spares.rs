//! Spares that a dead spawner had claimed.

use std::sync::atomic::Ordering;

use crate::arena::{Arena, slots, sweep};
use crate::rules;
use crate::rules::Rule;

/// Puts spares back that the dead had claimed and not sent off.
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

/// Empties a claimed slot of the request that was being written to it.
fn return_spare(arena: &Arena, index: u32) {
    let spare = arena.slot(index);
    // The sleeping child owns nothing yet; what is there was put there for it.
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
