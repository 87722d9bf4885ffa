//! `JoinableQueue`: a received item is done once, is queued again, or becomes a dead letter.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::family::*;
use procession::queue::{GetError, JoinError, Lease};
use procession::sync::Semaphore;
use procession::{JoinableQueue, Process, Queue};
use procession_testkit::{proc, wait_until_parked};

const SOON: Duration = Duration::from_millis(10);

pub(super) type Work = JoinableQueue<u32>;

pub(super) fn queue(items: impl IntoIterator<Item = u32>) -> Work {
    let queue = JoinableQueue::unbounded().unwrap();
    queue.put_many(items).unwrap();
    queue
}

/// Returns a process that sleeps while it holds the leases of `count` items.
pub(super) fn worker(queue: &Work, count: usize) -> Process<()> {
    let board = Board::new();
    let work = |queue: Work, count: usize, board: String| {
        let leases: Vec<Lease<u32>> = (0..count).map(|_| queue.get().unwrap()).collect();
        post(&board, "has them", "");
        forever();
        drop(leases);
    };
    let args = (queue.clone(), count, board.path());
    let p = Process::builder().daemon(true).spawn(work, args).unwrap();
    board.wait("has them");
    p
}

/// Returns the items that can be received now, each with its number of attempts.
pub(super) fn drain(queue: &Work) -> Vec<(u32, u32)> {
    let leases = std::iter::from_fn(|| queue.try_get().ok());
    leases
        .map(|lease| {
            let what = (*lease, lease.attempt());
            lease.done().unwrap();
            what
        })
        .collect()
}

fn letters(queue: &Work) -> Vec<(u32, u32)> {
    let letters = queue.dead_letters().map(|letter| letter.unwrap());
    letters.map(|letter| (letter.item, letter.attempts)).collect()
}

#[test]
fn join_returns_when_every_item_is_done() {
    let _dog = watched();
    let (queue, board) = (JoinableQueue::bounded(3).unwrap(), Board::new());
    let work = |queue: JoinableQueue<String>, board: String| -> procession::Result<usize> {
        let mut count = 0;
        for lease in queue.iter() {
            let lease = lease?;
            post(&board, &lease, "");
            lease.done()?;
            count += 1;
        }
        Ok(count)
    };
    let workers: Vec<_> =
        (0..4).map(|_| Process::spawn(work, (queue.clone(), board.path())).unwrap()).collect();
    for round in 0..5 {
        queue.put_many((0..10).map(|n| format!("{round}-{n}"))).unwrap();
        queue.join().unwrap();
        assert_eq!(board.names().len(), 10 * (round + 1));
        assert_eq!((queue.unfinished(), queue.len()), (0, 0));
    }
    queue.close().unwrap();
    assert_eq!(workers.iter().map(|p| p.join().unwrap().unwrap()).sum::<usize>(), 50);
    queue.join().unwrap();
}

#[test]
fn an_item_is_queued_again_when_its_lease_ends_otherwise() {
    let _dog = watched();
    let queue = queue([7, 8]);
    drop(queue.get().unwrap());
    assert_eq!(queue.try_join(), Err(JoinError::WouldBlock));
    let panics = || {
        let lease = queue.get().unwrap();
        assert_eq!((*lease, lease.attempt()), (7, 2));
        panic!("at work");
    };
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    let gives_up = || -> Result<(), GetError> {
        let lease = queue.get()?;
        assert_eq!((*lease, lease.attempt()), (7, 3));
        Err(GetError::Empty)?;
        lease.done().unwrap();
        Ok(())
    };
    gives_up().unwrap_err();
    let gets = |queue: Work| queue.get().map(|lease| (*lease, lease.attempt()));
    assert_eq!(Process::spawn(gets, (queue.clone(),)).unwrap().join().unwrap(), Ok((7, 4)));
    let panics = |queue: Work| -> () {
        let _lease = queue.get().unwrap();
        panic!("at work");
    };
    Process::spawn(panics, (queue.clone(),)).unwrap().join().unwrap_err();
    assert_eq!(queue.unfinished(), 2);
    assert_eq!(drain(&queue), [(7, 6), (8, 1)]);
    queue.join().unwrap();
}

#[test]
fn items_of_a_dead_consumer_come_first_and_join_waits_for_them() {
    let _dog = watched();
    let queue = queue(1..=5);
    let p = worker(&queue, 2);
    assert_eq!((queue.len(), queue.unfinished()), (3, 5));
    let joiner = asleep(|queue: Work| queue.join(), (queue.clone(),));
    kill(&p);
    assert_eq!((queue.len(), queue.unfinished()), (5, 5));
    let first = [queue.get().unwrap(), queue.get().unwrap()];
    let came = first.each_ref().map(|lease| (**lease, lease.attempt()));
    assert_eq!(BTreeSet::from(came), BTreeSet::from([(1, 2), (2, 2)]));
    assert_eq!(drain(&queue), [(3, 1), (4, 1), (5, 1)]);
    assert!(joiner.is_alive(), "two items are not done");
    first.into_iter().for_each(|lease| lease.done().unwrap());
    assert_eq!(joiner.join().unwrap(), Ok(()));
}

