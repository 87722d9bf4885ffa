//! Waiting for a message or for room: spin a moment, then sleep where others can see it.

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

/// How a thread waits for streams of messages. The two sides of a queue disturb each other least when the
/// faster one lets some work gather, instead of looking at each message as it comes; but where messages
/// come one at a time that only costs time. So it is tried out, and for how long as well.
#[derive(Clone, Copy)]
struct Habit {
    /// The word waited on last, as an address, and how much had passed when that wait began.
    word: usize,
    passed: u64,
    /// For how long that wait let work gather, in nanoseconds; 0 if not at all.
    paused: u64,
    /// Waits until it is tried again, and how many that was.
    tries_in: u32,
    not_for: u32,
}

/// How long work is let gather, at first and at most, in nanoseconds.
const PAUSE: [u64; 2] = [800, 6400];
/// So many messages make the first pause worth while.
const GATHERED: u64 = 4;
/// A longer pause is worth while as long as a message comes this often, and an even longer one at twice that.
const ONE_IN: u64 = 80;
/// Waits without a pause, at most and at least, when it did not help.
const NOT_FOR: [u32; 2] = [64, 1024];

thread_local! {
    static HABIT: Cell<Habit> =
        const { Cell::new(Habit { word: 0, passed: 0, paused: 0, tries_in: NOT_FOR[0], not_for: NOT_FOR[0] }) };
}

/// The pause after one that has let so many messages gather; 0 if it did not help.
fn next_pause(paused: u64, gathered: u64) -> u64 {
    match gathered * ONE_IN {
        often if often >= 2 * paused => (2 * paused).min(PAUSE[1]),
        often if often >= paused => paused,
        _ if paused > PAUSE[0] => paused / 2,
        _ if gathered >= GATHERED => paused,
        _ => 0,
    }
}

/// Lets work gather, if that helped the last time, or it is time to try. `passed` is how much has passed this
/// side so far.
fn gather(word: &AtomicU32, passed: u64) {
    let mut habit = HABIT.get();
    let word = std::ptr::from_ref(word).addr();
    let mut pause = PAUSE[0];
    if habit.paused > 0 && habit.word == word {
        let next = next_pause(habit.paused, passed.wrapping_sub(habit.passed));
        habit.not_for = if next > 0 { NOT_FOR[0] } else { (2 * habit.not_for).min(NOT_FOR[1]) };
        habit.tries_in = if next > 0 { 0 } else { habit.not_for };
        pause = next;
    }
    habit.paused = if habit.tries_in == 0 { pause } else { 0 };
    habit.tries_in = habit.tries_in.saturating_sub(1);
    (habit.word, habit.passed) = (word, passed);
    HABIT.set(habit);
    if habit.paused > 0 {
        let until = now_ns() + habit.paused;
        while now_ns() < until {
            spin_loop();
        }
    }
}

/// Attempts something until it is no longer refused for now, or the time is up; sleeps on `word`
/// meanwhile. `come` tells whether another attempt may be worth while, `passed` how much has passed this
/// side.
#[inline]
pub(crate) fn wait<T>(
    arena: &Arena,
    word: &AtomicU32,
    deadline: Deadline,
    passed: impl Fn() -> u64,
    come: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match attempt() {
        Err(refusal @ (Refusal::Full | Refusal::Empty)) => {
            wait_on(arena, word, deadline, passed, come, attempt, refusal)
        }
        done => done,
    }
}

/// As [`wait`], after a first attempt with this refusal.
#[cold]
pub(crate) fn wait_on<T>(
    arena: &Arena,
    word: &AtomicU32,
    deadline: Deadline,
    passed: impl Fn() -> u64,
    come: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, Refusal>,
    refusal: Refusal,
) -> Result<T, Refusal> {
    if !deadline.passed() && several_processors() {
        gather(word, passed());
    }
    let done = wait_until_done(arena, word, deadline, &come, &mut attempt, refusal);
    let has_not_looked = !matches!(done, Ok(_) | Err(Refusal::Full | Refusal::Empty));
    if has_not_looked && rules::holds(Rule::WakePassedOn) {
        // It may have used up a wake-up that is of use to somebody else.
        // CRASH: if we die first, the death sweep wakes everybody.
        event::notify(word, 1);
    }
    done
}

fn wait_until_done<T>(
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
        if !spun && spin(deadline, come) {
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
