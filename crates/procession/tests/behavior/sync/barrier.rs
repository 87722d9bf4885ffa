//! `Barrier`, `Latch` and `Once`: rounds, waiters, and what a death does to them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::state::Array;
use procession::sync::{Barrier, Broken, WaitError};
use procession::{Error, Process};

const SOON: Duration = Duration::from_millis(20);

/// Starts processes and threads, each of which is one party.
fn parties(
    barrier: &Barrier,
    processes: usize,
    threads: usize,
    play: impl Fn(Barrier) -> Vec<(u32, bool)> + Copy + Send + 'static,
) -> Vec<Vec<(u32, bool)>> {
    let far: Vec<_> = (0..processes).map(|_| Process::spawn(play, (barrier.clone(),)).unwrap()).collect();
    let near: Vec<_> = (0..threads)
        .map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || play(barrier))
        })
        .collect();
    let mut all: Vec<_> = near.into_iter().map(|t| t.join().unwrap()).collect();
    all.extend(far.iter().map(|p| p.join().unwrap()));
    all
}

#[test]
fn each_round_has_every_index_once_and_one_leader() {
    let _dog = watched();
    let barrier = Barrier::new(5).unwrap();
    let rounds = parties(&barrier, 3, 2, |barrier| {
        (0..100).map(|_| barrier.wait().unwrap()).map(|met| (met.index(), met.is_leader())).collect()
    });
    for round in 0..100 {
        let met: Vec<_> = rounds.iter().map(|party| party[round]).collect();
        assert_eq!(
            met.iter().map(|(index, _)| index).collect::<HashSet<_>>(),
            (0..5).collect::<Vec<_>>().iter().collect()
        );
        assert_eq!(met.iter().filter(|(_, leader)| *leader).count(), 1, "{met:?}");
    }
    assert_eq!((barrier.waiting(), barrier.is_broken(), barrier.parties()), (0, false, 5));
}

/// No party is in round k + 1 while another has not finished round k.
#[test]
fn parties_pass_in_lockstep() {
    let _dog = watched();
    const ROUNDS: u32 = 1000;
    let (barrier, rounds) = (Barrier::new(5).unwrap(), Array::<u32>::new(5).unwrap());
    let play = |barrier: Barrier, rounds: Array<u32>, me: usize| {
        for round in 1..=ROUNDS {
            rounds.lock().unwrap()[me] = round;
            barrier.wait().unwrap();
            assert!(rounds.lock().unwrap().iter().all(|&r| r == round || r == round + 1));
        }
    };
    let all: Vec<_> =
        (0..5).map(|me| Process::spawn(play, (barrier.clone(), rounds.clone(), me)).unwrap()).collect();
    all.iter().for_each(|p| p.join().unwrap());
}

#[test]
fn a_barrier_of_none_is_an_error_and_a_single_party_never_waits() {
    let _dog = watched();
    for parties in [0, Barrier::MAX_PARTIES + 1, u32::MAX] {
        assert!(matches!(Barrier::new(parties), Err(Error::InvalidArgument(_))));
    }
    let one = Barrier::new(1).unwrap();
    for _ in 0..3 {
        let met = one.wait().unwrap();
        assert!(met.is_leader() && met.index() == 0);
    }
    assert!(format!("{one:?}").contains("parties: 1"));
}

#[test]
fn a_timeout_breaks_the_barrier_until_it_is_reset() {
    let _dog = watched();
    let barrier = Barrier::new(3).unwrap();
    let waiting = Process::spawn(|barrier: Barrier| barrier.wait().map(drop), (barrier.clone(),)).unwrap();
    until("one waits", || barrier.waiting() == 1);
    let before = Instant::now();
    assert_eq!(barrier.wait_timeout(SOON), Err(WaitError::TimedOut));
    assert!(before.elapsed() >= SOON);
    assert_eq!(waiting.join(), Ok(Err(WaitError::Broken(Broken::TimedOut))));
    assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::TimedOut)));
    assert!(barrier.is_broken());
    barrier.reset().unwrap();
    let met = parties(&barrier, 2, 1, |barrier| {
        barrier.wait().map(|met| vec![(met.index(), met.is_leader())]).unwrap()
    });
    assert_eq!(met.len(), 3);
}