#[test]
fn join_waits_until_its_deadline() {
    let _dog = watched();
    let queue = queue([1]);
    assert_eq!(queue.try_join(), Err(JoinError::WouldBlock));
    let before = Instant::now();
    assert_eq!(queue.join_timeout(SOON), Err(JoinError::TimedOut));
    assert_eq!(queue.join_deadline(before + 2 * SOON), Err(JoinError::TimedOut));
    assert!(before.elapsed() >= 2 * SOON);
    assert_eq!(queue.join_deadline(before), Err(JoinError::TimedOut));
    assert_eq!(queue.join_timeout(Duration::ZERO), Err(JoinError::TimedOut));
    let lease = queue.get().unwrap();
    assert_eq!(queue.try_join(), Err(JoinError::WouldBlock), "a worker holds the item");
    lease.done().unwrap();
    assert_eq!(queue.try_join(), Ok(()));
    assert_eq!(queue.join_timeout(Duration::ZERO), Ok(()));
    assert_eq!(queue.join_deadline(before), Ok(()), "success is reported although the deadline has passed");
    assert_eq!(queue.join_timeout(Duration::MAX), Ok(()));
    assert_eq!(Work::unbounded().unwrap().join(), Ok(()), "an unused queue is done");
}

#[test]
fn joiners_are_woken_by_the_last_item() {
    let _dog = watched();
    type Joiner = Process<Result<(), JoinError>>;
    let joins: [fn(&Work) -> Joiner; 3] = [
        |queue| asleep(|queue: Work| queue.join(), (queue.clone(),)),
        |queue| asleep(|queue: Work| queue.join_timeout(Duration::from_secs(3600)), (queue.clone(),)),
        |queue| {
            let join = |queue: Work| queue.join_deadline(Instant::now() + Duration::from_secs(3600));
            asleep(join, (queue.clone(),))
        },
    ];
    let ends: [fn(&Work); 3] = [
        |queue| {
            let does = |queue: Work| queue.get().unwrap().done();
            Process::spawn(does, (queue.clone(),)).unwrap().join().unwrap().unwrap();
        },
        |queue| {
            let gives_up = |queue: Work| drop(queue.get().unwrap());
            Process::spawn(gives_up, (queue.clone(),)).unwrap().join().unwrap();
        },
        |queue| kill(&worker(queue, 1)),
    ];
    for end in ends {
        let queue = queue([1]).with_max_attempts(1).unwrap();
        let joiners = joins.map(|join| join(&queue));
        end(&queue);
        assert_eq!(joiners.map(|p| p.join().unwrap()), [Ok(()), Ok(()), Ok(())]);
    }
}

#[test]
fn an_item_that_is_never_done_becomes_a_dead_letter() {
    let _dog = watched();
    assert!(Work::unbounded().unwrap().with_max_attempts(0).is_err());
    let queue = queue(1..=3).with_max_attempts(2).unwrap();
    drop(queue.get().unwrap());
    kill(&worker(&queue, 1));
    assert_eq!((queue.len(), queue.unfinished()), (2, 2), "dead letters are neither queued nor unfinished");
    kill(&worker(&queue, 2));
    assert_eq!(letters(&queue), [(1, 2)]);
    assert_eq!(letters(&queue), []);
    for lease in [queue.get().unwrap(), queue.get().unwrap()] {
        assert_eq!(lease.attempt(), 2);
        drop(lease);
    }
    assert_eq!(queue.try_get().unwrap_err(), GetError::Empty);
    queue.join().unwrap();
    let taken = Process::spawn(|queue: Work| letters(&queue), (queue.clone(),)).unwrap().join().unwrap();
    assert_eq!(BTreeSet::from_iter(taken), BTreeSet::from([(2, 2), (3, 2)]));
    queue.put(4).unwrap();
    assert_eq!(drain(&queue), [(4, 1)]);
}

