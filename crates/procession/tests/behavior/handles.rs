//! Handles can be sent anywhere inside their family and nowhere else. An object lives as long as any handle to it.

use std::collections::HashMap;

use procession_testkit::isolated;
use serde::{Deserialize, Serialize};

use crate::family::*;
use procession::sync::{LockError, Mutex};
use procession::{Lock, Process, internals};

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
    let p = Process::spawn(|| Lock::labeled("gift").unwrap(), ()).unwrap();
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
fn handles_can_be_sent_inside_other_values() {
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

/// Reports whether a thread other than this one finds the lock held.
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

/// A value that serializes two arbitrary numbers, and deserializes them as a handle.
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
fn a_panic_while_encoding_leaks_nothing() {
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

/// Counts of handles near the limits of a 32-bit count.
const NEAR_THE_END: [u32; 4] = [(1 << 31) - 2, (1 << 31) - 1, 1 << 31, u32::MAX - 1];

/// Safe code can forget more clones than the count can hold. Even then, the object must outlive every handle.
#[test]
fn an_object_outlives_more_handles_than_can_be_counted() {
    isolated!({
        for count in NEAR_THE_END {
            let first = Mutex::new([0u64; 60]).unwrap();
            let keep = first.clone();
            assert_eq!(internals::say_handles(&first, count), 2);
            (0..3).for_each(|_| std::mem::forget(first.clone()));
            drop(first);
            // If the mutex were freed, these objects would take its place.
            let others: Vec<_> = (0..300).map(|_| Mutex::new([5u64; 60]).unwrap()).collect();
            let mut mine = keep.lock().unwrap();
            mine[0] = 0x4141;
            let changed = others.iter().filter(|other| other.lock().unwrap()[0] != 5).count();
            assert_eq!((mine[0], changed), (0x4141, 0), "from {count:#x}");
        }
    });
}

/// The price of an overflowed count: the object stays allocated, and is freed only when its process ends.
#[test]
fn an_object_with_too_many_handles_is_freed_with_its_process() {
    isolated!({
        let child = Process::spawn(
            || {
                let lock = Mutex::new(0u8).unwrap();
                internals::say_handles(&lock, u32::MAX - 1);
                drop((lock.clone(), lock.clone(), lock));
                internals::census().objects
            },
            (),
        );
        assert_eq!(child.unwrap().join(), Ok(2), "the mutex, and the process");
        until("no object is left", || internals::census().objects == 0);
    });
}

#[test]
fn a_result_outlives_more_task_handles_than_can_be_counted() {
    isolated!({
        let pool = procession::Pool::new(1).unwrap();
        for count in NEAR_THE_END {
            let first = pool.submit(|| vec![7u8; 100], ()).unwrap();
            let keep = first.clone();
            assert_eq!(internals::say_task_handles(&first, count), 2);
            (0..3).for_each(|_| std::mem::forget(first.clone()));
            drop(first);
            let others = pool.map(|n: u8| vec![n; 100], 0..100).unwrap();
            assert_eq!(others.len(), 100);
            assert_eq!(keep.get(), Ok(vec![7; 100]), "from {count:#x}");
        }
    });
}

/// A handle names an object by its place and generation. So that no old handle names a new object, a place is
/// retired before its generations repeat.
#[test]
fn a_place_is_retired_when_its_generations_are_used_up() {
    isolated!({
        let place = |mutex: &Mutex<u8>| internals::HasHandle::object_index(mutex);
        let lock = Mutex::new(0u8).unwrap();
        let index = place(&lock);
        drop(lock);
        internals::exhaust_generations(index);
        let last = Mutex::new(0u8).unwrap();
        assert_eq!(place(&last), index, "the place is used once more");
        drop(last.lock().unwrap());
        drop(last);
        let next: Vec<_> = (0..10).map(|_| Mutex::new(0u8).unwrap()).collect();
        assert!(next.iter().all(|mutex| place(mutex) != index));
        assert_eq!(internals::census().objects, 10);
    });
}
