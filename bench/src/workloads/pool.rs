//! A pool: many small items, many tasks, one task at a time, and the cost of chunk sizes.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use procession::Pool;

use crate::Result;
use crate::peers::fork;
use crate::stats::median;
use crate::workload::{Better, Contender, Sample, Workload, ensure, structure};

const ITEMS: u64 = 1_000_000;
const TASKS: u64 = 200_000;
const TRIPS: u32 = 20_000;
const KILLS: usize = 30;

pub const MAP: Workload = Workload {
    name: "pool_map",
    says: "a map of x * x + 1 over a million numbers, in order, by two workers",
    unit: "M items/s",
    better: Better::Higher,
    target: Some(100.0),
    contenders: &[
        Contender::new("procession", map_numbers),
        Contender::new("rayon", map_with_rayon),
        Contender::python("python", || structure("pool_map")),
        Contender::python("executor", || structure("executor_map")),
        Contender::loky(|| structure("loky_map")),
    ],
    most_pairs: usize::MAX,
};

pub const SUBMIT: Workload = Workload {
    name: "pool_submit",
    says: "tasks that do nothing, submitted one by one and all awaited, two workers",
    unit: "M tasks/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", submit_tasks),
        Contender::new("rayon", spawn_with_rayon).target(1.0),
        Contender::python("python", || structure("pool_submit")),
        Contender::python("executor", || structure("executor_submit")),
        Contender::loky(|| structure("loky_submit")),
    ],
    most_pairs: usize::MAX,
};

pub const TRIP: Workload = Workload {
    name: "pool_round_trip",
    says: "one task submitted and awaited, again and again",
    unit: "us",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", round_trips),
        Contender::new("thread_channel", channel_trips).target(1.5),
        Contender::python("python", || structure("pool_round_trip")),
        Contender::python("executor", || structure("executor_round_trip")),
        Contender::loky(|| structure("loky_round_trip")),
    ],
    most_pairs: usize::MAX,
};

pub const SPEEDUP: Workload = Workload {
    name: "pool_speedup",
    says: "16 tasks of 50 ms by two workers, against one after the other",
    unit: "times",
    better: Better::Higher,
    target: Some(1.98),
    contenders: &[Contender::new("procession", speed_up)],
    most_pairs: usize::MAX,
};

pub const CHUNKS: Workload = Workload {
    name: "pool_chunks",
    says: "a map of tasks of 1 us, 100 us, 10 ms: the time with the best of five chunk sizes, by that with its own",
    unit: "times",
    better: Better::Higher,
    target: Some(0.9),
    contenders: &[Contender::new("procession", chunk_sizes)],
    most_pairs: usize::MAX,
};

pub const RESTART: Workload = Workload {
    name: "pool_restart",
    says: "from SIGKILL of the only worker, which waits for work, to the next task's being done by its successor; median",
    unit: "us",
    better: Better::Lower,
    target: Some(2000.0),
    contenders: &[Contender::new("procession", restart)],
    most_pairs: usize::MAX,
};

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1e6
}

/// Returns the best of five runs in one process. The first run touches all memory.
fn best(count: u64, mut run: impl FnMut() -> Result) -> Result<Sample> {
    let mut rates = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        run()?;
        rates.push(rate(count, started.elapsed()));
    }
    let best = rates.iter().copied().fold(0.0, f64::max);
    Ok(Sample::new(best).note("the first time", rates[0]))
}

fn map_numbers() -> Result<Sample> {
    let pool = Pool::new(2)?;
    pool.map(|n: u64| n, 0..16)?;
    best(ITEMS, || {
        let results = pool.map(|x: u64| x.wrapping_mul(x).wrapping_add(1), 0..ITEMS)?;
        ensure(results.len() as u64 == ITEMS && results[3] == 10, "a wrong result")
    })
}

fn rayon_pool() -> Result<rayon::ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(2).build()?)
}

fn map_with_rayon() -> Result<Sample> {
    use rayon::prelude::*;
    let pool = rayon_pool()?;
    best(ITEMS, || {
        let results: Vec<u64> =
            pool.install(|| (0..ITEMS).into_par_iter().map(|x| x.wrapping_mul(x).wrapping_add(1)).collect());
        ensure(results[3] == 10, "a wrong result")
    })
}

