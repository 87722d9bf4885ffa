//! Handles: sent anywhere inside the family, nowhere outside it, and alive as long as any of them is.

mod family;

use std::collections::HashMap;

use family::*;
use procession::internals::{Census, census};
use procession::sync::LockError;
use procession::{Lock, Process};
use procession_testkit::{isolated, proc};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Till {
    name: String,
    locks: Vec<Lock>,
    by_name: HashMap<String, Lock>,
    spare: Option<Lock>,
}

fn till() -> Till {
    let new = || Lock::new().unwrap();
    Till {
        name: "till".into(),
        locks: vec![new(), new()],
        by_name: [("a".to_string(), new())].into(),
        spare: Some(new()),
    }
}

fn is_held(lock: &Lock) -> bool {
    lock.try_lock().err() == Some(LockError::WouldBlock)
}

#[test]
fn a_lock_made_by_a_child_outlives_it() {
    let _dog = watched();
    let p = Process::spawn(|| Lock::named("gift").unwrap(), ()).unwrap();
    let lock = p.join().unwrap();
    until_gone(&[p.pid().unwrap()]);
    drop(p);
    assert_eq!(lock.name(), "gift");
    let held = lock.lock().unwrap();
    assert_eq!(Process::spawn(|lock: Lock| is_held(&lock), (lock.clone(),)).unwrap().join(), Ok(true));
    drop(held);
    assert!(lock.try_lock().is_ok());
}

#[test]
fn handles_cross_inside_other_values() {
    let _dog = watched();
    let mine = till();
    let _held = mine.locks[1].lock().unwrap();
    let _also = mine.by_name["a"].lock().unwrap();
    let look = |till: Till| {
        let [first, second] = &till.locks[..] else { unreachable!("two were sent") };
        let seen =
            (is_held(first), is_held(second), is_held(&till.by_name["a"]), till.spare.as_ref().map(is_held));
        (seen, till)
    };
    let sent = Till {
        locks: mine.locks.clone(),
        by_name: mine.by_name.clone(),
        spare: mine.spare.clone(),
        name: String::new(),
    };
    let (seen, back) = Process::spawn(look, (sent,)).unwrap().join().unwrap();
    assert_eq!(seen, (false, true, true, Some(false)));
    let same = back.locks[0].lock().unwrap();
    assert!(is_elsewhere_held(&mine.locks[0]));
    drop(same);
    let twice = |a: Lock, b: Lock| {
        let _held = a.lock().unwrap();
        matches!(b.lock(), Err(LockError::Deadlock { .. }))
    };
    assert_eq!(
        Process::spawn(twice, (mine.locks[0].clone(), mine.locks[0].clone())).unwrap().join(),
        Ok(true)
    );
    let refused = |lock: Lock| -> Result<(), Lock> { Err(lock) };
    let back = Process::spawn(refused, (mine.locks[0].clone(),)).unwrap().join().unwrap().unwrap_err();
    assert!(back.lock().is_ok());
}

/// Whether somebody else than this thread finds it held.
fn is_elsewhere_held(lock: &Lock) -> bool {
    let lock = lock.clone();
    std::thread::spawn(move || is_held(&lock)).join().unwrap()
}

#[test]
fn a_handle_cannot_leave_the_family() {
    let _dog = watched();
    let (lock, p) = (Lock::new().unwrap(), sleeper());
    let says_why = |error: String| assert!(error.contains("inside its family"), "{error}");
    says_why(serde_json::to_string(&lock).unwrap_err().to_string());
    says_why(serde_json::to_string(&vec![p.clone()]).unwrap_err().to_string());
    assert!(postcard::to_stdvec(&lock).is_err());
    says_why(serde_json::from_str::<Lock>("[1,2]").unwrap_err().to_string());
    says_why(serde_json::from_str::<Process<()>>("[4294967296,7]").unwrap_err().to_string());
    assert!(postcard::from_bytes::<Lock>(&[0; 16]).is_err());
    let in_a_child = |lock: Lock| serde_json::to_string(&lock).unwrap_err().to_string();
    says_why(Process::spawn(in_a_child, (lock,)).unwrap().join().unwrap());
    p.kill().unwrap();
}