#[test]
fn a_closed_queue_ends_after_its_last_lease() {
    let _dog = watched();
    let get_all = |queue: Work| -> Vec<(u32, u32)> {
        let leases = queue.iter().map(|lease| lease.unwrap());
        leases
            .map(|lease| {
                let what = (*lease, lease.attempt());
                lease.done().unwrap();
                what
            })
            .collect()
    };
    let work = |queue: Work, board: String, done: bool| {
        let lease = queue.get().unwrap();
        post(&board, "has it", "");
        wait_for(&board, "go on");
        if done {
            lease.done().unwrap();
        }
    };
    for (end, expected) in [("done", vec![]), ("dropped", vec![(1, 2)]), ("killed", vec![(1, 2)])] {
        let (queue, board) = (queue([1]), Board::new());
        let p = Process::spawn(work, (queue.clone(), board.path(), end == "done")).unwrap();
        board.wait("has it");
        let before = asleep(get_all, (queue.clone(),));
        queue.close().unwrap();
        assert!(queue.put(2).is_err());
        let after = asleep(get_all, (queue.clone(),));
        assert_eq!(queue.try_get().unwrap_err(), GetError::Empty, "the item may be queued again");
        assert_eq!(queue.get_timeout(SOON).unwrap_err(), GetError::Empty);
        assert!(before.is_alive());
        match end {
            "killed" => kill(&p),
            _ => post(&board.path(), "go on", ""),
        }
        let got = [before.join().unwrap(), after.join().unwrap()].concat();
        assert_eq!(got, expected, "{end}");
        assert_eq!(queue.get().unwrap_err(), GetError::Closed);
        queue.join().unwrap();
    }
}

#[test]
fn a_consumer_does_not_wait_for_its_own_leases() {
    let _dog = watched();
    let queue = queue([1]);
    let lease = queue.get().unwrap();
    queue.close().unwrap();
    assert_eq!(queue.try_get().unwrap_err(), GetError::Closed);
    assert_eq!(queue.get().unwrap_err(), GetError::Closed);
    assert_eq!(queue.iter().count(), 0);
    assert_eq!(procession::queue::try_select(&[&queue]), Ok(0), "there is no item to wait for");
    drop(lease);
    assert_eq!(drain(&queue), [(1, 2)]);
    assert_eq!(queue.get().unwrap_err(), GetError::Closed);
}

#[test]
fn every_item_is_done_although_consumers_are_killed() {
    const ITEMS: u32 = 300;
    let _dog = watched();
    let (queue, results) = (queue(0..ITEMS), Queue::<u32>::unbounded().unwrap());
    queue.close().unwrap();
    // Each consumer holds an item until it gets a permit.
    let go_on = Semaphore::new(0).unwrap();
    let consume = |queue: Work, results: Queue<u32>, go_on: Semaphore| {
        for lease in queue.iter() {
            let lease = lease.unwrap();
            results.put(*lease).unwrap();
            go_on.acquire().unwrap().forget();
            lease.done().unwrap();
        }
    };
    let hire = || Process::spawn(consume, (queue.clone(), results.clone(), go_on.clone())).unwrap();
    let mut consumers: Vec<_> = (0..4).map(|_| hire()).collect();
    for round in 0..40 {
        until("there is progress", || results.len() > round);
        let dead = std::mem::replace(&mut consumers[round % 4], hire());
        dead.kill().unwrap();
        let _ = dead.join();
        go_on.add_permits(2).unwrap();
    }
    go_on.add_permits(2 * ITEMS).unwrap();
    queue.join().unwrap();
    consumers.iter().for_each(|p| p.join().unwrap());
    let results: Vec<u32> = std::iter::from_fn(|| results.try_get().ok()).collect();
    assert_eq!(BTreeSet::from_iter(results), BTreeSet::from_iter(0..ITEMS));
    assert_eq!(queue.unfinished(), 0);
}

/// This process puts the next item before it reports its current item as done. So some item is unfinished at
/// every moment.
#[test]
fn join_does_not_return_while_items_create_items() {
    const ROUNDS: u32 = 3000;
    let _dog = watched();
    let queue = queue(0..5000);
    // The leases of the chain must be recorded far from each other: in the first place and in the last.
    let mut held: Vec<Lease<u32>> = (0..5000).map(|_| queue.get().unwrap()).collect();
    let mut last = held.pop().unwrap();
    let mut rest = held.drain(..);
    let first = rest.next().unwrap();
    rest.for_each(|lease| lease.done().unwrap());
    first.done().unwrap();
    let count = |queue: Work| {
        // Polls without pause. `try_join` must succeed only at the end.
        while queue.try_join().is_err() {}
        queue.is_closed()
    };
    let counter = Process::spawn(count, (queue.clone(),)).unwrap();
    until("the counter has started", || counter.pid().is_some_and(|pid| proc::cpu_ticks(pid) > Some(2)));
    for round in 0..ROUNDS {
        queue.put(round).unwrap();
        let next = queue.get().unwrap();
        std::mem::replace(&mut last, next).done().unwrap();
    }
    queue.close().unwrap();
    last.done().unwrap();
    assert!(counter.join().unwrap(), "the queue was reported as done before it was");
}

#[test]
fn a_killed_joiner_harms_no_process() {
    let _dog = watched();
    let queue = queue([1]);
    let joins = |queue: Work| queue.join();
    let (dies, lives) = (asleep(joins, (queue.clone(),)), asleep(joins, (queue.clone(),)));
    wait_until_parked(lives.pid().unwrap());
    kill(&dies);
    assert_eq!(drain(&queue), [(1, 1)]);
    assert_eq!(lives.join().unwrap(), Ok(()));
}
