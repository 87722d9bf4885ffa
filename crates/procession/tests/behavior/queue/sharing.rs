//! A queue between many processes and threads, and in a process that a member of the family forked by itself.

use std::collections::BTreeMap;
use std::thread;

use crate::family::*;
use procession::queue::{GetError, PutError};
use procession::{Error, Process, Queue};
use procession_testkit::isolated;

/// Several processes and threads produce. Each item is received once, and the items of each producer are received in
/// order.
#[test]
fn processes_and_threads_share_a_queue() {
    const EACH: u32 = 2000;
    type Item = (u8, u32);
    fn produce(queue: Queue<Item>, me: u8) {
        for n in 0..EACH {
            match n % 3 {
                0 => queue.put((me, n)).unwrap(),
                1 => queue.put_timeout((me, n), LONG).unwrap(),
                _ => drop(queue.put_many([(me, n)]).unwrap()),
            }
        }
    }
    fn consume(queue: Queue<Item>) -> Vec<Item> {
        let mut got = Vec::new();
        loop {
            match queue.get() {
                Ok(item) => got.push(item),
                Err(GetError::Closed) => return got,
                Err(other) => panic!("{other}"),
            }
            got.extend(queue.try_get_many(5).unwrap_or_default().into_iter().map(|item| item.unwrap()));
        }
    }
    let _dog = watched();
    let queue = Queue::bounded(50).unwrap();
    let spawned: Vec<_> = (0..2).map(|me| Process::spawn(produce, (queue.clone(), me)).unwrap()).collect();
    let consumers: Vec<_> = (0..2).map(|_| Process::spawn(consume, (queue.clone(),)).unwrap()).collect();
    let got = thread::scope(|scope| {
        let mine: Vec<_> = (2..4)
            .map(|me| {
                scope.spawn({
                    let queue = queue.clone();
                    move || produce(queue, me)
                })
            })
            .collect();
        let taking: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn({
                    let queue = queue.clone();
                    move || consume(queue)
                })
            })
            .collect();
        mine.into_iter().for_each(|thread| thread.join().unwrap());
        spawned.iter().for_each(|process| process.join().unwrap());
        queue.close().unwrap();
        let mut got: Vec<Vec<Item>> = taking.into_iter().map(|thread| thread.join().unwrap()).collect();
        got.extend(consumers.iter().map(|process| process.join().unwrap()));
        got
    });
    let mut seen = BTreeMap::<Item, u32>::new();
    for one in &got {
        for me in 0..4 {
            let numbers: Vec<u32> = one.iter().filter(|item| item.0 == me).map(|item| item.1).collect();
            assert!(numbers.is_sorted(), "items of producer {me} overtook each other");
        }
        one.iter().for_each(|item| *seen.entry(*item).or_default() += 1);
    }
    assert_eq!(seen.len(), 4 * EACH as usize);
    assert!(seen.values().all(|&times| times == 1));
}

#[test]
fn items_are_received_in_order() {
    let _dog = watched();
    let queue = Queue::bounded(7).unwrap();
    let producer = |queue: Queue<u64>| (0..20_000).try_for_each(|n| queue.put(n)).is_ok();
    let producer = Process::spawn(producer, (queue.clone(),)).unwrap();
    assert!((0..20_000).all(|n| queue.get() == Ok(n)));
    assert_eq!(producer.join(), Ok(true));
}

type Expectation = (&'static str, fn(&Queue<Vec<u8>>) -> bool);

const IN_A_FORK: &[Expectation] = &[
    ("a new queue", |_| matches!(Queue::<u8>::bounded(1), Err(Error::Forked))),
    ("put", |q| matches!(q.put(vec![1]), Err(PutError::Unusable(..)))),
    ("putting a large item", |q| matches!(q.try_put(vec![1; 9000]), Err(PutError::Unusable(..)))),
    ("put_many", |q| matches!(q.put_many([vec![1]]), Err(PutError::Unusable(..)))),
    ("put_with", |q| matches!(q.put_with(3, |_| ()), Err(PutError::Unusable(..)))),
    ("get", |q| matches!(q.get(), Err(GetError::Unusable(_)))),
    ("try_get", |q| matches!(q.try_get(), Err(GetError::Unusable(_)))),
    ("get_many", |q| matches!(q.get_many(2), Err(GetError::Unusable(_)))),
    ("get_with", |q| matches!(q.get_with(|_| ()), Err(GetError::Unusable(_)))),
    ("iteration", |q| matches!(q.iter().collect::<Vec<_>>()[..], [Err(GetError::Unusable(_))])),
    ("close", |q| q.close().is_err()),
    ("looking", |q| {
        q.is_empty()
            && q.len().checked_sub(1).is_none()
            && q.capacity().is_none_or(|n| n < 9)
            && [true, false].contains(&q.is_full())
    }),
    ("is_closed", |q| [true, false].contains(&q.is_closed())),
    ("Debug", |q| !format!("{q:?}").is_empty()),
    ("cloning and dropping", |q| (drop(q.clone()), true).1),
];

#[test]
fn a_queue_refuses_a_fork() {
    isolated!({
        let queue = Queue::bounded(5).unwrap();
        queue.put(vec![7]).unwrap();
        let broken: Vec<&str> = IN_A_FORK
            .iter()
            .filter(|(_, expectation)| !holds_in_a_fork(|| expectation(&queue)))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(broken, [""; 0]);
        assert_eq!((queue.len(), queue.is_closed(), queue.get()), (1, false, Ok(vec![7])));
    });
}
