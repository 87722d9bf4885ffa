//! Costs do not grow with the number of processes or items, and a waiting process costs nothing.

use std::time::{Duration, Instant};

use procession::{Process, Queue};

use super::parties::{Place, in_processes, rate, sum_below};
use crate::Result;
use crate::machine::{is_asleep, ticks_of};
use crate::workload::{Better, Contender, Sample, Workload, ensure};

pub const PROCESSES: Workload = Workload {
    name: "queue_64_processes",
    says: "32 producers and 32 consumers on one queue of numbers, room for 1,024 (four: two and two)",
    unit: "msg/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", sixty_four_processes),
        Contender::new("four_processes", four_processes).target(0.5),
    ],
    most_pairs: usize::MAX,
};

pub const ITEMS: Workload = Workload {
    name: "queue_10_m_items",
    says: "10,000,000 numbers put and then got, one process (thousand: by 1,000; crossbeam: 10,000,000 by one thread)",
    unit: "ns/item",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", ten_million_items),
        Contender::new("thousand_items", thousand_items).target(1.2),
        Contender::new("crossbeam", crossbeam_ten_million),
    ],
    most_pairs: usize::MAX,
};

pub const BEHIND: Workload = Workload {
    name: "queue_behind_10_m",
    says: "a number put and one got, by turns, with 10,000,000 others in the queue, one process (thousand: with 1,000)",
    unit: "ns/item",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", behind::<ITEMS_IN_ALL>),
        Contender::new("thousand_items", behind::<1000>).target(1.2),
    ],
    most_pairs: usize::MAX,
};

pub const BLOCKED_CPU: Workload = Workload {
    name: "queue_blocked_cpu",
    says: "clock ticks (10 ms) that a process blocked in get and one blocked in put use in 2 seconds",
    unit: "ticks",
    better: Better::Lower,
    target: Some(0.0),
    contenders: &[Contender::new("procession", blocked_cpu)],
    most_pairs: 2,
};

const MESSAGES: u64 = 1_280_000;
const ITEMS_IN_ALL: u64 = 10_000_000;
const IDLE: Duration = Duration::from_secs(2);

fn between<const PROCESSES: u64>() -> Result<Sample> {
    let queue = Queue::<u64>::bounded(1024)?;
    let board = in_processes(PROCESSES as usize, Place::Anywhere, &queue, |which, queue| {
        let (which, each) = (which as u64, MESSAGES / (PROCESSES / 2));
        if which % 2 == 0 {
            for number in 0..each {
                queue.put(which / 2 * each + number)?;
            }
            return Ok(0);
        }
        (0..each).try_fold(0, |sum, _| Ok(sum + queue.get()?))
    })?;
    ensure(queue.is_empty(), "more messages came out than went in")?;
    rate(board, MESSAGES, sum_below(MESSAGES))
}

fn sixty_four_processes() -> Result<Sample> {
    between::<64>()
}

fn four_processes() -> Result<Sample> {
    between::<4>()
}

/// Puts and gets all items, `at_a_time` of them at a time.
fn items(at_a_time: u64) -> Result<Sample> {
    let queue = Queue::<u64>::unbounded()?;
    through(at_a_time, |number| Ok(queue.put(number)?), || Ok(queue.get()?))
}

fn through(
    at_a_time: u64,
    put_one: impl Fn(u64) -> Result,
    get_one: impl Fn() -> Result<u64>,
) -> Result<Sample> {
    crate::machine::pin(0);
    let (mut put, mut got) = (Duration::ZERO, Duration::ZERO);
    for first in (0..ITEMS_IN_ALL).step_by(at_a_time as usize) {
        let began = Instant::now();
        for number in first..first + at_a_time {
            put_one(number)?;
        }
        put += began.elapsed();
        let began = Instant::now();
        for number in first..first + at_a_time {
            ensure(get_one()? == number, "out of order")?;
        }
        got += began.elapsed();
    }
    let each = |time: Duration| time.as_nanos() as f64 / ITEMS_IN_ALL as f64;
    Ok(Sample::new(each(put + got)).note("put, ns", each(put)).note("get, ns", each(got)))
}

fn ten_million_items() -> Result<Sample> {
    items(ITEMS_IN_ALL)
}

fn thousand_items() -> Result<Sample> {
    items(1000)
}

/// Measures the same with memory of this process alone.
fn crossbeam_ten_million() -> Result<Sample> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    through(ITEMS_IN_ALL, |number| Ok(sender.send(number)?), || Ok(receiver.recv()?))
}

/// Measures the cost of each item when this many others are in the queue in front of it.
fn behind<const OTHERS: u64>() -> Result<Sample> {
    crate::machine::pin(0);
    let queue = Queue::<u64>::unbounded()?;
    (0..OTHERS).try_for_each(|number| queue.put(number))?;
    let began = Instant::now();
    for number in 0..ITEMS_IN_ALL {
        queue.put(OTHERS + number)?;
        ensure(queue.get()? == number, "out of order")?;
    }
    let took = began.elapsed();
    ensure(queue.len() as u64 == OTHERS, "items are missing")?;
    Ok(Sample::new(took.as_nanos() as f64 / ITEMS_IN_ALL as f64))
}

fn blocked_cpu() -> Result<Sample> {
    let empty = Queue::<u64>::bounded(1)?;
    let full = Queue::<u64>::bounded(1)?;
    full.put(0)?;
    let getter =
        Process::spawn(|queue: Queue<u64>| queue.get().map_err(|e| e.to_string()), (empty.clone(),))?;
    let putter =
        Process::spawn(|queue: Queue<u64>| queue.put(2).map_err(|e| e.to_string()), (full.clone(),))?;
    let mut pids = vec![];
    pids.extend(getter.pid());
    pids.extend(putter.pid());
    ensure(pids.len() == 2, "a blocked process is gone")?;
    std::thread::sleep(Duration::from_millis(200));
    let ticks = || pids.iter().map(|&pid| ticks_of(pid)).sum::<Result<u64>>();
    let before = ticks()?;
    std::thread::sleep(IDLE);
    let used = ticks()? - before;
    ensure(pids.iter().all(|&pid| is_asleep(pid)), "a blocked process does not sleep")?;
    empty.put(1)?;
    ensure(full.get()? == 0 && full.get()? == 2, "the blocked putter's item")?;
    ensure(getter.join()?? == 1, "the blocked getter's item")?;
    putter.join()??;
    Ok(Sample::new(used as f64))
}
