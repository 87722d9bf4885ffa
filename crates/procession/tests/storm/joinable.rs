//! Hundreds of consumers of a `JoinableQueue` are killed at random. A ledger outside the library records what
//! each consumer had received and done.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::crew::{arena_is_empty, kill_and_replace, storm_below, supervisor};
use crate::support::{LONG, arena};
use procession::{JoinableQueue, Process};
use procession_testkit::{Audit, Ledger, Rng, Storm, isolated, proc, watchdog};

const CONSUMERS: usize = 6;
const KILLS: usize = 300;
/// The maximum number of waiting items.
const ROOM: usize = 50;

/// Entries of the ledger: which consumer did what, with which item, on which attempt.
const GOT: u64 = 1;
const DONE: u64 = 2;
const GIVEN_BACK: u64 = 3;

type Work = JoinableQueue<(u64, Vec<u8>)>;

/// Receives items until there are no more. Gives back one item in eight.
fn consume(queue: Work, ledger: String, seed: u64) {
    let (ledger, mut rng) = (Ledger::open(Path::new(&ledger)), Rng::seeded(seed));
    let me = u64::from(std::process::id());
    for lease in queue.iter() {
        let lease = lease.expect("an item");
        let (item, attempt) = (lease.0, u64::from(lease.attempt()));
        assert!(lease.1.iter().all(|&byte| byte == item as u8), "damaged");
        ledger.record([GOT, me, item, attempt]);
        (0..rng.below(3000)).for_each(|_| std::hint::spin_loop());
        if rng.below(8) == 0 {
            ledger.record([GIVEN_BACK, me, item, attempt]);
            drop(lease);
        } else {
            lease.done().expect("it is leased");
            ledger.record([DONE, me, item, attempt]);
        }
    }
}

/// The history of an item.
#[derive(Default, Debug)]
struct Story {
    /// The last attempt that was recorded, and its consumer.
    last: (u64, u64),
    /// Attempts that the ledger does not contain, because the consumer was killed before it recorded them.
    missing: u64,
    done: u64,
}

fn read(ledger: &Ledger, killed: &[i32]) -> BTreeMap<u64, Story> {
    let mut stories = BTreeMap::<u64, Story>::new();
    for [what, who, item, attempt] in ledger.entries() {
        let story = stories.entry(item).or_default();
        match what {
            GOT => {
                let (before, by) = story.last;
                assert_eq!(story.done, 0, "item {item} was done, and {who} got it again");
                assert!(attempt > before, "item {item} was handed out on {attempt} after {before} to {by}");
                story.missing += attempt - before - 1;
                story.last = (attempt, who);
            }
            DONE => {
                assert_eq!(story.last, (attempt, who), "item {item} was done by another");
                story.done += 1;
            }
            GIVEN_BACK => assert_eq!(story.last, (attempt, who), "item {item} was given back by another"),
            _ => unreachable!("the ledger has a line of {what}"),
        }
    }
    for (item, story) in &stories {
        let killed = killed.contains(&(story.last.1 as i32));
        assert!(story.done == 1 || (story.done == 0 && killed), "item {item}: {story:?}");
    }
    stories
}

#[test]
fn every_item_is_done_although_random_consumers_are_killed() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(110));
        let path = std::env::temp_dir().join("ledger");
        let ledger = Ledger::create(&path);
        let mut storm = storm_below(supervisor());
        // Pages of slots, records, objects and bitmaps stay allocated once they have been touched.
        let audit = Audit::start(Some(arena())).allow_bytes(2 << 20);
        let queue = Work::bounded(ROOM).unwrap();
        let hire = |storm: &mut Storm| {
            let seed = storm.rng().next_u64();
            Process::spawn(consume, (queue.clone(), path.display().to_string(), seed)).expect("a consumer")
        };
        let mut consumers: Vec<Process<()>> = (0..CONSUMERS).map(|_| hire(&mut storm)).collect();
        let mut items = 0;
        let feed = |items: &mut u64| {
            let next =
                |n: u64| (n, vec![n as u8; if n.is_multiple_of(50) { 100_000 } else { n as usize % 900 }]);
            // The loop is bounded, because fast consumers could keep the queue from ever being full.
            for _ in 0..ROOM {
                if queue.try_put(next(*items)).is_err() {
                    return;
                }
                *items += 1;
            }
        };
        while storm.kills().len() < KILLS {
            feed(&mut items);
            kill_and_replace(&mut storm, &mut consumers, hire, || feed(&mut items));
        }
        queue.join().unwrap();
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
        queue.close().unwrap();
        for consumer in consumers {
            consumer.join().expect("a consumer returns");
        }

        assert_eq!((queue.unfinished(), queue.dead_letters().count()), (0, 0));
        let stories = read(&ledger, storm.kills());
        assert!(stories.keys().copied().eq(0..items), "items are missing from {items}");
        let missing: u64 = stories.values().map(|story| story.missing).sum();
        assert!(missing <= KILLS as u64, "{missing} attempts were never recorded");
        let again = stories.values().filter(|story| story.last.0 > 1).count();
        let unsaid = stories.values().filter(|story| story.done == 0).count();
        println!("{items} items, {again} more than once, {unsaid} done and not said, {missing} not begun");
        assert!(again > 0, "no kill has made a difference");
        drop(queue);
        proc::wait_until("nothing is left in the arena", LONG, arena_is_empty);
        audit.assert_back();
    });
}
