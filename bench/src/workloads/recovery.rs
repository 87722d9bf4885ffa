//! The time from the death of a lock's holder until its waiter continues.
//!
//! Holder and waiter are processes of their own. Main kills the holder with SIGKILL once the waiter sleeps. The waiter
//! reads the clock when it holds the lock.

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procession::sync::LockError;
use procession::{Failure, Lock, Process};

use crate::Result;
use crate::board::Board;
use crate::machine::{is_asleep, now_ns, resident_gib};
use crate::peers::fork::{self, Forked};
use crate::peers::robust::RobustMutex;
use crate::stats::median;
use crate::workload::{Better, Contender, Sample, Workload, ensure};

pub const RECOVERY: Workload = Workload {
    name: "recovery",
    says: "from SIGKILL of a lock's holder (small) to its waiter's having the lock",
    unit: "us",
    better: Better::Lower,
    target: Some(350.0),
    contenders: &[
        Contender::new("procession", || deaths(15, false, procession_death)),
        Contender::new("pthread_robust", || deaths(15, false, robust_death)),
    ],
    most_pairs: usize::MAX,
};

pub const RECOVERY_GIB: Workload = Workload {
    name: "recovery_gib",
    says: "the same for a holder with 1 GiB resident",
    target: None,
    contenders: &[
        Contender::new("procession", || deaths(1, true, procession_death)),
        Contender::new("pthread_robust", || deaths(1, true, robust_death)),
    ],
    ..RECOVERY
};

/// Returns the median of `count` deaths of holders that are `big` or not, after one that does not count.
fn deaths(count: usize, big: bool, one: fn(bool) -> Result<f64>) -> Result<Sample> {
    one(false)?;
    let mut each_us = (0..count).map(|_| one(big)).collect::<Result<Vec<_>>>()?;
    each_us.sort_by(f64::total_cmp);
    let worst = each_us.last().copied().unwrap_or(f64::NAN);
    Ok(Sample::new(median(&each_us).unwrap_or(f64::NAN)).note("worst, us", worst))
}

/// Kills the holder once the waiter is asleep. Returns the time of the kill. Fails if the waiter does not
/// wait.
fn kill_when_awaited(holder: u32, waiter: u32) -> Result<u64> {
    for _ in 0..1000 {
        // The pause is longer than the millisecond after which a waiter of procession checks once more.
        std::thread::sleep(Duration::from_millis(4));
        if is_asleep(waiter) {
            let at = now_ns();
            fork::kill(holder);
            return Ok(at);
        }
    }
    Err("the waiter does not sleep".into())
}

fn hold(board: &Board, big: bool) -> ! {
    let _memory = black_box(if big { resident_gib() } else { Vec::new() });
    board.arrive();
    loop {
        std::thread::park();
    }
}

fn procession_holder(path: String, lock: Lock, big: bool) -> procession::Result<()> {
    let board = Board::open(&path).map_err(std::io::Error::other)?;
    let _held = lock.lock()?;
    hold(board, big)
}

/// Returns when the waiter was notified of the death, when it acquired the lock, and the process id of the
/// dead holder.
fn procession_waiter(path: String, lock: Lock) -> procession::Result<(u64, u64, u32)> {
    let board = Board::open(&path).map_err(std::io::Error::other)?;
    board.arrive();
    let heard = match lock.lock() {
        Err(LockError::OwnerDied(_)) => now_ns(),
        other => {
            let what = format!("the lock gave {:?} to its waiter", other.map(|_| ()));
            return Err(std::io::Error::other(what).into());
        }
    };
    let held = lock.lock_or_recover()?;
    let had = now_ns();
    Ok((heard, had, held.recovered_from().map_or(0, |who| who.pid)))
}

fn procession_death(big: bool) -> Result<f64> {
    let (board, path) = Board::create()?;
    let lock = Lock::new()?;
    let holder = Process::spawn(procession_holder, (path.clone(), lock.clone(), big))?;
    board.await_arrivals(1)?;
    let waiter = Process::spawn(procession_waiter, (path, lock))?;
    board.await_arrivals(2)?;
    let (holder_pid, waiter_pid) = (holder.pid().ok_or("no pid")?, waiter.pid().ok_or("no pid")?);
    let killed = kill_when_awaited(holder_pid, waiter_pid)?;
    let (heard, had, dead) = waiter.join()??;
    ensure(killed < heard && heard <= had, "the waiter heard of a death before it")?;
    ensure(dead == holder_pid, "the waiter heard of another death")?;
    let end = holder.join().err().ok_or("the holder returned")?;
    ensure(
        matches!(end.failure(), Failure::Killed { signal: libc::SIGKILL, .. }),
        "the holder was not killed",
    )?;
    Ok((had - killed) as f64 / 1e3)
}

fn robust_death(big: bool) -> Result<f64> {
    let (board, _) = Board::create()?;
    let mutex = RobustMutex::new()?;
    let holder = Forked::run(move || {
        mutex.lock()?;
        hold(board, big)
    })?;
    board.await_arrivals(1)?;
    let waiter = Forked::run(move || {
        board.arrive();
        let owner_died = mutex.lock()?;
        board.ended_ns.0.0[0].store(now_ns(), Ordering::SeqCst);
        ensure(owner_died, "the waiter was not notified of the death")
    })?;
    board.await_arrivals(2)?;
    let killed = kill_when_awaited(holder.pid, waiter.pid)?;
    waiter.join()?;
    let had = board.ended_ns.0.0[0].load(Ordering::SeqCst);
    ensure(killed < had, "the waiter heard of a death before it")?;
    Ok((had - killed) as f64 / 1e3)
}
