//! Queues without deaths: the forms of the operations, bounds, closing, errors.

use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::queue::{GetError, PutError};
use procession::{Error, Process, Queue};

pub(super) const SHORT: Duration = Duration::from_millis(20);

pub(super) fn later(time: Duration) -> Instant {
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
