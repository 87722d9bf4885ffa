//! The checks after the end of a round.

use std::collections::HashMap;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use procession::queue::GetError;

use super::Result;
use super::outside::{DICT, DONE, JOINABLE, LIST, Outside, POOL, POPPED, QUEUE, TAKEN, VALUE, WORKED};
use super::roles::Role;
use super::shared::{Item, PERMITS, Shared};

/// Counts of the events of one round or of all rounds, and the faults that were found.
#[derive(Default)]
pub struct Books {
    pub rounds: u64,
    pub kills: u64,
    pub workers_killed: u64,
    pub operations: u64,
    pub items: u64,
    /// Deaths that a lock, a barrier or a pipe reported.
    pub told: u64,
    /// Items that were received again after their first consumer died.
    pub redelivered: u64,
    /// Items that a consumer of a plain queue took but could not record, because it was killed.
    pub in_hands: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub leaked: u64,
    pub faults: Vec<String>,
}

impl Books {
    pub fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    pub fn add(&mut self, other: Books) {
        self.rounds += 1;
        self.kills += other.kills;
        self.workers_killed += other.workers_killed;
        self.operations += other.operations;
        self.items += other.items;
        self.told += other.told;
        self.redelivered += other.redelivered;
        self.in_hands += other.in_hands;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.leaked += other.leaked;
        self.faults.extend(other.faults);
    }

    pub fn line(&self) -> String {
        format!(
            "{} kills, {} operations, {} faults",
            self.kills + self.workers_killed,
            self.operations,
            self.faults.len()
        )
    }

    pub fn report(&self, took: Duration) -> String {
        format!(
            "{:.0} s, {} rounds: {} kills, {} of them of workers of a pool, among {} operations\n\
             recovered: {} deaths told by locks, barriers and pipes; {} items came back to be worked on again\n\
             items: {} acknowledged; {} were in the hands of a consumer that was killed\n\
             lost {}, duplicated {}, leaked {}; {} faults in all",
            took.as_secs_f64(),
            self.rounds,
            self.kills + self.workers_killed,
            self.workers_killed,
            self.operations,
            self.told,
            self.redelivered,
            self.items,
            self.in_hands,
            self.lost,
            self.duplicated,
            self.leaked,
            self.faults.len()
        )
    }
}

/// The state of the round under check.
pub struct Scene<'a> {
    pub outside: &'a Outside,
    pub shared: &'a Shared,
    /// The number of processes started in the round. Each process has a number below this count.
    pub started: u64,
    pub killed: &'a [(u64, Role)],
}

impl Scene<'_> {
    fn killed(&self, role: Role) -> u64 {
        self.killed.iter().filter(|(_, of)| *of == role).count() as u64
    }
}

/// Runs all checks of the round, and records their results in `books`.
pub fn balance(scene: &Scene, books: &mut Books) -> Result {
    books.kills = scene.killed.len() as u64;
    books.operations = scene.outside.words.operations.iter().map(|count| count.load(SeqCst)).sum();
    books.told = scene.outside.words.told.load(SeqCst);
    books.faults.extend(scene.outside.faults());
    let entries = scene.outside.ledger.entries();
    let of = |kind: u64| entries.iter().filter(move |entry| entry[0] == kind);
    let left = rest_of_queue(scene, books);
    let seen = count(of(TAKEN).map(|e| (e[1], e[2])).chain(left));
    once(scene, books, ("queue", QUEUE), &seen, scene.killed(Role::Consumer));
    let left = scene.shared.list.to_vec()?.into_iter().map(|(number, sequence, _): Item| (number, sequence));
    let seen = count(of(POPPED).map(|e| (e[1], e[2])).chain(left));
    once(scene, books, ("list", LIST), &seen, scene.killed(Role::Popper));
    finish_joinable(scene, books)?;
    books.redelivered += of(DONE).filter(|entry| entry[3] > 1).count() as u64;
    let worked = count(of(WORKED).map(|e| (e[1], e[2])));
    for number in 0..scene.started {
        let results = scene.outside.acknowledged(POOL, number);
        books.items += results;
        let undone = (0..results).filter(|n| !worked.contains_key(&(number, *n))).count();
        if undone > 0 {
            books.lost += undone as u64;
            books.fault(format!("pool: {undone} results of process {number} came from nowhere"));
        }
    }
    counts(scene, books)?;
    state(scene, books);
    Ok(())
}

type Seen = HashMap<(u64, u64), u64>;

fn count(seen: impl Iterator<Item = (u64, u64)>) -> Seen {
    let mut counts = Seen::new();
    seen.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}

fn rest_of_queue(scene: &Scene, books: &mut Books) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    loop {
        match scene.shared.queue.try_get() {
            Ok((number, sequence, _)) => left.push((number, sequence)),
            Err(GetError::Closed) => return left,
            Err(error) => {
                books.fault(format!("a closed queue gives {error:?}"));
                return left;
            }
        }
    }
}

