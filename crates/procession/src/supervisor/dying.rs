//! Children that are dead before they can be reaped.
//!
//! A parent can reap a process only after the kernel has freed its memory, which takes a tenth of a second
//! for a gigabyte. The threads of the process have stopped long before that, so what it held can already be
//! released. The supervisor learns of the death as follows:
//!
//! ```text
//! kernel ──marks──▶ life word ──wakes──▶ guard ──signal──▶ supervisor ──/proc──▶ all threads are exiting ──▶ release
//! ```
//!
//! The kernel marks the life word of the first thread (see `os/life_word.rs`). The other threads may live on, so the
//! supervisor asks the kernel about each of them.
//!
//! CRASH: all of this only lets recovery begin earlier. If a part is missing, the process is recovered when
//! it is reaped. This is the case with another C library, a kernel before 5.16, no `/proc`, a stopped guard,
//! or more than 126 processes.

use std::sync::atomic::{AtomicU32, Ordering};

use super::child_table::ChildTable;
use crate::arena::{Arena, slots};
use crate::os::clock::{Deadline, now_ns};
use crate::os::dying::{self, State};
use crate::os::futex;
use crate::os::life_word::is_death;
use crate::os::process::Ended;
use crate::rules::{self, Rule};

/// How often the supervisor asks the kernel about a process whose other threads do not exit yet, and the
/// pause in between.
const TRIES: u32 = 20;
const AGAIN_NS: u64 = 1_000_000;

/// The life words on which the guard sleeps.
pub(super) struct LifeWords {
    arena: &'static Arena,
    /// The number of slots in use, and the life words of these slots, as they were last seen.
    used: u32,
    seen: Vec<u32>,
}

impl LifeWords {
    pub(super) fn new(arena: &'static Arena) -> LifeWords {
        LifeWords { arena, used: 0, seen: Vec::new() }
    }

    fn word(&self, slot: u32) -> &'static AtomicU32 {
        self.arena.slot(slot).life.futex()
    }

    /// Reads every word. Returns whether one has a mark that the supervisor has not cleared.
    pub(super) fn look(&mut self) -> bool {
        // A sleep also waits for `guard_wakes` and for the number of slots, which take two of the words.
        const MOST: u32 = futex::MOST_WORDS as u32 - 2;
        self.used = self.arena.header().slots_used.load(Ordering::SeqCst);
        let slots = slots::MAIN + 1..self.used.min(self.arena.layout.slots).min(slots::MAIN + 1 + MOST);
        self.seen = slots.map(|slot| self.word(slot).load(Ordering::SeqCst)).collect();
        let any = self.seen.iter().any(|&word| is_death(word)) && rules::holds(Rule::ReleasedEarly);
        if any {
            self.arena.header().deaths.fetch_add(1, Ordering::SeqCst);
        }
        any
    }

    /// Sleeps until a process wakes the guard, the kernel marks a word, or there are more slots.
    pub(super) fn sleep(&self, wakes: (&AtomicU32, u32)) {
        let words = self.seen.iter().zip(slots::MAIN + 1..).map(|(&seen, slot)| (self.word(slot), seen));
        let slots_used = (&self.arena.header().slots_used, self.used);
        let words: Vec<_> = [wakes, slots_used].into_iter().chain(words).collect();
        futex::wait_any_or_first(&words);
    }
}

/// A child of which at least one thread has ended.
struct Suspect {
    slot: u32,
    pid: i32,
    tries: u32,
}

/// The children that the supervisor suspects to be dead.
#[derive(Default)]
pub(super) struct Dying {
    /// The guard's count of deaths, as it was last seen.
    deaths: u32,
    suspects: Vec<Suspect>,
    due_ns: Option<u64>,
}

impl Dying {
    /// Returns when to check again: the earlier of the suspects' deadline and `otherwise`.
    pub(super) fn due_or(&self, otherwise: Deadline) -> Deadline {
        self.due_ns.map_or(otherwise, |due_ns| otherwise.min_ns(due_ns))
    }

    /// Returns the children that are dead and were not returned before: slot, process id, and how each ended.
    pub(super) fn dead(&mut self, arena: &Arena, children: &ChildTable) -> Vec<(u32, i32, Ended)> {
        self.add_suspects(arena, children);
        let is_running =
            |slot| slots::phase(arena.slot(slot).state.load(Ordering::Acquire)) == slots::RUNNING;
        // A child that was reaped meanwhile is no longer in the table, and its process id may be reused.
        self.suspects.retain(|it| children.slot_of(it.pid) == Some(it.slot) && is_running(it.slot));
        let mut dead = Vec::new();
        self.suspects.retain_mut(|suspect| match dying::state(suspect.pid) {
            State::Dead(ended) => {
                dead.push((suspect.slot, suspect.pid, ended));
                false
            }
            State::Unknown => {
                suspect.tries += 1;
                suspect.tries < TRIES
            }
        });
        self.due_ns = (!self.suspects.is_empty()).then(|| now_ns() + AGAIN_NS);
        dead
    }

    fn add_suspects(&mut self, arena: &Arena, children: &ChildTable) {
        let deaths = arena.header().deaths.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.deaths, deaths) == deaths {
            return;
        }
        for (pid, slot) in children.children() {
            if arena.slot(slot).life.take_death() {
                self.suspects.push(Suspect { slot, pid, tries: 0 });
            }
        }
    }
}
