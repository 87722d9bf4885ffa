//! How costs grow with the length of a message, the number of processes, and the number of entries.
//!
//! Each point is the median of several runs in fresh processes. Our runs and the peer's runs take turns.

use std::hint::black_box;
use std::time::Instant;

use procession::{Dict, Process, Queue};

use crate::chart::{Growth, Line};
use crate::pairs::run_fresh_as;
use crate::stats::median;
use crate::{Result, flags};

/// The name of a contender, and the function that measures it at one size.
type Contender = (&'static str, fn(u64) -> Result<f64>);

/// A quantity that grows.
struct Subject {
    name: &'static str,
    title: &'static str,
    of: &'static str,
    sizes: &'static [u64],
    contenders: &'static [Contender],
}

static SUBJECTS: &[Subject] = &[
    Subject {
        name: "bytes",
        title: "ns a message from one process to another (thread to thread)",
        of: "bytes of a message",
        sizes: &[8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20, 64 << 20],
        contenders: &[("procession", message), ("crossbeam, a vector", message_of_crossbeam)],
    },
    Subject {
        name: "processes",
        title: "ns a message of 64 bytes, all together",
        of: "processes (threads): half of them put, half of them get",
        sizes: &[2, 4, 8, 16, 32, 64],
        contenders: &[("procession", crowd), ("crossbeam", crowd_of_crossbeam)],
    },
    Subject {
        name: "entries",
        title: "ns a look-up of a number by a number, in no order",
        of: "entries",
        sizes: &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000],
        contenders: &[("procession", look_up), ("dashmap", look_up_in_dashmap)],
    },
];

/// Measures everything, and returns the curves.
pub fn measure(flags: &flags::Grow) -> Result<Vec<Growth>> {
    SUBJECTS.iter().map(|subject| curves(subject, flags.pairs)).collect()
}

fn curves(subject: &Subject, pairs: usize) -> Result<Growth> {
    let empty = |(name, _): &(&str, _)| Line { name: (*name).to_owned(), points: vec![] };
    let mut lines: Vec<Line> = subject.contenders.iter().map(empty).collect();
    for &size in subject.sizes {
        let mut figures = vec![Vec::new(); lines.len()];
        for round in 0..pairs {
            for turn in 0..lines.len() {
                let who = if round % 2 == 0 { turn } else { lines.len() - 1 - turn };
                let words = ["grow-once", subject.name, subject.contenders[who].0, &size.to_string()];
                figures[who].push(run_fresh_as(&words)?.value);
            }
        }
        for (line, figures) in lines.iter_mut().zip(&figures) {
            line.points.push((size as f64, median(figures).unwrap_or(f64::NAN)));
        }
        eprintln!("{} {size}: {figures:.1?}", subject.name);
    }
    Ok(Growth { title: subject.title.into(), of: subject.of.into(), lines })
}

/// Returns one figure, measured in this process.
pub fn once(subject: &str, contender: &str, size: u64) -> Result<f64> {
    let subject = SUBJECTS.iter().find(|s| s.name == subject).ok_or("no such subject")?;
    let run = subject.contenders.iter().find(|(name, _)| *name == contender).ok_or("no such contender")?.1;
    run(size)
}

/// Returns a Markdown table.
pub fn markdown(all: &[Growth]) -> String {
    let mut out = String::new();
    for growth in all {
        let names: Vec<&str> = growth.lines.iter().map(|line| line.name.as_str()).collect();
        out += &format!(
            "\n{}\n\n| {} | {} |\n|{}\n",
            growth.title,
            growth.of,
            names.join(" | "),
            "---|".repeat(names.len() + 1)
        );
        for at in 0..growth.lines[0].points.len() {
            let figures: Vec<String> =
                growth.lines.iter().map(|line| format!("{:.1}", line.points[at].1)).collect();
            out += &format!("| {} | {} |\n", growth.lines[0].points[at].0, figures.join(" | "));
        }
    }
    out
}

/// Returns the number of messages of a run. It is lower for large messages.
fn how_many(bytes: u64) -> u64 {
    ((1 << 30) / bytes).clamp(16, 300_000)
}

