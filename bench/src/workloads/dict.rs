//! A shared dict compared with a map that threads share.

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dashmap::DashMap;
use procession::process::Entry;
use procession::{Dict, Process};

use super::entries::{ENTRIES, INSERTS, key, timed};
use crate::Result;
use crate::board::Board;
use crate::machine::{now_ns, pin};
use crate::workload::{Better, Contender, Sample, Workload, ensure, if_built, structure};

macro_rules! workload {
    ($id:ident, $name:literal, $says:literal, $unit:literal, $better:ident, $ours:ident, $theirs:ident, $target:literal $(, $further:expr)*) => {
        pub const $id: Workload = Workload {
            name: $name,
            says: $says,
            unit: $unit,
            better: Better::$better,
            target: None,
            contenders: &[
                Contender::new("procession", $ours),
                Contender::new("dashmap", $theirs).target($target),
                $($further,)*
            ],
            most_pairs: usize::MAX,
        };
    };
}

workload!(
    GET,
    "dict_get",
    "looking up a number by a number, 10,000 entries: one process",
    "ops/s",
    Higher,
    get_ours,
    get_theirs,
    0.5,
    Contender::peer("lmdb", if_built!(super::lmdb::get)),
    Contender::python("python", || structure("dict_get"))
);
workload!(
    GET_TWO,
    "dict_get_two",
    "the same by two processes at once (dashmap: threads)",
    "ops/s",
    Higher,
    get_two_ours,
    get_two_theirs,
    0.5
);
workload!(
    UPDATE,
    "dict_update",
    "count -= 1 under one name: one process",
    "ops/s",
    Higher,
    update_ours,
    update_theirs,
    0.4,
    Contender::peer("lmdb", if_built!(super::lmdb::update)),
    Contender::python("python", || structure("dict_update"))
);
workload!(
    UPDATE_TWO,
    "dict_update_two",
    "the same by two processes at once, of one count (dashmap: threads)",
    "ops/s",
    Higher,
    update_two_ours,
    update_two_theirs,
    0.4
);
workload!(
    INSERT,
    "dict_insert",
    "a million entries of 100 bytes (a number, and 92 bytes)",
    "ops/s",
    Higher,
    insert_ours,
    insert_theirs,
    0.3,
    Contender::peer("lmdb", if_built!(super::lmdb::insert))
);
workload!(
    GROWTH,
    "dict_growth",
    "looking up among 10 million entries, in turn, as against among 1,000",
    "times",
    Lower,
    growth_ours,
    growth_theirs,
    1.0
);

pub const ALLOCATION: Workload = Workload {
    name: "allocation",
    says: "take 100 bytes and give them back, from shared memory (malloc: from the process's own)",
    unit: "ns",
    better: Better::Lower,
    target: Some(10.0),
    contenders: &[Contender::new("procession", allocation_ours), Contender::new("malloc", allocation_theirs)],
    most_pairs: usize::MAX,
};

const PAIRS: u64 = 10_000_000;
const BYTES: u64 = 100;

/// Returns the nanoseconds of each of `count` operations.
fn each(count: u64, work: impl FnOnce() -> Result) -> Result<Sample> {
    let started = Instant::now();
    work()?;
    Ok(Sample::new(started.elapsed().as_secs_f64() * 1e9 / count as f64))
}

fn allocation_ours() -> Result<Sample> {
    pin(0);
    procession::measure::allocation_pairs(BYTES, 1000)?;
    each(PAIRS, || Ok(procession::measure::allocation_pairs(BYTES, PAIRS)?))
}

fn allocation_theirs() -> Result<Sample> {
    pin(0);
    each(PAIRS, || {
        (0..PAIRS).for_each(|_| drop(black_box(Vec::<u8>::with_capacity(black_box(BYTES as usize)))));
        Ok(())
    })
}

const GETS: u64 = 10_000_000;
const UPDATES: u64 = 10_000_000;
const NAME: &str = "count";

fn numbers() -> Result<Dict<u64, u64>> {
    Ok(Dict::from_entries((0..ENTRIES).map(|n| (n, n + 1)))?)
}

fn look_up(dict: &Dict<u64, u64>, n: u64) -> Result {
    let found = black_box(dict).get(&key(n))?;
    ensure(found == Some(key(n) + 1), "a wrong value")
}

fn look_up_theirs(map: &DashMap<u64, u64>, n: u64) -> Result {
    let found = black_box(map).get(&key(n)).map(|found| *found);
    ensure(found == Some(key(n) + 1), "a wrong value")
}

fn get_ours() -> Result<Sample> {
    pin(0);
    let dict = numbers()?;
    Ok(Sample::new(timed(GETS, |n| look_up(&dict, n))?))
}

fn get_theirs() -> Result<Sample> {
    pin(0);
    let map: DashMap<u64, u64> = (0..ENTRIES).map(|n| (n, n + 1)).collect();
    Ok(Sample::new(timed(GETS, |n| look_up_theirs(&map, n))?))
}

/// Runs one of two parties: meets the other, works, and records when it began and ended.
fn side(board: &Board, which: usize, count: u64, mut operation: impl FnMut(u64) -> Result) -> Result {
    pin(which);
    board.arrive();
    board.meet(2);
    board.began_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
    (0..count).try_for_each(&mut operation)?;
    board.ended_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
    Ok(())
}

fn rate(board: &Board, each: u64) -> Sample {
    Sample::new(2.0 * each as f64 / board.elapsed().as_secs_f64())
}

/// Converts an error of the benchmark into one of the library.
fn other(error: Box<dyn std::error::Error + Send + Sync>) -> procession::Error {
    procession::Error::other(error)
}

