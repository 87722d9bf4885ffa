//! `Condvar`: which waiters are woken, when they are woken, and the state of the lock afterwards.

use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::sync::{Condvar, LockError, Mutex};
use procession::{Lock, Process};

/// The numbers of threads that sleep, that may continue, and that have continued.
type Room = Mutex<[u32; 3]>;

fn sleep_in(room: Room, condvar: Condvar) {
    let mut held = room.lock().unwrap();
    held[0] += 1;
    let mut held = condvar.wait_while(held, |held| held[1] == 0).unwrap();
    held[1] -= 1;
    held[2] += 1;
}

fn all_sleep(room: &Room, n: u32) {
    until("all sleep", || room.lock().unwrap()[0] == n);
}

#[test]
fn notify_one_wakes_one_waiter_and_notify_all_every_waiter() {
    let _dog = watched();
    let (room, condvar) = (Room::new([0; 3]).unwrap(), Condvar::new().unwrap());
    let processes: Vec<_> =
        (0..3).map(|_| Process::spawn(sleep_in, (room.clone(), condvar.clone())).unwrap()).collect();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (room, condvar) = (room.clone(), condvar.clone());
            thread::spawn(move || sleep_in(room, condvar))
        })
        .collect();
    all_sleep(&room, 6);
    for gone in 1..=2 {
        room.lock().unwrap()[1] = 1;
        condvar.notify_one().unwrap();
        until("one waiter has continued", || room.lock().unwrap()[2] == gone);
    }
    assert_eq!(room.lock().unwrap()[1], 0, "no other waiter has continued");
    room.lock().unwrap()[1] = 4;
    condvar.notify_all().unwrap();
    condvar.notify_one().unwrap();
    processes.iter().for_each(|p| p.join().unwrap());
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(*room.lock().unwrap(), [6, 0, 6]);
}

#[test]
fn a_wait_that_times_out_acquires_the_lock_again() {
    let _dog = watched();
    let (lock, condvar) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let soon = Duration::from_millis(20);
    // A death in another test may wake every sleeper. Then the waiter has not timed out, and waits again.
    for timeout in [Duration::ZERO, soon] {
        let (mut held, at) = (lock.lock().unwrap(), Instant::now() + timeout);
        loop {
            let before = Instant::now();
            let (again, waited) = condvar.wait_timeout(held, timeout).unwrap();
            held = again;
            assert!(
                matches!(lock.try_lock().err(), Some(LockError::Deadlock { .. })),
                "the lock is held again"
            );
            if waited.timed_out() {
                assert!(before.elapsed() >= timeout);
                break;
            }
        }
        loop {
            let (again, waited) = condvar.wait_deadline(held, at).unwrap();
            held = again;
            if waited.timed_out() {
                break;
            }
        }
        drop(held);
        assert!(Instant::now() >= at);
    }
    let (held, at) = (lock.lock().unwrap(), Instant::now());
    let (held, waited) = condvar.wait_timeout_while(held, soon, |_| true).unwrap();
    assert!(waited.timed_out());
    let (_held, waited) = condvar.wait_deadline_while(held, at, |_| false).unwrap();
    assert!(!waited.timed_out());
}

#[test]
fn six_waiters_with_a_timeout_wake_by_themselves() {
    let _dog = watched();
    let (room, condvar) = (Room::new([0; 3]).unwrap(), Condvar::new().unwrap());
    let doze = |room: Room, condvar: Condvar| {
        let held = room.lock().unwrap();
        let (mut held, waited) =
            condvar.wait_timeout_while(held, Duration::from_millis(30), |held| held[1] == 0).unwrap();
        held[2] += u32::from(waited.timed_out());
    };
    let processes: Vec<_> =
        (0..6).map(|_| Process::spawn(doze, (room.clone(), condvar.clone())).unwrap()).collect();
    processes.iter().for_each(|p| p.join().unwrap());
    assert_eq!(room.lock().unwrap()[2], 6);
}

