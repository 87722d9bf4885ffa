//! Queues without deaths: the forms of the operations, bounds, closing, errors.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::queue::{GetError, PutError};
use procession::{Error, Process, Queue};
use procession_testkit::isolated;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SHORT: Duration = Duration::from_millis(20);

fn later(time: Duration) -> Instant {
    Instant::now() + time
}

/// Runs `f` in a thread, and calls `then` while that thread sleeps.
fn meanwhile<T: Send>(f: impl FnOnce() -> T + Send, then: impl FnOnce()) -> T {
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = scope.spawn(move || {
            // SAFETY: a system call without arguments.
            #[allow(unsafe_code, reason = "gettid")]
            tell.send(unsafe { libc::gettid() }).unwrap();
            f()
        });
        let thread = told.recv().unwrap();
        until("it sleeps", || {
            let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
            stat.contains(") S ") || waiter.is_finished()
        });
        then();
        waiter.join().unwrap()
    })
}

#[test]
fn a_bounded_queue_is_empty_and_then_full() {
    let _dog = watched();
    let queue = Queue::bounded(3).unwrap();
    let look = || (queue.len(), queue.is_empty(), queue.is_full());
    assert_eq!((queue.capacity(), look()), (Some(3), (0, true, false)));
    for n in 1..=3 {
        queue.put(n).unwrap();
        assert_eq!(look(), (n, false, n == 3));
    }
    for n in 1..=3 {
        assert_eq!(queue.get(), Ok(n));
        assert_eq!(look(), (3 - n, n == 3, false));
    }
}

#[test]
fn every_form_of_put_succeeds_while_there_is_room() {
    let _dog = watched();
    let queue = Queue::bounded(4).unwrap();
    queue.put(1).unwrap();
    queue.try_put(2).unwrap();
    queue.put_timeout(3, SHORT).unwrap();
    queue.put_deadline(4, later(SHORT)).unwrap();
    assert_eq!(queue.try_put(5), Err(PutError::Full(5)));
    for wait in [Duration::ZERO, SHORT] {
        let began = Instant::now();
        assert_eq!(queue.put_timeout(6, wait), Err(PutError::Full(6)));
        assert_eq!(queue.put_deadline(7, later(wait)), Err(PutError::Full(7)));
        assert!(began.elapsed() >= 2 * wait, "it gave up too early");
    }
    assert_eq!(queue.put_deadline(8, Instant::now() - SHORT), Err(PutError::Full(8)));
    let all: Vec<i32> = (0..4).map(|_| queue.get().unwrap()).collect();
    assert_eq!(all, [1, 2, 3, 4]);
}

#[test]
fn every_form_of_get_returns_available_items() {
    let _dog = watched();
    let queue = Queue::bounded(4).unwrap();
    for wait in [Duration::ZERO, SHORT] {
        let began = Instant::now();
        assert_eq!(queue.get_timeout(wait), Err(GetError::Empty));
        assert_eq!(queue.get_deadline(later(wait)), Err(GetError::Empty));
        assert!(began.elapsed() >= 2 * wait, "it gave up too early");
    }
    assert_eq!(queue.try_get(), Err(GetError::Empty));
    queue.put_many(1..=4).unwrap();
    assert_eq!((queue.get(), queue.try_get()), (Ok(1), Ok(2)));
    assert_eq!((queue.get_timeout(SHORT), queue.get_deadline(later(SHORT))), (Ok(3), Ok(4)));
}

