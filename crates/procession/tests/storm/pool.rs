//! Busy and idle workers of a pool are killed again and again while the pool maps. A ledger outside the
//! library records which worker processed which item.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::arena;
use procession::Pool;
use procession_testkit::{Audit, Ledger, Storm, isolated, watchdog};

const ITEMS: u64 = 100_000;
const SEED: u64 = 6;

static LEDGER: OnceLock<Ledger> = OnceLock::new();

fn open_ledger(path: String) {
    let _ = LEDGER.set(Ledger::open(Path::new(&path)));
}

/// Works on an item for a while, and records the item in the ledger.
fn work(n: u64) -> u64 {
    let until = Instant::now() + Duration::from_micros(40);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    LEDGER.get().expect("the initializer has run").record([n, std::process::id().into(), 0, 0]);
    n * n + 1
}

fn path() -> PathBuf {
    std::env::temp_dir().join("ledger")
}

/// Returns the process ids of the pool's workers.
fn workers(pool: &Pool) -> Vec<i32> {
    pool.stats().pids.into_iter().map(u32::cast_signed).collect()
}

/// Maps all items during the storm. Returns the pool's count of deaths, and how many workers were killed at work.
fn map_in_a_storm(storm: &mut Storm) -> (u64, usize) {
    let initializer_args = (path().to_str().expect("a path in UTF-8").to_owned(),);
    let builder = Pool::builder().workers(4).retries(1000).initializer(open_ledger, initializer_args);
    let pool = builder.max_restarts(1_000_000, Duration::from_secs(1)).build().expect("a pool");
    let mapper = pool.clone();
    let mapping = std::thread::spawn(move || mapper.map(work, 0..ITEMS));
    while !mapping.is_finished() {
        storm.kill_one(&workers(&pool));
    }
    let at_work = storm.kills().len();
    let results = mapping.join().expect("no panic").expect("every item has a result");
    assert_eq!(results, (0..ITEMS).map(|n| n * n + 1).collect::<Vec<_>>());
    // Kills idle workers.
    for _ in 0..10 {
        storm.kill_one(&workers(&pool));
        assert_eq!(pool.apply(|n: u64| n, (7,)), Ok(7));
    }
    pool.close().expect("closed");
    pool.join().expect("joined");
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.running, stats.pids.len()), (0, 0, 0), "{stats:?}");
    // The last workers may have died when no task was left, so they may not have been replaced.
    assert!(stats.started > stats.deaths && stats.started <= 4 + stats.deaths, "{stats:?}");
    (stats.deaths, at_work)
}

#[test]
fn every_item_is_done_once_by_a_living_worker() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(120));
        let mapping = arena();
        // Creates a pool once, so that memory that is allocated on first use already exists.
        let first = Pool::new(1).expect("a pool");
        let supervisor = first.apply(|| std::os::unix::process::parent_id() as i32, ()).expect("an answer");
        first.terminate().and_then(|()| Ok(first.join()?)).expect("it ends");
        drop(first);
        let ledger = Ledger::create(path());
        let audit = Audit::start(Some(mapping)).allow_bytes(64 << 20);
        let mut storm = Storm::seeded(SEED).also_below(supervisor).longest_wait(Duration::from_millis(40));
        let (deaths, at_work) = map_in_a_storm(&mut storm);
        let kills = storm.kills();
        assert!(at_work >= 20, "only {at_work} were killed at work");
        let killed: HashSet<u64> = kills.iter().map(|&pid| pid as u64).collect();
        // A worker that was killed but not yet recovered may have been killed twice. So distinct process ids
        // are counted.
        assert_eq!(deaths, killed.len() as u64);
        let mut times: HashMap<u64, Vec<u64>> = HashMap::new();
        for [item, pid, ..] in ledger.entries() {
            times.entry(item).or_default().push(pid);
        }
        assert_eq!(times.len() as u64, ITEMS, "every item was done");
        for (item, pids) in &times {
            // Killed workers may have processed the item without any effect. At most one living worker has
            // processed it.
            let by_killed = pids.iter().filter(|pid| killed.contains(pid)).count();
            assert!(pids.len() <= by_killed + 1, "item {item}: {pids:?}");
        }
        drop(times);
        audit.assert_back();
    });
}
