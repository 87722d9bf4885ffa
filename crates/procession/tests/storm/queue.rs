//! Hundreds of producers and consumers of a queue are killed at random. A ledger outside the library records
//! what each was about to do and had done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::crew::{arena_is_empty, assert_killed, pids, storm_below, supervisor};
use crate::support::{LONG, arena};
use procession::internals::{self, End};
use procession::{Process, Queue};
use procession_testkit::{Audit, Ledger, Rng, Storm, isolated, proc, watchdog};

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 3;
const KILLS: usize = 400;

/// Entries of a producer: it is about to put its items up to number `n`, and it has put them.
const PUTS: u64 = 1;
const PUT: u64 = 2;
/// Entries of a consumer: it is about to take at most `n` items, it has received item `n` of a producer, and
/// it has recorded everything that it received.
const WANTS: u64 = 3;
const GOT: u64 = 4;
const HAS: u64 = 5;

/// A producer, the number of the item among that producer's items, and a payload.
type Item = (u64, u64, Vec<u8>);

fn item(me: u64, n: u64) -> Item {
    let len = if n.is_multiple_of(7) { 600 + n % 3000 } else { n % 200 };
    (me, n, vec![(me + n) as u8; len as usize])
}

/// Puts items with rising numbers until the queue is closed.
fn produce(queue: Queue<Item>, ledger: String, me: u64, seed: u64) {
    let (ledger, mut rng) = (Ledger::open(Path::new(&ledger)), Rng::seeded(seed));
    let mut n = 0;
    loop {
        let count = if rng.below(2) == 0 { 1 } else { 2 + rng.below(30) };
        let items: Vec<Item> = (n + 1..=n + count).map(|n| item(me, n)).collect();
        ledger.record([PUTS, me, n + count, 0]);
        if queue.put_many(items).is_err() {
            return;
        }
        ledger.record([PUT, me, n + count, 0]);
        n += count;
        slow_down(n, &mut rng);
    }
}

/// Takes items until there are no more.
fn consume(queue: Queue<Item>, ledger: String, me: u64, seed: u64) {
    let (ledger, mut rng) = (Ledger::open(Path::new(&ledger)), Rng::seeded(seed));
    let mut total = 0;
    loop {
        let most = if rng.below(2) == 0 { 1 } else { 1 + rng.below(20) };
        ledger.record([WANTS, me, most, 0]);
        let Ok(many) = queue.get_many(most as usize) else { return ledger.record([HAS, me, 0, 0]) };
        for got in many {
            let got = got.expect("an item that can be decoded");
            assert!(got == item(got.0, got.1), "damaged: {} of {}", got.1, got.0);
            ledger.record([GOT, me, got.0, got.1]);
            total += 1;
        }
        ledger.record([HAS, me, 0, 0]);
        slow_down(total, &mut rng);
    }
}

