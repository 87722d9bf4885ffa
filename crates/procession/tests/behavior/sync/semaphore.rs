//! `Semaphore`: how many threads can hold permits, which waiter is next, and how the permits of dead
//! processes return.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::sync::{Event, Semaphore, WaitError};
use procession::{Error, Process};

const SOON: Duration = Duration::from_millis(20);

fn refused<T>(taken: Result<T, WaitError>) -> WaitError {
    taken.err().expect("the permit is refused")
}

#[test]
fn permits_are_counted_down_and_up() {
    let _dog = watched();
    let two = Semaphore::new(2).unwrap();
    let first = two.acquire().unwrap();
    assert_eq!(two.available_permits(), 1);
    let second = two.try_acquire().unwrap();
    assert_eq!(two.available_permits(), 0);
    assert!(format!("{two:?}").contains("available: 0"));
    assert_eq!(refused(two.try_acquire()), WaitError::WouldBlock);
    let before = Instant::now();
    assert_eq!(refused(two.acquire_timeout(SOON)), WaitError::TimedOut);
    assert!(before.elapsed() >= SOON);
    assert_eq!(refused(two.acquire_deadline(before)), WaitError::TimedOut);
    drop(first);
    assert_eq!(two.available_permits(), 1);
    drop((second, two.acquire_timeout(Duration::ZERO).unwrap()));
    assert_eq!(two.available_permits(), 2);
}

#[test]
fn a_count_out_of_range_is_an_error() {
    let _dog = watched();
    let too_many = Semaphore::MAX_PERMITS + 1;
    assert!(
        matches!(Semaphore::new(too_many), Err(Error::InvalidArgument(text)) if text.contains("4194304"))
    );
    let some = Semaphore::new(1).unwrap();
    for n in [Semaphore::MAX_PERMITS, u32::MAX] {
        assert!(matches!(some.add_permits(n), Err(Error::InvalidArgument(_))));
    }
    assert_eq!(some.available_permits(), 1);
    let most = Semaphore::new(Semaphore::MAX_PERMITS).unwrap();
    assert_eq!(most.available_permits(), Semaphore::MAX_PERMITS as usize);
    assert!(most.add_permits(1).is_err());
}

/// There are more permits than the first block has cells, and also more than the second block has.
#[test]
fn permits_are_added_and_forgotten() {
    let _dog = watched();
    let things = Semaphore::new(0).unwrap();
    assert_eq!(refused(things.try_acquire()), WaitError::WouldBlock);
    things.add_permits(5000).unwrap();
    assert_eq!(things.available_permits(), 5000);
    let other = things.clone();
    (0..4000).for_each(|_| other.acquire().unwrap().forget());
    assert_eq!(things.available_permits(), 1000);
    things.add_permits(500).unwrap();
    let held: Vec<_> = (0..1500).map(|_| things.try_acquire().unwrap()).collect();
    assert_eq!(refused(things.try_acquire()), WaitError::WouldBlock);
    drop(held);
    assert_eq!(things.available_permits(), 1500);
}

/// One process adds permits and another takes them. No permit is lost or doubled.
#[test]
fn a_semaphore_counts_items_between_processes() {
    let _dog = watched();
    let things = Semaphore::new(0).unwrap();
    let take = |things: Semaphore| (0..500).for_each(|_| things.acquire().unwrap().forget());
    let takers: Vec<_> = (0..3).map(|_| Process::spawn(take, (things.clone(),)).unwrap()).collect();
    let here = thread::spawn({
        let things = things.clone();
        move || take(things)
    });
    (0..1000).for_each(|_| things.add_permits(2).unwrap());
    takers.iter().for_each(|p| p.join().unwrap());
    here.join().unwrap();
    assert_eq!(things.available_permits(), 0);
}

#[test]
fn never_more_threads_hold_permits_than_there_are() {
    let _dog = watched();
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    let three = Semaphore::new(3).unwrap();
    let visit = |three: Semaphore| {
        for _ in 0..2000 {
            let _permit = three.acquire().unwrap();
            assert!(INSIDE.fetch_add(1, Ordering::SeqCst) < 3);
            INSIDE.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let three = three.clone();
            thread::spawn(move || visit(three))
        })
        .collect();
    let processes: Vec<_> = (0..2).map(|_| Process::spawn(visit, (three.clone(),)).unwrap()).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    processes.iter().for_each(|p| p.join().unwrap());
    assert_eq!(three.available_permits(), 3);
}

#[test]
fn a_permit_can_be_moved_to_another_thread() {
    let _dog = watched();
    let one = Semaphore::new(1).unwrap();
    let permit = one.acquire().unwrap();
    thread::scope(|scope| drop(scope.spawn(move || drop(permit))));
    assert_eq!(one.available_permits(), 1);
}

