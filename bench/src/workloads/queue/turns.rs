//! Round trips over two queues.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use procession::Queue;

use super::messages::mean_ns;
use super::parties::{Place, in_processes, in_threads};
use crate::Result;
use crate::board::Board;
use crate::machine::now_ns;
use crate::peers::fork::Forked;
use crate::peers::futex;
use crate::stats::median;
use crate::workload::{Better, Contender, Sample, Workload, ensure, if_built, structure, with_boost};

pub const ROUND_TRIP: Workload = Workload {
    name: "queue_round_trip",
    says: "there and back over two queues, blocking, two processes on two CPUs (crossbeam: threads)",
    unit: "ns",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", round_trip_procession),
        Contender::new("crossbeam", round_trip_crossbeam).target(1.2),
        Contender::peer("iceoryx2", if_built!(super::iceoryx::round_trip)),
        Contender::peer("ipc_channel", if_built!(super::ipc_channel::round_trip)),
        Contender::boost(|| with_boost("queue_round_trip")),
        Contender::python("python", || structure("queue_round_trip")),
    ],
    most_pairs: usize::MAX,
};

pub const ASLEEP: Workload = Workload {
    name: "queue_round_trip_asleep",
    says: "the same to a partner that has fallen asleep on another CPU; median (futex: bare, two forks)",
    unit: "us",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", asleep_procession),
        Contender::new("futex", asleep_futex).target(1.2),
    ],
    most_pairs: usize::MAX,
};

const TURNS: u64 = 200_000;
const SLEEPS: u64 = 500;
/// A partner is asleep when this much time has passed since its last answer.
const PAUSE: Duration = Duration::from_micros(500);

fn round_trip_procession() -> Result<Sample> {
    let queues = (Queue::<u64>::bounded(16)?, Queue::<u64>::bounded(16)?);
    let board = in_processes(2, Place::Pinned, &queues, |which, (there, back)| {
        for turn in 0..TURNS {
            if which == 0 {
                there.put(turn)?;
                ensure(back.get()? == turn, "a wrong answer")?;
            } else {
                back.put(there.get()?)?;
            }
        }
        Ok(if which == 0 { TURNS } else { 0 })
    })?;
    mean_ns(board, TURNS)
}

fn round_trip_crossbeam() -> Result<Sample> {
    let (there, back) = (bounded::<u64>(16), bounded::<u64>(16));
    let board = in_threads(Place::Pinned, vec![(there, back); 2], |which, (there, back)| {
        for turn in 0..TURNS {
            if which == 0 {
                there.0.send(turn)?;
                ensure(back.1.recv()? == turn, "a wrong answer")?;
            } else {
                back.0.send(there.1.recv()?)?;
            }
        }
        Ok(if which == 0 { TURNS } else { 0 })
    })?;
    mean_ns(board, TURNS)
}

/// Returns the median of round trips, in nanoseconds. Before each round trip, the partner falls asleep.
fn after_pauses(mut turn: impl FnMut(u64) -> Result) -> Result<u64> {
    let mut times = Vec::new();
    for number in 1..=SLEEPS {
        std::thread::sleep(PAUSE);
        let began = now_ns();
        turn(number)?;
        times.push((now_ns() - began) as f64);
    }
    Ok(median(&times).unwrap_or(f64::NAN) as u64)
}

fn in_us(board: &Board) -> Sample {
    Sample::new(board.counter.0.load(Ordering::SeqCst) as f64 / 1e3)
}

fn asleep_procession() -> Result<Sample> {
    let queues = (Queue::<u64>::bounded(16)?, Queue::<u64>::bounded(16)?);
    let board = in_processes(2, Place::Pinned, &queues, |which, (there, back)| {
        if which == 0 {
            return after_pauses(|number| {
                there.put(number)?;
                ensure(back.get()? == number, "a wrong answer")
            });
        }
        for _ in 0..SLEEPS {
            back.put(there.get()?)?;
        }
        Ok(0)
    })?;
    Ok(in_us(board))
}

fn asleep_futex() -> Result<Sample> {
    let (board, _) = Board::create()?;
    let [there, back]: [&'static AtomicU32; 2] = [&board.words.0[0], &board.words.0[1]];
    let child = |which| {
        Forked::run(move || {
            super::parties::party(board, which, 2, Place::Pinned, || {
                if which == 0 {
                    return after_pauses(|number| {
                        futex::set_and_wake(there, number as u32);
                        futex::await_value(back, number as u32);
                        Ok(())
                    });
                }
                for number in 1..=SLEEPS as u32 {
                    futex::await_value(there, number);
                    futex::set_and_wake(back, number);
                }
                Ok(0)
            })
        })
    };
    let children = [child(0)?, child(1)?];
    children.into_iter().try_for_each(Forked::join)?;
    Ok(in_us(board))
}
