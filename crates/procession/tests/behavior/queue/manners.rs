//! Unusual uses of queues and pipes: empty messages, panics while putting and reading, and deaths at awkward
//! moments.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use crate::family::*;
use procession::internals;
use procession::{JoinableQueue, Process, Queue};
use procession_testkit::isolated;
use serde::{Deserialize, Deserializer, Serialize};

#[test]
fn empty_messages_count_towards_the_bound() {
    let _dog = watched();
    let queue = Queue::<()>::bounded_bytes(10).unwrap();
    let put = (0..100).take_while(|_| queue.try_put(()).is_ok()).count();
    assert_eq!((put, queue.len()), (10, 10));
    (0..10).for_each(|_| queue.try_get().unwrap());
    assert!(queue.try_put(()).is_ok());
}

#[test]
fn get_many_returns_the_available_items() {
    let _dog = watched();
    let queue = Queue::unbounded().unwrap();
    queue.put_many((0..100u64).map(|n| vec![n; 3])).unwrap();
    let got: Result<Vec<_>, _> = queue.get_many(usize::MAX).unwrap().into_iter().collect();
    assert_eq!(got.unwrap(), (0..100u64).map(|n| vec![n; 3]).collect::<Vec<_>>());
    assert!(queue.get_many(0).unwrap().is_empty());
}

#[test]
fn put_many_returns_the_items_that_do_not_fit() {
    let _dog = watched();
    let queue = Queue::bounded(2).unwrap();
    let mut numbers = 0..1000;
    let refused = queue.try_put_many(numbers.by_ref()).unwrap_err().into_item();
    assert_eq!((refused.first(), queue.len()), (Some(&2), 2));
    assert_eq!(numbers.next(), refused.last().map(|last| last + 1), "no item is lost");
}

/// A panic while items are put leaves no memory behind.
#[test]
fn a_panic_while_putting_leaves_no_memory() {
    isolated!({
        let queue = Queue::<Vec<u8>>::unbounded().unwrap();
        let before = internals::census().blocks;
        let quietly = |f: &dyn Fn()| panic::catch_unwind(AssertUnwindSafe(f)).unwrap_err();
        quietly(&|| queue.put_with(5000, |_| panic!("while writing")).unwrap());
        quietly(&|| {
            let items =
                (0..5).map(|n| if n < 4 { vec![0; 5000] } else { panic!("while making the next one") });
            let _ = queue.put_many(items);
        });
        assert_eq!(internals::census().blocks, before);
        assert!(queue.is_empty());
    });
}

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// A value that can panic while it is decoded. It is too long for the ring, so it needs its own block.
#[derive(Serialize)]
struct Touchy(Vec<u32>);

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Touchy, D::Error> {
        assert!(!PANICS.get(), "on purpose");
        Ok(Touchy(Vec::deserialize(deserializer)?))
    }
}

/// A panic while an item is decoded leaves no memory behind. This includes the other items of the same batch.
/// The next item can be received.
#[test]
fn a_panic_while_reading_leaves_no_memory() {
    isolated!({
        let (queue, work) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
        let touchy = || Touchy((1000..2000).collect());
        // The block for leases stays allocated. So the test allocates it before it counts blocks.
        work.put(touchy()).unwrap();
        work.get().unwrap().done().unwrap();
        let before = internals::census().blocks;
        queue.put_many((0..5).map(|_| touchy())).unwrap();
        queue.put(touchy()).unwrap();
        work.put(touchy()).unwrap();
        PANICS.set(true);
        let readers: [&dyn Fn(); 3] =
            [&|| drop(queue.get_many(5)), &|| drop(queue.get()), &|| drop(work.get())];
        for read in readers {
            panic::catch_unwind(AssertUnwindSafe(read)).unwrap_err();
        }
        PANICS.set(false);
        assert_eq!(
            (queue.len(), work.len()),
            (0, 1),
            "taken items are removed, and leased items are queued again"
        );
        let lease = work.get().unwrap();
        assert_eq!((lease.attempt(), lease.0.len()), (2, 1000));
        lease.done().unwrap();
        assert_eq!(internals::census().blocks, before);
    });
}

/// Once `put` has returned, the item is in the queue, whatever happens to the producer.
#[test]
fn an_item_survives_a_producer_killed_after_its_put() {
    let _dog = watched();
    let queue = Queue::unbounded().unwrap();
    let producers = (0..10u32).map(|producer| {
        let put = |queue: Queue<(u32, u32)>, producer: u32| -> () {
            (0..3).for_each(|n| queue.put((producer, n)).unwrap());
            std::process::abort();
        };
        Process::spawn(put, (queue.clone(), producer)).unwrap()
    });
    producers.for_each(|producer| drop(producer.join().unwrap_err()));
    let mut all: Vec<(u32, u32)> = std::iter::from_fn(|| queue.try_get().ok()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..10).flat_map(|p| (0..3).map(move |n| (p, n))).collect::<Vec<_>>());
}

/// A child can be joined even if no process has received its items.
#[test]
fn a_child_with_unread_items_can_be_joined() {
    let _dog = watched();
    let queue = Queue::unbounded().unwrap();
    let put = |queue: Queue<Vec<u8>>| queue.put(vec![7; 10 << 20]).unwrap();
    Process::spawn(put, (queue.clone(),)).unwrap().join().unwrap();
    assert_eq!(queue.get().unwrap(), vec![7; 10 << 20]);
}

/// A reader that is killed while it waits takes no item with it.
#[test]
fn a_reader_killed_while_it_waits_takes_no_item() {
    let _dog = watched();
    let queue = Queue::<u32>::bounded(3).unwrap();
    let reader =
        Process::spawn(|queue: Queue<u32>| queue.get().map_err(procession::Error::from), (queue.clone(),));
    let reader = reader.unwrap();
    until("it waits", || format!("{queue:?}").contains("getters_waiting: 1"));
    reader.kill().unwrap();
    reader.join().unwrap_err();
    queue.put(5).unwrap();
    assert_eq!(queue.get_timeout(Duration::from_secs(60)), Ok(5));
}
