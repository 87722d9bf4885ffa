//! Items of all sizes, growing queues, and full memory.

use std::collections::VecDeque;

use crate::family::*;
use procession::internals::{self, census};
use procession::queue::{GetError, PutError, pipe};
use procession::{JoinableQueue, Lock, Process, Queue};
use procession_testkit::{Rng, isolated};

/// Returns a message whose bytes depend on its length.
fn pattern(len: usize) -> Vec<u8> {
    let mut bytes = vec![len as u8; len];
    if let Some(last) = bytes.last_mut() {
        *last = (len >> 8) as u8;
    }
    bytes
}

#[test]
fn items_of_every_size_arrive_unchanged() {
    let _dog = watched();
    let sizes = [0, 1, 7, 8, 9, 63, 511, 512, 513, 4095, 4096, 32_720, 32_721, 65_536, 1 << 20, 64 << 20];
    let queue = Queue::bounded(3).unwrap();
    let echo = Queue::bounded(3).unwrap();
    let child = Process::spawn(
        |from: Queue<Vec<u8>>, to: Queue<Vec<u8>>| {
            from.iter().for_each(|item| to.put(item.unwrap()).unwrap())
        },
        (queue.clone(), echo.clone()),
    )
    .unwrap();
    for round in 0..3 {
        for len in sizes.into_iter().filter(|&len| round == 0 || len < 1 << 20) {
            queue.put(pattern(len)).unwrap();
            assert!(echo.get().unwrap() == pattern(len), "{len} bytes did not come back");
        }
    }
    queue.close().unwrap();
    child.join().unwrap();
}

#[test]
fn a_queue_grows_and_wraps_around_with_mixed_sizes() {
    let _dog = watched();
    let mut rng = Rng::seeded(7);
    let (queue, mut inside) = (Queue::unbounded().unwrap(), VecDeque::new());
    let small = Queue::bounded(40).unwrap();
    for _ in 0..20_000 {
        let len = match rng.below(40) {
            0 => rng.below(5000),
            _ => rng.below(520),
        } as usize;
        if rng.below(2) == 0 {
            queue.put(pattern(len)).unwrap();
            inside.push_back(len);
        } else if let Some(len) = inside.pop_front() {
            assert!(queue.try_get() == Ok(pattern(len)));
        }
        // The ring wraps around many times.
        if small.is_full() || rng.below(3) == 0 {
            let _ = small.try_get();
        }
        small.put(pattern(len)).unwrap();
    }
    while let Some(len) = inside.pop_front() {
        assert!(queue.get() == Ok(pattern(len)));
    }
    assert!(queue.is_empty());
    let (owned, reachable) = internals::queue_blocks(&queue);
    assert_eq!(owned, reachable);
    assert!(owned.len() <= 3, "old segments are kept: {owned:x?}");
    assert!(internals::queue_blocks(&small).0.len() <= 3 + small.len());
}

/// Takes all items out, and returns their number.
fn drain(queue: &Queue<Vec<u8>>) -> usize {
    std::iter::from_fn(|| queue.try_get().ok()).count()
}

fn no_memory<T>(refused: &PutError<T>) -> bool {
    matches!(refused, PutError::NoMemory(..))
}

#[test]
fn a_put_into_full_memory_is_an_error() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 16 << 20)], {
        let queue = Queue::<Vec<u8>>::unbounded().unwrap();
        let start = census();
        for (len, least) in [(1 << 20, 8), (10_000, 800), (700, 8000), (100, 20_000)] {
            for _ in 0..2 {
                let mut count = 0;
                let refused = loop {
                    match queue.try_put(pattern(len)) {
                        Ok(()) => count += 1,
                        Err(refused) => break refused,
                    }
                };
                assert!(no_memory(&refused) && refused.into_item() == pattern(len), "{len}");
                assert!(count >= least, "only {count} items of {len} bytes fitted");
                // A put does not wait for memory.
                assert!(queue.put(pattern(len)).is_err_and(|refused| no_memory(&refused)));
                assert_eq!(queue.len(), count);
                assert!(queue.get().is_ok_and(|item| item == pattern(len)));
                assert_eq!(drain(&queue), count - 1);
            }
        }
        assert!(queue.try_put(vec![1; 32 << 20]).is_err_and(|refused| no_memory(&refused)));
        let many = queue.put_many((0..100).map(|_| pattern(1 << 20))).unwrap_err();
        assert!(matches!(&many, PutError::NoMemory(rest, _) if !rest.is_empty()), "{many:?}");
        assert!(drain(&queue) >= 8);
        assert_eq!(census().blocks.len(), start.blocks.len(), "no block was leaked");
        drop(queue);
        assert_eq!((census().objects, census().blocks.len()), (0, 0));
    });
}