/// The processes take a thousand turns. A lost notification would block both.
#[test]
fn two_processes_take_turns() {
    let _dog = watched();
    let (turn, condvar) = (Mutex::new(0u64).unwrap(), Condvar::new().unwrap());
    let play = |turn: Mutex<u64>, condvar: Condvar, odd: u64| {
        for _ in 0..500 {
            let mut now = condvar.wait_while(turn.lock().unwrap(), |turn| **turn % 2 != odd).unwrap();
            *now += 1;
            drop(now);
            condvar.notify_one().unwrap();
        }
    };
    let p = Process::spawn(play, (turn.clone(), condvar.clone(), 1)).unwrap();
    play(turn.clone(), condvar, 0);
    p.join().unwrap();
    assert_eq!(*turn.lock().unwrap(), 1000);
}

/// Python blocks here: its `notify` waits for every sleeper to confirm that it has woken.
#[test]
fn a_killed_waiter_does_not_block_the_notifier() {
    let _dog = watched();
    let (room, condvar) = (Room::new([0; 3]).unwrap(), Condvar::new().unwrap());
    let sleepers: Vec<_> =
        (0..4).map(|_| Process::spawn(sleep_in, (room.clone(), condvar.clone())).unwrap()).collect();
    all_sleep(&room, 4);
    until("all sleep", || format!("{condvar:?}").contains("waiters: 4"));
    for dead in &sleepers[..2] {
        dead.kill().unwrap();
        dead.join().unwrap_err();
    }
    room.lock().unwrap()[1] = 2;
    condvar.notify_one().unwrap();
    condvar.notify_one().unwrap();
    condvar.notify_all().unwrap();
    sleepers[2..].iter().for_each(|p| p.join().unwrap());
    assert_eq!(room.lock().unwrap()[2], 2);
}

#[test]
fn a_wait_that_ends_at_a_poisoned_lock_reports_it() {
    let _dog = watched();
    let (room, condvar) = (Room::new([0; 3]).unwrap(), Condvar::new().unwrap());
    let hears = |room: Room, condvar: Condvar| {
        let mut held = room.lock().unwrap();
        held[0] += 1;
        condvar.wait_while(held, |held| held[1] == 0).map(drop)
    };
    let p = Process::spawn(hears, (room.clone(), condvar.clone())).unwrap();
    all_sleep(&room, 1);
    let dies = |room: Room| -> () {
        let _held = room.lock().unwrap();
        std::process::abort();
    };
    let dead = Process::spawn(dies, (room.clone(),)).unwrap();
    dead.join().unwrap_err();
    // The death wakes the waiter, which cannot evaluate the condition.
    match p.join().unwrap() {
        Err(LockError::OwnerDied(who)) => assert_eq!(Some(who.pid), dead.pid()),
        other => panic!("{other:?}"),
    }
    assert!(room.lock_or_recover().is_ok());
}

/// A guard that recovered the lock still names the dead owner after a wait in which other processes repair the data.
#[test]
fn a_guard_still_names_the_dead_owner_after_a_wait() {
    let _dog = watched();
    let (room, condvar) = (Room::new([0; 3]).unwrap(), Condvar::new().unwrap());
    let dead = Process::spawn(|room: Room| -> () { std::mem::forget(room.lock().unwrap()) }, (room.clone(),));
    let dead = dead.unwrap();
    dead.join().unwrap();
    let helps = |room: Room, condvar: Condvar| {
        room.lock().unwrap()[1] = 1;
        condvar.notify_all().unwrap();
    };
    let held = room.lock_or_recover().unwrap();
    let helper = Process::spawn(helps, (room.clone(), condvar.clone())).unwrap();
    let held = condvar.wait_while(held, |held| held[1] == 0).unwrap();
    assert_eq!(held.recovered_from().map(|who| who.pid), dead.pid());
    let (held, _) = condvar.wait_timeout(held, Duration::ZERO).unwrap();
    assert_eq!(held.recovered_from().map(|who| who.pid), dead.pid());
    drop(held);
    assert!(room.lock().unwrap().recovered_from().is_none(), "the lock was recovered");
    helper.join().unwrap();
}
