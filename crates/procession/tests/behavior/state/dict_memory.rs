//! Shared memory that dicts and lists used is returned to the kernel.

use crate::support::arena;
use procession::internals;
use procession::state::List;
use procession::{Dict, Error, Process, Queue};
use procession_testkit::{Audit, Rng, isolated};

/// The bytes of memory that may stay allocated: pages of tables that were touched once, and one span of each
/// size in use.
const SLACK: u64 = 2 << 20;

fn value(n: u64) -> Vec<u8> {
    vec![n as u8; 20 + n as usize % 300]
}

#[test]
fn memory_is_returned_when_a_dict_is_cleared_or_emptied() {
    isolated!({
        let dict = Dict::new().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        let full = || !audit.leaks().is_empty();
        dict.extend((0..60_000).map(|n| (n, value(n)))).unwrap();
        assert!(full());
        dict.clear().unwrap();
        audit.assert_back();
        dict.extend((0..60_000).map(|n| (n, value(n)))).unwrap();
        assert!(full());
        for n in 0..60_000 {
            assert_eq!(dict.remove(&n), Ok(Some(value(n))));
        }
        audit.assert_back();
    });
}

#[test]
fn memory_is_returned_when_a_list_is_cleared() {
    isolated!({
        let list = List::new().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        list.extend((0..60_000).map(value)).unwrap();
        assert!(!audit.leaks().is_empty());
        list.clear().unwrap();
        audit.assert_back();
    });
}

/// The process that filled the dict has ended, and only the dict used the memory.
#[test]
fn memory_of_an_ended_process_is_returned() {
    isolated!({
        let dict = Dict::<u64, Vec<u8>>::new().unwrap();
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        let fill = |dict: Dict<u64, Vec<u8>>| dict.extend((0..60_000).map(|n| (n, value(n))));
        Process::spawn(fill, (dict.clone(),)).unwrap().join().unwrap().unwrap();
        assert_eq!(dict.len(), 60_000);
        assert!(!audit.leaks().is_empty());
        dict.clear().unwrap();
        audit.assert_back();
    });
}

/// The process that filled the dict still lives, but does nothing.
#[test]
fn memory_of_an_idle_process_is_returned() {
    isolated!({
        let (dict, go) = (Dict::<u64, Vec<u8>>::new().unwrap(), Queue::<()>::unbounded().unwrap());
        let filled = Queue::<()>::unbounded().unwrap();
        let fill = |dict: Dict<u64, Vec<u8>>, filled: Queue<()>, go: Queue<()>| {
            // First, a few entries make the process allocate the one span of each size that it keeps.
            dict.extend((0..100).map(|n| (n, value(n)))).unwrap();
            filled.put(()).unwrap();
            go.get().unwrap();
            dict.extend((0..60_000).map(|n| (n, value(n)))).unwrap();
            filled.put(()).unwrap();
            go.get().unwrap();
        };
        let child = Process::spawn(fill, (dict.clone(), filled.clone(), go.clone())).unwrap();
        filled.get().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        go.put(()).unwrap();
        filled.get().unwrap();
        assert!(!audit.leaks().is_empty());
        dict.clear().unwrap();
        audit.assert_back();
        go.put(()).unwrap();
        child.join().unwrap();
    });
}

/// Free memory is available to every process, whichever process used it before.
#[test]
fn memory_of_an_idle_process_can_be_reused_by_another() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 32 << 20)], {
        let (dict, go) = (Dict::<u64, Vec<u8>>::new().unwrap(), Queue::<()>::unbounded().unwrap());
        let filled = Queue::<()>::unbounded().unwrap();
        let fill = |dict: Dict<u64, Vec<u8>>, filled: Queue<()>, go: Queue<()>| {
            let full = (0..).find_map(|n| dict.insert(&n, vec![1; 200]).err());
            assert!(matches!(full, Some(Error::Full(_))), "{full:?}");
            filled.put(()).unwrap();
            go.get().unwrap();
        };
        let child = Process::spawn(fill, (dict.clone(), filled.clone(), go.clone())).unwrap();
        filled.get().unwrap();
        let keys = dict.len() as u64;
        assert!(keys > 50_000, "{keys} entries fitted");
        for key in keys / 16..keys {
            assert!(dict.remove(&key).unwrap().is_some());
        }
        // Allocates blocks of another size, which need whole spans.
        let other = Dict::<u64, Vec<u8>>::new().unwrap();
        other.extend((0..4000).map(|n| (n, vec![2; 3000]))).unwrap();
        assert_eq!((dict.len() as u64, other.len()), (keys / 16, 4000));
        assert!(dict.iter().all(|entry| entry.is_ok_and(|(_, value)| value == [1; 200])));
        go.put(()).unwrap();
        child.join().unwrap();
    });
}

