//! The input of a map: iterators that panic, block, never end, borrow data, or depend on the results.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::family::*;
use procession::Pool;
use procession::{Process, Queue};

fn pool() -> Pool {
    Pool::new(2).expect("a pool")
}

#[test]
fn an_input_that_panics_leaves_the_pool_usable() {
    if cfg!(panic = "abort") {
        return;
    }
    let _dog = watched();
    let pool = pool();
    for at in [0, 3, 500] {
        let items = (0..1000u32).map(move |n| if n == at { panic!("bad input") } else { n });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.map(|n: u32| n, items)));
        assert!(caught.is_err());
    }
    assert_eq!(pool.map(|n: u32| n, 0..3u32).unwrap(), [0, 1, 2]);
}

#[test]
fn an_input_that_panics_loses_only_that_item() {
    if cfg!(panic = "abort") {
        return;
    }
    let _dog = watched();
    let mut bad = true;
    let items =
        (0..20u32).map(move |n| if n == 6 && std::mem::take(&mut bad) { panic!("bad input") } else { n });
    let (mut got, mut panics) = (Vec::new(), 0);
    let mut results = pool().with_chunk_size(4).unwrap().imap(|n: u32| n, items);
    loop {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| results.next())) {
            Ok(Some(result)) => got.push(result.unwrap()),
            Ok(None) => break,
            Err(_) => panics += 1,
        }
    }
    assert_eq!((got, panics), ((0..20).filter(|n| *n != 6).collect(), 1));
}

#[test]
fn an_endless_input_is_read_only_as_far_as_needed() {
    let _dog = watched();
    let pool = pool();
    static READ: AtomicU32 = AtomicU32::new(0);
    let items = (0u32..).inspect(|_| _ = READ.fetch_add(1, Ordering::Relaxed));
    // The faster items are done, the further ahead the pool reads. The sleep keeps the pool from reading far
    // ahead.
    let slow = |n: u32| {
        std::thread::sleep(Duration::from_millis(1));
        n
    };
    let first: Vec<u32> = pool.imap(slow, items).take(20).map(Result::unwrap).collect();
    assert_eq!(first, (0..20).collect::<Vec<u32>>());
    assert!(READ.load(Ordering::Relaxed) < 200, "{READ:?}");
    READ.store(0, Ordering::Relaxed);
    let items = (0u32..).inspect(|_| _ = READ.fetch_add(1, Ordering::Relaxed));
    let narrow = pool.with_prefetch(2).unwrap();
    assert_eq!(narrow.imap(|n: u32| n, items).take(100).filter(Result::is_ok).count(), 100);
    assert!(READ.load(Ordering::Relaxed) <= 102, "{READ:?}");
}

/// Returns the two ends of an input. The test sends each item, and ends the input by dropping the sender.
fn faucet() -> (mpsc::Sender<u32>, mpsc::Receiver<u32>) {
    mpsc::channel()
}

#[test]
fn an_input_may_depend_on_the_results() {
    let _dog = watched();
    let pool = pool();
    let (feed, items) = faucet();
    feed.send(0).unwrap();
    let mut last = 0;
    for n in pool.imap(|n: u32| n + 1, items) {
        last = n.unwrap();
        if last == 2000 {
            break;
        }
        feed.send(last).unwrap();
    }
    assert_eq!(last, 2000);
    let (feed, items) = faucet();
    (0..3).for_each(|n| feed.send(n).unwrap());
    let odd = pool
        .imap_unordered(|n: u32| n + 3, items)
        .take(2000)
        .inspect(|n| feed.send(*n.as_ref().unwrap()).unwrap());
    assert_eq!(odd.filter(Result::is_ok).count(), 2000);
}

/// Each item is sent only after all earlier results have arrived. If the map held a result back, it would wait for
/// ever.
#[test]
fn a_blocked_input_delays_no_result() {
    let _dog = watched();
    let sized = pool().with_chunk_size(100).unwrap();
    for pool in [pool(), sized, pool().with_prefetch(3).unwrap()] {
        for in_order in [true, false] {
            let (feed, items) = faucet();
            let mut results =
                if in_order { pool.imap(|n: u32| n, items) } else { pool.imap_unordered(|n: u32| n, items) };
            // The map learns that the input is fast. Then the input blocks in the middle of a chunk.
            for many in [1, 500, 3, 70, 1, 1] {
                let feed = feed.clone();
                let quick = std::thread::spawn(move || (0..many).for_each(|n| feed.send(n).unwrap()));
                let mut got: Vec<u32> = results.by_ref().take(many as usize).map(Result::unwrap).collect();
                got.sort();
                assert_eq!(got, (0..many).collect::<Vec<_>>());
                quick.join().unwrap();
            }
            drop(feed);
            assert_eq!(results.next(), None);
            assert_eq!(results.next(), None);
        }
    }
}