fn submit_tasks() -> Result<Sample> {
    let pool = Pool::new(2)?;
    pool.apply(|| (), ())?;
    best(TASKS, || {
        let tasks = (0..TASKS).map(|_| pool.submit(|| (), ())).collect::<std::result::Result<Vec<_>, _>>()?;
        for task in tasks {
            task.get()?;
        }
        Ok(())
    })
}

fn spawn_with_rayon() -> Result<Sample> {
    static DONE: AtomicU64 = AtomicU64::new(0);
    let pool = rayon_pool()?;
    best(TASKS, || {
        DONE.store(0, Ordering::SeqCst);
        for _ in 0..TASKS {
            pool.spawn(|| _ = DONE.fetch_add(1, Ordering::Relaxed));
        }
        while DONE.load(Ordering::SeqCst) < TASKS {
            std::thread::yield_now();
        }
        Ok(())
    })
}

fn round_trips() -> Result<Sample> {
    let pool = Pool::new(1)?;
    pool.apply(|n: u32| n, (0,))?;
    let started = Instant::now();
    for n in 0..TRIPS {
        black_box(pool.apply(|n: u32| n, (n,))?);
    }
    Ok(Sample::new(started.elapsed().as_secs_f64() * 1e6 / f64::from(TRIPS)))
}

fn restart() -> Result<Sample> {
    let pool = Pool::new(1)?;
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let worker = pool.apply(std::process::id, ())?;
        std::thread::sleep(Duration::from_millis(20));
        let killed = Instant::now();
        fork::kill(worker as u32);
        ensure(pool.apply(std::process::id, ())? != worker, "the dead one worked")?;
        times.push(killed.elapsed().as_secs_f64() * 1e6);
    }
    let longest = times.iter().copied().fold(0.0, f64::max);
    Ok(Sample::new(median(&times).ok_or("no kill")?).note("the longest", longest))
}

fn channel_trips() -> Result<Sample> {
    let (to, there) = mpsc::sync_channel::<u32>(1);
    let (back, here) = mpsc::sync_channel::<u32>(1);
    let echo = std::thread::spawn(move || there.iter().try_for_each(|n| back.send(n)));
    let started = Instant::now();
    for n in 0..TRIPS {
        to.send(n)?;
        black_box(here.recv()?);
    }
    let took = started.elapsed();
    drop(to);
    ensure(echo.join().is_ok(), "the echo failed")?;
    Ok(Sample::new(took.as_secs_f64() * 1e6 / f64::from(TRIPS)))
}

fn busy(us: u64) -> u64 {
    let until = Instant::now() + Duration::from_micros(us);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    us
}

fn speed_up() -> Result<Sample> {
    let pool = Pool::new(2)?;
    pool.map(busy, [1, 1])?;
    let started = Instant::now();
    pool.map(busy, vec![50_000; 16])?;
    let took = started.elapsed();
    Ok(Sample::new(0.8 / took.as_secs_f64()))
}

fn chunk_sizes() -> Result<Sample> {
    let pool = Pool::new(2)?;
    pool.map(busy, [1, 1])?;
    let mut worst = f64::INFINITY;
    let mut sample = Vec::new();
    for (name, us, count) in [("1 us", 1, 200_000), ("100 us", 100, 4000), ("10 ms", 10_000, 60)] {
        let time = |pool: &Pool| -> Result<f64> {
            let started = Instant::now();
            pool.map(busy, vec![us; count])?;
            Ok(started.elapsed().as_secs_f64())
        };
        let mut best = f64::INFINITY;
        for chunk in [1, 10, 100, 1000, 4000] {
            if chunk * 2 <= count {
                best = best.min(time(&pool.with_chunk_size(chunk)?)?);
            }
        }
        let ratio = best / time(&pool)?;
        worst = worst.min(ratio);
        sample.push((name, ratio));
    }
    let [(a, x), (b, y), (c, z)] = [sample[0], sample[1], sample[2]];
    Ok(Sample::new(worst).note(a, x).note(b, y).note(c, z))
}
