//! Hostile uses of dicts and lists. A value holds its own container. User code fails, panics or calls back
//! during a change. Two containers are changed in opposite orders.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::family::*;
use procession::internals;
use procession::state::List;
use procession::sync::{Barrier, LockError};
use procession::{Dict, Error, Lock, Process, Queue};
use procession_testkit::{isolated, proc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that can hold its own dict.
#[derive(Serialize, Deserialize)]
struct Nest {
    inner: Option<Dict<u32, Nest>>,
    list: Option<List<Nest>>,
}

fn dict_in_a_nest(dict: &Dict<u32, Nest>) -> Nest {
    Nest { inner: Some(dict.clone()), list: None }
}

fn nothing_is_left() {
    proc::wait_until("no object is left", LONG, || internals::census().objects == 0);
    proc::wait_until("no block is left", LONG, || internals::census().blocks.is_empty());
}

#[test]
fn a_container_that_holds_itself_is_freed() {
    isolated!({
        let itself = Dict::new().unwrap();
        itself.insert(&1, dict_in_a_nest(&itself)).unwrap();
        let found = itself.get(&1).unwrap().and_then(|nest| nest.inner).expect("itself");
        found.insert(&2, Nest { inner: None, list: None }).unwrap();
        assert_eq!((itself.len(), itself.iter().count()), (2, 2));
        itself.update(&1, |nest| assert!(nest.inner.as_ref().unwrap().contains_key(&2).unwrap())).unwrap();
        drop((itself, found));
        nothing_is_left();

        let (one, other) = (Dict::new().unwrap(), Dict::new().unwrap());
        one.insert(&1, dict_in_a_nest(&other)).unwrap();
        other.insert(&1, dict_in_a_nest(&one)).unwrap();
        let list = List::new().unwrap();
        list.push(dict_in_a_nest(&one)).unwrap();
        one.insert(&2, Nest { inner: None, list: Some(list.clone()) }).unwrap();
        list.push(Nest { inner: None, list: Some(list.clone()) }).unwrap();
        drop((one, other));
        internals::collect();
        let one = list.get(0).unwrap().and_then(|nest| nest.inner).expect("held by the list");
        assert_eq!(one.len(), 2);
        drop((list, one));
        nothing_is_left();
    });
}

#[test]
fn a_dict_can_hold_thousands_of_dicts() {
    isolated!({
        let outer = Dict::<u32, Dict<u32, u32>>::new().unwrap();
        let make = |outer: Dict<u32, Dict<u32, u32>>, from: u32| -> procession::Result<()> {
            (from..from + 1000).try_for_each(|n| outer.insert(&n, Dict::from_entries([(n, n)])?).map(drop))
        };
        let makers = [0, 1000].map(|from| Process::spawn(make, (outer.clone(), from)).unwrap());
        makers.into_iter().for_each(|maker| maker.join().unwrap().unwrap());
        assert_eq!(outer.len(), 2000);
        let kept = outer.get(&1234).unwrap().expect("the inner dict is there");
        for n in 0..2000 {
            assert_eq!(outer.get(&n).unwrap().and_then(|inner| inner.get(&n).unwrap()), Some(n));
        }
        outer.clear().unwrap();
        proc::wait_until("the other dicts are freed", LONG, || internals::census().objects == 2);
        assert_eq!(kept.get(&1234), Ok(Some(1234)));
        drop((outer, kept));
        nothing_is_left();
    });
}

/// Returns the error of the refused change. Exactly one of the two changes in opposite orders must be
/// refused.
fn refusal(results: [procession::Result<()>; 2]) -> Error {
    let [Ok(()), Err(refused)] = results.clone() else {
        let [Err(refused), Ok(())] = results else { panic!("one is refused: {results:?}") };
        return refused;
    };
    refused
}

#[test]
fn two_dicts_changed_in_opposite_orders_are_reported() -> procession::Result<()> {
    let _dog = watched();
    let dicts = [Dict::from_entries([(1, 10)])?, Dict::from_entries([(1, 20)])?];
    let both = |first: Dict<i32, i32>, second: Dict<i32, i32>, met: Barrier| -> procession::Result<()> {
        let inner = first.update(&1, |value| {
            met.wait()?;
            *value += 1;
            second.update(&1, |value| *value += 1)
        })?;
        inner.expect("it is there").map(drop)
    };
    let met = Barrier::new(2)?;
    let [one, other] = dicts.clone();
    let child = Process::spawn(both, (other.clone(), one.clone(), met.clone()))?;
    let results = [both(one, other, met), child.join()?];
    let refused = refusal(results);
    assert!(
        matches!(&refused, Error::Lock(LockError::Deadlock { cycle }) if cycle.len() == 2),
        "{refused:?}"
    );
    // The refused process has changed only its first dict, and the other process has changed both.
    let sum = dicts[0].get(&1)?.unwrap() + dicts[1].get(&1)?.unwrap();
    assert_eq!(sum, 33);
    Ok(())
}

#[test]
fn a_lock_and_a_list_acquired_in_opposite_orders_are_reported() -> procession::Result<()> {
    let _dog = watched();
    let (lock, list, met) = (Lock::labeled("outer")?, List::from_items([1])?, Barrier::new(2)?);
    let inside = |lock: Lock, list: List<i32>, met: Barrier| -> procession::Result<()> {
        let inner = list.update(0, |item| -> procession::Result<()> {
            met.wait()?;
            let _held = lock.lock()?;
            *item += 1;
            Ok(())
        })?;
        inner.expect("it is there")
    };
    let child = Process::spawn(inside, (lock.clone(), list.clone(), met.clone()))?;
    let outside = || -> procession::Result<()> {
        let _held = lock.lock()?;
        met.wait()?;
        list.update(0, |item| *item += 1).map(drop)
    };
    let results = [outside(), child.join()?];
    assert!(matches!(refusal(results), Error::Lock(LockError::Deadlock { .. })));
    list.push(5)?;
    assert_eq!(list.get(1)?, Some(5));
    Ok(())
}

thread_local! {
    /// How a value behaves while it is decoded.
    static MOOD: Cell<Mood> = const { Cell::new(Mood::Fine) };
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Fine,
    Refuses,
    Panics,
}

/// A value that is decoded according to the thread's mood. Encoding the number 13 panics.
#[derive(Debug, PartialEq)]
struct Moody(u32, Option<Vec<u8>>);

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != 13, "writing it panics on purpose");
        (self.0, &self.1).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Moody, D::Error> {
        let (number, bytes) = Deserialize::deserialize(from)?;
        match MOOD.get() {
            Mood::Refuses if number == 7 => Err(D::Error::custom("not in the mood")),
            Mood::Panics if number == 7 => panic!("reading it panics on purpose"),
            _ => Ok(Moody(number, bytes)),
        }
    }
}

