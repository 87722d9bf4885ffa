//! Batches of byte items, written and read in place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::support::watched;
use procession::queue::{GetError, PutError};
use procession::{Process, Queue, internals};
use procession_testkit::isolated;

/// Returns the byte that fills item `number` of `len` bytes.
fn byte(number: usize, len: usize) -> u8 {
    (number * 31 + len) as u8
}

fn put(queue: &Queue<Vec<u8>>, count: usize, len: usize) -> Result<(), PutError<usize>> {
    queue.put_many_with(count, len, |number, bytes| {
        assert_eq!(bytes.len(), len);
        bytes.fill(byte(number, len));
    })
}

#[test]
fn many_items_of_any_size_go_through_little_room_in_order() {
    let _dog = watched();
    for len in [0, 1, 7, 8, 64, 512, 513, 5000, 70_000] {
        let queue = Queue::bounded(7).expect("a queue");
        let producer =
            Process::spawn(|queue, len| put(&queue, 600, len).expect("an open queue"), (queue.clone(), len));
        let mut came = 0;
        while came < 600 {
            let most = 1 + came % 10;
            let look = |bytes: &[u8]| {
                assert!(bytes.len() == len && bytes.iter().all(|&b| b == byte(came, len)), "item {came}");
                came += 1;
            };
            let count = queue.get_many_with(most, look).expect("an item");
            assert!((1..=most).contains(&count), "{count} of {most}");
        }
        assert!(queue.is_empty());
        producer.expect("a process").join().expect("a producer that ends well");
    }
}

#[test]
fn an_empty_batch_transfers_nothing() {
    let _dog = watched();
    let queue = Queue::<Vec<u8>>::bounded(1).expect("a queue");
    assert_eq!(put(&queue, 0, 64), Ok(()));
    assert_eq!(queue.get_many_with(0, |_| unreachable!("no item was requested")), Ok(0));
}

#[test]
fn a_closed_queue_reports_how_many_items_were_not_put() {
    let _dog = watched();
    for len in [64, 5000] {
        let queue = Queue::<Vec<u8>>::unbounded().expect("a queue");
        put(&queue, 2, len).expect("an open queue");
        queue.close().expect("a member of the family");
        assert_eq!(put(&queue, 3, len), Err(PutError::Closed(3)));
        assert_eq!(queue.get_many_with(5, |_| ()), Ok(2));
        assert_eq!(queue.get_many_with(5, |_| ()), Err(GetError::Closed));
    }
}

/// With a short timeout, the operations transfer as many items as they can.
#[test]
fn a_batch_transfers_as_many_items_as_fit() {
    let _dog = watched();
    let soon = Duration::from_millis(10);
    for len in [8, 5000] {
        let write = |at: usize, bytes: &mut [u8]| bytes.fill(at as u8);
        let queue = Queue::<Vec<u8>>::bounded(3).expect("a queue");
        assert_eq!(queue.try_put_many_with(5, len, write), Err(PutError::Full(2)));
        assert_eq!(queue.put_many_with_timeout(2, len, write, soon), Err(PutError::Full(2)));
        assert_eq!(
            queue.put_many_with_deadline(2, len, write, Instant::now() + soon),
            Err(PutError::Full(2))
        );
        let mut got = Vec::new();
        assert_eq!(queue.try_get_many_with(2, |bytes| got.push(bytes.to_vec())), Ok(2));
        let until = Instant::now() + Duration::from_secs(60);
        assert_eq!(queue.get_many_with_deadline(2, |bytes| got.push(bytes.to_vec()), until), Ok(1));
        assert_eq!(got, [vec![0; len], vec![1; len], vec![2; len]]);
        assert_eq!(queue.try_get_many_with(2, |_| ()), Err(GetError::Empty));
        assert_eq!(queue.get_many_with_timeout(2, |_| (), soon), Err(GetError::Empty));
    }
}

#[test]
fn a_reader_that_panics_leaves_no_memory_behind() {
    isolated!({
        let queue = Queue::<Vec<u8>>::unbounded().expect("a queue");
        let before = internals::census().blocks;
        put(&queue, 5, 70_000).expect("an open queue");
        let read = || queue.get_many_with(5, |_| panic!("on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(read)).is_err());
        assert!(queue.is_empty(), "the taken items are removed");
        assert_eq!(internals::census().blocks, before);
    });
}