#[test]
fn every_form_waits_for_a_later_item() {
    let _dog = watched();
    type Get = fn(&Queue<u32>) -> Result<u32, GetError>;
    let gets: [Get; 6] = [
        |queue| queue.get(),
        |queue| queue.get_timeout(LONG),
        |queue| queue.get_deadline(later(LONG)),
        |queue| queue.get_many(5)?.remove(0),
        |queue| queue.get_many_timeout(5, LONG)?.remove(0),
        |queue| queue.get_many_deadline(5, later(LONG))?.remove(0),
    ];
    for get in gets {
        let queue = Queue::bounded(1).unwrap();
        assert_eq!(meanwhile(|| get(&queue), || queue.put(7).unwrap()), Ok(7));
    }
    let puts: [fn(&Queue<u32>) -> bool; 6] = [
        |queue| queue.put(8).is_ok(),
        |queue| queue.put_timeout(8, LONG).is_ok(),
        |queue| queue.put_deadline(8, later(LONG)).is_ok(),
        |queue| queue.put_many([8]).is_ok(),
        |queue| queue.put_many_timeout([8], LONG).is_ok(),
        |queue| queue.put_many_deadline([8], later(LONG)).is_ok(),
    ];
    for put in puts {
        let queue = Queue::bounded(1).unwrap();
        queue.put(7).unwrap();
        assert!(meanwhile(|| put(&queue), || assert_eq!(queue.get(), Ok(7))));
        assert_eq!(queue.try_get(), Ok(8));
    }
}

#[test]
fn put_many_and_get_many_transfer_as_many_as_fit() {
    let _dog = watched();
    let queue = Queue::bounded(5).unwrap();
    let numbers = |got: Result<Vec<Result<u32, GetError>>, GetError>| -> Vec<u32> {
        got.unwrap().into_iter().map(|item| item.unwrap()).collect()
    };
    assert_eq!(queue.put_many([]), Ok(0));
    assert_eq!(queue.try_put_many(1..=3), Ok(3));
    assert_eq!(queue.try_put_many(4..=8), Err(PutError::Full(vec![6, 7, 8])));
    assert_eq!(queue.put_many_timeout([6], SHORT), Err(PutError::Full(vec![6])));
    assert_eq!(queue.put_many_deadline([6], later(SHORT)), Err(PutError::Full(vec![6])));
    assert_eq!(queue.get_many(0), Ok(vec![]));
    assert_eq!(numbers(queue.get_many(2)), [1, 2]);
    assert_eq!(numbers(queue.try_get_many(usize::MAX)), [3, 4, 5]);
    assert_eq!(queue.try_get_many(3), Err(GetError::Empty));
    assert_eq!(queue.get_many_timeout(3, SHORT), Err(GetError::Empty));
    assert_eq!(queue.get_many_deadline(3, later(SHORT)), Err(GetError::Empty));
    // Puts more items than fit, so they are put in several batches.
    let taken = thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut taken = Vec::new();
            while taken.len() < 1000 {
                taken.extend(numbers(queue.get_many(3)));
            }
            taken
        });
        assert_eq!(queue.put_many(0..1000), Ok(1000));
        taker.join().unwrap()
    });
    assert!(taken.into_iter().eq(0..1000));
}

#[test]
fn a_byte_bound_admits_a_larger_item_alone() {
    let _dog = watched();
    let queue = Queue::<Vec<u8>>::bounded_bytes(1000).unwrap();
    assert_eq!(queue.capacity(), None);
    queue.put(vec![1; 600]).unwrap();
    assert!(queue.try_put(vec![2; 401]).is_err());
    queue.put(vec![3; 400]).unwrap();
    assert!(queue.is_full());
    assert!(queue.try_put(vec![4]).is_err());
    assert_eq!(queue.get().map(|item| item.len()), Ok(600));
    assert!(queue.try_put(vec![5; 5000]).is_err(), "the queue holds another item");
    assert_eq!(queue.get().map(|item| item.len()), Ok(400));
    queue.put(vec![5; 5000]).unwrap();
    assert!(queue.try_put(vec![]).is_err(), "the queue exceeds its bound");
    // The large item waits until it fits, and the smaller item behind it waits, too.
    let (big, small) = (queue.clone(), queue.clone());
    let puts = meanwhile(
        move || {
            let other = thread::spawn(move || small.put(vec![6; 10]));
            (big.put(vec![7; 5000]).is_ok(), other)
        },
        || {
            let mut sizes = [0; 2].map(|_| queue.get().unwrap().len());
            sizes.sort_unstable();
            assert!(sizes[1] == 5000 && [10, 5000].contains(&sizes[0]), "{sizes:?}");
        },
    );
    assert!(puts.0 && queue.get().is_ok() && puts.1.join().unwrap().is_ok());
}