fn moody() -> procession::Result<Dict<u32, Moody>> {
    MOOD.set(Mood::Fine);
    Dict::from_entries([(1, Moody(7, None)), (2, Moody(8, Some(vec![2; 500]))), (3, Moody(9, None))])
}

#[test]
fn a_value_that_cannot_be_decoded_harms_no_other() -> procession::Result<()> {
    let _dog = watched();
    let dict = moody()?;
    MOOD.set(Mood::Refuses);
    let refused = |error: &Error| matches!(error, Error::Message(why) if why.contains("Moody"));
    assert!(dict.get(&1).is_err_and(|e| refused(&e)));
    let mut ran = false;
    assert!(dict.update(&1, |_| ran = true).is_err_and(|e| refused(&e)) && !ran);
    assert!(dict.get_or_insert_with(&1, || unreachable!()).is_err_and(|e| refused(&e)));
    let all: Vec<_> = dict.iter().collect();
    assert_eq!(
        (all.len(), all.iter().filter(|entry| entry.is_err()).count()),
        (3, 1),
        "the other entries are returned"
    );
    assert!(dict.to_map().is_err_and(|e| refused(&e)));
    assert!(dict.contains_key(&1)? && dict.len() == 3);
    MOOD.set(Mood::Fine);
    assert_eq!(dict.get(&1)?, Some(Moody(7, None)), "the value is still there");
    MOOD.set(Mood::Refuses);
    assert!(dict.insert(&1, Moody(1, None)).is_err_and(|e| refused(&e)));
    assert_eq!(dict.get(&1)?, Some(Moody(1, None)), "the new value replaces the old one");
    MOOD.set(Mood::Fine);
    dict.insert(&1, Moody(7, None))?;
    MOOD.set(Mood::Refuses);
    assert!(dict.remove(&1).is_err_and(|e| refused(&e)));
    assert_eq!((dict.get(&1)?, dict.len()), (None, 2), "the value is removed");
    assert_eq!(internals::faults_of_dict(&dict), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_panic_in_user_code_leaves_the_old_value_and_no_lock() {
    isolated!({
        panics_in_the_users_code().unwrap();
        nothing_is_left();
    });
}

fn panics_in_the_users_code() -> procession::Result<()> {
    let dict = moody()?;
    let panics = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    let unharmed = || -> procession::Result<()> {
        MOOD.set(Mood::Fine);
        assert_eq!(dict.get(&1)?, Some(Moody(7, None)));
        assert_eq!((dict.len(), internals::faults_of_dict(&dict)), (3, vec![]));
        // Checks that no process holds the lock of the dict's part, and that the encoder is not in use.
        let change = |dict: Dict<u32, Moody>| dict.update(&1, |value| value.1 = None).map(drop);
        Process::spawn(change, (dict.clone(),))?.join()??;
        assert!(serde_json::to_string(&dict).is_err(), "a handle cannot leave the family");
        Ok(())
    };
    panics(&|| drop(dict.update(&1, |value| value.0 = 13)));
    unharmed()?;
    panics(&|| drop(dict.insert(&1, Moody(13, None))));
    unharmed()?;
    panics(&|| drop(dict.get_or_insert_with(&5, || Moody(13, None))));
    unharmed()?;
    panics(&|| drop(dict.compare_exchange(&1, &Moody(7, None), Moody(13, None))));
    unharmed()?;
    for operation in [
        &(|| drop(dict.get(&1))) as &dyn Fn(),
        &|| drop(dict.update(&1, |_| ())),
        &|| drop(dict.get_or_insert_with(&1, || unreachable!())),
        &|| drop(dict.to_map()),
    ] {
        MOOD.set(Mood::Panics);
        panics(operation);
        unharmed()?;
    }
    let list = List::from_items([Moody(7, None), Moody(8, None)])?;
    panics(&|| drop(list.update(1, |item| item.0 = 13)));
    MOOD.set(Mood::Panics);
    panics(&|| drop(list.update(0, |_| ())));
    panics(&|| drop(list.to_vec()));
    MOOD.set(Mood::Fine);
    assert_eq!((list.pop()?, list.pop()?), (Some(Moody(8, None)), Some(Moody(7, None))));
    Ok(())
}

/// A value that uses its own dict while it is encoded, decoded or dropped.
struct Curious {
    dict: Option<Dict<u32, Curious>>,
    refused: bool,
}

impl Curious {
    /// Reports whether the dict refuses a change.
    fn ask(&self) -> bool {
        self.dict.as_ref().is_some_and(|dict| {
            dict.contains_key(&1).expect("a read always succeeds");
            dict.insert(&9, Curious { dict: None, refused: false }).is_err()
        })
    }
}

impl Serialize for Curious {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (&self.dict, self.refused || self.ask()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Curious {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Curious, D::Error> {
        let (dict, refused) = Deserialize::deserialize(from)?;
        let mut curious = Curious { dict, refused };
        curious.refused = refused || curious.ask();
        Ok(curious)
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        self.ask();
    }
}

#[test]
fn user_code_that_uses_its_own_container_does_not_deadlock() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::new()?;
    dict.insert(&1, Curious { dict: Some(dict.clone()), refused: false })?;
    drop(dict.get(&1)?);
    let seen = dict.update(&1, |value| value.refused)?;
    assert_eq!(seen, Some(true), "the value was decoded under the lock, and could not change its dict");
    drop(dict.insert(&1, Curious { dict: Some(dict.clone()), refused: false })?);
    drop(dict.remove(&1)?);
    dict.clear()?;
    Ok(())
}

/// A long value is read while other values in the same part of the dict change all the time.
#[test]
fn a_long_value_can_be_read_under_many_changes() -> procession::Result<()> {
    let _dog = watched();
    const LEN: usize = 8 << 20;
    let dict = Dict::<u32, Vec<u8>>::from_entries([(1, vec![1; LEN])])?;
    let beside = (2..).find(|key| internals::part_of_dict(&dict, key) == internals::part_of_dict(&dict, &1));
    let (beside, stop) = (beside.expect("such a key"), Queue::<()>::unbounded()?);
    let change = |dict: Dict<u32, Vec<u8>>, key: u32, stop: Queue<()>| -> procession::Result<u64> {
        for n in 0.. {
            dict.insert(&key, vec![n as u8; 100 + n as usize % 2])?;
            if stop.try_get().is_ok() {
                return Ok(n);
            }
        }
        unreachable!()
    };
    let child = Process::spawn(change, (dict.clone(), beside, stop.clone()))?;
    until("the changes have begun", || dict.contains_key(&beside) == Ok(true));
    for _ in 0..10 {
        assert!(dict.get(&1)?.is_some_and(|value| value.len() == LEN && value.iter().all(|&byte| byte == 1)));
        assert!(dict.insert(&1, vec![1; LEN])?.is_some());
    }
    stop.put(())?;
    assert!(child.join()?? > 0);
    Ok(())
}

#[test]
fn iteration_survives_clearing_and_filling() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::<u64, String>::new()?;
    let stop = Queue::<()>::unbounded()?;
    let text = |n: u64| format!("{n}-").repeat(n as usize % 30 + 1);
    let work = |dict: Dict<u64, String>, stop: Queue<()>| -> procession::Result<()> {
        while stop.is_empty() {
            dict.extend((0..300).map(|n| (n, format!("{n}-").repeat(n as usize % 30 + 1))))?;
            dict.clear()?;
        }
        Ok(())
    };
    let workers = [0, 1].map(|_| Process::spawn(work, (dict.clone(), stop.clone())));
    let mut seen = 0;
    while seen < 1000 {
        for entry in dict.iter() {
            let (key, value) = entry?;
            assert_eq!(value, text(key));
            seen += 1;
        }
        assert!(dict.get(&7)?.is_none_or(|value| value == text(7)));
    }
    stop.put(())?;
    workers.into_iter().try_for_each(|worker| worker?.join()?)?;
    dict.clear()?;
    assert_eq!((dict.len(), internals::faults_of_dict(&dict)), (0, vec![]));
    Ok(())
}
