//! Barrier and condition variable: two processes that wait for each other, again and again.

use std::sync::atomic::Ordering;

use procession::Process;
use procession::sync::{Barrier, Condvar, Mutex};

use crate::Result;
use crate::board::Board;
use crate::machine::{now_ns, pin};
use crate::peers::fork::Forked;
use crate::peers::futex::{await_value, set_and_wake};
use crate::workload::{Better, Contender, Sample, Workload, python};

const ROUNDS: u64 = 30_000;

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
        Contender::python("python", || python("barrier")).target(1.0 / 3.0),
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
        Contender::python("python", || python("condition")).target(1.0 / 3.0),
    ],
    most_pairs: usize::MAX,
};

/// Returns the nanoseconds of each round of two processes.
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

/// Two forks that wake each other by a bare futex, without spinning first.
fn futex_round_trip() -> Result<Sample> {
    let (board, _) = Board::create()?;
    let turns = &board.ready.0;
    let play = move |which: u32| {
        pin(which as usize);
        for turn in 0..(ROUNDS + ROUNDS / 10) as u32 {
            let mine = 2 * turn + which;
            await_value(turns, mine);
            set_and_wake(turns, mine + 1);
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