/// The error names the limit and the largest holders.
#[test]
fn the_error_of_a_full_arena_names_the_holders() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 32 << 20)], {
        let manager = procession::Manager::new().unwrap();
        let large = manager.named("the large one").dict::<u64, Vec<u8>>().unwrap();
        large.extend((0..60).map(|n| (n, vec![0; 200_000]))).unwrap();
        let small = procession::state::List::from_items((0..100).map(value)).unwrap();
        let queue = Queue::<()>::unbounded().unwrap();
        let hold = |held: Queue<()>, queue: Queue<()>| {
            let block = internals::reserve(3 << 20).unwrap();
            held.put(()).unwrap();
            queue.get().unwrap();
            internals::free(block);
        };
        let held = Queue::<()>::unbounded().unwrap();
        let builder = Process::builder().name("holder").daemon(true);
        let holder = builder.spawn(hold, (held.clone(), queue.clone())).unwrap();
        held.get().unwrap();
        let refused = [
            large.insert(&1000, vec![0; 20 << 20]).map(drop),
            small.push(vec![0; 20 << 20]),
            (0..).find_map(|n| large.insert(&(2000 + n), vec![0; 50_000]).err()).map_or(Ok(()), Err),
        ];
        for refused in refused {
            let Err(Error::Full(text)) = refused else { panic!("{refused:?}") };
            let lines: Vec<&str> = text.lines().collect();
            println!("{text}");
            assert!(lines[0].contains("ulimit -f") && lines[0].contains("MiB"), "{text}");
            assert!(lines[1].contains("MiB  dict `the large one`"), "{text}");
            assert!(text.contains("KiB  process holder (pid"), "{text}");
            assert!(text.contains("list without a name"), "{text}");
            assert!(text.contains("free"), "{text}");
        }
        queue.put(()).unwrap();
        assert_eq!(holder.join(), Ok(()));
    });
}

/// Returns a size as in a cache: most values are small, and a few are very large.
fn size(rng: &mut Rng) -> usize {
    let (low, high) = match rng.below(100) {
        0..60 => (1, 6),
        60..86 => (6, 9),
        86..97 => (9, 12),
        _ => (12, 16),
    };
    let magnitude = 1 << (low + rng.below(high - low));
    magnitude + rng.below(magnitude as u64) as usize
}

/// Inserts, changes and removes entries, more by day than by night. Returns the number of bytes by which all
/// values together have grown.
fn hour(dict: &Dict<u64, Vec<u8>>, rng: &mut Rng, wanted: u64) -> i64 {
    let mut more = 0;
    for _ in 0..2500 {
        let (key, there) = (rng.below(6000), dict.len() as u64);
        let old = match rng.below(2 * wanted) < there {
            true => dict.remove(&key).unwrap(),
            false => {
                let value = vec![7; size(rng)];
                more += value.len() as i64;
                dict.insert(&key, value).unwrap()
            }
        };
        more -= old.map_or(0, |old| old.len() as i64);
    }
    more
}

/// `churn` in `bench/` runs longer, and plots its result.
#[test]
fn memory_does_not_grow_over_days_of_churn() {
    isolated!({
        let dict = Dict::<u64, Vec<u8>>::new().unwrap();
        let (orders, reports) = (Queue::<u64>::unbounded().unwrap(), Queue::<i64>::unbounded().unwrap());
        let work = |dict: Dict<u64, Vec<u8>>, orders: Queue<u64>, reports: Queue<i64>, seed: u64| {
            let mut rng = Rng::seeded(seed);
            for wanted in orders.iter() {
                reports.put(hour(&dict, &mut rng, wanted.unwrap())).unwrap();
            }
        };
        let worker = Process::spawn(work, (dict.clone(), orders.clone(), reports.clone(), 5)).unwrap();
        let (mut rng, mut live, mut peaks) = (Rng::seeded(3), 0, Vec::new());
        for _ in 0..3 {
            let mut peak = 0;
            for wanted in [500, 1000, 2000, 3000, 4000, 4500, 4000, 3000, 2000, 1000] {
                // In half of the cases, a value is not freed by the process that allocated it.
                orders.put(wanted).unwrap();
                live += hour(&dict, &mut rng, wanted);
                live += reports.get().unwrap();
                let used = arena().bytes_in_use();
                println!("{wanted}: {live} bytes live, {used} used");
                peak = peak.max(used);
            }
            peaks.push(peak);
        }
        assert_eq!(live, dict.values().map(|value| value.unwrap().len() as i64).sum::<i64>());
        assert!(peaks[2] < peaks[0] + peaks[0] / 4, "memory grows with each day: {peaks:?}");
        orders.close().unwrap();
        worker.join().unwrap();
    });
}

/// Allocates blocks from 16 bytes to a GiB in one process and frees them in another.
#[test]
fn blocks_of_all_sizes_can_be_freed_by_another_process() {
    isolated!({
        const MAIN: u32 = 0;
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        let blocks = Queue::<(u64, u64)>::unbounded().unwrap();
        let largest = if arena().len > 3 << 30 { 30 } else { 20 };
        let take = |blocks: Queue<(u64, u64)>, largest: u32| {
            for magnitude in 4..=largest {
                for bytes in
                    [(1 << magnitude) - 1, 1 << magnitude, (1 << magnitude) + 1, 3 << (magnitude - 1)]
                {
                    let block = internals::reserve(bytes.min(1 << 30)).unwrap();
                    assert!(internals::hand_over(block, MAIN));
                    blocks.put((block, bytes)).unwrap();
                }
            }
        };
        let taker = Process::spawn(take, (blocks.clone(), largest)).unwrap();
        let mut kept: Vec<std::ops::Range<u64>> = Vec::new();
        for n in 0..4 * (largest - 3) {
            let (at, bytes) = blocks.get().unwrap();
            let end = at + 16 + bytes.min(1 << 30);
            assert!(kept.iter().all(|other| end <= other.start || other.end <= at), "two blocks overlap");
            // Some of the smaller blocks stay allocated for a while.
            if n % 3 == 0 && bytes < 1 << 20 { kept.push(at..end) } else { internals::free(at) }
        }
        taker.join().unwrap();
        assert!(kept.len() > 20);
        kept.iter().for_each(|block| internals::free(block.start));
        assert!(internals::census().blocks.iter().all(|&(_, tag)| tag >> 28 == 2), "only objects own blocks");
        internals::trim();
        drop(blocks);
        audit.assert_back();
    });
}