fn message(bytes: u64) -> Result<f64> {
    let (queue, count) = (Queue::<Vec<u8>>::bounded(4.max(1024 / bytes as usize))?, how_many(bytes));
    let consumer = Process::spawn(
        |queue: Queue<Vec<u8>>, count: u64| -> procession::Result<u64> {
            let mut sum = 0;
            for _ in 0..count {
                sum += queue.get_with(|bytes| u64::from(bytes[0]) + u64::from(bytes[bytes.len() - 1]))?;
            }
            Ok(sum)
        },
        (queue.clone(), count),
    )?;
    let started = Instant::now();
    for _ in 0..count {
        queue.put_with(bytes as usize, |room| room.fill(1)).map_err(|e| e.to_string())?;
    }
    if consumer.join()?? != 2 * count {
        return Err("messages are damaged".into());
    }
    Ok(started.elapsed().as_nanos() as f64 / count as f64)
}

fn message_of_crossbeam(bytes: u64) -> Result<f64> {
    let count = how_many(bytes);
    let (to, from) = crossbeam_channel::bounded::<Vec<u8>>(4.max(1024 / bytes as usize));
    let consumer = std::thread::spawn(move || {
        from.iter().map(|bytes| u64::from(bytes[0]) + u64::from(bytes[bytes.len() - 1])).sum::<u64>()
    });
    let started = Instant::now();
    for _ in 0..count {
        to.send(vec![1; bytes as usize])?;
    }
    drop(to);
    if consumer.join().map_err(|_| "the consumer panicked")? != 2 * count {
        return Err("messages are damaged".into());
    }
    Ok(started.elapsed().as_nanos() as f64 / count as f64)
}

const CROWD: u64 = 1 << 19;

fn crowd(processes: u64) -> Result<f64> {
    let (queue, each) = (Queue::<[u64; 8]>::bounded(1024)?, 2 * CROWD / processes);
    let get = |queue: Queue<[u64; 8]>, each: u64| -> procession::Result<()> {
        (0..each).try_for_each(|_| queue.get().map(drop))?;
        Ok(())
    };
    let put = |queue: Queue<[u64; 8]>, each: u64| -> procession::Result<()> {
        (0..each).try_for_each(|n| queue.put([n; 8]))?;
        Ok(())
    };
    let mut children = Vec::new();
    let started = Instant::now();
    for _ in 0..processes / 2 {
        children.push(Process::spawn(get, (queue.clone(), each))?);
        children.push(Process::spawn(put, (queue.clone(), each))?);
    }
    for child in children {
        child.join()??;
    }
    Ok(started.elapsed().as_nanos() as f64 / CROWD as f64)
}

fn crowd_of_crossbeam(threads: u64) -> Result<f64> {
    let each = 2 * CROWD / threads;
    let (to, from) = crossbeam_channel::bounded::<[u64; 8]>(1024);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads / 2 {
            let (to, from) = (&to, &from);
            scope.spawn(move || (0..each).all(|_| black_box(from.recv()).is_ok()));
            scope.spawn(move || (0..each).all(|n| to.send([n; 8]).is_ok()));
        }
    });
    Ok(started.elapsed().as_nanos() as f64 / CROWD as f64)
}

const LOOKS: u64 = 1_000_000;

/// Returns an existing key that is far from the previous one.
fn key(n: u64, entries: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries
}

fn look_up(entries: u64) -> Result<f64> {
    let dict = Dict::from_entries((0..entries).map(|n| (n, n)))?;
    let started = Instant::now();
    for n in 0..LOOKS {
        let key = key(n, entries);
        if dict.get(&key)? != Some(key) {
            return Err("a look-up gives something else".into());
        }
    }
    Ok(started.elapsed().as_nanos() as f64 / LOOKS as f64)
}

fn look_up_in_dashmap(entries: u64) -> Result<f64> {
    let map: dashmap::DashMap<u64, u64> = (0..entries).map(|n| (n, n)).collect();
    let started = Instant::now();
    for n in 0..LOOKS {
        let key = key(n, entries);
        if map.get(&key).map(|found| *found) != Some(key) {
            return Err("a look-up gives something else".into());
        }
    }
    Ok(started.elapsed().as_nanos() as f64 / LOOKS as f64)
}
