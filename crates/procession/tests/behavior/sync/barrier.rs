//! `Barrier`, `Latch` and `Once`: rounds, waiters, and what a death does to them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::state::Array;
use procession::sync::{Barrier, Broken, Event, Latch, LockError, Once, WaitError};
use procession::{Error, Process};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// Python hangs for ever in these cases: a party is killed while it waits, or before it arrives.
#[test]
fn a_killed_party_breaks_the_barrier() {
    let _dog = watched();
    for arrives in [true, false] {
        let (barrier, there) = (Barrier::new(3).unwrap(), Event::new().unwrap());
        let dies = |barrier: Barrier, there: Event, arrives: bool| {
            there.set().unwrap();
            if arrives {
                let _ = barrier.wait();
            }
            forever();
        };
        let victim = Process::spawn(dies, (barrier.clone(), there.clone(), arrives)).unwrap();
        let waits = Process::spawn(|barrier: Barrier| barrier.wait().map(drop), (barrier.clone(),)).unwrap();
        there.wait().unwrap();
        until("the arrived parties wait", || barrier.waiting() == 1 + usize::from(arrives));
        let pid = victim.pid().unwrap();
        victim.kill().unwrap();
        let broken = WaitError::Broken(Broken::ProcessDied { pid });
        assert_eq!(waits.join(), Ok(Err(broken.clone())));
        assert_eq!(barrier.wait(), Err(broken));
        barrier.abort().unwrap();
        barrier.reset().unwrap();
        assert!(!barrier.is_broken());
    }
}

#[test]
fn a_party_that_fails_before_it_arrives_breaks_the_barrier() {
    let _dog = watched();
    let panics = |_: Barrier| -> () { panic!("it fails") };
    let exits = |_: Barrier| -> () { std::process::exit(0) };
    let barrier = Barrier::new(2).unwrap();
    let pid = Process::spawn(exits, (barrier.clone(),)).unwrap().pid().unwrap();
    assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::ProcessDied { pid })));
    barrier.reset().unwrap();
    let pid = Process::spawn(panics, (barrier.clone(),)).unwrap().pid().unwrap();
    assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::Panicked { pid })));
    barrier.reset().unwrap();
    let here = barrier.clone();
    thread::spawn(move || panics(here)).join().unwrap_err();
    let pid = std::process::id();
    assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::Panicked { pid })));
}

/// An argument that fails to decode in another process, with an error or a panic. So that process ends before
/// its function starts.
struct Unreadable {
    panics: bool,
}

impl Serialize for Unreadable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (std::process::id(), self.panics).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unreadable, D::Error> {
        match <(u32, bool)>::deserialize(deserializer)? {
            (pid, panics) if pid == std::process::id() => Ok(Unreadable { panics }),
            (_, true) => panic!("the argument cannot be decoded"),
            (_, false) => Err(D::Error::custom("the argument cannot be decoded")),
        }
    }
}

#[test]
fn a_party_with_undecodable_arguments_breaks_the_barrier() {
    let _dog = watched();
    let barrier = Barrier::new(2).unwrap();
    let missed = |p: Process<()>| {
        let told = barrier.wait_timeout(LONG);
        assert!(p.join().is_err());
        barrier.reset().unwrap();
        let pid = p.pid().unwrap();
        let died = WaitError::Broken(Broken::ProcessDied { pid });
        let panicked = WaitError::Broken(Broken::Panicked { pid });
        assert!(told == Err(died) || told == Err(panicked), "{told:?}");
    };
    for panics in [false, true] {
        let comes = |_: Unreadable, barrier: Barrier| drop(barrier.wait());
        missed(Process::spawn(comes, (Unreadable { panics }, barrier.clone())).unwrap());
        let comes = |barrier: Barrier, _: Unreadable| drop(barrier.wait());
        missed(Process::spawn(comes, (barrier.clone(), Unreadable { panics })).unwrap());
    }
}