fn two_processes<T: procession::Message + Clone>(
    shared: T,
    each: u64,
    child: impl Entry<(String, usize, T), Output = procession::Result<()>> + Copy,
) -> Result<Sample> {
    let (board, path) = Board::create()?;
    let children = [0, 1].map(|which| Process::spawn(child, (path.clone(), which, shared.clone())));
    for child in children {
        child?.join()??;
    }
    Ok(rate(board, each))
}

fn two_threads(each: u64, operation: impl Fn(u64) -> Result + Sync) -> Result<Sample> {
    let (board, _) = Board::create()?;
    std::thread::scope(|scope| {
        let work = |which| side(board, which, each, &operation);
        let threads = [scope.spawn(move || work(0)), scope.spawn(move || work(1))];
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })?;
    Ok(rate(board, each))
}

fn get_two_ours() -> Result<Sample> {
    two_processes(numbers()?, GETS, |path: String, which: usize, dict: Dict<u64, u64>| {
        side(Board::open(&path).map_err(other)?, which, GETS, |n| look_up(&dict, n)).map_err(other)
    })
}

fn get_two_theirs() -> Result<Sample> {
    let map: DashMap<u64, u64> = (0..ENTRIES).map(|n| (n, n + 1)).collect();
    two_threads(GETS, |n| look_up_theirs(&map, n))
}

fn count_down(dict: &Dict<String, i64>) -> Result {
    black_box(dict).update(NAME, |count| *count -= 1)?;
    Ok(())
}

fn count_down_theirs(map: &DashMap<String, i64>) -> Result {
    if let Some(mut count) = black_box(map).get_mut(NAME) {
        *count -= 1;
    }
    Ok(())
}

fn counted(left: Option<i64>, updates: u64) -> Result {
    ensure(left == Some(-(updates as i64)), "an update was lost")
}

fn update_ours() -> Result<Sample> {
    pin(0);
    let dict = Dict::from_entries([(NAME.to_owned(), 0)])?;
    let rate = timed(UPDATES, |_| count_down(&dict))?;
    counted(dict.get(NAME)?, UPDATES)?;
    Ok(Sample::new(rate))
}

fn update_theirs() -> Result<Sample> {
    pin(0);
    let map: DashMap<String, i64> = [(NAME.to_owned(), 0)].into_iter().collect();
    let rate = timed(UPDATES, |_| count_down_theirs(&map))?;
    counted(map.get(NAME).map(|count| *count), UPDATES)?;
    Ok(Sample::new(rate))
}

fn update_two_ours() -> Result<Sample> {
    let dict = Dict::from_entries([(NAME.to_owned(), 0)])?;
    let sample =
        two_processes(dict.clone(), UPDATES, |path: String, which: usize, dict: Dict<String, i64>| {
            side(Board::open(&path).map_err(other)?, which, UPDATES, |_| count_down(&dict)).map_err(other)
        })?;
    counted(dict.get(NAME)?, 2 * UPDATES)?;
    Ok(sample)
}

fn update_two_theirs() -> Result<Sample> {
    let map: DashMap<String, i64> = [(NAME.to_owned(), 0)].into_iter().collect();
    let sample = two_threads(UPDATES, |_| count_down_theirs(&map))?;
    counted(map.get(NAME).map(|count| *count), 2 * UPDATES)?;
    Ok(sample)
}

/// Returns the bytes of shared memory that this process's mappings take.
fn shared_bytes() -> Result<f64> {
    Ok(crate::machine::memory_kib(std::process::id(), "Pss_Shmem")? * 1024.0)
}

fn insert_ours() -> Result<Sample> {
    pin(0);
    let dict = Dict::<u64, Vec<u8>>::new()?;
    let (value, before) = (vec![7u8; 92], shared_bytes()?);
    let rate = timed(INSERTS, |n| ensure(dict.insert(&n, value.clone())?.is_none(), "it was there before"))?;
    ensure(dict.len() as u64 == INSERTS, "an entry is missing")?;
    let each = (shared_bytes()? - before) / INSERTS as f64;
    dict.clear()?;
    let left = (shared_bytes()? - before) / INSERTS as f64;
    Ok(Sample::new(rate).note("bytes an entry", each).note("bytes an entry, after clear", left))
}

fn insert_theirs() -> Result<Sample> {
    pin(0);
    let map = DashMap::<u64, Vec<u8>>::new();
    let value = vec![7u8; 92];
    let rate = timed(INSERTS, |n| ensure(map.insert(n, value.clone()).is_none(), "it was there before"))?;
    ensure(map.len() as u64 == INSERTS, "an entry is missing")?;
    Ok(Sample::new(rate))
}

const SMALL: u64 = 1_000;
const LARGE: u64 = 10_000_000;

fn growth_ours() -> Result<Sample> {
    pin(0);
    let rate_of = |entries: u64| -> Result<f64> {
        let dict = Dict::from_entries((0..entries).map(|n| (n, n)))?;
        timed(GETS, |n| ensure(dict.get(&(n % entries))? == Some(n % entries), "a wrong value"))
    };
    let (small, large) = (rate_of(SMALL)?, rate_of(LARGE)?);
    Ok(Sample::new(small / large).note("ns at 1,000", 1e9 / small).note("ns at 10 million", 1e9 / large))
}

fn growth_theirs() -> Result<Sample> {
    pin(0);
    let rate_of = |entries: u64| -> Result<f64> {
        let map: DashMap<u64, u64> = (0..entries).map(|n| (n, n)).collect();
        timed(GETS, |n| ensure(map.get(&(n % entries)).map(|v| *v) == Some(n % entries), "a wrong value"))
    };
    let (small, large) = (rate_of(SMALL)?, rate_of(LARGE)?);
    Ok(Sample::new(small / large).note("ns at 1,000", 1e9 / small).note("ns at 10 million", 1e9 / large))
}
