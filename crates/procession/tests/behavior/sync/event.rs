//! `Event`: set, cleared and waited for, by threads and processes, living and dead.
#![allow(unsafe_code, reason = "handles signals")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::sync::{Barrier, Event, Latch, Mutex, RwLock, Semaphore, WaitError};
use procession::{Failure, Process};

const SOON: Duration = Duration::from_millis(20);

#[test]
fn a_new_event_is_not_set() {
    let _dog = watched();
    let event = Event::new().unwrap();
    assert!(!event.is_set());
    assert_eq!(event.try_wait(), Err(WaitError::WouldBlock));
    assert_eq!(event.wait_timeout(Duration::ZERO), Err(WaitError::TimedOut));
    let before = Instant::now();
    assert_eq!(event.wait_timeout(SOON), Err(WaitError::TimedOut));
    assert!(before.elapsed() >= SOON);
    assert_eq!(event.wait_deadline(before), Err(WaitError::TimedOut));
    assert!(format!("{event:?}").contains("set: false"));
}

#[test]
fn waiting_for_a_set_event_returns_immediately() {
    let _dog = watched();
    let event = Event::new().unwrap();
    event.set().unwrap();
    event.set().unwrap();
    assert!(event.is_set() && format!("{event:?}").contains("set: true"));
    assert_eq!(event.wait(), Ok(()));
    assert_eq!(event.try_wait(), Ok(()));
    assert_eq!(event.wait_timeout(Duration::ZERO), Ok(()));
    assert_eq!(event.wait_deadline(Instant::now() + SOON), Ok(()));
    event.clear().unwrap();
    event.clear().unwrap();
    assert_eq!(event.try_wait(), Err(WaitError::WouldBlock));
}

#[test]
fn threads_and_processes_wait_until_an_event_is_set() {
    let _dog = watched();
    let event = Event::new().unwrap();
    let waits = |event: Event| event.wait();
    let processes: Vec<_> = (0..3).map(|_| Process::spawn(waits, (event.clone(),)).unwrap()).collect();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let event = event.clone();
            thread::spawn(move || event.wait_timeout(Duration::from_secs(3600)))
        })
        .collect();
    Process::spawn(|event: Event| event.set(), (event.clone(),)).unwrap().join().unwrap().unwrap();
    processes.iter().for_each(|p| assert_eq!(p.join(), Ok(Ok(()))));
    threads.into_iter().for_each(|t| assert_eq!(t.join().unwrap(), Ok(())));
}

/// Two processes wake each other a thousand times, by events that are set and cleared.
#[test]
fn setting_and_clearing_wakes_the_waiter() {
    let _dog = watched();
    let (ping, pong) = (Event::new().unwrap(), Event::new().unwrap());
    let echo = |ping: Event, pong: Event| {
        for _ in 0..1000 {
            ping.wait().unwrap();
            ping.clear().unwrap();
            pong.set().unwrap();
        }
    };
    let p = Process::spawn(echo, (ping.clone(), pong.clone())).unwrap();
    for _ in 0..1000 {
        ping.set().unwrap();
        pong.wait().unwrap();
        pong.clear().unwrap();
    }
    p.join().unwrap();
}

/// Python blocks here: its `set` waits for every waiter to confirm that it has woken.
#[test]
fn a_killed_waiter_does_not_block_the_setter() {
    let _dog = watched();
    let (event, board) = (Event::new().unwrap(), Board::new());
    let waits = |event: Event, board: String| {
        post(&board, &std::process::id().to_string(), "");
        event.wait()
    };
    let waiters: Vec<_> =
        (0..4).map(|_| Process::spawn(waits, (event.clone(), board.path())).unwrap()).collect();
    until("all wait", || board.names().len() == 4 && format!("{event:?}").contains("waiters: 4"));
    for dead in &waiters[..2] {
        dead.kill().unwrap();
        assert!(matches!(dead.join().unwrap_err().failure(), Failure::Killed { signal: 9, .. }));
    }
    event.set().unwrap();
    waiters[2..].iter().for_each(|p| assert_eq!(p.join(), Ok(Ok(()))));
    event.clear().unwrap();
    event.set().unwrap();
    assert!(event.is_set());
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Makes SIGUSR1 interrupt system calls.
fn be_interrupted() {
    // SAFETY: a zeroed action is a valid one, with no flags; the handler adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// In every kind of wait, a handled signal interrupts the sleep but does not end the wait.
#[test]
fn a_signal_does_not_end_a_wait() {
    let _dog = watched();
    type All = (Event, Latch, Semaphore, Barrier, Mutex<u32>, RwLock<u32>);
    let all: All = (
        Event::new().unwrap(),
        Latch::new(1).unwrap(),
        Semaphore::new(1).unwrap(),
        Barrier::new(2).unwrap(),
        Mutex::new(0u32).unwrap(),
        RwLock::new(0u32).unwrap(),
    );
    let waits = |all: All, which: usize| {
        be_interrupted();
        let came = match which {
            0 => all.0.wait().is_ok(),
            1 => all.1.wait().is_ok(),
            2 => all.2.acquire().is_ok(),
            3 => all.3.wait().is_ok(),
            4 => all.4.lock().is_ok(),
            5 => all.5.write().is_ok(),
            _ => all.5.read().is_ok(),
        };
        (came, SIGNALS.load(Ordering::SeqCst))
    };
    let held = (all.2.acquire().unwrap(), all.4.lock().unwrap(), all.5.write().unwrap());
    let waiters: Vec<_> = (0..7).map(|which| asleep(waits, (all.clone(), which))).collect();
    for _ in 0..10 {
        for pid in waiters.iter().filter_map(Process::pid) {
            send(pid, libc::SIGUSR1);
            procession_testkit::wait_until_parked(pid);
        }
    }
    assert!(waiters.iter().all(Process::is_alive));
    drop(held);
    all.0.set().unwrap();
    all.1.count_down().unwrap();
    all.3.wait().unwrap();
    for (which, p) in waiters.iter().enumerate() {
        let (came, signals) = p.join().unwrap();
        assert!(came && signals > 0, "{which}: {came} after {signals} signals");
    }
}