/// Checks that every acknowledged item was seen once, or was taken by a process that was killed before it could record
/// the item.
fn once(scene: &Scene, books: &mut Books, (what, kind): (&str, usize), seen: &Seen, killed: u64) {
    let mut missing = 0;
    for number in 0..scene.started {
        let acknowledged = scene.outside.acknowledged(kind, number);
        books.items += acknowledged;
        missing +=
            (0..acknowledged).filter(|sequence| !seen.contains_key(&(number, *sequence))).count() as u64;
    }
    books.in_hands += missing.min(killed);
    if missing > killed {
        books.lost += missing - killed;
        books.fault(format!(
            "{what}: {missing} items are lost, and {killed} processes that took some were killed"
        ));
    }
    for (&(number, sequence), &times) in seen {
        if times > 1 {
            books.duplicated += times - 1;
            books.fault(format!("{what}: item {number}.{sequence} was seen {times} times"));
        }
        if sequence > scene.outside.acknowledged(kind, number) {
            books.fault(format!("{what}: item {number}.{sequence} was never put"));
        }
    }
}

/// Finishes the remaining items of the joinable queue, and checks that every acknowledged item was done.
fn finish_joinable(scene: &Scene, books: &mut Books) -> Result {
    let queue = &scene.shared.joinable;
    while let Ok(lease) = queue.try_get() {
        scene.outside.ledger.record([DONE, lease.0, lease.1, u64::from(lease.attempt())]);
        lease.done()?;
    }
    if let Err(error) = queue.join_timeout(Duration::from_secs(10)) {
        books.fault(format!("a queue whose items are all done cannot be joined: {error:?}"));
    }
    let entries = scene.outside.ledger.entries();
    let done = count(entries.iter().filter(|e| e[0] == DONE).map(|e| (e[1], e[2])));
    for number in 0..scene.started {
        let acknowledged = scene.outside.acknowledged(JOINABLE, number);
        books.items += acknowledged;
        let missing = (0..acknowledged).filter(|sequence| !done.contains_key(&(number, *sequence))).count();
        if missing > 0 {
            books.lost += missing as u64;
            books.fault(format!("joinable queue: {missing} items of process {number} were never done"));
        }
    }
    // An item is recorded as done twice only if its first consumer was killed after the record, before `done`
    // took effect.
    let again: u64 = done.values().map(|times| times - 1).sum();
    let killed = scene.killed(Role::Worker);
    if again > killed {
        books.duplicated += again - killed;
        books.fault(format!(
            "joinable queue: {again} items were done again, and {killed} workers were killed"
        ));
    }
    Ok(())
}

/// Checks that each count equals the acknowledged count. The count of a killed process may be higher by one,
/// because the process may have died between the update and its record.
fn counts(scene: &Scene, books: &mut Books) -> Result {
    let mut values = (0, 0);
    for number in 0..scene.started {
        let acknowledged = scene.outside.acknowledged(DICT, number);
        let counted = scene.shared.dict.get(&(number + 1))?.unwrap_or(0);
        let was_killed = scene.killed.iter().any(|(killed, _)| *killed == number);
        if counted < acknowledged || counted > acknowledged + u64::from(was_killed) {
            books.lost += acknowledged.saturating_sub(counted);
            books.fault(format!(
                "dict: {counted} is the count of process {number}, which acknowledged {acknowledged}"
            ));
        }
        values.0 += scene.outside.acknowledged(VALUE, number);
    }
    values.1 = values.0 + scene.killed(Role::Writer);
    let (value, not_value) = scene.shared.value.get()?;
    if value != !not_value || value < values.0 || value > values.1 {
        books.fault(format!("value: {value} and {not_value}, and {} to {} were said", values.0, values.1));
    }
    Ok(())
}

/// Checks that every object can be acquired, because no living process holds it.
fn state(scene: &Scene, books: &mut Books) {
    let shared = scene.shared;
    for lock in &shared.locks {
        if let Err(error) = lock.try_lock_or_recover() {
            books.fault(format!("a lock without a living holder: {error:?} {lock:?}"));
        }
    }
    if let Err(error) = shared.nested.try_lock_or_recover() {
        books.fault(format!("a re-entrant lock without a living holder: {error:?}"));
    }
    if let Err(error) = shared.table.try_write_or_recover() {
        books.fault(format!("a read-write lock without a living holder: {error:?}"));
    }
    let permits = shared.semaphore.available_permits();
    if permits != PERMITS as usize {
        books.fault(format!("{permits} permits of {PERMITS} are there"));
    }
    if shared.barrier.waiting() != 0 {
        books.fault(format!("{} parties are counted as waiting at the barrier", shared.barrier.waiting()));
    }
}
