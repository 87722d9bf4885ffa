//! `RwLock`: readers share the lock, a writer excludes all, and neither starves.

use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::Process;
use procession::sync::{Barrier, Event, LockError, RwLock};

const SOON: Duration = Duration::from_millis(20);

fn refused<T>(taken: Result<T, LockError>) -> LockError {
    taken.err().expect("the lock is refused")
}

#[test]
fn readers_share_the_lock_and_writers_exclude_all() {
    let _dog = watched();
    let lock = RwLock::labeled("limits", 1u64).unwrap();
    assert_eq!(lock.name(), "limits");
    let (meeting, here) = (Barrier::new(3).unwrap(), lock.read().unwrap());
    let reads = |lock: RwLock<u64>, meeting: Barrier| {
        let _read = lock.read().unwrap();
        meeting.wait().unwrap(); // all readers hold the lock
    };
    let far = Process::spawn(reads, (lock.clone(), meeting.clone())).unwrap();
    let near = thread::spawn({
        let (lock, meeting) = (lock.clone(), meeting.clone());
        move || reads(lock, meeting)
    });
    meeting.wait().unwrap();
    far.join().unwrap();
    near.join().unwrap();
    let tries = |lock: RwLock<u64>| {
        let now = Instant::now();
        (
            lock.try_read().map(|n| *n),
            lock.try_write().err(),
            lock.write_timeout(SOON).err(),
            lock.write_deadline(now).err(),
        )
    };
    let seen = Process::spawn(tries, (lock.clone(),)).unwrap().join().unwrap();
    let (blocked, late) = (Some(LockError::WouldBlock), Some(LockError::TimedOut));
    assert_eq!(seen, (Ok(1), blocked.clone(), late.clone(), late.clone()));
    drop(here);
    let mut write = lock.write().unwrap();
    *write = 2;
    let tries = |lock: RwLock<u64>| {
        let now = Instant::now();
        (
            lock.try_read().err(),
            lock.read_timeout(SOON).err(),
            lock.read_deadline(now).err(),
            lock.try_write().err(),
        )
    };
    let seen = Process::spawn(tries, (lock.clone(),)).unwrap().join().unwrap();
    assert_eq!(seen, (blocked.clone(), late.clone(), late, blocked));
    assert!(format!("{lock:?} {write:?}").contains("main (pid"));
    drop(write);
    assert_eq!(*lock.read_timeout(SOON).unwrap(), 2);
}

#[test]
fn no_write_is_torn_or_lost() {
    let _dog = watched();
    let lock = RwLock::new([0u64; 64]).unwrap();
    let write = |lock: RwLock<[u64; 64]>| {
        (0..500).for_each(|_| lock.write().unwrap().iter_mut().for_each(|n| *n += 1));
    };
    let read = |lock: RwLock<[u64; 64]>| loop {
        let now = lock.read().unwrap();
        assert!(now.iter().all(|n| *n == now[0]), "torn");
        if now[0] == 2000 {
            break;
        }
    };
    let mut all: Vec<_> = (0..2).map(|_| Process::spawn(write, (lock.clone(),)).unwrap()).collect();
    all.extend((0..2).map(|_| Process::spawn(read, (lock.clone(),)).unwrap()));
    let threads: Vec<_> = (0..4)
        .map(|which| {
            let lock = lock.clone();
            thread::spawn(move || if which < 2 { write(lock) } else { read(lock) })
        })
        .collect();
    all.iter().for_each(|p| p.join().unwrap());
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(lock.read().unwrap()[63], 2000);
}

#[test]
fn a_reader_that_asks_to_write_gets_an_error() {
    let _dog = watched();
    let lock = RwLock::labeled("mine", 0u8).unwrap();
    let read = lock.read().unwrap();
    let again = lock.read().unwrap();
    let LockError::Deadlock { cycle } = refused(lock.write()) else { panic!("no deadlock") };
    assert_eq!((cycle.len(), cycle[0].lock.as_str()), (1, "mine"));
    assert!(matches!(refused(lock.write_timeout(Duration::from_secs(3600))), LockError::Deadlock { .. }));
    drop((read, again));
    let write = lock.write().unwrap();
    assert!(matches!(refused(lock.read()), LockError::Deadlock { .. }));
    assert!(matches!(refused(lock.write()), LockError::Deadlock { .. }));
    drop(write);
    assert!(lock.write().is_ok());
}

#[test]
fn a_killed_reader_does_not_poison_the_lock() {
    let _dog = watched();
    let (lock, inside) = (RwLock::new(7u32).unwrap(), Event::new().unwrap());
    let reads = |lock: RwLock<u32>, inside: Event| -> () {
        let _read = lock.read().unwrap();
        std::mem::forget(lock.read().unwrap());
        inside.set().unwrap();
        forever();
    };
    let p = Process::spawn(reads, (lock.clone(), inside.clone())).unwrap();
    inside.wait().unwrap();
    assert_eq!(refused(lock.try_write()), LockError::WouldBlock);
    let writes = Process::spawn(|lock: RwLock<u32>| *lock.write().unwrap() = 8, (lock.clone(),)).unwrap();
    p.kill().unwrap();
    p.join().unwrap_err();
    writes.join().unwrap();
    assert_eq!(*lock.read().unwrap(), 8);
}

