//! Who waits for whom: deadlocks are found by looking, when a wait has lasted.
//!
//! Everything that is needed stands in the arena anyway: a record says what its thread waits for and since
//! when, a lock word and a reader's cell say who holds, a process object says whose end a joiner waits for. A
//! wait that has lasted 100 ms follows these from holder to holder. Taking a free lock pays nothing.
//!
//! # Why there is no false alarm
//!
//! What is read while others run may never have been true at one moment. So a cycle is read twice: first
//! every wait in it, then every wait again, with who holds what. A wait that is the same, by what it waits for
//! and the nanosecond it began, lasted from the one reading to the other. So at the moment between the two
//! readings all of them waited; and whoever waits neither takes nor lets go of anything, so what each held at
//! the second reading it held at that moment. A wait that would end by itself, at its deadline, is no part
//! of a deadlock, unless it is the one that asks.
//!
//! # Who is told
//!
//! The one that closed the cycle: whose wait began last. So one is told, and when it lets go of what it
//! holds the others go on. Should it be on its way to another wait just now, it looks again: after 200 ms, 400
//! ms and so on.

use std::sync::atomic::Ordering;

use super::park::EVENT;
use super::{readers, word};
use crate::arena::objects::Kind;
use crate::arena::process_body::ProcessBody;
use crate::arena::{Arena, member, slots};
use crate::os::clock::{Deadline, now_ns};
use crate::rules;
use crate::rules::Rule;
use crate::sync::error::{DeadlockMember, LockError};

/// A wait that has lasted this long looks whether it can end.
const FIRST_LOOK_NS: u64 = 100_000_000;
/// How long others wait for what main holds when it has ended.
pub(crate) const MAIN_KEEPS_NS: u64 = 5_000_000_000;
/// From then on they look this often whether it is main that they wait for.
pub(crate) const LOOK_AT_MAIN_NS: u64 = 1_000_000_000;
/// In a record's `waits_since_ns`: the wait ends by itself.
const TIMED: u64 = 1;

/// A wait under way, that looks from time to time whether it is part of a deadlock.
pub(crate) struct Watch {
    pub(crate) since_ns: u64,
    timed: bool,
    look_ns: u64,
    /// When it last looked whether it waits for main.
    looked_at_main_ns: u64,
}

impl Watch {
    /// Of a wait that begins now.
    pub(crate) fn begin(deadline: Deadline) -> Watch {
        let now = now_ns();
        let timed = deadline.as_ns().is_some();
        Watch { since_ns: now, timed, look_ns: now + FIRST_LOOK_NS, looked_at_main_ns: 0 }
    }

    /// What the record says of when the wait began.
    pub(crate) fn stamp(&self) -> u64 {
        self.since_ns & !TIMED | if self.timed { TIMED } else { 0 }
    }

    /// When to wake up, to look or because of the deadline. Called after the wait is announced.
    pub(crate) fn until(&self, arena: &Arena, deadline: Deadline) -> Deadline {
        let until = if rules::holds(Rule::Looks) { deadline.min_ns(self.look_ns) } else { deadline };
        self.main_is_due(arena).map_or(until, |due| until.min_ns(due))
    }

    /// Looks, if it is time to. Returns why the thread with record `id`, whose wait is announced, must not go on
    /// waiting: it has closed a cycle, or waits for a main that has ended.
    pub(crate) fn look(&mut self, arena: &Arena, id: u32) -> Option<LockError> {
        let now = now_ns();
        if self.main_is_due(arena).is_some_and(|due| now >= due) {
            self.looked_at_main_ns = now;
            let at = arena.record(id).waits_for.load(Ordering::Relaxed);
            if let Some(error) = holders(arena, at).into_iter().find_map(|id| kept_by_main(arena, id)) {
                return Some(error);
            }
        }
        if now < self.look_ns {
            return None;
        }
        self.look_ns = now + (now - self.since_ns);
        find(arena, id).map(|cycle| LockError::Deadlock { cycle })
    }

    /// When to look next whether the wait is for main. `None` as long as main has not ended.
    fn main_is_due(&self, arena: &Arena) -> Option<u64> {
        main_is_due(arena, self.since_ns).map(|due| due.max(self.looked_at_main_ns + LOOK_AT_MAIN_NS))
    }
}

/// When a wait that began at `since_ns` must not go on if it is for what main holds. `None` as long as main has not
/// ended, and in main itself.
///
/// ORDERING: SeqCst. Main writes when it has ended, and then wakes all whose waits are announced. So either main
/// sees a wait, or the waiter, after its announcement, sees this.
pub(crate) fn main_is_due(arena: &Arena, since_ns: u64) -> Option<u64> {
    let ended = arena.header().main_ended_ns.load(Ordering::SeqCst);
    (ended != 0 && !member::is_main()).then(|| ended.max(since_ns) + MAIN_KEEPS_NS)
}

/// The error of waiting for the thread with this record, if that is one of main's.
pub(crate) fn kept_by_main(arena: &Arena, id: u32) -> Option<LockError> {
    let thread = arena.record(id).thread.load(Ordering::Acquire);
    (arena.slot_of_record(id) == Some(slots::MAIN)).then_some(LockError::MainEnded { thread })
}

