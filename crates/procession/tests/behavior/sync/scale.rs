//! A thousand threads or processes use the same barrier, read-write lock, semaphore and condition variable.
//! None of these objects limits the number of threads or processes.

use std::thread;

use crate::family::*;
use procession::Process;
use procession::sync::{Barrier, Broken, Condvar, Event, Latch, Mutex, RwLock, Semaphore, WaitError};

const MANY: u32 = 1000;

#[test]
fn a_thousand_threads_of_two_processes_share_every_object() {
    let _dog = watched();
    let (barrier, latch) = (Barrier::new(MANY).unwrap(), Latch::new(MANY).unwrap());
    let (event, semaphore) = (Event::new().unwrap(), Semaphore::new(3).unwrap());
    let (shared, count, changed) =
        (RwLock::new(7u32).unwrap(), Mutex::new(0u32).unwrap(), Condvar::new().unwrap());
    type All = (Barrier, Latch, Event, Semaphore, RwLock<u32>, Mutex<u32>, Condvar);
    let half = |all: All| {
        let threads: Vec<_> = (0..MANY / 2)
            .map(|_| {
                let (barrier, latch, event, semaphore, shared, count, changed) = all.clone();
                thread::spawn(move || {
                    let read = shared.read().unwrap();
                    let met = barrier.wait().unwrap(); // all of them hold the read lock
                    assert_eq!(*read, 7);
                    drop(read);
                    drop(semaphore.acquire().unwrap());
                    latch.count_down().unwrap();
                    event.wait().unwrap();
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    changed.notify_all().unwrap();
                    drop(changed.wait_while(count, |count| **count < MANY).unwrap());
                    met.is_leader()
                })
            })
            .collect();
        threads.into_iter().map(|t| u32::from(t.join().unwrap())).sum::<u32>()
    };
    let all: All =
        (barrier, latch.clone(), event.clone(), semaphore.clone(), shared.clone(), count.clone(), changed);
    let far = Process::spawn(half, (all.clone(),)).unwrap();
    let near = thread::spawn(move || half(all));
    latch.wait().unwrap();
    event.set().unwrap();
    assert_eq!(near.join().unwrap() + far.join().unwrap(), 1, "one of the thousand leads");
    assert_eq!((*count.lock().unwrap(), semaphore.available_permits()), (MANY, 3));
    assert!(shared.try_write().is_ok());
}

/// A thousand processes, each with its own handles, meet, count and read together. When one is killed, all
/// others are notified.
#[test]
fn a_thousand_processes_share_every_object() {
    let _dog = watched();
    let (barrier, latch) = (Barrier::new(MANY).unwrap(), Latch::new(MANY).unwrap());
    let (event, semaphore) = (Event::new().unwrap(), Semaphore::new(3).unwrap());
    let (shared, count) = (RwLock::new(7u32).unwrap(), Mutex::new(0u32).unwrap());
    type All = (Barrier, Latch, Event, Semaphore, RwLock<u32>, Mutex<u32>);
    let one = |all: All, dies: bool| {
        let (barrier, latch, event, semaphore, shared, count) = all;
        let read = shared.read().unwrap();
        let leads = barrier.wait().unwrap().is_leader(); // all of them hold the read lock
        assert_eq!(*read, 7);
        drop(read);
        drop(semaphore.acquire().unwrap());
        latch.count_down().unwrap();
        event.wait().unwrap();
        *count.lock().unwrap() += 1;
        if dies {
            std::process::abort();
        }
        (leads, barrier.wait().map(drop))
    };
    let all: All = (barrier, latch.clone(), event.clone(), semaphore.clone(), shared.clone(), count.clone());
    let spawn = |dies: bool| Process::spawn(one, (all.clone(), dies)).unwrap();
    let (others, dies): (Vec<_>, _) = ((1..MANY).map(|_| spawn(false)).collect(), spawn(true));
    latch.wait().unwrap();
    event.set().unwrap();
    let pid = dies.pid().unwrap();
    dies.join().unwrap_err();
    let mut leaders = 0;
    for p in others {
        let (leads, told) = p.join().unwrap();
        leaders += u32::from(leads);
        assert_eq!(told, Err(WaitError::Broken(Broken::ProcessDied { pid })));
    }
    assert!(leaders <= 1, "{leaders} of them lead");
    assert_eq!((*count.lock().unwrap(), semaphore.available_permits()), (MANY, 3));
    assert!(shared.try_write().is_ok());
}