/// Slows down a long-lived worker, which must not fill the ledger while the killing process waits for a
/// processor.
fn slow_down(done: u64, rng: &mut Rng) {
    (0..rng.below(2000)).for_each(|_| std::hint::spin_loop());
    if done > 3000 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The history of one worker, according to the ledger.
#[derive(Default)]
struct Story {
    /// The last number that a producer was about to put, and the last number that it had put.
    puts: u64,
    put: u64,
    /// The number of items that a consumer may have received without recording them.
    may_have: u64,
    killed: bool,
}

/// Checks that no item is missing or doubled. Returns how many producers were killed during a put, how many
/// of those had put some of the items, and how many items were lost with their consumers.
fn check(ledger: &Ledger, killed: &BTreeSet<u64>) -> (usize, usize, u64) {
    let mut stories = BTreeMap::<u64, Story>::new();
    let mut got = BTreeSet::new();
    let mut last = BTreeMap::<(u64, u64), u64>::new();
    for [what, who, a, b] in ledger.entries() {
        let story = stories.entry(who).or_default();
        match what {
            PUTS => story.puts = a,
            PUT => story.put = a,
            WANTS => story.may_have = a,
            GOT => {
                story.may_have -= 1;
                assert!(got.insert((a, b)), "item {b} of {a} came out twice");
                let before = last.insert((who, a), b).unwrap_or(0);
                assert!(before < b, "items {before} and {b} of {a} overtook each other");
            }
            HAS => story.may_have = 0,
            _ => unreachable!("the ledger has a line of {what}"),
        }
    }
    for (who, story) in &mut stories {
        story.killed = killed.contains(who);
        assert!(story.killed || story.may_have == 0, "{who} lives, and has not recorded its items");
    }
    let (mut in_flight, mut arrived, mut missing) = (0, 0, 0);
    for (&me, story) in stories.iter().filter(|(_, story)| story.puts > 0) {
        let last = got.range((me, 0)..=(me, u64::MAX)).next_back().map_or(0, |&(_, n)| n);
        assert!(last <= story.puts, "{me} has never put {last}");
        missing += (1..=story.put.max(last)).filter(|&n| !got.contains(&(me, n))).count() as u64;
        if story.killed && story.puts > story.put {
            in_flight += 1;
            arrived += usize::from(last > story.put);
        }
    }
    let may_have: u64 = stories.values().map(|story| story.may_have).sum();
    assert!(missing <= may_have, "{missing} items are missing, killed consumers had at most {may_have}");
    (in_flight, arrived, missing)
}

/// The queue, its workers, and the storm.
struct Plant {
    queue: Queue<Item>,
    path: String,
    storm: Storm,
    hired: u64,
}

impl Plant {
    /// Starts a worker. Returns it, and its number in the ledger.
    fn hire(&mut self, produces: bool) -> (u64, Process<()>) {
        self.hired += 1;
        let args = (self.queue.clone(), self.path.clone(), self.hired, self.storm.rng().next_u64());
        let worker = if produces { Process::spawn(produce, args) } else { Process::spawn(consume, args) };
        (self.hired, worker.expect("a worker"))
    }
}

const ENDS: [End; 2] = [End::Producers, End::Consumers];

/// Returns which end of the queue a process occupies.
fn occupies(queue: &Queue<Item>, pid: i32) -> Option<End> {
    ENDS.into_iter().find(|&end| internals::queue_occupant(queue, end) == Some(pid))
}

/// Kills a process as soon as it occupies an end of the queue, or after a few milliseconds.
fn kill_inside(queue: &Queue<Item>, pid: i32) {
    let until = Instant::now() + Duration::from_millis(3);
    while occupies(queue, pid).is_none() && Instant::now() < until {
        std::hint::spin_loop();
    }
    // SAFETY: a system call without pointers. The worker is a child of the family, and is not recovered yet.
    #[allow(unsafe_code, reason = "kill")]
    unsafe {
        libc::kill(pid, libc::SIGKILL)
    };
}

/// Waits until a killed process is dead, and returns which end of the queue it occupied. The process is not
/// recovered yet.
fn died_inside(queue: &Queue<Item>, pid: i32) -> Option<End> {
    while !proc::gone(pid) {
        std::hint::spin_loop();
    }
    occupies(queue, pid)
}

#[test]
fn no_item_is_lost_or_doubled_although_workers_are_killed() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(110));
        let path = std::env::temp_dir().join("ledger");
        let ledger = Ledger::create(&path);
        let supervisor = supervisor();
        let storm = storm_below(supervisor);
        // Pages of slots, records, objects and bitmaps stay allocated once they have been touched.
        let audit = Audit::start(Some(arena())).allow_bytes(2 << 20);
        let queue = Queue::bounded(100).unwrap();
        let mut plant = Plant { queue, path: path.display().to_string(), storm, hired: 0 };
        let (mut killed, mut inside) = (BTreeSet::new(), [0, 0]);
        let mut workers: Vec<(u64, Process<()>)> =
            (0..PRODUCERS + CONSUMERS).map(|place| plant.hire(place < PRODUCERS)).collect();
        let mut kill = 0;
        while kill < KILLS || (inside.contains(&0) && kill < 10 * KILLS) {
            kill += 1;
            let candidates = pids(workers.iter().map(|(_, p)| p));
            let pid = if kill % 2 == 0 {
                plant.storm.kill_one(&candidates)
            } else {
                let ours = |&pid: &i32| pid > 0 && proc::descends_from(pid, supervisor);
                let pid = plant.storm.rng().pick(&candidates).filter(ours);
                pid.inspect(|&pid| kill_inside(&plant.queue, pid))
            };
            let Some(pid) = pid else { continue };
            if let Some(end) = died_inside(&plant.queue, pid) {
                inside[end as usize] += 1;
            }
            let place = candidates.iter().position(|&candidate| candidate == pid).expect("one of them");
            let (_, worker) = &workers[place];
            proc::wait_until("the worker is dead", LONG, || !worker.is_alive());
            let (who, dead) = std::mem::replace(&mut workers[place], plant.hire(place < PRODUCERS));
            killed.insert(who);
            assert_killed(dead, pid);
        }
        plant.queue.close().unwrap();
        for (who, worker) in workers {
            worker.join().unwrap_or_else(|e| panic!("worker {who} failed: {e}"));
        }

        let Plant { queue, hired, .. } = plant;
        assert!(queue.is_empty());
        let (in_flight, arrived, missing) = check(&ledger, &killed);
        println!(
            "{hired} workers; {inside:?} died with the queue's locks; {in_flight} while they put, of which \
             {arrived} had put something; {missing} items died with their consumers"
        );
        assert!(inside.iter().all(|&count| count > 0), "no kill has hit a worker inside: {inside:?}");
        assert!(in_flight > 0 && missing > 0, "no kill has made a difference");
        let (owned, reachable) = internals::queue_blocks(&queue);
        assert_eq!(owned, reachable);
        drop(queue);
        proc::wait_until("nothing is left in the arena", LONG, arena_is_empty);
        audit.assert_back();
    });
}
