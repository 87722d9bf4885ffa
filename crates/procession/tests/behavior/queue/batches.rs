//! Items that are put and taken in batches behave as items that are put and taken one by one.

use std::fmt::Debug;

use procession::queue::{GetError, PutError};
use procession::{Message, Queue};
use procession_testkit::isolated;

/// Returns how many of these items can be put one by one.
fn admitted<T: Message + Clone>(queue: &Queue<T>, items: &[T]) -> usize {
    items.iter().take_while(|item| queue.try_put((*item).clone()).is_ok()).count()
}

/// Takes up to `max` items. One call may return fewer, because it takes items of two segments at most.
fn some<T: Message>(queue: &Queue<T>, max: usize) -> Vec<T> {
    let mut some = Vec::new();
    while some.len() < max {
        match queue.try_get_many(max - some.len()) {
            Ok(items) => some.extend(items.into_iter().map(Result::unwrap)),
            Err(GetError::Empty) => break,
            Err(e) => panic!("{e}"),
        }
    }
    some
}

/// Puts items into a queue by batches, and into an equal one by one, and takes them out again in part. Repeats this, so
/// that the items come past the end of a segment.
fn behaves_alike<T: Message + Clone + PartialEq + Debug>(new: impl Fn() -> Queue<T>, items: &[T]) {
    let (batches, singles) = (new(), new());
    for round in 0..40 {
        let expected = admitted(&singles, items);
        match batches.try_put_many(items.iter().cloned()) {
            Ok(count) => assert_eq!((count, expected), (items.len(), items.len())),
            // Items that were not taken from the iterator are not returned.
            Err(PutError::Full(left)) => {
                assert!(items[expected..].starts_with(&left), "round {round}: {left:?}")
            }
            Err(e) => panic!("{e}"),
        }
        assert_eq!(batches.len(), singles.len());
        for max in [1, 1 + round % 7, usize::MAX] {
            let expected: Vec<T> = (0..max).map_while(|_| singles.try_get().ok()).collect();
            assert_eq!(some(&batches, max), expected, "round {round}, {max} at most");
        }
    }
}

fn with_every_bound<T: Message + Clone + PartialEq + Debug>(items: &[T]) {
    behaves_alike(|| Queue::unbounded().unwrap(), items);
    for items_at_most in [1, 2, 3, 20, 1000] {
        behaves_alike(|| Queue::bounded(items_at_most).unwrap(), items);
    }
    for bytes_at_most in [1, 8, 100, 5000] {
        behaves_alike(|| Queue::bounded_bytes(bytes_at_most).unwrap(), items);
    }
}

#[test]
fn numbers_of_every_size_go_by_batches_as_one_by_one() {
    isolated!({
        with_every_bound(&(0..50).map(|n| n as u8).collect::<Vec<_>>());
        with_every_bound(&(0..50).collect::<Vec<u16>>());
        with_every_bound(&(0..300).map(f64::from).collect::<Vec<_>>());
        with_every_bound(&(0..50).map(|n| u128::MAX - n).collect::<Vec<_>>());
    });
}

#[test]
fn arrays_and_texts_go_by_batches_as_one_by_one() {
    isolated!({
        with_every_bound(&[[1_u8; 32]; 30]);
        with_every_bound(&[[2_u64; 8]; 30]);
        with_every_bound(&[(); 30]);
        let lengths = [0, 1, 1, 1, 0, 0, 8, 8, 9, 600, 600, 3, 3, 511, 512, 513, 0];
        with_every_bound(&lengths.map(|len| "x".repeat(len)));
    });
}
