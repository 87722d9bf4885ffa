//! Random kills, and what the killed processes had recorded.

mod toy;

use std::process::Command;
use std::time::Duration;

use procession_testkit::{Child, Ledger, Rng, Storm, proc};

#[test]
fn a_ledger_keeps_what_was_acknowledged_before_a_kill() {
    let ledger = Ledger::new(1_000_000);
    let mut storm = Storm::seeded(7);
    for round in 0..20 {
        let count_up = || {
            for n in 0.. {
                ledger.record([round, n, !n, n ^ 5]);
                // The pauses keep the ledger from filling up before the kill.
                (n % 8 == 0).then(|| std::thread::sleep(Duration::from_micros(1)));
            }
        };
        let mut child = Child::spawn(count_up);
        proc::wait_until("it records", Duration::from_secs(10), || {
            ledger.entries().last().is_some_and(|last| last[0] == round)
        });
        assert_eq!(storm.kill_one(&[child.pid]), Some(child.pid));
        assert!(libc::WIFSIGNALED(child.wait()));
        let mine: Vec<_> = ledger.entries().into_iter().filter(|entry| entry[0] == round).collect();
        assert!(mine.iter().zip(0..).all(|(entry, n)| *entry == [round, n, !n, n ^ 5]));
    }
    assert_eq!(storm.kills().len(), 20);
    assert!(ledger.torn() <= 20);
}

#[test]
fn a_ledger_in_a_file_is_shared_by_its_path() {
    let path = std::env::temp_dir().join(format!("testkit-ledger-{}", std::process::id()));
    let ledger = Ledger::create(&path);
    let mut child = Child::spawn(|| Ledger::open(&path).record([1, 2, 3, 4]));
    assert_eq!(child.wait(), 0, "{}", child.text());
    assert_eq!(ledger.entries(), [[1, 2, 3, 4]]);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_full_ledger_panics() {
    let ledger = Ledger::new(1);
    ledger.record([0; 4]);
    let mut child = Child::spawn(|| ledger.record([0; 4]));
    child.wait();
    assert!(child.text().contains("the ledger is full"));
    assert!(std::panic::catch_unwind(|| ledger.entries()).is_err());
}

#[test]
fn a_storm_spares_foreign_processes() {
    assert_eq!(Storm::seeded(1).kill_one(&[1]), None);
    assert_eq!(Storm::seeded(1).kill_one(&[]), None);
    let parent = std::os::unix::process::parent_id() as i32;
    assert_eq!(Storm::seeded(1).kill_one(&[parent]), None);
}

#[test]
fn a_storm_kills_grandchildren() {
    let mut shell = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
    let sleeper = || proc::descendants(shell.id() as i32);
    proc::wait_until("there is a grandchild", Duration::from_secs(10), || !sleeper().is_empty());
    let mut storm = Storm::seeded(3);
    storm.kill_many(1, Duration::from_secs(10), sleeper);
    assert!(shell.wait().unwrap().success(), "the shell's wait has ended");
}

#[test]
fn the_same_seed_gives_the_same_numbers() {
    let numbers = |seed| {
        let mut rng = Rng::seeded(seed);
        [(); 8].map(|()| rng.next_u64())
    };
    assert_eq!(numbers(5), numbers(5));
    assert_ne!(numbers(5), numbers(6));
    let mut rng = Rng::seeded(0);
    let mut seen = [0; 8];
    (0..8000).for_each(|_| seen[rng.below(8) as usize] += 1);
    assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
}