/// The permits of a dead process return, in whatever way the process held them.
#[test]
fn permits_of_a_killed_holder_return() {
    let _dog = watched();
    let (two, inside) = (Semaphore::new(2).unwrap(), Event::new().unwrap());
    let hold = |two: Semaphore, inside: Event| -> () {
        let _held = two.acquire().unwrap();
        std::mem::forget(two.acquire().unwrap());
        inside.set().unwrap();
        forever();
    };
    let p = Process::spawn(hold, (two.clone(), inside.clone())).unwrap();
    inside.wait().unwrap();
    assert_eq!(refused(two.try_acquire()), WaitError::WouldBlock);
    let waiting = Process::spawn(|two: Semaphore| two.acquire().map(drop), (two.clone(),)).unwrap();
    p.kill().unwrap();
    p.join().unwrap_err();
    assert_eq!(waiting.join(), Ok(Ok(())));
    until("both permits are available", || two.available_permits() == 2);
}

/// The leaked permit outlives its handles, and returns when the process ends.
#[test]
fn a_leaked_permit_returns_when_its_process_ends() {
    let _dog = watched();
    let one = Semaphore::new(1).unwrap();
    let leak = |one: Semaphore| {
        std::mem::forget(one.acquire().unwrap());
        drop(one);
    };
    Process::spawn(leak, (one.clone(),)).unwrap().join().unwrap();
    assert!(one.acquire().is_ok());
    let forget = |one: Semaphore| one.acquire().unwrap().forget();
    Process::spawn(forget, (one.clone(),)).unwrap().join().unwrap();
    let gone = || one.available_permits() == 0;
    assert!(gone());
}

#[test]
fn a_killed_waiter_takes_no_permit() {
    let _dog = watched();
    let (one, board) = (Semaphore::new(1).unwrap(), Board::new());
    let held = one.acquire().unwrap();
    let wait = |one: Semaphore, board: String| {
        post(&board, &std::process::id().to_string(), "");
        one.acquire().map(drop)
    };
    let waiters: Vec<_> =
        (0..3).map(|_| Process::spawn(wait, (one.clone(), board.path())).unwrap()).collect();
    until("all wait", || board.names().len() == 3 && format!("{one:?}").contains("waiters: 3"));
    waiters[0].kill().unwrap();
    waiters[0].join().unwrap_err();
    drop(held);
    waiters[1..].iter().for_each(|p| assert_eq!(p.join(), Ok(Ok(()))));
    assert!(one.acquire().is_ok());
}

#[test]
fn a_waiter_is_not_passed_over_for_ever() {
    let _dog = watched();
    let (one, enough) = (Semaphore::new(1).unwrap(), Event::new().unwrap());
    let greedy = |one: Semaphore, enough: Event| {
        while !enough.is_set() {
            let _permit = one.acquire().unwrap();
            (0..100).for_each(|_| std::hint::spin_loop());
        }
    };
    let hogs: Vec<_> =
        (0..2).map(|_| Process::spawn(greedy, (one.clone(), enough.clone())).unwrap()).collect();
    (0..50).for_each(|_| drop(one.acquire().unwrap()));
    enough.set().unwrap();
    hogs.iter().for_each(|p| p.join().unwrap());
    assert_eq!(one.available_permits(), 1);
}

/// Adds a quarter of a million permits. Each pass over the cells adds as many permits as it can.
#[test]
fn a_quarter_of_a_million_permits_can_be_added() {
    let _dog = watched();
    let things = Semaphore::new(0).unwrap();
    things.add_permits(250_000).unwrap();
    things.add_permits(1).unwrap();
    assert_eq!(things.available_permits(), 250_001);
}

#[test]
fn an_owned_permit_outlives_the_borrow() {
    let _dog = watched();
    let permits = Semaphore::new(2).unwrap();
    let kept = {
        let handle = permits.clone();
        [
            handle.acquire_owned().unwrap(),
            handle.acquire_timeout(Duration::from_secs(3600)).unwrap().into_owned(),
        ]
    };
    assert_eq!(permits.available_permits(), 0);
    assert_eq!(permits.try_acquire().err(), Some(WaitError::WouldBlock));
    let [first, second] = kept;
    std::thread::spawn(move || drop(first)).join().unwrap();
    assert_eq!(permits.available_permits(), 1);
    second.forget();
    assert_eq!(permits.available_permits(), 1);
    permits.add_permits(1).unwrap();
    assert_eq!(permits.available_permits(), 2);
}

#[test]
fn owned_permits_of_the_dead_come_back() {
    let _dog = watched();
    let permits = Semaphore::new(1).unwrap();
    let dies = |permits: Semaphore| -> () {
        let _permit = permits.acquire_owned().unwrap();
        std::process::abort()
    };
    for _ in 0..3 {
        assert!(Process::spawn(dies, (permits.clone(),)).unwrap().join().is_err());
    }
    assert_eq!(permits.available_permits(), 1);
}
