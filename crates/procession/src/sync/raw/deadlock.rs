//! Deadlock detection: a thread that has waited for some time searches for a cycle of waits.
//!
//! The arena already contains everything that the search needs. A record says what its thread waits for and
//! since when. A lock word and a reader's cell name the threads that hold the lock. A process object names
//! the process for whose end a thread waits. A thread that has waited for 100 ms follows this information
//! from holder to holder. Acquiring a free lock costs nothing extra.
//!
//! # Why there is no false alarm
//!
//! Values that are read one after another may never have been true at the same moment. So a cycle is read
//! twice: first every wait in it, then every wait again, together with the holders. If a wait has the same
//! word and the same start time in both readings, the wait lasted from the first reading to the second. So
//! there is a moment between the readings at which all these threads waited. A waiting thread neither
//! acquires nor releases anything. So what each thread held at the second reading, it also held at that
//! moment. A wait with a deadline ends by itself, so it is not part of a deadlock unless it is the wait that
//! searches.
//!
//! # Which thread gets the error
//!
//! The thread whose wait began last gets the error, because that wait closed the cycle. So only one thread
//! gets the error. When this thread releases something, the others continue. If a thread of the cycle was
//! between two waits during the search, the search finds nothing. The search is repeated after 200 ms, 400 ms
//! and so on.

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

/// A thread that has waited this long searches for a deadlock.
const FIRST_CHECK_NS: u64 = 100_000_000;
/// After main has ended, other processes wait this long for anything that main holds.
pub(crate) const MAIN_GRACE_NS: u64 = 5_000_000_000;
/// After that, they check at this interval whether they wait for main.
pub(crate) const MAIN_CHECK_INTERVAL_NS: u64 = 1_000_000_000;
/// In a record's `waits_since_ns`: the wait has a deadline.
const TIMED: u64 = 1;

/// A wait in progress that checks from time to time whether it is part of a deadlock.
pub(crate) struct Watch {
    pub(crate) since_ns: u64,
    timed: bool,
    next_check_ns: u64,
    /// When this thread last checked whether main holds what it waits for.
    checked_main_ns: u64,
}

impl Watch {
    /// Begins a wait.
    pub(crate) fn begin(deadline: Deadline) -> Watch {
        let now = now_ns();
        let timed = deadline.as_ns().is_some();
        Watch { since_ns: now, timed, next_check_ns: now + FIRST_CHECK_NS, checked_main_ns: 0 }
    }

    /// Returns the value for the record's `waits_since_ns`.
    pub(crate) fn stamp(&self) -> u64 {
        self.since_ns & !TIMED | if self.timed { TIMED } else { 0 }
    }

    /// Returns when to wake up: at the deadline, or earlier for the next check. Called after the wait is announced.
    pub(crate) fn until(&self, arena: &Arena, deadline: Deadline) -> Deadline {
        let until =
            if rules::holds(Rule::DeadlockSearch) { deadline.min_ns(self.next_check_ns) } else { deadline };
        self.main_is_due(arena).map_or(until, |due| until.min_ns(due))
    }

    /// Checks the wait if a check is due. Returns why the thread with record `id` must stop waiting: it
    /// closed a cycle, or it waits for a thread of main after main has ended. The wait must have been
    /// announced.
    pub(crate) fn check(&mut self, arena: &Arena, id: u32) -> Option<LockError> {
        let now = now_ns();
        if self.main_is_due(arena).is_some_and(|due| now >= due) {
            self.checked_main_ns = now;
            let at = arena.record(id).waits_for.load(Ordering::Relaxed);
            if let Some(error) = holders(arena, at).into_iter().find_map(|id| main_ended_error(arena, id)) {
                return Some(error);
            }
        }
        if now < self.next_check_ns {
            return None;
        }
        self.next_check_ns = now + (now - self.since_ns);
        find(arena, id).map(|cycle| LockError::Deadlock { cycle })
    }

    /// Returns when to check next whether the wait is for main. Returns `None` while main runs.
    fn main_is_due(&self, arena: &Arena) -> Option<u64> {
        main_is_due(arena, self.since_ns).map(|due| due.max(self.checked_main_ns + MAIN_CHECK_INTERVAL_NS))
    }
}