#[test]
fn an_impossible_bound_is_an_error() {
    let _dog = watched();
    let refused = [
        Queue::<u8>::bounded(0),
        Queue::bounded_bytes(0),
        Queue::bounded(usize::MAX),
        Queue::bounded(1 << 50),
        Queue::bounded_bytes(usize::MAX),
        Queue::bounded_bytes(1 << 50),
    ];
    for queue in refused {
        match queue {
            Err(Error::InvalidArgument(text)) => assert!(text.contains("room for") || text.contains("bound")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_closed_queue_drains_and_then_ends() {
    let _dog = watched();
    let queue = Queue::bounded(3).unwrap();
    queue.put_many([1, 2, 3]).unwrap();
    assert!(!queue.is_closed());
    queue.close().unwrap();
    queue.close().unwrap();
    assert!(queue.is_closed() && queue.is_full() && queue.len() == 3);
    assert_eq!(queue.put(4), Err(PutError::Closed(4)));
    assert_eq!(queue.put_timeout(4, LONG), Err(PutError::Closed(4)));
    assert_eq!(queue.put_many([4, 5]), Err(PutError::Closed(vec![4, 5])));
    assert_eq!((queue.get(), queue.try_get()), (Ok(1), Ok(2)));
    assert_eq!(queue.get_many(9), Ok(vec![Ok(3)]));
    assert_eq!((queue.get(), queue.try_get()), (Err(GetError::Closed), Err(GetError::Closed)));
    assert_eq!(queue.get_many(9), Err(GetError::Closed));
    assert!(queue.is_empty() && queue.iter().next().is_none());
    assert_eq!(queue.try_put(4), Err(PutError::Closed(4)));
    let unused = Queue::<u8>::unbounded().unwrap();
    unused.close().unwrap();
    assert!(unused.is_empty() && unused.is_closed());
}

#[test]
fn closing_ends_every_wait() {
    let _dog = watched();
    let queue = Queue::<u32>::bounded(1).unwrap();
    assert_eq!(meanwhile(|| queue.get(), || queue.close().unwrap()), Err(GetError::Closed));
    let queue = Queue::<u32>::bounded(1).unwrap();
    queue.put(1).unwrap();
    assert_eq!(meanwhile(|| queue.put(2), || queue.close().unwrap()), Err(PutError::Closed(2)));
    let queue = Queue::<u32>::bounded(1).unwrap();
    let child = Process::spawn(|queue: Queue<u32>| queue.get(), (queue.clone(),)).unwrap();
    queue.close().unwrap();
    assert_eq!(child.join(), Ok(Err(GetError::Closed)));
}

#[test]
fn iteration_ends_with_the_queue() {
    let _dog = watched();
    let queue = Queue::bounded(2).unwrap();
    let sum = meanwhile(
        || queue.iter().sum::<Result<u32, _>>(),
        || {
            queue.put_many(1..=10).unwrap();
            queue.close().unwrap();
        },
    );
    assert_eq!(sum, Ok(55));
    assert_eq!((&queue).into_iter().count(), 0);
}

/// Fails to encode if its number is odd, and fails to decode if the thread's `REFUSES` is set.
#[derive(Debug, PartialEq)]
struct Moody(u32);

thread_local! {
    static REFUSES: Cell<bool> = const { Cell::new(false) };
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 2 == 1 {
            Err(serde::ser::Error::custom("it is odd"))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moody, D::Error> {
        let number = u32::deserialize(deserializer)?;
        if REFUSES.get() && number % 4 == 2 {
            Err(serde::de::Error::custom("not now"))
        } else {
            Ok(Moody(number))
        }
    }
}

#[test]
fn an_item_that_cannot_be_encoded_costs_only_itself() {
    let _dog = watched();
    let queue = Queue::bounded(1).unwrap();
    match queue.put(Moody(3)) {
        Err(PutError::Unsendable(Moody(3), why)) => assert!(why.contains("Moody"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(queue.is_empty());
    queue.try_put(Moody(4)).expect("the failed item took no place");
    assert_eq!((queue.get(), queue.len()), (Ok(Moody(4)), 0));
    let queue = Queue::bounded(10).unwrap();
    let mut rest = [2, 4, 5, 6].map(Moody).into_iter();
    match queue.put_many(rest.by_ref()) {
        Err(PutError::Unsendable(items, _)) => assert_eq!(items, [Moody(5)]),
        other => panic!("{other:?}"),
    }
    assert_eq!(queue.put_many(rest), Ok(1), "no further item was taken from the iterator");
    let all: Vec<u32> = (0..3).map(|_| queue.get().unwrap().0).collect();
    assert_eq!(all, [2, 4, 6]);
}

#[test]
fn an_item_that_cannot_be_decoded_costs_only_itself() {
    let _dog = watched();
    let queue = Queue::bounded(10).unwrap();
    queue.put_many([2, 4, 6, 8, 10].map(Moody)).unwrap();
    REFUSES.set(true);
    assert!(matches!(queue.get(), Err(GetError::Undecodable(why)) if why.contains("Moody")));
    assert_eq!(queue.get(), Ok(Moody(4)));
    let many = queue.get_many(9).unwrap();
    assert!(matches!(many[..], [Err(GetError::Undecodable(_)), Ok(Moody(8)), Err(GetError::Undecodable(_))]));
    REFUSES.set(false);
    assert_eq!(queue.try_get(), Err(GetError::Empty));
}

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

#[test]
fn bytes_are_written_and_read_in_place() {
    let _dog = watched();
    let queue = Queue::<Vec<u8>>::bounded(2).unwrap();
    for len in [0, 1, 512, 513, 100_000] {
        queue.put_with(len, |buffer| buffer.fill(len as u8)).unwrap();
        queue.try_put_with(len, |buffer| buffer.fill(9)).unwrap();
        let full = [
            queue.try_put_with(len, |_| ()),
            queue.put_with_timeout(len, |_| (), SHORT),
            queue.put_with_deadline(len, |_| (), later(SHORT)),
        ];
        assert_eq!(full, [(); 3].map(|()| Err(PutError::Full(()))));
        assert_eq!(queue.get_with(|bytes| bytes == vec![len as u8; len]), Ok(true));
        assert_eq!(queue.get(), Ok(vec![9; len]), "items can be received by value too");
        let empty = [
            queue.try_get_with(|_| ()),
            queue.get_with_timeout(|_| (), SHORT),
            queue.get_with_deadline(|_| (), later(SHORT)),
        ];
        assert_eq!(empty, [(); 3].map(|()| Err(GetError::Empty)));
    }
    queue.put(b"by value".to_vec()).unwrap();
    assert_eq!(queue.get_with(<[u8]>::to_vec), Ok(b"by value".to_vec()));
    let panics = std::panic::AssertUnwindSafe(|| queue.put_with(600, |_| panic!("while writing")));
    assert!(std::panic::catch_unwind(panics).is_err() && queue.is_empty());
    queue.put_many([vec![1; 600], vec![2]]).unwrap();
    let panics = std::panic::AssertUnwindSafe(|| queue.get_with(|_| panic!("while reading")));
    assert!(std::panic::catch_unwind(panics).is_err(), "the item is removed although the reader panicked");
    assert_eq!(queue.get(), Ok(vec![2]));
}

#[test]
fn debug_output_shows_the_fill_level() {
    let _dog = watched();
    let queue = Queue::bounded(3).unwrap();
    queue.put(1).unwrap();
    let text = meanwhile(
        || (queue.get(), queue.get()).0,
        || {
            let text = format!("{queue:?}");
            assert!(text.contains("len: 0") && text.contains("getters_waiting: 1"), "{text}");
            queue.put(2).unwrap();
        },
    );
    assert_eq!(text, Ok(1));
    queue.close().unwrap();
    let text = format!("{queue:?} {:?}", queue.iter());
    assert!(text.contains("capacity: Some(3)") && text.contains("closed: true"), "{text}");
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