/// What one thread waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Waiting {
    id: u32,
    at: u64,
    since: u64,
}

fn waiting(arena: &Arena, id: u32) -> Option<Waiting> {
    let record = arena.record(id);
    // ORDERING: the wait is announced after its beginning is written, and taken back before the next one's:
    // with the same word before and after, this is that wait's.
    let at = record.waits_for.load(Ordering::SeqCst);
    let since = record.waits_since_ns.load(Ordering::SeqCst);
    let alive =
        arena.slot_of_record(id).is_some_and(|slot| slot == slots::MAIN || arena.slot(slot).is_live());
    let same = record.waits_for.load(Ordering::SeqCst) == at;
    (at != 0 && same && alive).then_some(Waiting { id, at, since })
}

/// The threads without which what lies at `at` does not happen.
fn holders(arena: &Arena, at: u64) -> Vec<u32> {
    let Some((index, object)) = arena.object_around(at & !EVENT) else { return vec![] };
    match object.kind() {
        Some(Kind::RwLock) if at & EVENT != 0 => readers::of_events(arena, object, index, at & !EVENT),
        _ if at & EVENT != 0 => vec![],
        Some(Kind::Process) => {
            let body: &ProcessBody = object.body();
            if body.is_done() { vec![] } else { main_thread(arena, body).into_iter().collect() }
        }
        _ => {
            let word = arena.futex_word(at).map_or(0, |word| word.load(Ordering::SeqCst));
            word::owner(word.into())
                .checked_sub(1)
                .filter(|&id| arena.slot_of_record(id).is_some())
                .into_iter()
                .collect()
        }
    }
}

/// The thread with which a process ends.
fn main_thread(arena: &Arena, body: &ProcessBody) -> Option<u32> {
    let slot = body.slot.load(Ordering::Acquire);
    let same =
        slot < arena.layout.slots && arena.incarnation(slot) == body.incarnation.load(Ordering::Acquire);
    let pid = body.pid.load(Ordering::Acquire);
    arena.records_of(slot).find(|&id| same && arena.record(id).thread.load(Ordering::Acquire) == pid)
}

/// The cycle that the thread with record `me` has closed, if there is one and it holds still.
fn find(arena: &Arena, me: u32) -> Option<Vec<DeadlockMember>> {
    let mut path = vec![waiting(arena, me)?];
    let mut seen = vec![me];
    if !reach(arena, me, &mut path, &mut seen) {
        return None;
    }
    let confirmed = path.iter().enumerate().all(|(place, wait)| {
        let next = path.get(place + 1).map_or(me, |next| next.id);
        waiting(arena, wait.id) == Some(*wait) && holders(arena, wait.at).contains(&next)
    });
    // Once more: nobody has moved while we looked at who holds what.
    let still = path.iter().all(|wait| waiting(arena, wait.id) == Some(*wait));
    (confirmed && still).then(|| path.iter().map(|wait| member(arena, wait)).collect())
}

/// Whether a wait can be part of a cycle that `mine` has closed: it does not end by itself, and began before.
fn is_stuck_before(wait: &Waiting, mine: &Waiting) -> bool {
    wait.since & TIMED == 0 && (wait.since & !TIMED, wait.id) < (mine.since & !TIMED, mine.id)
}

/// Follows the last wait of `path` to `goal`, whose wait is its first, depth first. Who waits for many readers
/// waits for each of them, so a way that is none does not hide another one that is.
fn reach(arena: &Arena, goal: u32, path: &mut Vec<Waiting>, seen: &mut Vec<u32>) -> bool {
    // Each one on the way has what is left to try of it.
    let mut left = vec![path.last().map_or(vec![], |wait| holders(arena, wait.at))];
    while let Some(next) = left.last_mut() {
        match next.pop() {
            // A lock that was handed to its waiter, who is about to run, is no wait any more.
            Some(id) if id == goal && path.len() == 1 => {}
            Some(id) if id == goal => return true,
            Some(id) if seen.contains(&id) => {}
            Some(id) => {
                seen.push(id);
                if let Some(wait) = waiting(arena, id).filter(|wait| is_stuck_before(wait, &path[0])) {
                    path.push(wait);
                    left.push(holders(arena, wait.at));
                }
            }
            None => {
                left.pop();
                path.pop();
            }
        }
    }
    false
}

fn member(arena: &Arena, wait: &Waiting) -> DeadlockMember {
    let slot = arena.slot_of_record(wait.id).unwrap_or(u32::MAX);
    let (pid, process) = match slot < arena.layout.slots {
        true => (arena.slot(slot).pid.load(Ordering::Acquire), arena.process_name(slot)),
        false => (0, String::new()),
    };
    let thread = arena.record(wait.id).thread.load(Ordering::Acquire);
    let lock = match arena.object_around(wait.at & !EVENT) {
        Some((_, object)) if object.kind() == Some(Kind::Process) => {
            format!("the end of process {}", object.name())
        }
        Some((_, object)) => object.name(),
        None => String::new(),
    };
    DeadlockMember::new(pid, process, thread, lock)
}