#[test]
fn a_blocked_input_delays_no_item() {
    let _dog = watched();
    let (pool, board) = (pool(), Board::new());
    let (feed, items) = mpsc::channel();
    let mut results = pool.imap(
        |(n, board): (u32, String)| {
            if n == 100 {
                post(&board, "100 is begun", "");
                wait_for(&board, "101 is done");
            } else if n == 101 {
                post(&board, "101 is done", "");
            }
            n
        },
        items,
    );
    let item = |n: u32| (n, board.path());
    for n in 0..100 {
        feed.send(item(n)).unwrap();
        assert_eq!(results.next(), Some(Ok(n)));
    }
    // The pool must work on the next two items at the same time, even if no third item arrives.
    feed.send(item(100)).unwrap();
    let second = std::thread::spawn({
        let (feed, board, item) = (feed.clone(), board.path(), item(101));
        move || {
            wait_for(&board, "100 is begun");
            feed.send(item).unwrap();
        }
    });
    assert_eq!(results.next(), Some(Ok(100)));
    assert_eq!(results.next(), Some(Ok(101)));
    second.join().unwrap();
}

#[test]
fn dropping_the_results_drops_the_input() {
    let _dog = watched();
    let pool = pool();
    let (feed, items) = faucet();
    let mut results = pool.imap(|n: u32| n, items);
    feed.send(1).unwrap();
    assert_eq!(results.next(), Some(Ok(1)));
    drop(results);
    // The reading thread may be waiting for an item. It notices the drop when the item arrives.
    until("the input is dropped", || feed.send(2).is_err());
    // A reading thread that does not wait for an item ends before the drop of the results returns.
    let kept = std::sync::Arc::new(());
    let its = kept.clone();
    let mut results = pool.imap(|n: u32| n, (0..3).inspect(move |_| _ = &its));
    assert_eq!(results.by_ref().count(), 3);
    drop(results);
    assert_eq!(std::sync::Arc::strong_count(&kept), 1);
}

#[test]
fn an_input_may_borrow_or_be_bound_to_its_thread() {
    let _dog = watched();
    let pool = pool();
    let words = ["to".to_owned(), "be".to_owned(), "or".to_owned()];
    let read = std::rc::Rc::new(std::cell::Cell::new(0));
    let items = || words.iter().cycle().take(1000).cloned().inspect(|_| read.set(read.get() + 1));
    let lengths = pool.imap_local(|word: String| word.len(), items());
    assert_eq!(lengths.map(Result::unwrap).sum::<usize>(), 2000);
    let lengths = pool.imap_local_unordered(|word: String| word.len(), items());
    assert_eq!(lengths.map(Result::unwrap).sum::<usize>(), 2000);
    assert_eq!(read.get(), 2000);
    // A result that is ready is returned before the input is read further.
    let (feed, items) = faucet();
    feed.send(0).unwrap();
    let mut count = 0;
    for n in pool.with_prefetch(1).unwrap().imap_local(|n: u32| n + 1, items) {
        let n = n.unwrap();
        count += 1;
        if n == 300 {
            break;
        }
        feed.send(n).unwrap();
    }
    assert_eq!(count, 300);
}

/// While items wait for the rest of their chunk, no process holds the handles in them.
#[test]
fn handles_in_items_survive_a_slow_input() {
    let _dog = watched();
    let pool = pool().with_chunk_size(50).unwrap();
    let items = || {
        (0..100u32).map(|n| {
            let queue = Queue::<u32>::unbounded().unwrap();
            queue.put(n).unwrap();
            // Makes the collector run.
            drop(Process::spawn(|queue: Queue<u32>| queue, (Queue::unbounded().unwrap(),)).unwrap().join());
            queue
        })
    };
    let all: Vec<u32> = (0..100).collect();
    let get = |queue: Queue<u32>| queue.get().unwrap();
    assert_eq!(pool.map(get, items()).unwrap(), all);
    assert_eq!(pool.imap(get, items()).map(Result::unwrap).collect::<Vec<_>>(), all);
}
