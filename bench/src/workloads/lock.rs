//! Acquiring and releasing a lock: one process alone, and two processes against each other.

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Instant;

use procession::{Lock, Process};

use crate::Result;
use crate::board::Board;
use crate::machine::{now_ns, pin};
use crate::peers::fork::Forked;
use crate::peers::robust::RobustMutex;
use crate::stats::median;
use crate::workload::{Better, Contender, Sample, Workload, ensure, python, structure, with_boost};

pub const UNCONTENDED: Workload = Workload {
    name: "lock_uncontended",
    says: "taking and releasing a free lock: one process, one thread, one CPU",
    unit: "ns/pair",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", uncontended_procession),
        Contender::new("parking_lot", uncontended_parking_lot).target(1.2),
        Contender::new("pthread_robust", uncontended_robust).target(1.0),
        Contender::boost(|| with_boost("lock_uncontended")),
        Contender::python("python", || python("lock")).target(1.0 / 3.0),
    ],
    most_pairs: usize::MAX,
};

pub const CONTENDED: Workload = Workload {
    name: "lock_contended",
    says: "two processes on two CPUs that increment one counter under one lock (parking_lot: threads)",
    unit: "incr/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", contended_procession),
        Contender::new("parking_lot", contended_parking_lot).target(1.0),
        Contender::new("pthread_robust", contended_robust),
        Contender::boost(|| with_boost("lock_contended")),
        Contender::python("python", || structure("lock_contended")),
    ],
    most_pairs: usize::MAX,
};

/// The number of lock-and-unlock pairs in a batch, and of batches in a run, which takes some 0.3 s.
const BATCH: usize = 100_000;
const BATCHES: usize = 150;
/// The number of increments of each of the two parties.
const INCREMENTS: u64 = 8_000_000;

/// Returns the nanoseconds of one call of `pair`: the median of the batches.
pub(super) fn time_pairs(mut pair: impl FnMut() -> Result) -> Result<Sample> {
    pin(0);
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let started = Instant::now();
        for _ in 0..BATCH {
            pair()?;
        }
        batches.push(started.elapsed().as_nanos() as f64 / BATCH as f64);
    }
    let best = batches.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Sample::new(median(&batches).unwrap_or(f64::NAN)).note("best batch, ns", best))
}

/// Returns an error unless a second thread finds the lock taken.
fn refused(try_lock: impl FnOnce() -> bool + Send) -> Result {
    let got_it = std::thread::scope(|scope| scope.spawn(try_lock).join().unwrap_or(true));
    ensure(!got_it, "a held lock was taken")
}

fn uncontended_procession() -> Result<Sample> {
    let lock = Lock::new()?;
    let held = lock.lock()?;
    refused(|| lock.try_lock().is_ok())?;
    drop(held);
    time_pairs(|| {
        drop(black_box(&lock).lock()?);
        Ok(())
    })
}

fn uncontended_parking_lot() -> Result<Sample> {
    let mutex = parking_lot::Mutex::new(());
    let held = mutex.lock();
    refused(|| mutex.try_lock().is_some())?;
    drop(held);
    time_pairs(|| {
        drop(black_box(&mutex).lock());
        Ok(())
    })
}

fn uncontended_robust() -> Result<Sample> {
    let mutex = RobustMutex::new()?;
    mutex.lock()?;
    refused(|| mutex.try_lock())?;
    mutex.unlock();
    time_pairs(|| {
        black_box(&mutex).lock()?;
        mutex.unlock();
        Ok(())
    })
}

/// Runs one of the two parties: meets the other, increments under the lock, and records when it began and
/// ended.
fn increment(board: &Board, which: usize, mut locked: impl FnMut(&dyn Fn()) -> Result) -> Result {
    pin(which);
    board.arrive();
    board.meet(2);
    board.began_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
    for _ in 0..INCREMENTS {
        locked(&|| board.increment())?;
    }
    board.ended_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
    Ok(())
}

fn rate(board: &Board) -> Result<Sample> {
    let count = board.counter.0.load(Ordering::SeqCst);
    ensure(
        count == 2 * INCREMENTS,
        &format!("{} updates of {} were lost", 2 * INCREMENTS - count, 2 * INCREMENTS),
    )?;
    let (began, first_ended) = (board.began_ns.0.first(), board.ended_ns.0.first());
    let elapsed = board.elapsed().as_secs_f64();
    let together = (first_ended.saturating_sub(began)) as f64 / 1e9 / elapsed;
    Ok(Sample::new(count as f64 / elapsed).note("share of the time that both ran", together))
}

fn contended_procession() -> Result<Sample> {
    let (board, path) = Board::create()?;
    let lock = Lock::new()?;
    let child = |path: String, which: usize, lock: Lock| -> procession::Result<()> {
        let work = || {
            increment(Board::open(&path)?, which, |critical| {
                let _held = lock.lock()?;
                critical();
                Ok(())
            })
        };
        work().map_err(|e: Box<dyn std::error::Error + Send + Sync>| std::io::Error::other(e).into())
    };
    let children =
        [Process::spawn(child, (path.clone(), 0, lock.clone()))?, Process::spawn(child, (path, 1, lock))?];
    for child in children {
        child.join()??;
    }
    rate(board)
}

fn contended_parking_lot() -> Result<Sample> {
    let (board, _) = Board::create()?;
    let mutex = parking_lot::Mutex::new(());
    let work = |which| {
        increment(board, which, |critical| {
            let _held = mutex.lock();
            critical();
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(|| work(0)), scope.spawn(|| work(1))];
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })?;
    rate(board)
}

fn contended_robust() -> Result<Sample> {
    let (board, _) = Board::create()?;
    let mutex = RobustMutex::new()?;
    let child = |which| {
        Forked::run(move || {
            increment(board, which, |critical| {
                mutex.lock()?;
                critical();
                mutex.unlock();
                Ok(())
            })
        })
    };
    let children = [child(0)?, child(1)?];
    children.into_iter().try_for_each(Forked::join)?;
    rate(board)
}