#[test]
fn abort_and_reset_fail_the_waiters() {
    let _dog = watched();
    let barrier = Barrier::new(3).unwrap();
    for (end, why) in [
        (Barrier::abort as fn(&Barrier) -> procession::Result<()>, Broken::Aborted),
        (Barrier::reset, Broken::Reset),
    ] {
        let waits = |barrier: Barrier| barrier.wait().map(drop);
        let p = Process::spawn(waits, (barrier.clone(),)).unwrap();
        let t = thread::spawn({
            let barrier = barrier.clone();
            move || waits(barrier)
        });
        until("two wait", || barrier.waiting() == 2);
        end(&barrier).unwrap();
        assert_eq!(p.join(), Ok(Err(WaitError::Broken(why))));
        assert_eq!(t.join().unwrap(), Err(WaitError::Broken(why)));
        assert_eq!(barrier.is_broken(), why == Broken::Aborted);
        barrier.reset().unwrap();
    }
    let met = parties(&barrier, 3, 0, |barrier| {
        barrier.wait().map(|met| vec![(met.index(), met.is_leader())]).unwrap()
    });
    assert_eq!(met.len(), 3);
}

/// There are more threads than parties. Any two threads form a round, and one of them leads it.
#[test]
fn rounds_of_two_among_eight_have_one_leader_each() {
    let _dog = watched();
    // Only a thread with a ticket arrives, so no party is left alone at the end.
    static TICKETS: AtomicU32 = AtomicU32::new(1600);
    let barrier = Barrier::new(2).unwrap();
    let rounds = parties(&barrier, 0, 8, |barrier| {
        let ticket =
            || TICKETS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).ok();
        std::iter::from_fn(|| ticket().map(|_| barrier.wait().unwrap()))
            .map(|met| (met.index(), met.is_leader()))
            .collect()
    });
    let met: Vec<_> = rounds.concat();
    assert_eq!((met.len(), met.iter().filter(|(_, leader)| *leader).count()), (1600, 800));
    assert_eq!(met.iter().filter(|(index, _)| *index == 0).count(), 800);
}

/// The leader acts once for each round, before a second meeting lets the other parties continue.
#[test]
fn a_leader_acts_once_for_each_round() {
    let _dog = watched();
    let (barrier, acts) = (Barrier::new(5).unwrap(), Array::<u32>::new(1).unwrap());
    let play = |barrier: Barrier, acts: Array<u32>| {
        for round in 1..=50 {
            if barrier.wait().unwrap().is_leader() {
                acts.lock().unwrap()[0] += 1;
            }
            barrier.wait().unwrap();
            assert_eq!(acts.lock().unwrap()[0], round);
            barrier.wait().unwrap();
        }
    };
    let all: Vec<_> =
        (0..5).map(|_| Process::spawn(play, (barrier.clone(), acts.clone())).unwrap()).collect();
    all.iter().for_each(|p| p.join().unwrap());
}

/// The parties of an aborted barrier meet at another barrier. One of them resets the first barrier, which then works
/// again.
#[test]
fn parties_of_an_aborted_barrier_can_reset_and_reuse_it() {
    let _dog = watched();
    let (first, second) = (Barrier::new(3).unwrap(), Barrier::new(3).unwrap());
    let play = |first: Barrier, second: Barrier, aborts: bool| {
        match aborts {
            true => {
                until("the other parties wait", || first.waiting() == 2);
                first.abort().unwrap();
            }
            false => assert_eq!(first.wait(), Err(WaitError::Broken(Broken::Aborted))),
        }
        if second.wait().unwrap().is_leader() {
            first.reset().unwrap();
        }
        second.wait().unwrap();
        first.wait().unwrap();
    };
    let all: Vec<_> = [true, false, false]
        .into_iter()
        .map(|aborts| Process::spawn(play, (first.clone(), second.clone(), aborts)).unwrap())
        .collect();
    all.iter().for_each(|p| p.join().unwrap());
    assert_eq!((first.is_broken(), first.waiting()), (false, 0));
}
