//! Hundreds of workers that change dicts are killed at random. A ledger outside the library records what each
//! worker had done.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::crew::{kill_and_replace, storm_below, supervisor};
use crate::support::{LONG, arena};
use procession::internals;
use procession::{Dict, Process};
use procession_testkit::{Audit, Ledger, Rng, Storm, isolated, proc, watchdog};

const WORKERS: usize = 6;
const KILLS: usize = 400;
const KEYS: u64 = 5;

/// Entries of the ledger: the worker is about to act, and the worker has raised the counter of this key to
/// this number.
const BEGUN: u64 = 1;
const COUNTED: u64 = 2;
/// The worker has inserted a key of its own, and the worker has removed such a key.
const PUT: u64 = 3;
const TAKEN: u64 = 4;

/// A count, and a text of varying length that repeats it.
type Counter = (u64, String);

fn counter(n: u64) -> Counter {
    (n, format!("{n}-").repeat(n as usize % 50 + 1))
}

/// The dicts under test: one with counters, one with numbers that fit into a word, and one whose entries come
/// and go.
type Dicts = (Dict<u64, Counter>, Dict<u64, u64>, Dict<(u64, u64), Vec<u8>>);

/// Works until it is killed, or until the counters contain the key that stops the workers.
fn work((counters, words, comers): Dicts, directory: String, seed: u64) -> procession::Result<()> {
    let ledger = Ledger::open(Path::new(&directory).join("ledger"));
    let (me, mut rng) = (u64::from(std::process::id()), Rng::seeded(seed));
    for round in 0.. {
        if counters.contains_key(&u64::MAX)? {
            return Ok(());
        }
        if round > 100 {
            // Slow down: a long-lived worker must not fill the ledger while the killing process waits for a
            // processor.
            std::thread::sleep(Duration::from_millis(1));
        }
        let key = rng.below(KEYS);
        ledger.record([BEGUN, me, 0, 0]);
        match rng.below(4) {
            0 | 1 => {
                let count = counters.update(&key, |value| {
                    assert_eq!(*value, counter(value.0), "torn");
                    *value = counter(value.0 + 1);
                    value.0
                })?;
                ledger.record([COUNTED, me, key, count.expect("counters are never removed")]);
            }
            2 => {
                let count = words.update(&key, |n| {
                    *n += 1;
                    *n
                })?;
                ledger.record([COUNTED, me, KEYS + key, count.expect("counters are never removed")]);
            }
            _ => {
                let mine = (me, rng.below(40));
                if comers.insert(&mine, vec![7; rng.below(3000) as usize])?.is_none() {
                    ledger.record([PUT, me, mine.1, 0]);
                }
                if rng.below(3) == 0 && comers.remove(&mine)?.is_some() {
                    ledger.record([TAKEN, me, mine.1, 0]);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_change_to_a_dict_is_accounted_for() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(110));
        let directory = std::env::temp_dir();
        let ledger = Ledger::create(directory.join("ledger"));
        let mut storm = storm_below(supervisor());
        // Pages of slots, records, objects and bitmaps stay allocated once they have been touched.
        let audit = Audit::start(Some(arena())).allow_bytes(1 << 20);
        let dicts: Dicts = (
            Dict::from_entries((0..KEYS).map(|key| (key, counter(0)))).unwrap(),
            Dict::from_entries((0..KEYS).map(|key| (key, 0))).unwrap(),
            Dict::new().unwrap(),
        );
        let hire = |storm: &mut Storm| {
            let args = (dicts.clone(), directory.display().to_string(), storm.rng().next_u64());
            Process::spawn(work, args).expect("a worker")
        };
        let mut workers: Vec<_> = (0..WORKERS).map(|_| hire(&mut storm)).collect();
        while storm.kills().len() < KILLS {
            kill_and_replace(&mut storm, &mut workers, hire, || ());
        }
        dicts.0.insert(&u64::MAX, counter(0)).unwrap();
        for worker in workers {
            worker.join().expect("a worker returns").expect("a worker without errors");
        }
        balance(&dicts, &ledger, storm.kills());
        drop(dicts);
        proc::wait_until("nothing is left in the arena", LONG, || internals::census().objects == 0);
        audit.assert_back();
    });
}

/// Checks that the dicts match the ledger, apart from what the killed workers had not recorded yet.
fn balance((counters, words, comers): &Dicts, ledger: &Ledger, kills: &[i32]) {
    let (mut counted, mut last, mut own) = (HashMap::new(), HashMap::new(), HashMap::new());
    for [what, who, key, number] in ledger.entries() {
        last.insert(who, what);
        match what {
            COUNTED => {
                let numbers: &mut HashSet<u64> = counted.entry(key).or_default();
                assert!(numbers.insert(number), "{key} was counted to {number} twice");
            }
            PUT | TAKEN => _ = own.insert((who, key), what == PUT),
            _ => {}
        }
    }
    let inside = kills.iter().filter(|&&pid| last.get(&(pid as u64)) == Some(&BEGUN)).count();
    println!("{inside} of {} were killed in the middle of something", kills.len());
    assert!(inside > 0, "no kill has hit a worker inside a change");
    for key in 0..2 * KEYS {
        let there = match key.checked_sub(KEYS) {
            None => counters.get(&key).unwrap().map(|value| {
                assert_eq!(value, counter(value.0), "torn");
                value.0
            }),
            Some(key) => words.get(&key).unwrap(),
        };
        let (there, told) = (there.expect("a counter is never removed"), &counted[&key]);
        let most = told.len() as u64 + kills.len() as u64;
        assert!((told.len() as u64..=most).contains(&there), "{key} is {there}; {} were told", told.len());
        assert!(told.iter().all(|number| *number <= there), "{key} is {there}, and more was told");
    }
    // Each killed worker may have inserted or removed one entry more than it has recorded.
    let there: HashSet<(u64, u64)> = comers.keys().collect::<Result<_, _>>().unwrap();
    let expected: HashSet<(u64, u64)> = own.iter().filter(|(_, put)| **put).map(|(key, _)| *key).collect();
    let mut off = HashMap::new();
    there.symmetric_difference(&expected).for_each(|(who, _)| *off.entry(*who).or_insert(0) += 1);
    assert!(off.iter().all(|(who, count)| *count == 1 && kills.contains(&(*who as i32))), "{off:?}");
    let faults = [
        internals::faults_of_dict(counters),
        internals::faults_of_dict(words),
        internals::faults_of_dict(comers),
    ];
    assert!(faults.iter().all(Vec::is_empty), "{faults:?}");
}
