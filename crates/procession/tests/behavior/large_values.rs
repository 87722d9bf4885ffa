//! Values whose lengths exceed 31 or 32 bits arrive whole, or an error says that they are too long.
//!
//! One case runs at a time, because each needs several gigabytes. A case that lacks memory reports that it did not run.

use std::sync::{Mutex, MutexGuard};

use procession::state::{Dict, List};
use procession::{Error, Pool, Process, Queue, internals};
use procession_testkit::isolated;

const BEYOND_31_BITS: u64 = (1 << 31) + 9;
const BEYOND_32_BITS: u64 = (1 << 32) + 9;

/// Returns a value of zeros, which take no memory, with marks between them. The marks are at both ends, and
/// around the offsets at which a 31-bit or 32-bit length would wrap around.
fn sparse(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    marks(len).for_each(|at| bytes[at as usize] = mark(at));
    bytes
}

fn marks(len: u64) -> impl Iterator<Item = u64> {
    let near =
        [0, 107, 108, 1 << 31, 1 << 32].into_iter().flat_map(|at: u64| [at.saturating_sub(1), at, at + 1]);
    near.chain([len - 2, len - 1]).filter(move |&at| at < len)
}

fn mark(at: u64) -> u8 {
    (at % 251) as u8 + 1
}

/// Reports whether `bytes` are what [`sparse`] returns for this length.
fn is_whole(bytes: &[u8], len: u64) -> bool {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let marked: Vec<u64> = marks(len).collect();
    let part_is_whole = |at: u64, part: &[u8]| {
        let end = at + part.len() as u64;
        match marked.iter().any(|mark| (at..end).contains(mark)) {
            false => part == &ZEROS[..part.len()],
            true => {
                (at..end).zip(part).all(|(at, &byte)| byte == if marked.contains(&at) { mark(at) } else { 0 })
            }
        }
    };
    let parts = (0..).step_by(ZEROS.len()).zip(bytes.chunks(ZEROS.len()));
    bytes.len() as u64 == len && parts.into_iter().all(|(at, part)| part_is_whole(at, part))
}

/// Waits until no other case runs, and keeps other cases from running until the guard is dropped.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Reports whether `gib` GiB are available for a case.
fn has_room_for(case: &str, gib: u64) -> bool {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("Linux reports this");
    let available: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    drop(Queue::<u8>::bounded(1).unwrap());
    let arena = internals::mapping().1 as u64;
    let enough = available >> 20 >= gib && arena >> 30 >= gib;
    if !enough {
        eprintln!(
            "{case} did not run: it needs {gib} GiB; {} MiB are available, {} MiB of shared memory",
            available >> 10,
            arena >> 20
        );
    }
    enough
}

macro_rules! cases {
    ($($test:ident: $gib:literal GiB $do:block)*) => {$(
        #[test]
        fn $test() {
            let _alone = alone();
            if has_room_for(stringify!($test), $gib) {
                isolated!({ $do });
            }
        }
    )*};
}

cases! {
    // This case takes little memory. It reads the value in place, and memory that was never written has no
    // pages.
    a_large_value_crosses_a_queue: 7 GiB {
        let queue = Queue::unbounded().unwrap();
        for len in [1 << 31, 1 << 32, 5 << 30].into_iter().flat_map(|len: u64| [len - 1, len, len + 1]) {
            let write = |bytes: &mut [u8]| marks(len).for_each(|at| bytes[at as usize] = mark(at));
            queue.put_with(len as usize, write).unwrap();
            queue.put(vec![7]).unwrap();
            let is_as_marked = |bytes: &[u8]| {
                bytes.len() as u64 == len && marks(len).all(|at| bytes[at as usize] == mark(at))
            };
            assert!(queue.get_with(is_as_marked).unwrap(), "{len}");
            assert_eq!(queue.get().unwrap(), [7]);
        }
    }

    a_large_value_crosses_a_queue_bounded_in_bytes: 10 GiB {
        let queue = Queue::<Vec<u8>>::bounded_bytes(2 * BEYOND_32_BITS as usize).unwrap();
        let put = |len: u64| queue.try_put_with(len as usize, |bytes| bytes[0] = 1);
        put(BEYOND_32_BITS).unwrap();
        put(BEYOND_31_BITS).unwrap();
        put(BEYOND_31_BITS).unwrap_err();
        put(BEYOND_31_BITS - 18).unwrap();
        assert_eq!(queue.len(), 3);
        for len in [BEYOND_32_BITS, BEYOND_31_BITS, BEYOND_31_BITS - 18] {
            assert!(queue.get_with(|bytes| bytes.len() as u64 == len && bytes[0] == 1).unwrap());
        }
    }

    a_large_value_can_be_an_argument: 9 GiB {
        let child = Process::spawn(|bytes: Vec<u8>| is_whole(&bytes, BEYOND_32_BITS), (sparse(BEYOND_32_BITS),));
        assert!(child.unwrap().join().unwrap());
    }

    a_large_value_can_be_a_result: 9 GiB {
        let child = Process::spawn(sparse, (BEYOND_32_BITS,));
        assert!(is_whole(&child.unwrap().join().unwrap(), BEYOND_32_BITS));
    }

    // The first length exceeds 32 bits, so the other items begin at offsets beyond 32 bits.
    large_values_can_be_results_of_a_chunk: 9 GiB {
        let lens = [BEYOND_32_BITS, 100, 9];
        let pool = Pool::new(1).unwrap().with_chunk_size(lens.len()).unwrap();
        let results = pool.try_map(sparse, lens);
        assert_eq!(results.len(), lens.len());
        for (result, len) in results.into_iter().zip(lens) {
            assert!(is_whole(&result.unwrap(), len), "{len}");
        }
    }

    a_large_value_can_be_in_a_dict_and_a_list: 5 GiB {
        let (dict, list) = (Dict::new().unwrap(), List::new().unwrap());
        let is_too_long = |e: Error| matches!(e, Error::InvalidArgument(_));
        assert!(is_too_long(dict.insert(&1u8, sparse(BEYOND_32_BITS)).unwrap_err()));
        assert!(is_too_long(list.push(sparse(1 << 32)).unwrap_err()));
        assert_eq!((dict.len(), list.len()), (0, 0));
        dict.insert(&1, sparse(BEYOND_31_BITS)).unwrap();
        assert!(is_whole(&dict.remove(&1).unwrap().unwrap(), BEYOND_31_BITS));
    }

    a_large_value_can_be_a_key: 3 GiB {
        let dict = Dict::new().unwrap();
        let refused = dict.insert(&sparse(1 << 31), 1).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument(_)), "{refused}");
        assert!(dict.is_empty());
    }
}
