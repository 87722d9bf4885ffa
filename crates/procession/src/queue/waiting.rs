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
/// come one at a time that only costs time. So it is tried out.
#[derive(Clone, Copy)]
struct Habit {
    /// The word waited on last, as an address, and how much had passed when that wait began.
    word: usize,
    passed: u64,
    /// That wait began with a pause.
    paused: bool,
    /// Waits until a pause is tried again, and how many that was.
    tries_in: u32,
    not_for: u32,
}

/// How long work is let gather.
const GATHER_NS: u64 = 800;
/// So many messages make it worth while.
const GATHERED: u64 = 4;
/// Waits without a pause, at most and at least, when it did not help.
const NOT_FOR: [u32; 2] = [64, 1024];

thread_local! {
    static HABIT: Cell<Habit> =
        const { Cell::new(Habit { word: 0, passed: 0, paused: false, tries_in: NOT_FOR[0], not_for: NOT_FOR[0] }) };
}

/// Lets work gather, if that helped the last time, or it is time to try. `passed` is how much has passed this
/// side so far.
fn gather(word: &AtomicU32, passed: u64) {
    let mut habit = HABIT.get();
    let word = std::ptr::from_ref(word).addr();
    if habit.paused && habit.word == word {
        let helped = passed.wrapping_sub(habit.passed) >= GATHERED;
        habit.not_for = if helped { NOT_FOR[0] } else { (2 * habit.not_for).min(NOT_FOR[1]) };
        habit.tries_in = if helped { 0 } else { habit.not_for };
    }
    habit.paused = habit.tries_in == 0;
    habit.tries_in = habit.tries_in.saturating_sub(1);
    (habit.word, habit.passed) = (word, passed);
    HABIT.set(habit);
    if habit.paused {
        let until = now_ns() + GATHER_NS;
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
            if !deadline.passed() && several_processors() {
                gather(word, passed());
            }
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
    refusal: Refusal,
) -> Result<T, Refusal> {
    let done = wait_until_done(arena, word, deadline, come, attempt, refusal);
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
            Err(error) => return Err(Refusal::Unusable(error)),
        }
        match attempt() {
            Err(again @ (Refusal::Full | Refusal::Empty)) => refusal = again,
            done => return done,
        }
    }
}
