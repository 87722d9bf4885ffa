//! The rest of the synchronization family: alone, and handing over between two.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use procession::sync::{Barrier, Condvar, Event, Mutex, RLock, RwLock, Semaphore};
use procession::{Lock, Process};

use super::lock::time_pairs;
use super::{Better, Contender, Sample, Workload};
use crate::Result;
use crate::board::Board;
use crate::machine::{now_ns, pin};
use crate::peers::fork::Forked;

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
    &[Contender::new("procession", || {
        let event = Event::new()?;
        time_pairs(|| {
            black_box(black_box(&event).is_set());
            Ok(())
        })
    })],
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

pub const BARRIER: Workload = Workload {
    name: "barrier_of_two",
    says: "one round of a barrier of two processes on two CPUs (futex: a round trip)",
    unit: "ns",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", || {
            let barrier = Barrier::new(2)?;
            two(barrier, |barrier, _| barrier.wait().map(drop).map_err(Into::into))
        }),
        Contender::new("futex", futex_round_trip).target(1.2),
    ],
    most_pairs: usize::MAX,
};

pub const CONDVAR: Workload = Workload {
    name: "condvar_round_trip",
    says: "a turn handed over and back by a condition variable, two processes on two CPUs",
    unit: "ns",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", || {
            two((Mutex::new(0u64)?, Condvar::new()?), |(turn, condvar), which| {
                let mut mine = condvar.wait_while(turn.lock()?, |turn| **turn % 2 != which)?;
                *mine += 1;
                drop(mine);
                condvar.notify_one()
            })
        }),
        Contender::new("futex", futex_round_trip).target(1.2),
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
const ROUNDS: u64 = 30_000;

/// Reads per second of so many processes together.
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

/// Nanoseconds of a round of two processes.
fn two<T: procession::Message + Clone>(
    shared: T,
    round: impl Fn(&T, u64) -> procession::Result<()> + Copy + Send + 'static,
) -> Result<Sample> {
    let play = move |shared: T, which: u64| -> procession::Result<u64> {
        pin(which as usize);
        (0..ROUNDS / 10).try_for_each(|_| round(&shared, which))?;
        let began = now_ns();
        (0..ROUNDS).try_for_each(|_| round(&shared, which))?;
        Ok(now_ns() - began)
    };
    let other = Process::spawn(play, (shared.clone(), 1))?;
    let took = play(shared, 0)?;
    other.join()??;
    Ok(Sample::new(took as f64 / ROUNDS as f64))
}

/// Two forks that wake each other by a bare futex, without looking around first.
fn futex_round_trip() -> Result<Sample> {
    let (board, _) = Board::create()?;
    let turns = &board.ready.0;
    let play = move |which: u32| {
        pin(which as usize);
        for turn in 0..(ROUNDS + ROUNDS / 10) as u32 {
            let mine = 2 * turn + which;
            while turns.load(Ordering::SeqCst) != mine {
                futex(turns, libc::FUTEX_WAIT, turns.load(Ordering::SeqCst), mine);
            }
            turns.store(mine + 1, Ordering::SeqCst);
            futex(turns, libc::FUTEX_WAKE, 1, u32::MAX);
            if turn == (ROUNDS / 10) as u32 {
                board.began_ns.0.0[which as usize].store(now_ns(), Ordering::SeqCst);
            }
        }
        board.ended_ns.0.0[which as usize].store(now_ns(), Ordering::SeqCst);
    };
    let other = Forked::run(|| {
        play(1);
        Ok(())
    })?;
    play(0);
    other.join()?;
    let took = board.ended_ns.0.0[0].load(Ordering::SeqCst) - board.began_ns.0.0[0].load(Ordering::SeqCst);
    Ok(Sample::new(took as f64 / ROUNDS as f64))
}

fn futex(word: &AtomicU32, operation: i32, value: u32, unless: u32) {
    if value != unless {
        // SAFETY: the word outlives the call, and there is no timeout.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<u32>()) };
    }
}