/// Recovery of a dead process may free memory, but `try_put` does not wait for recovery.
#[test]
fn try_put_does_not_wait_for_memory() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 16 << 20)], {
        let (queue, work) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
        let child = sleeper();
        let large = || vec![0u8; 1 << 20];
        while queue.try_put(large()).is_ok() {}
        let before = times_slept();
        for _ in 0..10 {
            assert!(queue.try_put(large()).is_err_and(|refused| no_memory(&refused)));
            assert!(queue.try_put_many([large()]).is_err_and(|refused| no_memory(&refused)));
            assert!(queue.try_put_with(1 << 20, |_| ()).is_err_and(|refused| no_memory(&refused)));
            assert!(work.try_put(large()).is_err_and(|refused| no_memory(&refused)));
        }
        let slept = times_slept() - before;
        assert!(slept < 10, "the thread slept {slept} times");
        kill(&child);
    });
}

#[test]
fn a_queue_that_is_dropped_with_items_in_it_frees_everything() {
    isolated!({
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        until("only main is left", || census().objects == 0 && census().blocks.is_empty());
        for bytes in [10, 600, 100_000] {
            let queue = Queue::unbounded().unwrap();
            queue.put_many((0..300).map(|_| (Lock::new().unwrap(), pattern(bytes)))).unwrap();
            queue.put((Lock::new().unwrap(), vec![])).unwrap();
            assert!(census().objects == 302);
            drop(queue);
            until("the arena is empty", || census().objects == 0 && census().blocks.is_empty());
            // Does the same in a process that is killed.
            let fill = |bytes: usize| {
                let queue = Queue::unbounded().unwrap();
                queue.put_many((0..20).map(|_| (Lock::new().unwrap(), pattern(bytes)))).unwrap();
                send(std::process::id() as i32, libc::SIGKILL);
            };
            Process::spawn(fill, (bytes,)).unwrap().join().unwrap_err();
            until("the arena is empty", || census().objects == 0 && census().blocks.is_empty());
        }
    });
}

/// A model of a queue with these bounds.
struct Model {
    items: VecDeque<Vec<u8>>,
    most_items: usize,
    most_bytes: usize,
    closed: bool,
}

impl Model {
    fn admits(&self, len: usize) -> bool {
        // An empty item counts as one byte.
        let bytes: usize = self.items.iter().map(|item| item.len().max(1)).sum();
        let fits = self.items.is_empty() || bytes + len.max(1) <= self.most_bytes;
        self.items.len() < self.most_items && fits
    }

    fn put(&mut self, item: Vec<u8>) -> Result<(), PutError<Vec<u8>>> {
        match item {
            item if self.closed => Err(PutError::Closed(item)),
            item if !self.admits(item.len()) => Err(PutError::Full(item)),
            item => {
                self.items.push_back(item);
                Ok(())
            }
        }
    }

    fn put_many(&mut self, items: Vec<Vec<u8>>) -> Result<usize, PutError<Vec<Vec<u8>>>> {
        let (mut items, mut done) = (VecDeque::from(items), 0);
        while let Some(item) = items.pop_front() {
            let (refused, full) = match self.put(item) {
                Ok(()) => {
                    done += 1;
                    continue;
                }
                Err(PutError::Full(item)) => (item, true),
                Err(other) => (other.into_item(), false),
            };
            items.push_front(refused);
            let rest = items.into();
            return Err(if full { PutError::Full(rest) } else { PutError::Closed(rest) });
        }
        Ok(done)
    }

    fn get(&mut self) -> Result<Vec<u8>, GetError> {
        let none = if self.closed { GetError::Closed } else { GetError::Empty };
        self.items.pop_front().ok_or(none)
    }
}

/// Returns a queue of some kind, and its model.
fn pair(rng: &mut Rng) -> (Queue<Vec<u8>>, Model) {
    let bound = 1 + rng.below(20) as usize;
    let (queue, most_items, most_bytes) = match rng.below(3) {
        0 => (Queue::bounded(bound), bound, usize::MAX),
        1 => (Queue::bounded_bytes(100 * bound), usize::MAX, 100 * bound),
        _ => (Queue::unbounded(), usize::MAX, usize::MAX),
    };
    (queue.unwrap(), Model { items: VecDeque::new(), most_items, most_bytes, closed: false })
}

fn item(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(10) {
        0 => 0,
        1 => rng.below(3000),
        2 => 500 + rng.below(30),
        _ => rng.below(200),
    };
    vec![rng.next_u64() as u8; len as usize]
}

