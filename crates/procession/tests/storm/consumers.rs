//! Consumers of a fleet are killed at random under load, and the fleet replaces them. A ledger outside the library
//! records every item that a consumer has finished.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::crew::{arena_is_empty, storm_below, supervisor};
use crate::support::{LONG, arena};
use procession::JoinableQueue;
use procession_testkit::{Audit, Ledger, isolated, proc, watchdog};

const CONSUMERS: usize = 6;
const KILLS: usize = 200;
/// The maximum number of waiting items.
const ROOM: usize = 50;

/// The ledger's path, the number of the item, and bytes that depend on it.
type Item = (String, u64, Vec<u8>);

thread_local! {
    /// The ledger, once this consumer has opened it.
    static LEDGER: OnceCell<Ledger> = const { OnceCell::new() };
}

/// Records the item. One item in eight fails, after it was recorded.
fn work((path, item, bytes): Item) -> Result<(), &'static str> {
    assert!(bytes.iter().all(|&byte| byte == item as u8), "damaged");
    (0..item * 7919 % 3000).for_each(|_| std::hint::spin_loop());
    let seen = u64::from(std::process::id());
    LEDGER.with(|ledger| ledger.get_or_init(|| Ledger::open(Path::new(&path))).record([1, item, seen, 0]));
    if item % 8 == 0 && seen % 2 == 0 { Err("failed on purpose") } else { Ok(()) }
}

#[test]
fn a_fleet_finishes_every_item_although_its_consumers_are_killed() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(110));
        let path = std::env::temp_dir().join("ledger");
        let ledger = Ledger::create(&path);
        let supervisor = supervisor();
        let mut storm = storm_below(supervisor);
        // Pages of slots, records, objects and bitmaps stay allocated once they have been touched.
        let audit = Audit::start(Some(arena())).allow_bytes(2 << 20);
        let queue = JoinableQueue::<Item>::bounded(ROOM).unwrap();
        let fleet = queue.consumers(CONSUMERS, work).unwrap();
        let mut items = 0;
        let mut feed = || {
            // The loop is bounded, because fast consumers could keep the queue from ever being full.
            for _ in 0..ROOM {
                let size = if items % 50 == 0 { 100_000 } else { items as usize % 900 };
                let item = (path.display().to_string(), items, vec![items as u8; size]);
                if queue.try_put(item).is_err() {
                    return;
                }
                items += 1;
            }
        };
        let is_consumer = |pid: &i32| proc::comm(*pid).is_some_and(|name| name.starts_with("consumer-"));
        while storm.kills().len() < KILLS {
            feed();
            let consumers: Vec<i32> = proc::children(supervisor).into_iter().filter(is_consumer).collect();
            if storm.kill_one(&consumers).is_some() {
                let kills = storm.kills().len() as u64;
                proc::wait_until("the fleet has noticed the death", LONG, || {
                    feed();
                    fleet.deaths() == kills
                });
            }
        }
        queue.join().unwrap();
        assert_eq!((queue.len(), queue.unfinished(), queue.dead_letters().count()), (0, 0, 0));
        queue.close().unwrap();
        fleet.join().unwrap();
        assert_eq!(fleet.deaths(), KILLS as u64);

        let mut times = BTreeMap::<u64, u32>::new();
        ledger.entries().iter().for_each(|[_, item, ..]| *times.entry(*item).or_default() += 1);
        assert!(times.keys().copied().eq(0..items), "items are missing from {items}");
        println!("{items} items, {} more than once", times.values().filter(|&&times| times > 1).count());
        drop((queue, fleet));
        proc::wait_until("nothing is left in the arena", LONG, arena_is_empty);
        audit.assert_back();
    });
}
