//! Waiting for a message or for room: spins for a moment, then sleeps on an announced word.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::AtomicU32;

use super::ring::Refusal;
use crate::arena::Arena;
use crate::arena::thread::with_me;
use crate::os::clock::{Deadline, now_ns};
use crate::rules::{self, Rule};
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;
use crate::sync::spin::{several_processors, spin};

/// How a thread waits for a stream of messages. The two sides of a queue disturb each other least when the
/// faster side does not read each message as it comes. Instead, it pauses until several messages have
/// gathered. If messages come one at a time, a pause only costs time. So each thread tries out whether a
/// pause pays off, and how long the pause should be.
#[derive(Clone, Copy)]
struct Pacing {
    /// The address of the last wait's word, and how many messages had passed when that wait began.
    word: usize,
    passed: u64,
    /// How long that wait paused, in nanoseconds; 0 for no pause.
    paused: u64,
    /// The number of waits left until the next try, and the number from which this countdown started.
    skip_left: u32,
    skip: u32,
}

/// The first and the longest pause, in nanoseconds.
const PAUSE: [u64; 2] = [800, 6400];
/// The first pause pays off if this many messages gather.
const MIN_GATHERED: u64 = 4;
/// A longer pause pays off if one message per this many nanoseconds gathers. At twice that rate, the next
/// pause is longer.
const NS_PER_MESSAGE: u64 = 80;
/// The minimum and the maximum number of waits without a pause after a try that did not pay off.
const SKIP: [u32; 2] = [64, 1024];

thread_local! {
    static PACING: Cell<Pacing> =
        const { Cell::new(Pacing { word: 0, passed: 0, paused: 0, skip_left: SKIP[0], skip: SKIP[0] }) };
}

/// Returns the length of the next pause, after a pause of `paused` nanoseconds during which `gathered`
/// messages came. Returns 0 if that pause did not pay off.
fn next_pause(paused: u64, gathered: u64) -> u64 {
    match gathered * NS_PER_MESSAGE {
        often if often >= 2 * paused => (2 * paused).min(PAUSE[1]),
        often if often >= paused => paused,
        _ if paused > PAUSE[0] => paused / 2,
        _ if gathered >= MIN_GATHERED => paused,
        _ => 0,
    }
}

/// Pauses if the last pause paid off or a new try is due. `passed` is how many messages have passed this side
/// so far.
fn gather(word: &AtomicU32, passed: u64) {
    let mut pacing = PACING.get();
    let word = std::ptr::from_ref(word).addr();
    let mut pause = PAUSE[0];
    if pacing.paused > 0 && pacing.word == word {
        let next = next_pause(pacing.paused, passed.wrapping_sub(pacing.passed));
        pacing.skip = if next > 0 { SKIP[0] } else { (2 * pacing.skip).min(SKIP[1]) };
        pacing.skip_left = if next > 0 { 0 } else { pacing.skip };
        pause = next;
    }
    pacing.paused = if pacing.skip_left == 0 { pause } else { 0 };
    pacing.skip_left = pacing.skip_left.saturating_sub(1);
    (pacing.word, pacing.passed) = (word, passed);
    PACING.set(pacing);
    if pacing.paused > 0 {
        let until = now_ns() + pacing.paused;
        while now_ns() < until {
            spin_loop();
        }
    }
}

/// Repeats `attempt` until it succeeds, fails for good, or times out. Sleeps on `word` in between. `ready` returns
/// whether another attempt may succeed, and `passed` how many messages have passed this side.
#[inline]
pub(crate) fn wait<T>(
    arena: &Arena,
    word: &AtomicU32,
    deadline: Deadline,
    passed: impl Fn() -> u64,
    ready: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match attempt() {
        Err(refusal @ (Refusal::Full | Refusal::Empty)) => {
            wait_on(arena, word, deadline, passed, ready, attempt, refusal)
        }
        done => done,
    }
}

/// Waits like [`wait`], after a first attempt that was refused with `refusal`.
#[cold]
pub(crate) fn wait_on<T>(
    arena: &Arena,
    word: &AtomicU32,
    deadline: Deadline,
    passed: impl Fn() -> u64,
    ready: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, Refusal>,
    refusal: Refusal,
) -> Result<T, Refusal> {
    if !deadline.passed() && several_processors() {
        gather(word, passed());
    }
    let done = wait_until_done(arena, word, deadline, &ready, &mut attempt, refusal);
    let left_without_attempt = !matches!(done, Ok(_) | Err(Refusal::Full | Refusal::Empty));
    if left_without_attempt && rules::holds(Rule::WakePassedOn) {
        // This thread leaves without an attempt, so it may have used up a wake-up that was meant for another
        // thread.
        // CRASH: if we die first, the death sweep wakes every sleeper.
        event::notify(word, 1);
    }
    done
}

fn wait_until_done<T>(
    arena: &Arena,
    word: &AtomicU32,
    deadline: Deadline,
    ready: &impl Fn() -> bool,
    attempt: &mut impl FnMut() -> Result<T, Refusal>,
    mut refusal: Refusal,
) -> Result<T, Refusal> {
    let mut spun = false;
    loop {
        if event::Word::load(word) & event::GONE != 0 {
            // The other end no longer exists. What it did before still counts, so try once more.
            return match attempt() {
                Err(Refusal::Full | Refusal::Empty) => Err(Refusal::Closed),
                done => done,
            };
        }
        if deadline.passed() {
            return Err(refusal);
        }
        if !spun && spin(deadline, ready) {
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
            Err(error) => return Err(Refusal::Unusable(error.into())),
        }
        match attempt() {
            Err(again @ (Refusal::Full | Refusal::Empty)) => refusal = again,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_as_long_as_it_is_worth_while() {
        assert_eq!(next_pause(800, 3), 0);
        assert_eq!(next_pause(800, 4), 800);
        assert_eq!(next_pause(800, 19), 800);
        assert_eq!(next_pause(800, 20), 1600);
        assert_eq!(next_pause(6400, 1000), 6400);
        assert_eq!(next_pause(6400, 80), 6400);
        assert_eq!(next_pause(6400, 79), 3200);
        assert_eq!(next_pause(1600, 0), 800);
    }
}