#[test]
fn random_operations_match_a_model() {
    isolated!({
        for seed in 0..150 {
            let mut rng = Rng::seeded(seed);
            let (queue, mut model) = pair(&mut rng);
            for step in 0..200 {
                let context = format!("seed {seed}, step {step}");
                match rng.below(60) {
                    0 => {
                        queue.close().unwrap();
                        model.closed = step > 150;
                        if !model.closed {
                            break;
                        }
                    }
                    1..=20 => {
                        let item = item(&mut rng);
                        assert_eq!(queue.try_put(item.clone()), model.put(item), "{context}");
                    }
                    21..=30 => {
                        let items: Vec<_> = (0..rng.below(8)).map(|_| item(&mut rng)).collect();
                        assert_eq!(queue.try_put_many(items.clone()), model.put_many(items), "{context}");
                    }
                    31..=50 => assert_eq!(queue.try_get(), model.get(), "{context}"),
                    _ => {
                        let max = 1 + rng.below(6) as usize;
                        match queue.try_get_many(max) {
                            Ok(many) => {
                                assert!((1..=max).contains(&many.len()), "{context}");
                                many.into_iter().for_each(|one| assert_eq!(one, model.get(), "{context}"));
                            }
                            Err(none) => assert_eq!(Err(none), model.get(), "{context}"),
                        }
                    }
                }
                assert_eq!((queue.len(), queue.is_empty()), (model.items.len(), model.items.is_empty()));
                assert_eq!(queue.is_full(), !model.admits(1), "{context}");
                assert_eq!(queue.is_closed(), model.closed);
                let (owned, reachable) = internals::queue_blocks(&queue);
                assert_eq!(owned, reachable, "{context}");
            }
        }
        assert_eq!((census().objects, census().blocks.len()), (0, 0));
    });
}

/// Returns the bytes of all blocks that processes and objects own.
fn bytes_in_use() -> u64 {
    census().blocks.iter().map(|&(at, _)| internals::block_bytes(at)).sum()
}

#[test]
fn an_empty_queue_takes_little_memory_whatever_its_limits() {
    isolated!({
        drop(Queue::<u64>::unbounded());
        let (start, most) = (bytes_in_use(), 4 << 10);
        let takes = |what: &str, most: u64| {
            let bytes = bytes_in_use() - start;
            assert!(bytes > 0 && bytes <= most, "{what} takes {bytes} bytes");
        };
        {
            let _one = Queue::<u64>::bounded(1).unwrap();
            takes("one item", most);
        }
        {
            let _many = Queue::<[u64; 9]>::bounded(1_000_000).unwrap();
            takes("many items", most);
        }
        {
            let _bytes = Queue::<u64>::bounded_bytes(64 << 20).unwrap();
            takes("many bytes", most);
        }
        {
            let _unbounded = Queue::<u64>::unbounded().unwrap();
            takes("no limit", most);
        }
        {
            let _leases = JoinableQueue::<u64>::unbounded().unwrap();
            takes("no limit, with leases", most);
        }
        let _pipe = pipe::<u64, u64>().unwrap();
        takes("a pipe", 2 * most + 1024);
    });
}

/// A queue takes memory in proportion to its items. When all items are taken, all memory except the segment
/// in use is freed.
#[test]
fn a_queue_takes_as_much_memory_as_it_needs() {
    isolated!({
        let queue = Queue::<u64>::unbounded().unwrap();
        let start = bytes_in_use();
        let mut put = 0;
        for count in [100, 1000, 10_000, 100_000, 1_000_000] {
            queue.put_many(put..count).unwrap();
            put = count;
            let (needed, taken) = (16 * count, bytes_in_use() - start);
            assert!(taken <= 5 * needed + (4 << 10), "{taken} bytes for {count} items");
        }
        for n in 0..put {
            assert_eq!(queue.get(), Ok(n));
        }
        assert!(bytes_in_use() <= start + (3 << 20), "{} bytes", bytes_in_use() - start);
    });
}

/// The time of recovery depends on the items that the dead consumer held, and not on the items that it took
/// before.
#[test]
fn recovery_does_not_slow_down_after_large_batches() {
    let _dog = watched();
    for bytes in [8, 1000] {
        let queue = Queue::unbounded().unwrap();
        queue.put_many((0..1000).map(|_| vec![1u8; bytes])).unwrap();
        for most in [1, 10, usize::MAX] {
            assert!(!queue.get_many(most).unwrap().is_empty());
            assert!(internals::queue_claim(&queue) <= 1, "{} records", internals::queue_claim(&queue));
        }
    }
}
