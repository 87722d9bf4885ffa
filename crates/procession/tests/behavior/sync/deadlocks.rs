//! The thread that closes a cycle of waits gets a deadlock error that names every member. No other wait is
//! reported as a deadlock.

use std::thread;
use std::time::Duration;

use crate::family::*;
use procession::state::{Array, Value};
use procession::sync::{Barrier, DeadlockMember, Event, LockError, Mutex, RLock, RwLock};
use procession::{AnyProcess, Error, Failure, Lock, Process};

fn cycle<T>(taken: Result<T, LockError>) -> Vec<DeadlockMember> {
    match taken.err().expect("the lock cannot be acquired") {
        LockError::Deadlock { cycle } => cycle,
        other => panic!("{other}"),
    }
}

/// Starts a process that acquires `theirs` and then waits for `ours`, which this process holds.
fn other_wants(ours: &Lock, theirs: &Lock) -> Process<procession::Result<()>> {
    let both = |theirs: Lock, ours: Lock| -> procession::Result<()> {
        let _first = theirs.lock()?;
        let _second = ours.lock()?;
        Ok(())
    };
    let p = Process::builder().name("other").spawn(both, (theirs.clone(), ours.clone())).unwrap();
    until("the process waits for our lock", || format!("{ours:?}").contains("waiters: 1"));
    p
}

#[test]
fn two_locks_in_opposite_order_are_reported_to_the_last_waiter() {
    let _dog = watched();
    let (ours, theirs) = (Lock::labeled("ours").unwrap(), Lock::labeled("theirs").unwrap());
    let held = ours.lock().unwrap();
    let other = other_wants(&ours, &theirs);
    let error = theirs.lock().map(drop).unwrap_err();
    for text in ["other", "ours", "theirs", "main"] {
        assert!(error.to_string().contains(text), "no {text} in {error}");
    }
    let cycle = cycle::<()>(Err(error));
    let me = &cycle[0];
    assert_eq!((me.pid, me.process.as_str(), me.lock.as_str()), (std::process::id(), "main", "theirs"));
    let them = &cycle[1];
    assert_eq!((Some(them.pid), them.process.as_str(), them.lock.as_str()), (other.pid(), "other", "ours"));
    assert_eq!((them.thread, cycle.len()), (them.pid, 2));
    assert!(!other.try_join().is_ok_and(|ended| ended.is_some()), "the other process still waits");
    drop(held);
    assert_eq!(other.join().unwrap(), Ok(()));
    assert!(theirs.lock().is_ok(), "the wait left no trace");
}

/// A waiter with a timeout would give up by itself, so it is not part of a deadlock.
#[test]
fn a_waiter_with_a_timeout_does_not_close_a_deadlock() {
    let _dog = watched();
    let (ours, theirs) = (Lock::new().unwrap(), Lock::new().unwrap());
    let held = ours.lock().unwrap();
    let limited = |theirs: Lock, ours: Lock| {
        let _first = theirs.lock().unwrap();
        ours.lock_timeout(Duration::from_millis(400)).map(drop)
    };
    let p = Process::spawn(limited, (theirs.clone(), ours.clone())).unwrap();
    until("the process waits for our lock", || format!("{ours:?}").contains("waiters: 1"));
    assert!(theirs.lock().is_ok(), "the other process gave up, and this one acquired the lock");
    assert_eq!(p.join(), Ok(Err(LockError::TimedOut)));
    drop(held);
    // In the opposite order, the other process has no timeout, so it would not give up before our own
    // timeout.
    let held = ours.lock().unwrap();
    let other = other_wants(&ours, &theirs);
    assert_eq!(cycle(theirs.lock_timeout(Duration::from_secs(3600))).len(), 2);
    drop(held);
    assert_eq!(other.join().unwrap(), Ok(()));
}

