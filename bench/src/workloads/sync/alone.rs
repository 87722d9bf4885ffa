//! Acquiring and releasing free objects, reading an event, and two concurrent readers.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use procession::sync::{Event, Mutex, RLock, RwLock, Semaphore};
use procession::{Lock, Process};

use super::super::lock::time_pairs;
use crate::Result;
use crate::board::Board;
use crate::machine::{now_ns, pin};
use crate::workload::{Better, Contender, Sample, Workload, python};

const fn uncontended(
    name: &'static str,
    says: &'static str,
    contenders: &'static [Contender],
    target: Option<f64>,
) -> Workload {
    Workload {
        name,
        says,
        unit: "ns/pair",
        better: Better::Lower,
        target,
        contenders,
        most_pairs: usize::MAX,
    }
}

pub const RLOCK: Workload = uncontended(
    "rlock_uncontended",
    "taking and releasing a free recursive lock",
    &[
        Contender::new("procession", || {
            let lock = RLock::new()?;
            time_pairs(|| {
                drop(black_box(&lock).lock()?);
                Ok(())
            })
        }),
        Contender::new("lock", lock).target(1.5),
        Contender::new("parking_lot", || {
            let lock = parking_lot::ReentrantMutex::new(());
            time_pairs(|| {
                drop(black_box(&lock).lock());
                Ok(())
            })
        })
        .target(1.6),
        Contender::python("python", || python("rlock")).target(1.0 / 3.0),
    ],
    None,
);

pub const MUTEX: Workload = uncontended(
    "mutex_uncontended",
    "taking a free mutex, incrementing its value, releasing it",
    &[
        Contender::new("procession", || {
            let mutex = Mutex::new(0u64)?;
            time_pairs(|| {
                *black_box(&mutex).lock()? += 1;
                Ok(())
            })
        }),
        Contender::new("lock", lock).target(1.5),
        Contender::new("parking_lot", || {
            let mutex = parking_lot::Mutex::new(0u64);
            time_pairs(|| {
                *black_box(&mutex).lock() += 1;
                Ok(())
            })
        })
        .target(1.6),
        Contender::python("python", || python("value")).target(1.0 / 3.0),
    ],
    None,
);

pub const SEMAPHORE: Workload = uncontended(
    "semaphore_uncontended",
    "taking a free permit and giving it back",
    &[
        Contender::new("procession", || {
            let semaphore = Semaphore::new(4)?;
            time_pairs(|| {
                drop(black_box(&semaphore).acquire()?);
                Ok(())
            })
        }),
        Contender::new("lock", lock).target(1.5),
        Contender::python("python", || python("semaphore")).target(1.0 / 3.0),
    ],
    None,
);

pub const READ: Workload = uncontended(
    "rwlock_read_uncontended",
    "taking a free read-write lock to read, and releasing it",
    &[
        Contender::new("procession", || {
            let lock = RwLock::new(0u64)?;
            time_pairs(|| {
                black_box(*black_box(&lock).read()?);
                Ok(())
            })
        }),
        Contender::new("lock", lock).target(1.5),
        Contender::new("parking_lot", || {
            let lock = parking_lot::RwLock::new(0u64);
            time_pairs(|| {
                black_box(*black_box(&lock).read());
                Ok(())
            })
        })
        .target(1.6),
    ],
    None,
);

pub const IS_SET: Workload = uncontended(
    "event_is_set",
    "looking at an event",
    &[
        Contender::new("procession", || {
            let event = Event::new()?;
            time_pairs(|| {
                black_box(black_box(&event).is_set());
                Ok(())
            })
        }),
        Contender::python("python", || python("event")).target(1.0 / 3.0),
    ],
    Some(2.0),
);

pub const READ_SCALES: Workload = Workload {
    name: "rwlock_read_two",
    says: "two processes on two CPUs that read under one read-write lock, against one of them alone",
    unit: "reads/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", || reads(2)),
        Contender::new("one process", || reads(1)).target(1.9),
    ],
    most_pairs: usize::MAX,
};

fn lock() -> Result<Sample> {
    let lock = Lock::new()?;
    time_pairs(|| {
        drop(black_box(&lock).lock()?);
        Ok(())
    })
}

const READS: u64 = 20_000_000;

/// Returns the reads per second of this many processes together.
fn reads(processes: usize) -> Result<Sample> {
    let (board, path) = Board::create()?;
    let lock = RwLock::new(0u64)?;
    let child = |path: String, which: usize, processes: usize, lock: RwLock<u64>| -> procession::Result<()> {
        pin(which);
        let board = Board::open(&path).map_err(procession::Error::other)?;
        board.arrive();
        board.meet(processes as u32);
        board.began_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
        for _ in 0..READS {
            black_box(*lock.read()?);
        }
        board.ended_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
        Ok(())
    };
    let children: Vec<_> = (0..processes)
        .map(|which| Process::spawn(child, (path.clone(), which, processes, lock.clone())))
        .collect::<procession::Result<_>>()?;
    for child in children {
        child.join()??;
    }
    let took = |which: usize| {
        let at = |of: &[std::sync::atomic::AtomicU64]| of[which].load(Ordering::SeqCst);
        (at(&board.ended_ns.0.0) - at(&board.began_ns.0.0)) as f64 / 1e9
    };
    Ok(Sample::new((0..processes).map(|which| READS as f64 / took(which)).sum()))
}