#[test]
fn a_killed_writer_poisons_the_lock() {
    let _dog = watched();
    let (lock, inside) = (RwLock::new([0u32; 2]).unwrap(), Event::new().unwrap());
    let writes = |lock: RwLock<[u32; 2]>, inside: Event| -> () {
        let mut write = lock.write().unwrap();
        write[0] = 1;
        inside.set().unwrap();
        forever();
    };
    let p = Process::spawn(writes, (lock.clone(), inside.clone())).unwrap();
    inside.wait().unwrap();
    let waits = Process::spawn(|lock: RwLock<[u32; 2]>| lock.read().map(drop), (lock.clone(),)).unwrap();
    p.kill().unwrap();
    p.join().unwrap_err();
    assert!(matches!(waits.join().unwrap(), Err(LockError::OwnerDied(who)) if Some(who.pid) == p.pid()));
    assert!(matches!(refused(lock.read()), LockError::OwnerDied(_)));
    assert!(matches!(refused(lock.try_write()), LockError::OwnerDied(_)));
    let mut write = lock.write_or_recover().unwrap();
    assert!(write.recovered_from().is_some() && write[..] == [1, 0]);
    write[1] = 1;
    drop(write);
    assert_eq!(lock.read().unwrap()[..], [1, 1]);
    lock.write().unwrap().poison();
    assert!(matches!(refused(lock.read()), LockError::Panicked(_)));
    drop(lock.try_write_or_recover().unwrap());
    assert!(lock.try_read().is_ok() && lock.try_write().is_ok());
}

/// A writer that still waits for a reader has changed nothing.
#[test]
fn a_writer_killed_while_it_waits_does_not_poison_the_lock() {
    let _dog = watched();
    let lock = RwLock::new(1u8).unwrap();
    let read = lock.read().unwrap();
    let p = Process::spawn(|lock: RwLock<u8>| drop(lock.write()), (lock.clone(),)).unwrap();
    until("the writer waits for this process", || {
        format!("{lock:?}").contains(&format!("(pid {})", p.pid().unwrap()))
    });
    p.kill().unwrap();
    p.join().unwrap_err();
    drop(read);
    assert!(lock.try_read().is_ok() && lock.try_write().is_ok());
}

#[test]
fn neither_readers_nor_writers_starve() {
    let _dog = watched();
    let (lock, enough) = (RwLock::new(0u64).unwrap(), Event::new().unwrap());
    let reads = |lock: RwLock<u64>, enough: Event| {
        while !enough.is_set() {
            let _read = lock.read().unwrap();
            (0..100).for_each(|_| std::hint::spin_loop());
        }
    };
    let writes = |lock: RwLock<u64>, enough: Event| {
        while !enough.is_set() {
            *lock.write().unwrap() += 1;
        }
    };
    let mut hogs: Vec<_> =
        (0..2).map(|_| Process::spawn(reads, (lock.clone(), enough.clone())).unwrap()).collect();
    hogs.extend((0..2).map(|_| Process::spawn(writes, (lock.clone(), enough.clone())).unwrap()));
    for _ in 0..50 {
        drop(lock.read().unwrap());
        drop(lock.write().unwrap());
    }
    enough.set().unwrap();
    hogs.iter().for_each(|p| p.join().unwrap());
}

/// There are more readers than cells in the first block.
#[test]
fn a_thousand_threads_can_read_at_the_same_time() {
    let _dog = watched();
    let lock = RwLock::new(5u64).unwrap();
    let reads = |lock: RwLock<u64>| {
        let guards: Vec<_> = (0..400).map(|_| lock.read().unwrap()).collect();
        guards.iter().map(|n| **n).sum::<u64>()
    };
    let guards: Vec<_> = (0..400).map(|_| lock.read().unwrap()).collect();
    let all: Vec<_> = (0..2).map(|_| Process::spawn(reads, (lock.clone(),)).unwrap()).collect();
    all.iter().for_each(|p| assert_eq!(p.join(), Ok(2000)));
    drop(guards);
    *lock.write().unwrap() = 6;
    assert_eq!(*lock.read().unwrap(), 6);
}

/// Some readers use cells that were added after the writer had received its handle.
#[test]
fn a_writer_waits_for_readers_in_added_cells() {
    let _dog = watched();
    let lock = RwLock::new(5u64).unwrap();
    let (reading, enough) = (Event::new().unwrap(), Event::new().unwrap());
    let reads = |lock: RwLock<u64>, reading: Event, enough: Event| {
        let mut guards: Vec<_> = (0..600).map(|_| lock.read().unwrap()).collect();
        guards.drain(..550); // the readers in the cells of the first block
        reading.set().unwrap();
        enough.wait().unwrap();
    };
    let p = Process::spawn(reads, (lock.clone(), reading.clone(), enough.clone())).unwrap();
    reading.wait().unwrap();
    assert_eq!(refused(lock.try_write()), LockError::WouldBlock);
    let writes = Process::spawn(|lock: RwLock<u64>| *lock.write().unwrap() = 6, (lock.clone(),)).unwrap();
    until("the writer waits for the readers", || {
        format!("{lock:?}").contains(&format!("(pid {})", writes.pid().unwrap()))
    });
    enough.set().unwrap();
    p.join().unwrap();
    writes.join().unwrap();
    assert_eq!(*lock.read().unwrap(), 6);
}