#[test]
fn five_philosophers_all_eat() {
    let _dog = watched();
    let forks: Vec<Mutex<u64>> = (0..5).map(|i| Mutex::labeled(&format!("fork {i}"), 0).unwrap()).collect();
    let table = Barrier::new(5).unwrap();
    let dine = |left: Mutex<u64>, right: Mutex<u64>, table: Barrier| {
        let mut deadlocks = 0;
        let mut left_held = left.lock().unwrap();
        table.wait().unwrap(); // every philosopher has its left fork
        loop {
            match right.lock() {
                Ok(mut right_held) => {
                    *left_held += 1;
                    *right_held += 1;
                    return deadlocks;
                }
                Err(LockError::Deadlock { cycle }) => {
                    assert_eq!(cycle.len(), 5);
                    assert!(cycle.iter().all(|one| one.lock.starts_with("fork ")), "{cycle:?}");
                    deadlocks += 1;
                    drop(left_held);
                    left_held = left.lock().unwrap();
                }
                Err(other) => panic!("{other}"),
            }
        }
    };
    let all: Vec<_> = (0..5)
        .map(|i| {
            let args = (forks[i].clone(), forks[(i + 1) % 5].clone(), table.clone());
            Process::spawn(dine, args).unwrap()
        })
        .collect();
    let deadlocks: u32 = all.iter().map(|p| p.join().unwrap()).sum();
    assert!(deadlocks >= 1);
    assert_eq!(forks.iter().map(|fork| *fork.lock().unwrap()).sum::<u64>(), 10);
}

#[test]
fn a_deadlock_can_involve_every_kind_of_lock() {
    let _dog = watched();
    let held = Array::<u8>::new(1).unwrap();
    let (shared, again) = (RwLock::labeled("shared", 1u8).unwrap(), RLock::labeled("again").unwrap());
    let reading = Event::new().unwrap();
    let theirs = |shared: RwLock<u8>, held: Array<u8>, again: RLock, reading: Event| {
        let _outer = again.lock().unwrap();
        let _inner = again.lock().unwrap();
        let _read = shared.read().unwrap();
        reading.set().unwrap();
        held.lock().map(drop)
    };
    let our_array = held.lock().unwrap();
    let p = Process::spawn(theirs, (shared.clone(), held.clone(), again.clone(), reading.clone())).unwrap();
    reading.wait().unwrap();
    until("the process waits for the array", || format!("{held:?}").contains("waiters: 1"));
    let found = cycle(shared.write());
    assert_eq!((found.len(), found[0].lock.as_str()), (2, "shared"), "{found:?}");
    assert_eq!(cycle(again.lock()).len(), 2);
    assert!(shared.try_read().is_ok(), "the waiting writer has left");
    drop(our_array);
    assert_eq!(p.join(), Ok(Ok(())));
    assert!(shared.write().is_ok());
}

/// A reader holds the lock, a writer waits for it, and the reader asks to read again.
#[test]
fn a_reader_behind_a_writer_that_waits_for_it_gets_an_error() {
    let _dog = watched();
    let lock = RwLock::labeled("limits", 0u8).unwrap();
    let read = lock.read().unwrap();
    let writer = Process::spawn(|lock: RwLock<u8>| lock.write().map(drop), (lock.clone(),)).unwrap();
    // The writer first gets its turn among the writers, and then blocks readers. Only then is it recorded as
    // waiting.
    let pid = writer.pid().unwrap();
    until("the writer sleeps", || procession_testkit::proc::is_parked(pid) && lock.try_read().is_err());
    assert_eq!(cycle(lock.read()).len(), 2);
    drop(read);
    assert_eq!(writer.join(), Ok(Ok(())));
}

#[test]
fn threads_of_one_process_are_distinguished() {
    let _dog = watched();
    let (ours, theirs) = (Lock::labeled("ours").unwrap(), Lock::labeled("theirs").unwrap());
    let held = ours.lock().unwrap();
    let t = thread::spawn({
        let (ours, theirs) = (ours.clone(), theirs.clone());
        move || {
            let _first = theirs.lock().unwrap();
            ours.lock().map(drop)
        }
    });
    until("the thread waits for our lock", || format!("{ours:?}").contains("waiters: 1"));
    let found = cycle(theirs.lock());
    assert_eq!(found[0].pid, found[1].pid);
    assert_ne!(found[0].thread, found[1].thread);
    drop(held);
    assert_eq!(t.join().unwrap(), Ok(()));
}

