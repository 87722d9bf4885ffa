//! `Lock`: threads and processes share it, hold it, wait for it and release it.
#![allow(unsafe_code, reason = "stops and continues processes")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::sync::LockError;
use procession::{Error, Lock, Process};

#[test]
fn only_one_thread_or_process_is_inside() {
    let _dog = watched();
    static INSIDE: AtomicU64 = AtomicU64::new(0);
    let lock = Lock::new().unwrap();
    let board = Board::new();
    std::fs::write(format!("{}/count", board.path()), "0").unwrap();
    // The lock guards a file that each process reads, changes and writes.
    let count = |lock: Lock, board: String| {
        for _ in 0..200 {
            let _held = lock.lock().unwrap();
            let file = format!("{board}/count");
            let n: u64 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
            std::fs::write(file, (n + 1).to_string()).unwrap();
        }
    };
    let processes: Vec<_> =
        (0..3).map(|_| Process::spawn(count, (lock.clone(), board.path())).unwrap()).collect();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (lock, board) = (lock.clone(), board.path());
            thread::spawn(move || {
                count(lock.clone(), board);
                for _ in 0..10_000 {
                    let _held = lock.lock().unwrap();
                    assert_eq!(INSIDE.fetch_add(1, Ordering::SeqCst), 0);
                    INSIDE.fetch_sub(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    processes.iter().for_each(|p| p.join().unwrap());
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(std::fs::read_to_string(format!("{}/count", board.path())).unwrap(), "1200");
}

#[test]
fn a_held_lock_is_refused_without_a_wait() {
    let _dog = watched();
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let p = holder("holder", &lock, &board);
    let soon = Duration::from_millis(20);
    assert!(lock.is_locked());
    assert_eq!(refusal(lock.try_lock()), LockError::WouldBlock);
    assert_eq!(refusal(lock.lock_timeout(soon)), LockError::TimedOut);
    assert_eq!(refusal(lock.lock_timeout(Duration::ZERO)), LockError::TimedOut);
    let before = Instant::now();
    assert_eq!(refusal(lock.lock_deadline(before + soon)), LockError::TimedOut);
    assert!(before.elapsed() >= soon, "the wait ended before the deadline");
    assert_eq!(refusal(lock.lock_deadline(before)), LockError::TimedOut);
    post(&board.path(), "release", "");
    assert!(lock.lock_timeout(Duration::MAX).is_ok());
    p.join().unwrap();
    assert!(!lock.is_locked() && lock.try_lock().is_ok());
    assert!(
        lock.lock_deadline(before).is_ok(),
        "a free lock can be acquired although the deadline has passed"
    );
    assert!(lock.lock_timeout(Duration::ZERO).is_ok());
}

#[test]
fn a_waiter_acquires_the_lock_when_it_is_released() {
    let _dog = watched();
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let p = holder("holder", &lock, &board);
    let takes = |lock: Lock| lock.lock().map(drop);
    let waiting: Vec<_> = (0..3).map(|_| Process::spawn(takes, (lock.clone(),)).unwrap()).collect();
    let here = thread::spawn({
        let lock = lock.clone();
        move || lock.lock_timeout(Duration::from_secs(3600)).map(drop)
    });
    until("all wait", || format!("{lock:?}").contains("waiters: 4"));
    assert!(waiting.iter().all(Process::is_alive));
    post(&board.path(), "release", "");
    p.join().unwrap();
    waiting.iter().for_each(|p| assert_eq!(p.join(), Ok(Ok(()))));
    assert_eq!(here.join().unwrap(), Ok(()));
}

#[test]
fn locking_again_by_the_holder_is_an_error() {
    let _dog = watched();
    let lock = Lock::labeled("mine").unwrap();
    let held = lock.lock().unwrap();
    let again: [&dyn Fn() -> LockError; 4] = [
        &|| refusal(lock.lock()),
        &|| refusal(lock.lock_or_recover()),
        &|| refusal(lock.clone().lock()),
        &|| refusal(lock.lock_timeout(Duration::from_secs(3600))),
    ];
    for error in again.map(|f| f()) {
        let LockError::Deadlock { cycle } = &error else { panic!("{error}") };
        assert_eq!((cycle.len(), cycle[0].pid, cycle[0].lock.as_str()), (1, std::process::id(), "mine"));
        assert!(error.to_string().contains("mine"), "{error}");
    }
    assert!(matches!(refusal(lock.try_lock()), LockError::WouldBlock | LockError::Deadlock { .. }));
    drop(held);
    assert!(lock.lock().is_ok(), "the lock is held once");
}

#[test]
fn names_have_at_most_95_bytes() {
    let _dog = watched();
    for name in ["", "stock", "Käse", &"x".repeat(95), "a\0b"] {
        assert_eq!(Lock::labeled(name).unwrap().name(), name);
    }
    let error = Lock::labeled(&"x".repeat(96)).expect_err("the name is too long");
    assert!(
        matches!(&error, Error::InvalidArgument(text) if text.contains("95") && text.contains("96")),
        "{error}"
    );
    let (one, other) = (Lock::labeled("same").unwrap(), Lock::labeled("same").unwrap());
    let _held = one.lock().unwrap();
    assert!(other.try_lock().is_ok(), "two locks with the same name are different locks");
    let name = |lock: Lock| lock.name();
    assert_eq!(Process::spawn(name, (one.clone(),)).unwrap().join().as_deref(), Ok("same"));
}

#[test]
fn debug_output_shows_the_holder_and_the_number_of_waiters() {
    let _dog = watched();
    let (lock, board) = (Lock::labeled("stock").unwrap(), Board::new());
    let free = format!("{lock:?}");
    assert!(free.contains("stock") && free.contains("holder: None") && free.contains("waiters: 0"), "{free}");
    let p = holder("buyer", &lock, &board);
    let waiting = Process::spawn(|lock: Lock| drop(lock.lock()), (lock.clone(),)).unwrap();
    until("one waits", || format!("{lock:?}").contains("waiters: 1"));
    let text = format!("{lock:?}");
    assert!(text.contains(&format!("buyer (pid {})", p.pid().unwrap())), "{text}");
    post(&board.path(), "release", "");
    waiting.join().unwrap();
    let held = lock.lock().unwrap();
    assert!(format!("{lock:?}").contains(&format!("main (pid {})", std::process::id())));
    assert!(format!("{held:?}").contains("LockGuard"));
}

#[test]
fn a_waiter_is_not_passed_over_for_ever() {
    let _dog = watched();
    static DONE: AtomicBool = AtomicBool::new(false);
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    // Each process releases the lock only for a moment, and then acquires the lock again.
    let greedy = |lock: Lock, board: String| {
        while !posted(&board, "enough") {
            for _ in 0..1000 {
                let _held = lock.lock().unwrap();
                (0..100).for_each(|_| std::hint::spin_loop());
            }
        }
    };
    let hogs: Vec<_> =
        (0..2).map(|_| Process::spawn(greedy, (lock.clone(), board.path())).unwrap()).collect();
    let hog = thread::spawn({
        let lock = lock.clone();
        move || {
            while !DONE.load(Ordering::SeqCst) {
                drop(lock.lock().unwrap());
            }
        }
    });
    let modest = |lock: Lock| (0..50).for_each(|_| drop(lock.lock().unwrap()));
    let p = Process::spawn(modest, (lock.clone(),)).unwrap();
    modest(lock.clone());
    p.join().unwrap();
    post(&board.path(), "enough", "");
    DONE.store(true, Ordering::SeqCst);
    hogs.iter().for_each(|p| p.join().unwrap());
    hog.join().unwrap();
}

#[test]
fn guards_can_be_dropped_in_any_order() {
    let _dog = watched();
    let locks: Vec<Lock> = (0..100).map(|_| Lock::new().unwrap()).collect();
    let mut guards: Vec<_> = locks.iter().map(|lock| Some(lock.lock().unwrap())).collect();
    for i in (0..100).map(|i| i * 37 % 100) {
        guards[i] = None;
        let elsewhere = locks[i].clone();
        assert!(thread::spawn(move || elsewhere.try_lock().is_ok()).join().unwrap());
    }
    let again: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    drop(again);
}
