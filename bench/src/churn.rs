//! Days of churn: four processes insert entries of many sizes into a dict, change them and remove them, more
//! by day than by night. Draws how much shared memory the dict takes, and how much of that the entries
//! themselves take.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use procession::{Dict, JoinableQueue, Process, Queue};

use crate::Result;
use crate::plot::{Curve, Plot};

/// How long to run.
#[derive(Clone, Copy)]
pub struct Churn {
    pub days: u64,
    /// The number of operations of all workers together in half an hour.
    pub operations: u64,
}

const WORKERS: usize = 4;
/// The number of half hours in a day.
const STEPS_A_DAY: u64 = 48;
/// The number of keys. At noon there are half as many entries.
const KEYS: u64 = 200_000;

/// The order to a worker: the number of operations, how many entries there should be afterwards, and a random
/// seed.
type Order = (u64, u64, u64);

/// A generator of numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// A size as key-value stores report them: a mixture of powers of two, each with its neighbors.
    fn size(&mut self) -> usize {
        let (low, high) = match self.below(1000) {
            0..550 => (4, 6),     // 16 to 128 bytes
            550..850 => (7, 9),   // to 1 KiB
            850..970 => (10, 12), // to 8 KiB
            970..998 => (13, 15), // to 64 KiB
            _ => (16, 18),        // to 512 KiB
        };
        let magnitude = 1 << (low + self.below(high - low + 1));
        magnitude + self.below(magnitude as u64) as usize
    }
}

/// Executes orders until there are no more. Reports for each order by how many bytes the entries have grown.
fn work(
    dict: Dict<u64, Vec<u8>>,
    orders: JoinableQueue<Order>,
    reports: Queue<i64>,
) -> procession::Result<()> {
    while let Ok(order) = orders.get() {
        let (operations, wanted, seed) = *order;
        let (mut random, mut more) = (Random(seed), 0);
        for _ in 0..operations {
            // One entry in ten is hardly ever changed.
            let key = random.below(KEYS);
            if key % 10 == 0 && random.below(50) > 0 {
                continue;
            }
            let old = if random.below(2 * wanted) < dict.len() as u64 {
                dict.remove(&key)?
            } else {
                let value = vec![1; random.size()];
                more += value.len() as i64;
                dict.insert(&key, value)?
            };
            more -= old.map_or(0, |old| old.len() as i64);
        }
        reports.put(more)?;
        order.done()?;
    }
    Ok(())
}

/// Returns how many entries there should be at this step.
fn wanted(step: u64) -> u64 {
    let turn = 2.0 * std::f64::consts::PI * step as f64 / STEPS_A_DAY as f64;
    (KEYS as f64 * (0.3 - 0.2 * turn.cos())) as u64
}

/// Runs the churn, prints the figures, and draws them.
pub fn run(churn: Churn, svg: Option<&Path>) -> Result {
    let dict = Dict::<u64, Vec<u8>>::new()?;
    let (orders, reports) = (JoinableQueue::<Order>::unbounded()?, Queue::unbounded()?);
    let hire = || Process::spawn(work, (dict.clone(), orders.clone(), reports.clone()));
    let mut workers = (0..WORKERS).map(|_| hire()).collect::<procession::Result<Vec<_>>>()?;
    let (mut live, mut all) = (0, Vec::new());
    println!("{:>5} {:>9} {:>12} {:>12} {:>6}", "hour", "entries", "live MiB", "used MiB", "ratio");
    for step in 0..churn.days * STEPS_A_DAY {
        for worker in 0..WORKERS as u64 {
            let seed = step * WORKERS as u64 + worker + 1;
            orders.put((churn.operations / WORKERS as u64, wanted(step), seed << 32))?;
        }
        for _ in 0..WORKERS {
            live += reports.get()?;
        }
        orders.join()?;
        if step % 12 == 5 {
            // At intervals a worker that holds nothing is killed, and replaced.
            let place = step as usize / 12 % WORKERS;
            workers[place].kill()?;
            let _ = std::mem::replace(&mut workers[place], hire()?).join();
        }
        let used = shared_bytes()?;
        let (hours, mib) = (step as f64 / 2.0, |bytes: f64| bytes / f64::from(1 << 20));
        let point = (hours, mib(live as f64), mib(used as f64));
        all.push(point);
        println!(
            "{hours:>5.1} {:>9} {:>12.1} {:>12.1} {:>6.2}",
            dict.len(),
            point.1,
            point.2,
            point.2 / point.1
        );
    }
    let counted: usize = dict.values().map(|value| value.map_or(0, |value| value.len())).sum();
    crate::ensure(counted as i64 == live, "the bytes that are there are not those that were reported")?;
    orders.close()?;
    for worker in workers {
        worker.join()??;
    }
    dict.clear()?;
    let left = shared_bytes()? as f64 / f64::from(1 << 20);
    println!("after clear: {left:.1} MiB used");
    if let Some(path) = svg {
        let of = |pick: fn(&(f64, f64, f64)) -> f64| all.iter().map(|point| (point.0, pick(point))).collect();
        let curves = [
            Curve { name: "shared memory in use", colour: "#c0392b", points: of(|point| point.2) },
            Curve { name: "of it values", colour: "#2471a3", points: of(|point| point.1) },
        ];
        std::fs::write(path, Plot { x: "hours", y: "MiB", curves: &curves }.svg())?;
    }
    Ok(())
}

/// Returns how much of the family's shared memory has pages, as the kernel counts them for its file.
fn shared_bytes() -> Result<u64> {
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().contains("memfd:procession") {
            return Ok(std::fs::metadata(entry.path())?.blocks() * 512);
        }
    }
    Err("the shared memory has no descriptor here".into())
}