#[test]
fn a_process_that_waits_for_its_own_ancestor_gets_an_error() {
    let _dog = watched();
    let parent = || {
        let grandchild = Process::builder().name("grandchild").spawn(
            |parent: AnyProcess| match parent.wait() {
                Err(Error::Lock(LockError::Deadlock { cycle })) => Ok(cycle),
                other => Err(Error::other(format!("{other:?}"))),
            },
            (procession::current_process().unwrap(),),
        );
        grandchild.unwrap().join()
    };
    let p = Process::builder().name("parent").spawn(parent, ()).unwrap();
    // Either process may have closed the cycle.
    match p.join().unwrap() {
        Ok(Ok(cycle)) => {
            assert_eq!((cycle.len(), cycle[0].process.as_str()), (2, "grandchild"));
            assert_eq!(cycle[0].lock, "the end of process parent");
        }
        Ok(Err(other)) => panic!("{other}"),
        Err(error) => {
            assert!(matches!(error.failure(), Failure::Deadlock { cycle } if cycle.len() == 2), "{error}");
        }
    }
}

#[test]
fn joining_a_process_that_waits_for_the_caller_s_lock_is_an_error() {
    let _dog = watched();
    let lock = Lock::labeled("mine").unwrap();
    let held = lock.lock().unwrap();
    let waits = |lock: Lock| lock.lock().map(drop);
    let p = Process::spawn(waits, (lock.clone(),)).unwrap();
    until("it waits", || format!("{lock:?}").contains("waiters: 1"));
    let Err(error) = p.join() else { panic!("the process has ended") };
    assert!(matches!(error.failure(), Failure::Deadlock { cycle } if cycle.len() == 2), "{error}");
    drop(held);
    assert_eq!(p.join(), Ok(Ok(())));
}

/// Many locks are acquired in one order by more processes and threads than there are processors. Many waits
/// are long enough to start a search for deadlocks. There must be no false alarm.
#[test]
fn healthy_locking_raises_no_alarm() {
    let _dog = watched();
    let locks: Vec<Lock> = (0..4).map(|_| Lock::new().unwrap()).collect();
    let shared = RwLock::new(0u64).unwrap();
    let work = |locks: Vec<Lock>, shared: RwLock<u64>, seed: u64| -> procession::Result<u64> {
        let mut random = seed;
        let mut waited = 0;
        for round in 0..12 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (first, second) = ((random >> 33) as usize % 3, (random >> 40) as usize);
            let second = first + 1 + second % (3 - first);
            let began = std::time::Instant::now();
            let _a = locks[first].lock()?;
            let _b = locks[second].lock()?;
            if round % 3 == 0 {
                *shared.write()? += 1;
            } else {
                let _ = *shared.read()?;
            }
            waited += u64::from(began.elapsed() > Duration::from_millis(100));
            // Both locks stay held, so that others wait longer than the time after which they search for a deadlock.
            thread::sleep(Duration::from_millis((random >> 50) % 30));
        }
        Ok(waited)
    };
    let processes: Vec<_> =
        (0..8).map(|i| Process::spawn(work, (locks.clone(), shared.clone(), i)).unwrap()).collect();
    let threads: Vec<_> = (8..14)
        .map(|i| {
            let (locks, shared) = (locks.clone(), shared.clone());
            thread::spawn(move || work(locks, shared, i))
        })
        .collect();
    let mut looked = processes.iter().map(|p| p.join().unwrap().unwrap()).sum::<u64>();
    looked += threads.into_iter().map(|t| t.join().unwrap().unwrap()).sum::<u64>();
    assert!(looked > 10, "only {looked} waits were long enough for a search");
    assert_eq!(*shared.read().unwrap(), 14 * 4);
}

