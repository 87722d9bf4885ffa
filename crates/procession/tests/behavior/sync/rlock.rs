//! `RLock`: its holder can acquire it again. The last release frees the lock, whatever the order of the
//! releases.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use crate::family::*;
use procession::sync::{Event, LockError, RLock};
use procession::{Failure, Process};

fn free_elsewhere(lock: &RLock) -> Result<(), LockError> {
    let lock = lock.clone();
    thread::spawn(move || lock.try_lock().map(drop)).join().unwrap()
}

#[test]
fn a_lock_acquired_three_times_is_free_after_three_releases() {
    let _dog = watched();
    let lock = RLock::labeled("depth").unwrap();
    assert_eq!(lock.name(), "depth");
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut guards = [
            Some(lock.lock().unwrap()),
            Some(lock.try_lock().unwrap()),
            Some(lock.lock_timeout(Duration::ZERO).unwrap()),
        ];
        for (released, which) in order.into_iter().enumerate() {
            assert_eq!(free_elsewhere(&lock), Err(LockError::WouldBlock), "{released} of 3 released");
            assert!(lock.is_locked() && format!("{lock:?}").contains(&format!("times: {}", 3 - released)));
            guards[which] = None;
        }
        assert_eq!(free_elsewhere(&lock), Ok(()));
        assert!(!lock.is_locked() && !format!("{lock:?}").contains("times"));
    }
    let held = lock.lock().unwrap();
    assert!(format!("{lock:?}").contains("main (pid"), "{lock:?}");
    drop(held);
}

#[test]
fn a_lock_can_be_acquired_a_thousand_times_among_other_locks() {
    let _dog = watched();
    let lock = RLock::new().unwrap();
    let others: Vec<_> = (0..40).map(|_| RLock::new().unwrap()).collect();
    let held: Vec<_> = others.iter().map(|lock| lock.lock().unwrap()).collect();
    let guards: Vec<_> = (0..1000).map(|_| lock.lock().unwrap()).collect();
    assert_eq!(free_elsewhere(&lock), Err(LockError::WouldBlock));
    drop(held);
    drop(guards);
    assert_eq!(free_elsewhere(&lock), Ok(()));
}

#[test]
fn threads_and_processes_exclude_each_other() {
    let _dog = watched();
    let (lock, board) = (RLock::new().unwrap(), Board::new());
    std::fs::write(format!("{}/count", board.path()), "0").unwrap();
    let count = |lock: RLock, board: String| {
        for _ in 0..100 {
            let _outer = lock.lock().unwrap();
            let _inner = lock.lock().unwrap();
            let file = format!("{board}/count");
            let n: u64 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
            std::fs::write(file, (n + 1).to_string()).unwrap();
        }
    };
    let processes: Vec<_> =
        (0..3).map(|_| Process::spawn(count, (lock.clone(), board.path())).unwrap()).collect();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (lock, board) = (lock.clone(), board.path());
            thread::spawn(move || count(lock, board))
        })
        .collect();
    processes.iter().for_each(|p| p.join().unwrap());
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(std::fs::read_to_string(format!("{}/count", board.path())).unwrap(), "500");
}

#[test]
fn a_killed_holder_poisons_the_lock_and_resets_its_count() {
    let _dog = watched();
    let (lock, inside) = (RLock::new().unwrap(), Event::new().unwrap());
    let hold = |lock: RLock, inside: Event| -> () {
        let _held: Vec<_> = (0..3).map(|_| lock.lock().unwrap()).collect();
        inside.set().unwrap();
        forever();
    };
    let p = Process::spawn(hold, (lock.clone(), inside.clone())).unwrap();
    inside.wait().unwrap();
    let pid = p.pid();
    p.kill().unwrap();
    assert!(matches!(p.join().unwrap_err().failure(), Failure::Killed { signal: 9, .. }));
    assert!(matches!(lock.lock().err(), Some(LockError::OwnerDied(who)) if Some(who.pid) == pid));
    let held = lock.lock_or_recover().unwrap();
    assert_eq!(held.recovered_from().map(|who| who.pid), pid);
    let again = lock.lock().unwrap();
    drop(held);
    assert_eq!(free_elsewhere(&lock), Err(LockError::WouldBlock));
    drop(again);
    assert_eq!(free_elsewhere(&lock), Ok(()), "the count starts again at the recovery");
}

/// This holds even if the panic unwinds only through an inner guard.
#[test]
fn a_panic_poisons_the_lock_at_the_last_release() {
    let _dog = watched();
    let lock = RLock::new().unwrap();
    let outer = lock.lock().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _inner = lock.lock().unwrap();
        panic!("inside");
    }));
    assert!(panicked.is_err());
    assert!(lock.lock().is_ok(), "the outer guard still holds the lock");
    drop(outer);
    assert!(matches!(free_elsewhere(&lock), Err(LockError::Panicked(_))));
    drop(lock.lock_or_recover().unwrap());
    lock.lock().unwrap().poison();
    assert!(matches!(free_elsewhere(&lock), Err(LockError::Panicked(_))));
}
