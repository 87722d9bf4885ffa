//! Leases: where they may go, when they end, and how many there can be.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::joinable::{Work, drain, queue, worker};
use crate::family::*;
use procession::internals;
use procession::queue::{GetError, Lease};
use procession::{JoinableQueue, Lock, Process};
use procession_testkit::isolated;
use serde::{Deserialize, Deserializer, Serialize};

/// Fails to decode if `REFUSES` is set, and panics while it is decoded if `PANICS` is set.
#[derive(Debug, Serialize, PartialEq)]
struct Moody(u32);

static REFUSES: AtomicBool = AtomicBool::new(false);

static PANICS: AtomicBool = AtomicBool::new(false);

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moody, D::Error> {
        let number = u32::deserialize(deserializer)?;
        assert!(!PANICS.load(Ordering::Relaxed), "in a bad mood");
        if REFUSES.load(Ordering::Relaxed) {
            return Err(serde::de::Error::custom("in a bad mood"));
        }
        Ok(Moody(number))
    }
}

#[test]
fn an_item_that_cannot_be_decoded_counts_as_done() {
    let _dog = watched();
    let queue = JoinableQueue::unbounded().unwrap().with_max_attempts(2).unwrap();
    queue.put_many([Moody(1), Moody(2), Moody(3)]).unwrap();
    REFUSES.store(true, Ordering::Relaxed);
    let joiner = asleep(|queue: JoinableQueue<Moody>| queue.join(), (queue.clone(),));
    let refused = queue.get().unwrap_err();
    assert!(matches!(&refused, GetError::Undecodable(_)), "{refused:?}");
    assert_eq!(queue.unfinished(), 2);
    REFUSES.store(false, Ordering::Relaxed);
    PANICS.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        catch_unwind(AssertUnwindSafe(|| queue.get())).unwrap_err();
    }
    PANICS.store(false, Ordering::Relaxed);
    let lease = queue.get().unwrap();
    assert_eq!((&*lease, lease.attempt()), (&Moody(3), 1), "the second item is a dead letter");
    REFUSES.store(true, Ordering::Relaxed);
    assert!(matches!(queue.dead_letters().next(), Some(Err(GetError::Undecodable(_)))));
    REFUSES.store(false, Ordering::Relaxed);
    assert!(queue.dead_letters().next().is_none());
    lease.done().unwrap();
    assert_eq!(joiner.join().unwrap(), Ok(()));
}

#[test]
fn items_carry_their_handles_on_every_attempt() {
    let _dog = watched();
    let queue = JoinableQueue::<(Lock, JoinableQueue<u32>)>::unbounded().unwrap();
    queue.put((Lock::labeled("within").unwrap(), queue_of_one())).unwrap();
    let work = |queue: JoinableQueue<(Lock, Work)>| -> () {
        let lease = queue.get().unwrap();
        let (lock, within) = &*lease;
        std::mem::forget(lock.lock());
        assert_eq!(**within.get().as_ref().unwrap(), 1);
        std::process::exit(3);
    };
    Process::spawn(work, (queue.clone(),)).unwrap().join().unwrap_err();
    let lease = queue.get().unwrap();
    let (lock, within) = (lease.0.clone(), lease.1.clone());
    assert_eq!((lock.name().as_str(), lease.attempt()), ("within", 2));
    lease.done().unwrap();
    drop(lock.lock_or_recover().unwrap());
    assert_eq!(drain(&within), [(1, 2)]);
}

fn queue_of_one() -> Work {
    queue([1])
}

#[test]
fn a_lease_may_move_to_another_thread() {
    let _dog = watched();
    let queue = queue([1, 2]);
    let (first, second) = (queue.get().unwrap(), queue.get().unwrap());
    thread::spawn(move || first.done().unwrap()).join().unwrap();
    thread::spawn(move || drop(second)).join().unwrap();
    assert_eq!(drain(&queue), [(2, 2)]);
    queue.join().unwrap();
    // A thread may also wait for an item that another thread gives back.
    queue.put(3).unwrap();
    let lease = queue.get().unwrap();
    let waits = thread::spawn({
        let queue = queue.clone();
        move || queue.get().map(|lease| (*lease, lease.attempt()))
    });
    until("it waits", || format!("{queue:?}").contains("getters_waiting: 1"));
    drop(lease);
    assert_eq!(waits.join().unwrap(), Ok((3, 2)));
}

#[test]
fn items_are_queued_again_when_their_process_ends() {
    let _dog = watched();
    let queue = queue(1..=3);
    let forgets = |queue: Work| std::mem::forget(queue.get().unwrap());
    Process::spawn(forgets, (queue.clone(),)).unwrap().join().unwrap();
    // If a process returns normally, `join` may return before the process is recovered.
    until("the item is queued again", || queue.len() == 3);
    let leaves = |queue: Work| -> () {
        let _lease = queue.get().unwrap();
        std::process::exit(0);
    };
    let _ = Process::spawn(leaves, (queue.clone(),)).unwrap().join();
    until("the item is queued again", || queue.len() == 3);
    let aborts = |queue: Work| -> () {
        let _leases = [queue.get().unwrap(), queue.get().unwrap()];
        std::process::abort();
    };
    Process::spawn(aborts, (queue.clone(),)).unwrap().join().unwrap_err();
    assert_eq!(drain(&queue).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([(1, 4), (2, 2), (3, 1)]));
}

#[test]
fn ten_thousand_leases_can_be_held() {
    const MANY: usize = 10_000;
    let _dog = watched();
    let queue = queue(0..MANY as u32);
    let mut leases: Vec<Lease<u32>> = (0..MANY).map(|_| queue.get().unwrap()).collect();
    assert_eq!((queue.len(), queue.unfinished()), (0, MANY));
    assert!(leases.iter().enumerate().all(|(n, lease)| (**lease as usize, lease.attempt()) == (n, 1)));
    leases.drain(MANY / 2..).for_each(|lease| lease.done().unwrap());
    assert_eq!(queue.unfinished(), MANY / 2);
    drop(leases);
    assert_eq!(queue.len(), MANY / 2);
    kill(&worker(&queue, MANY / 2));
    let again = drain(&queue);
    assert_eq!(again.len(), MANY / 2);
    assert!(again.iter().all(|&(n, attempt)| n < MANY as u32 / 2 && attempt == 3));
    queue.join().unwrap();
}

/// The places of leases are reused, however many leases are held, and in whatever order the items are done.
#[test]
fn places_of_leases_are_reused() {
    const MANY: usize = 997;
    isolated!({
        let queue = queue([]);
        let mut blocks = Vec::new();
        for round in 1..8 {
            queue.put_many(0..MANY as u32).unwrap();
            let mut leases: Vec<Option<Lease<u32>>> = (0..MANY).map(|_| queue.get().ok()).collect();
            // This visits every lease, because `MANY` is prime.
            for n in 0..MANY {
                leases[n * 7 * round % MANY].take().unwrap().done().unwrap();
            }
            blocks.push(internals::census().blocks.len());
        }
        assert_eq!(blocks, [blocks[0]; 7]);
        queue.join().unwrap();
    });
}

#[test]
fn a_lease_outlives_every_handle_to_its_queue() {
    let _dog = watched();
    let queue = queue([1, 2]);
    let (first, second) = (queue.get().unwrap(), queue.get().unwrap());
    drop(queue);
    assert_eq!((*first, *second), (1, 2));
    first.done().unwrap();
    drop(second);
}