/// Several readers hold the wanted lock, and all except one of them wait for another lock with a timeout.
/// They do not hide the one reader that would wait for ever.
#[test]
fn readers_that_would_give_up_hide_no_deadlock() {
    let _dog = watched();
    let (lock, shared) = (Lock::labeled("ours").unwrap(), RwLock::labeled("shared", 0u8).unwrap());
    let held = lock.lock().unwrap();
    let reads = |lock: Lock, shared: RwLock<u8>, limit: Option<u64>| {
        let _read = shared.read().unwrap();
        match limit {
            Some(seconds) => lock.lock_timeout(Duration::from_secs(seconds)).map(drop),
            None => lock.lock().map(drop),
        }
    };
    let readers: Vec<_> = [Some(3600), None, Some(3600)]
        .into_iter()
        .enumerate()
        .map(|(before, limit)| {
            let p = Process::spawn(reads, (lock.clone(), shared.clone(), limit)).unwrap();
            until("it waits", || format!("{lock:?}").contains(&format!("waiters: {}", before + 1)));
            p
        })
        .collect();
    let found = cycle(shared.write_timeout(Duration::from_secs(30)));
    assert_eq!((found.len(), Some(found[1].pid)), (2, readers[1].pid()));
    drop(held);
    readers.iter().for_each(|p| assert_eq!(p.join(), Ok(Ok(()))));
}

/// An update holds a lock of its value while it waits for a lock whose holder asks for the value.
#[test]
fn a_value_can_be_part_of_a_deadlock() {
    let _dog = watched();
    let (lock, value) = (Lock::labeled("ours").unwrap(), Value::labeled("stock", 1u32).unwrap());
    let held = lock.lock().unwrap();
    let updates = |lock: Lock, value: Value<u32>| value.update(|n| lock.lock().map(|_| *n += 1));
    let p = Process::spawn(updates, (lock.clone(), value.clone())).unwrap();
    until("the update waits for our lock", || format!("{lock:?}").contains("waiters: 1"));
    assert_eq!(value.try_get(), Err(Error::Lock(LockError::WouldBlock)));
    let Err(Error::Lock(LockError::Deadlock { cycle })) = value.get() else { panic!("no deadlock") };
    assert_eq!((cycle.len(), cycle[0].lock.as_str(), cycle[1].lock.as_str()), (2, "stock", "ours"));
    drop(held);
    assert_eq!(p.join().unwrap(), Ok(Ok(())));
    assert_eq!(value.get(), Ok(2));
}

/// One process reads the read-write lock, and one waits to write it. The cycle goes through this lock as
/// through any other.
#[test]
fn a_cycle_of_three_kinds_of_lock_is_reported_with_all_names() {
    let _dog = watched();
    let (first, table) = (Mutex::labeled("first", 0u8).unwrap(), RwLock::labeled("table", 0u8).unwrap());
    let last = RLock::labeled("last").unwrap();
    let held = first.lock().unwrap();
    let reads = |table: RwLock<u8>, first: Mutex<u8>| {
        let _read = table.read().unwrap();
        first.lock().map(drop)
    };
    let reader = Process::builder().name("reader").spawn(reads, (table.clone(), first.clone())).unwrap();
    until("the reader waits", || format!("{first:?}").contains("waiters: 1"));
    let writes = |last: RLock, table: RwLock<u8>| {
        let _held = last.lock().unwrap();
        table.write().map(drop)
    };
    let writer = Process::builder().name("writer").spawn(writes, (last.clone(), table.clone())).unwrap();
    until("the writer waits", || format!("{table:?}").contains("writer"));
    // The writer already has its turn among the writers. It must wait for the reader before this process asks
    // for the last lock.
    procession_testkit::wait_until_parked(writer.pid().unwrap());
    let found = cycle(last.lock());
    let told: Vec<_> = found.iter().map(|one| (one.process.as_str(), one.lock.as_str())).collect();
    assert_eq!(told, [("main", "last"), ("writer", "table"), ("reader", "first")]);
    drop(held);
    assert_eq!((reader.join(), writer.join()), (Ok(Ok(())), Ok(Ok(()))));
}
