//! Behavior of a barrier when a party dies, fails or returns.

use std::thread;

use crate::family::*;
use procession::Process;
use procession::sync::{Barrier, Broken, Event, WaitError};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