/// Returns when a wait that began at `since_ns` has to end if it is for something that main holds. Returns
/// `None` while main runs, and in main itself.
///
/// ORDERING: SeqCst. Main stores the time of its end, and then wakes every thread whose wait is announced. So
/// either main sees the announcement, or the waiter's load, which comes after its announcement, sees main's
/// store.
pub(crate) fn main_is_due(arena: &Arena, since_ns: u64) -> Option<u64> {
    let ended = arena.header().main_ended_ns.load(Ordering::SeqCst);
    (ended != 0 && !member::is_main()).then(|| ended.max(since_ns) + MAIN_GRACE_NS)
}

/// Returns the error of waiting for the thread with this record if it is one of main's threads.
pub(crate) fn main_ended_error(arena: &Arena, id: u32) -> Option<LockError> {
    let thread = arena.record(id).thread.load(Ordering::Acquire);
    (arena.slot_of_record(id) == Some(slots::MAIN))
        .then_some(LockError::MainEnded { thread: thread.cast_unsigned() })
}

/// A thread's wait: for which word, and since when.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Waiting {
    id: u32,
    at: u64,
    since: u64,
}

fn waiting(arena: &Arena, id: u32) -> Option<Waiting> {
    let record = arena.record(id);
    // ORDERING: the start time is written before the wait is announced, and the announcement is taken back
    // before the next start time is written. So if the announced word is the same before and after the load
    // of the time, the time belongs to that announcement.
    let at = record.waits_for.load(Ordering::SeqCst);
    let since = record.waits_since_ns.load(Ordering::SeqCst);
    let alive =
        arena.slot_of_record(id).is_some_and(|slot| slot == slots::MAIN || arena.slot(slot).is_live());
    let same = record.waits_for.load(Ordering::SeqCst) == at;
    (at != 0 && same && alive).then_some(Waiting { id, at, since })
}

/// Returns the records of the threads that hold the object whose word is at `at`.
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

/// Returns the record of the process's main thread. The process ends with this thread.
fn main_thread(arena: &Arena, body: &ProcessBody) -> Option<u32> {
    let slot = body.slot.load(Ordering::Acquire);
    let same =
        slot < arena.layout.slots && arena.incarnation(slot) == body.incarnation.load(Ordering::Acquire);
    let pid = body.pid.load(Ordering::Acquire);
    arena.records_of(slot).find(|&id| same && arena.record(id).thread.load(Ordering::Acquire) == pid)
}

/// Returns the cycle that the thread with record `me` closed, if there is one and it still exists.
fn find(arena: &Arena, me: u32) -> Option<Vec<DeadlockMember>> {
    let mut path = vec![waiting(arena, me)?];
    let mut seen = vec![me];
    if !find_cycle(arena, me, &mut path, &mut seen) {
        return None;
    }
    let confirmed = path.iter().enumerate().all(|(place, wait)| {
        let next = path.get(place + 1).map_or(me, |next| next.id);
        waiting(arena, wait.id) == Some(*wait) && holders(arena, wait.at).contains(&next)
    });
    // Check again that no wait changed while we read the holders.
    let still = path.iter().all(|wait| waiting(arena, wait.id) == Some(*wait));
    (confirmed && still).then(|| path.iter().map(|wait| member(arena, wait)).collect())
}

/// Returns whether a wait can be part of a cycle that `mine` closed: it has no deadline, and it began earlier.
fn may_be_in_cycle(wait: &Waiting, mine: &Waiting) -> bool {
    wait.since & TIMED == 0 && (wait.since & !TIMED, wait.id) < (mine.since & !TIMED, mine.id)
}

/// Extends `path`, which begins with the wait of the thread `goal`, to a path that ends at `goal`. Returns
/// whether there is one. Searches depth first: a writer may wait for many readers, so after a dead end the
/// search tries the next reader.
fn find_cycle(arena: &Arena, goal: u32, path: &mut Vec<Waiting>, seen: &mut Vec<u32>) -> bool {
    // For each wait of the path, the holders that are still to be tried.
    let mut left = vec![path.last().map_or(vec![], |wait| holders(arena, wait.at))];
    while let Some(next) = left.last_mut() {
        match next.pop() {
            // The word names the goal itself as the owner: the lock was released to it, and it is about to run.
            Some(id) if id == goal && path.len() == 1 => {}
            Some(id) if id == goal => return true,
            Some(id) if seen.contains(&id) => {}
            Some(id) => {
                seen.push(id);
                if let Some(wait) = waiting(arena, id).filter(|wait| may_be_in_cycle(wait, &path[0])) {
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
    DeadlockMember::new(pid.cast_unsigned(), process, thread.cast_unsigned(), lock)
}