/// A party that panics because another party died is not reported as the party that died.
#[test]
fn a_broken_barrier_reports_the_first_cause() {
    let _dog = watched();
    let barrier = Barrier::new(3).unwrap();
    let dies = |_: Barrier| -> () { std::process::abort() };
    let dead = Process::spawn(dies, (barrier.clone(),)).unwrap();
    dead.join().unwrap_err();
    let expects = |barrier: Barrier| -> () { panic!("{:?}", barrier.wait().expect_err("a party died")) };
    let follows = Process::spawn(expects, (barrier.clone(),)).unwrap();
    follows.join().unwrap_err();
    let killed = Process::spawn(dies, (barrier.clone(),)).unwrap();
    killed.join().unwrap_err();
    let pid = dead.pid().unwrap();
    assert_eq!(barrier.wait(), Err(WaitError::Broken(Broken::ProcessDied { pid })));
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

#[test]
fn a_party_that_returns_does_not_break_the_barrier() {
    let _dog = watched();
    let barrier = Barrier::new(2).unwrap();
    let once = |barrier: Barrier| barrier.wait().map(drop);
    let p = Process::spawn(once, (barrier.clone(),)).unwrap();
    barrier.wait().unwrap();
    assert_eq!(p.join(), Ok(Ok(())));
    let p = Process::spawn(once, (barrier.clone(),)).unwrap();
    barrier.wait().unwrap();
    assert_eq!(p.join(), Ok(Ok(())));
}

#[test]
fn a_shrinking_barrier_continues_without_the_dead() {
    let _dog = watched();
    for arrives in [true, false] {
        let barrier = Barrier::builder(4).shrink(true).build().unwrap();
        let there = Event::new().unwrap();
        let dies = |barrier: Barrier, there: Event, arrives: bool| {
            barrier.wait().unwrap();
            there.set().unwrap();
            if arrives {
                let _ = barrier.wait();
            }
            forever();
        };
        let victim = Process::spawn(dies, (barrier.clone(), there.clone(), arrives)).unwrap();
        let stays =
            |barrier: Barrier| (0..50).map(|_| barrier.wait().map(drop)).collect::<Result<Vec<()>, _>>();
        let others: Vec<_> = (0..2).map(|_| Process::spawn(stays, (barrier.clone(),)).unwrap()).collect();
        barrier.wait().unwrap();
        there.wait().unwrap();
        until("the arrived parties wait", || barrier.waiting() == 2 + usize::from(arrives));
        victim.kill().unwrap();
        victim.join().unwrap_err();
        until("the barrier has shrunk", || barrier.parties() == 3);
        for _ in 1..50 {
            barrier.wait().unwrap();
        }
        others.iter().for_each(|p| assert_eq!(p.join().unwrap().unwrap().len(), 50));
    }
}

/// If every other party is dead, a party that arrives does not wait.
#[test]
fn the_last_living_party_passes_alone() {
    let _dog = watched();
    let barrier = Barrier::builder(2).shrink(true).build().unwrap();
    for _ in 0..3 {
        let dies = |_: Barrier| -> () { std::process::abort() };
        Process::spawn(dies, (barrier.clone(),)).unwrap().join().unwrap_err();
    }
    until("every party is dead", || barrier.parties() == 0);
    for _ in 0..3 {
        assert_eq!(barrier.wait_timeout(LONG).map(|met| met.is_leader()), Ok(true));
    }
}

#[test]
fn a_latch_opens_when_its_count_reaches_zero() {
    let _dog = watched();
    let latch = Latch::new(3).unwrap();
    assert_eq!((latch.count(), latch.is_open()), (3, false));
    assert_eq!(latch.try_wait(), Err(WaitError::WouldBlock));
    assert_eq!(latch.wait_timeout(SOON), Err(WaitError::TimedOut));
    assert_eq!(latch.wait_deadline(Instant::now()), Err(WaitError::TimedOut));
    let waits = Process::spawn(|latch: Latch| latch.wait(), (latch.clone(),)).unwrap();
    let killed = Process::spawn(|latch: Latch| latch.wait(), (latch.clone(),)).unwrap();
    killed.kill().unwrap();
    killed.join().unwrap_err();
    for _ in 0..3 {
        Process::spawn(|latch: Latch| latch.count_down(), (latch.clone(),)).unwrap().join().unwrap().unwrap();
    }
    assert_eq!(waits.join(), Ok(Ok(())));
    assert_eq!((latch.wait(), latch.is_open()), (Ok(()), true));
    assert!(matches!(latch.count_down(), Err(Error::InvalidArgument(_))));
    assert!(Latch::new(0).unwrap().is_open());
}

#[test]
fn call_once_runs_its_function_once() {
    let _dog = watched();
    static TIMES: AtomicU32 = AtomicU32::new(0);
    let (once, board) = (Once::new().unwrap(), Board::new());
    assert_eq!(once.try_wait(), Err(LockError::WouldBlock));
    assert_eq!(once.wait_timeout(SOON), Err(LockError::TimedOut));
    let call = |once: Once, board: String| {
        let pid = std::process::id().to_string();
        once.call_once(|| post(&board, &pid, "")).unwrap();
        assert!(once.is_completed());
    };
    let waits = Process::spawn(|once: Once| once.wait(), (once.clone(),)).unwrap();
    let all: Vec<_> = (0..4).map(|_| Process::spawn(call, (once.clone(), board.path())).unwrap()).collect();
    all.iter().for_each(|p| p.join().unwrap());
    assert_eq!(waits.join(), Ok(Ok(())));
    assert_eq!(board.names().len(), 1);
    once.try_call_once(|| TIMES.store(1, Ordering::SeqCst)).unwrap();
    once.call_once_timeout(SOON, || unreachable!()).unwrap();
    assert_eq!(TIMES.load(Ordering::SeqCst), 0);
}

#[test]
fn an_unfinished_initialization_is_reported_and_can_be_repeated() {
    let _dog = watched();
    let (once, inside) = (Once::new().unwrap(), Event::new().unwrap());
    let dies = |once: Once, inside: Event| -> () {
        once.call_once(|| {
            inside.set().unwrap();
            forever();
        })
        .unwrap();
    };
    let p = Process::spawn(dies, (once.clone(), inside.clone())).unwrap();
    inside.wait().unwrap();
    assert_eq!(once.try_call_once(|| ()), Err(LockError::WouldBlock));
    assert_eq!(once.call_once_timeout(SOON, || ()), Err(LockError::TimedOut));
    p.kill().unwrap();
    p.join().unwrap_err();
    assert!(matches!(once.call_once(|| ()), Err(LockError::OwnerDied(who)) if Some(who.pid) == p.pid()));
    let panicked = std::panic::catch_unwind(|| once.call_once_or_recover(|_| panic!("again")));
    assert!(panicked.is_err() && !once.is_completed());
    assert!(matches!(once.call_once(|| ()), Err(LockError::Panicked(_))));
    once.call_once_or_recover(|who| assert!(who.is_some())).unwrap();
    assert_eq!(once.call_once(|| unreachable!()), Ok(()));
    let other = Once::new().unwrap();
    let deadlock = other.clone();
    other
        .call_once(|| assert!(matches!(deadlock.call_once(|| ()), Err(LockError::Deadlock { .. }))))
        .unwrap();
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

/// A party that is killed right after its spawn may not even have read its arguments.
#[test]
fn a_party_killed_before_its_function_breaks_the_barrier() {
    let _dog = watched();
    for _ in 0..20 {
        let barrier = Barrier::new(2).unwrap();
        let comes = |barrier: Barrier| -> () {
            let _ = barrier.wait();
            forever();
        };
        let p = Process::spawn(comes, (barrier.clone(),)).unwrap();
        p.kill().unwrap();
        p.join().unwrap_err();
        let pid = p.pid().unwrap();
        match barrier.wait() {
            Err(WaitError::Broken(Broken::ProcessDied { pid: dead })) => assert_eq!(dead, pid),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_form_of_call_once_can_recover() {
    let _dog = watched();
    let half_done = || {
        let once = Once::new().unwrap();
        let again = once.clone();
        thread::spawn(move || again.call_once(|| panic!("half done"))).join().unwrap_err();
        assert!(matches!(once.call_once_timeout(SOON, || ()), Err(LockError::Panicked(_))));
        once
    };
    let (at_once, soon, later) = (half_done(), half_done(), half_done());
    at_once.try_call_once_or_recover(|who| assert!(who.is_some())).unwrap();
    soon.call_once_or_recover_timeout(SOON, |who| assert!(who.is_some())).unwrap();
    later.call_once_or_recover_deadline(Instant::now(), |who| assert!(who.is_some())).unwrap();
    assert!([&at_once, &soon, &later].iter().all(|once| once.is_completed()));
    let busy = Once::new().unwrap();
    let inside = busy.clone();
    busy.call_once(|| {
        let refused = thread::spawn(move || {
            let late = inside.call_once_or_recover_timeout(SOON, |_| ());
            (inside.try_call_once_or_recover(|_| ()), late)
        });
        assert_eq!(refused.join().unwrap(), (Err(LockError::WouldBlock), Err(LockError::TimedOut)));
    })
    .unwrap();
}

/// If a process dies during the initialization, every waiter for the initialization gets an error.
#[test]
fn waiters_for_an_unfinished_initialization_get_an_error() {
    let _dog = watched();
    let wait = |once: Once| once.wait();
    for killed in [true, false] {
        let (once, begun, go_on) = (Once::new().unwrap(), Event::new().unwrap(), Event::new().unwrap());
        let does = |once: Once, begun: Event, go_on: Event| -> () {
            once.call_once(|| {
                begun.set().unwrap();
                go_on.wait().unwrap();
                panic!("half done");
            })
            .unwrap();
        };
        let p = Process::spawn(does, (once.clone(), begun.clone(), go_on.clone())).unwrap();
        begun.wait().unwrap();
        let waits = asleep(wait, (once.clone(),));
        if killed {
            p.kill().unwrap();
        }
        go_on.set().unwrap();
        p.join().unwrap_err();
        let pid = p.pid().unwrap();
        let told = |told: Result<(), LockError>| match told {
            Err(LockError::OwnerDied(who)) => assert_eq!((killed, who.pid), (true, pid)),
            Err(LockError::Panicked(who)) => assert_eq!((killed, who.pid), (false, pid)),
            other => panic!("{other:?}"),
        };
        told(waits.join().unwrap());
        told(once.wait_timeout(LONG));
        told(once.try_wait());
        once.call_once_or_recover(|_| ()).unwrap();
        assert_eq!(once.wait(), Ok(()));
    }
}
