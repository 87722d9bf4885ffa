//! Behavior of latches, and of functions that run once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::sync::{Event, Latch, LockError, Once, WaitError};
use procession::{Error, Process};

const SOON: Duration = Duration::from_millis(20);

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
