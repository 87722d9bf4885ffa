//! Items that fail to encode or decode, and items that are written and read in place.

use std::cell::Cell;

use super::basics::{SHORT, later};

use crate::family::*;
use procession::Queue;
use procession::queue::{GetError, PutError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
