//! Waiting for a message or for room: spin a moment, then sleep where others can see it.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

use super::ring::Refusal;
use crate::arena::Arena;
use crate::arena::thread::with_me;
use crate::os::clock::{Deadline, now_ns};
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;

/// A sleeping partner costs 50 µs and more; who is awake answers sooner than that, if ever.
const SPIN_MOST_NS: u64 = 50_000;
const SPIN_LEAST_NS: u64 = 1_000;
/// A spinner that did not run for so long shares its processor with somebody who needs it.
const DISPLACED_NS: u64 = 20_000;

thread_local! {
    /// For how long this thread spins: longer when that helped, shorter when it did not.
    static PATIENCE_NS: Cell<u64> = const { Cell::new(SPIN_MOST_NS) };
}

/// Spins until `come`, as long as that is likely to be worth it. Says whether it has come.
fn spin(mut come: impl FnMut() -> bool) -> bool {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    if *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, Into::into)) < 2 {
        return false;
    }
    let patience = PATIENCE_NS.get();
    let began = now_ns();
    let mut last = began;
    loop {
        for _ in 0..16 {
            if come() {
                PATIENCE_NS.set((2 * patience).clamp(4 * SPIN_LEAST_NS, SPIN_MOST_NS));
                return true;
            }
            spin_loop();
        }
        let now = now_ns();
        if now - began > patience || now - last > DISPLACED_NS {
            PATIENCE_NS.set((patience / 2).max(SPIN_LEAST_NS));
            return false;
        }
        last = now;
    }
}

/// Attempts something until it is no longer refused for now, or the time is up; sleeps on `word`
/// meanwhile. `come` tells whether another attempt may be worth while.
#[inline]
pub(crate) fn wait<T>(
    arena: &Arena,
    word: &AtomicU32,
    deadline: Deadline,
    come: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match attempt() {
        Err(refusal @ (Refusal::Full | Refusal::Empty)) => {
            wait_longer(arena, word, deadline, &come, &mut attempt, refusal)
        }
        done => done,
    }
}

#[cold]
fn wait_longer<T>(
    arena: &Arena,
    word: &AtomicU32,
    deadline: Deadline,
    come: &impl Fn() -> bool,
    attempt: &mut impl FnMut() -> Result<T, Refusal>,
    mut refusal: Refusal,
) -> Result<T, Refusal> {
    let mut spun = false;
    loop {
        if event::Word::load(word) & event::GONE != 0 {
            // Whoever could have made it come is no more; what had come before that counts.
            return match attempt() {
                Err(Refusal::Full | Refusal::Empty) => Err(Refusal::Closed),
                done => done,
            };
        }
        if deadline.passed() {
            return Err(refusal);
        }
        if !spun && spin(come) {
            match attempt() {
                Err(again @ (Refusal::Full | Refusal::Empty)) => refusal = again,
                done => return done,
            }
            continue;
        }
        spun = true;
        let attempted = with_me(|me| {
            let announced = Wait::announce_event(arena, me.record(), word);
            let ticket = event::prepare(word);
            let attempted = attempt();
            if matches!(attempted, Err(Refusal::Full | Refusal::Empty)) && ticket & event::GONE == 0 {
                announced.sleep(word, ticket, deadline);
            }
            attempted
        });
        match attempted {
            Ok(Err(Refusal::Full | Refusal::Empty)) => {}
            Ok(done) => return done,
            Err(error) => return Err(Refusal::Unusable(error)),
        }
        match attempt() {
            Err(again @ (Refusal::Full | Refusal::Empty)) => refusal = again,
            done => return done,
        }
    }
}