/// A value that arrives as a handle, whatever was sent.
#[derive(Clone, Debug)]
struct Forged(u64, u64);

impl Serialize for Forged {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0, self.1).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Forged {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Forged, D::Error> {
        Lock::deserialize(deserializer).map(|_| Forged(0, 0))
    }
}

#[test]
fn a_forged_handle_is_refused() {
    let _dog = watched();
    let _lock = Lock::new().unwrap();
    for (id, nonce) in [(0, 0), (1 << 32, 0), (u64::MAX, u64::MAX), (1 << 32, 12345)] {
        let p = Process::spawn(|_: Forged| (), (Forged(id, nonce),)).and_then(|p| Ok(p.join()?));
        assert!(p.is_err(), "{id} {nonce}");
    }
}

#[test]
fn a_panic_while_encoding_does_no_harm() {
    #[derive(Clone)]
    struct Bomb(Lock);
    impl Serialize for Bomb {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let _ = self.0.serialize(serializer);
            panic!("in the middle")
        }
    }
    impl<'de> Deserialize<'de> for Bomb {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bomb, D::Error> {
            Lock::deserialize(deserializer).map(Bomb)
        }
    }
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let bomb = std::panic::AssertUnwindSafe(Bomb(lock.clone()));
    let spawned = std::panic::catch_unwind(move || Process::spawn(|_: Bomb| (), (bomb.0,)).map(drop));
    assert!(spawned.is_err());
    assert!(serde_json::to_string(&lock).is_err(), "outside again");
    assert_eq!(Process::spawn(|lock: Lock| lock.lock().is_ok(), (lock,)).unwrap().join(), Ok(true));
}

/// What there is of objects and blocks. Spans and records are kept for the next ones.
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

/// The family as it is before anything of the test is there.
fn settled() -> Census {
    Process::spawn(|| (), ()).unwrap().join().unwrap();
    until("only main is left", || census().objects == 0 && census().blocks.is_empty());
    census()
}

#[test]
fn what_nobody_holds_is_freed() {
    isolated!({
        let _dog = watched();
        let start = settled();
        for _ in 0..20 {
            drop(Lock::new().unwrap());
        }
        assert_eq!(living(&census()), living(&start), "what was never sent goes at once");
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
fn what_the_dead_held_is_let_go() {
    isolated!({
        let _dog = watched();
        let start = settled();
        let board = Board::new();
        let hoard = |locks: Vec<Lock>, board: String| {
            let mine: Vec<Lock> = (0..100).map(|_| Lock::new().unwrap()).collect();
            let child = Process::builder().daemon(true).spawn(forever, ()).unwrap();
            // Who is killed from outside before it has begun is replaced.
            until("it has begun", || proc::comm(child.pid().unwrap()).as_deref() == Some("forever"));
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
fn a_handle_on_its_way_keeps_its_object() {
    isolated!({
        let _dog = watched();
        let start = settled();
        let board = Board::new();
        let uses = |board: String, lock: Lock| {
            wait_for(&board, "go");
            let name = lock.name();
            drop(lock.lock().unwrap());
            (name, lock)
        };
        let lock = Lock::named("on its way").unwrap();
        let p = Process::spawn(uses, (board.path(), lock)).unwrap();
        // The collector is made to look while the argument, and then the result, alone hold it.
        let stir = || {
            (0..20).for_each(|_| {
                drop(Process::spawn(|lock: Lock| lock, (Lock::new().unwrap(),)).unwrap().join())
            })
        };
        stir();
        post(&board.path(), "go", "");
        until("it has returned", || !p.is_alive());
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
fn half_decoded_values_let_go_of_their_handles() {
    #[derive(Serialize)]
    struct Half(Lock, Process<()>, bool);
    impl<'de> Deserialize<'de> for Half {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Half, D::Error> {
            let (lock, process, fine) = Deserialize::deserialize(deserializer)?;
            if fine { Ok(Half(lock, process, fine)) } else { Err(serde::de::Error::custom("not fine")) }
        }
    }
    isolated!({
        let _dog = watched();
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
fn clones_are_one_object() {
    isolated!({
        let _dog = watched();
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
