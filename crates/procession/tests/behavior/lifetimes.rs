//! An object lives as long as any process has a handle to it, and no longer.

use crate::family::*;
use procession::internals::{Census, census};
use procession::sync::LockError;
use procession::{Lock, Process, Queue};
use procession_testkit::isolated;
use serde::{Deserialize, Serialize};

/// Counts living objects, blocks and holdings. Leaves out spans and records, because these are kept for
/// reuse.
fn living(census: &Census) -> (u32, usize, usize) {
    let kept = census.holdings.iter().filter(|(slot, _)| *slot != 0).count();
    (census.objects, census.blocks.len(), kept)
}

#[track_caller]
fn until_as_before(before: &Census) {
    until(&format!("{:?} is left, not {:?}", living(before), living(&census())), || {
        living(&census()) == living(before)
    });
}

/// Returns the state of the family before the test has created anything.
fn settled() -> Census {
    Process::spawn(|| (), ()).unwrap().join().unwrap();
    until("only main is left", || census().objects == 0 && census().blocks.is_empty());
    census()
}

#[test]
fn an_object_without_handles_is_freed() {
    isolated!({
        let start = settled();
        for _ in 0..20 {
            drop(Lock::new().unwrap());
        }
        assert_eq!(living(&census()), living(&start), "an object that was never sent is freed immediately");
        let locks: Vec<Lock> = (0..100).map(|_| Lock::new().unwrap()).collect();
        assert_eq!(census().objects, start.objects + 100);
        Process::spawn(|locks: Vec<Lock>| drop(locks), (locks.clone(),)).unwrap().join().unwrap();
        assert!(locks.iter().all(|lock| lock.lock().is_ok()));
        drop(locks);
        until_as_before(&start);
        drop(
            Process::spawn(|| (0..100).map(|_| Lock::new().unwrap()).collect::<Vec<_>>(), ()).unwrap().join(),
        );
        until_as_before(&start);
        drop(Process::spawn(|| vec![Lock::new().unwrap(); 3], ()).unwrap());
        until_as_before(&start);
        drop(Process::spawn(|bytes: Vec<u8>| bytes, (vec![1; 5 << 20],)).unwrap().join());
        until_as_before(&start);
        drop(Process::spawn(|| -> () { panic!("{}", "x".repeat(5000)) }, ()).unwrap().join());
        until_as_before(&start);
    });
}

#[test]
fn a_process_stays_alive_without_handles_to_it() {
    isolated!({
        let gate = Lock::new().unwrap();
        let closed = gate.lock().unwrap();
        let itself = |gate: Lock, answer: Lock| {
            drop(gate.lock().unwrap());
            for _ in 0..3 {
                // No other process has a handle to this process by now.
                let me = procession::current_process().unwrap();
                assert_eq!((me.name().as_str(), me.is_alive()), ("alone", true));
                drop(me);
                // Spawns more processes than there are spares, so the supervisor has examined all objects by
                // then.
                (0..12).for_each(|_| Process::spawn(|| (), ()).unwrap().join().unwrap());
            }
            std::mem::forget(answer.lock().unwrap());
        };
        let answer = Lock::new().unwrap();
        drop(Process::builder().name("alone").spawn(itself, (gate.clone(), answer.clone())).unwrap());
        drop(closed);
        // The lock that the process held at its end shows that the process came this far.
        until("the process has ended", || matches!(answer.try_lock(), Err(LockError::OwnerDied(_))));
    });
}

#[test]
fn handles_of_a_dead_process_are_released() {
    isolated!({
        let start = settled();
        let board = Board::new();
        let hoard = |locks: Vec<Lock>, board: String| {
            let mine: Vec<Lock> = (0..100).map(|_| Lock::new().unwrap()).collect();
            let child = Process::builder().daemon(true).spawn(forever, ()).unwrap();
            post(&board, "has", child.pid().unwrap());
            forever();
            drop((locks, mine, child));
        };
        let locks: Vec<Lock> = (0..100).map(|_| Lock::new().unwrap()).collect();
        let p = Process::spawn(hoard, (locks, board.path())).unwrap();
        let grandchild = board.number("has");
        assert!(census().objects >= start.objects + 202);
        send(p.pid().unwrap(), libc::SIGKILL);
        p.join().unwrap_err();
        drop(p);
        send(grandchild, libc::SIGKILL);
        until_as_before(&start);
    });
}

#[test]
fn a_handle_in_transit_keeps_its_object() {
    isolated!({
        let start = settled();
        let board = Board::new();
        let uses = |board: String, lock: Lock| {
            wait_for(&board, "go");
            let name = lock.name();
            drop(lock.lock().unwrap());
            (name, lock)
        };
        let lock = Lock::labeled("on its way").unwrap();
        let p = Process::spawn(uses, (board.path(), lock)).unwrap();
        // Makes the collector run while only the argument holds the object, and later while only the result
        // does.
        let stir = || {
            (0..20).for_each(|_| {
                drop(Process::spawn(|lock: Lock| lock, (Lock::new().unwrap(),)).unwrap().join())
            })
        };
        stir();
        post(&board.path(), "go", "");
        until("the process has returned", || !p.is_alive());
        until_gone(&[p.pid().unwrap()]);
        stir();
        let (name, lock) = p.join().unwrap();
        assert_eq!((name.as_str(), lock.name().as_str()), ("on its way", "on its way"));
        assert!(lock.lock().is_ok());
        let again = p.join().unwrap().1;
        drop((lock, p));
        stir();
        assert_eq!(again.name(), "on its way");
        drop(again);
        until_as_before(&start);
    });
}

#[test]
fn a_value_that_fails_to_decode_releases_its_handles() {
    #[derive(Serialize)]
    struct Half(Lock, Process<()>, bool);
    impl<'de> Deserialize<'de> for Half {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Half, D::Error> {
            let (lock, process, fine) = Deserialize::deserialize(deserializer)?;
            if fine { Ok(Half(lock, process, fine)) } else { Err(serde::de::Error::custom("not fine")) }
        }
    }
    isolated!({
        let start = settled();
        for fine in [true, false] {
            let give = |fine: bool| Half(Lock::new().unwrap(), Process::spawn(|| (), ()).unwrap(), fine);
            let p = Process::spawn(give, (fine,)).unwrap();
            assert_eq!(p.join().is_ok(), fine);
            drop(p);
            until_as_before(&start);
        }
        let half = Half(Lock::new().unwrap(), Process::spawn(|| (), ()).unwrap(), false);
        let refused = Process::spawn(|_: Half| (), (half,)).and_then(|p| Ok(p.join()?));
        assert!(refused.is_err());
        until_as_before(&start);
    });
}

#[test]
fn clones_refer_to_the_same_object() {
    isolated!({
        let start = settled();
        let lock = Lock::new().unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    (0..1000).for_each(|_| drop(vec![lock.clone(), lock.clone()]));
                    assert!(lock.lock().is_ok());
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(census().objects, start.objects + 1);
        assert!(lock.lock().is_ok());
        drop(lock);
        assert_eq!(census().objects, start.objects);
    });
}

/// Freeing must not search all blocks again for each of the thirty thousand objects.
#[test]
fn freeing_a_container_frees_thirty_thousand_objects_in_it() {
    isolated!({
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        let start = settled();
        let outer = Queue::unbounded().unwrap();
        for _ in 0..30_000 {
            outer.put(Queue::<u64>::bounded(1).unwrap()).unwrap();
        }
        assert!(census().objects >= start.objects + 30_000);
        drop(outer);
        until_as_before(&start);
    });
}
