//! `Value<T>`: shared by processes and threads. No value is torn, and no update is lost.

use crate::family;
use crate::support;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::scene::crash;
use crate::support::{Before, VICTIM, arena, assert_finished, nothing_in, open};
use procession::internals::{self, Rule};
use procession::state::Value;
use procession::sync::{Event, LockError};
use procession::{Error, Lock, Process};
use procession_testkit::{Gate, Report, isolated};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    Idle,
    Busy { who: String, since: u64 },
}

#[test]
fn values_of_all_types_show_writes_of_other_processes() {
    let _dog = family::watched();
    let flag = Value::new(false).unwrap();
    let number = Value::labeled("number", 0.5f64).unwrap();
    let text = Value::new(String::new()).unwrap();
    let state = Value::new(State::Idle).unwrap();
    let bytes = Value::new(vec![0u8; 100_000]).unwrap();
    let nothing = Value::new(()).unwrap();
    let write = |flag: Value<bool>,
                 number: Value<f64>,
                 text: Value<String>,
                 state: Value<State>,
                 bytes: Value<Vec<u8>>,
                 nothing: Value<()>|
     -> procession::Result<()> {
        flag.set(true)?;
        number.update(|n| *n *= 2.0)?;
        text.set("käse".into())?;
        state.set(State::Busy { who: "me".into(), since: 3 })?;
        bytes.update(|bytes| bytes.push(7))?;
        nothing.set(())
    };
    let args = (flag.clone(), number.clone(), text.clone(), state.clone(), bytes.clone(), nothing.clone());
    Process::spawn(write, args).unwrap().join().unwrap().unwrap();
    assert!(flag.get().unwrap());
    assert_eq!(number.get(), Ok(1.0));
    assert_eq!(text.get().as_deref(), Ok("käse"));
    assert_eq!(state.get(), Ok(State::Busy { who: "me".into(), since: 3 }));
    assert_eq!(bytes.get().map(|bytes| (bytes.len(), bytes[100_000])), Ok((100_001, 7)));
    assert_eq!(nothing.get(), Ok(()));
    text.set(String::new()).unwrap();
    assert_eq!(text.get().as_deref(), Ok(""));
    assert!(format!("{number:?}").contains("number"));
}

#[test]
fn no_update_is_lost() {
    let _dog = family::watched();
    let count = Value::new(0u64).unwrap();
    let add = |count: Value<u64>| {
        for round in 0..300 {
            if round % 2 == 0 {
                count.update(|n| *n += 1).unwrap();
                continue;
            }
            let mut seen = count.get().unwrap();
            while let Err(now) = count.compare_exchange(&seen, seen + 1).unwrap() {
                seen = now;
            }
        }
    };
    let processes: Vec<_> = (0..3).map(|_| Process::spawn(add, (count.clone(),)).unwrap()).collect();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let count = count.clone();
            thread::spawn(move || add(count))
        })
        .collect();
    processes.iter().for_each(|p| p.join().unwrap());
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(count.get(), Ok(1500));
}

#[test]
fn a_death_or_a_panic_in_an_update_leaves_the_old_value() {
    let _dog = family::watched();
    let (list, inside) = (Value::new(vec![1u8]).unwrap(), Event::new().unwrap());
    let dies = |list: Value<Vec<u8>>, inside: Event| -> () {
        let _ = list.update(|list| {
            list.clear();
            inside.set().unwrap();
            family::forever();
        });
    };
    let p = Process::spawn(dies, (list.clone(), inside.clone())).unwrap();
    inside.wait().unwrap();
    p.kill().unwrap();
    assert_eq!(list.get(), Ok(vec![1]));
    p.join().unwrap_err();
    assert!(std::panic::catch_unwind(|| list.update(|_| panic!("inside"))).is_err());
    assert_eq!(list.update(|list| list.len()), Ok(1));
}

#[test]
fn an_update_s_closure_cannot_change_its_own_value() {
    let _dog = family::watched();
    let value = Value::labeled("mine", 1u8).unwrap();
    let inner = value.update(|_| value.get()).unwrap();
    assert!(
        matches!(&inner, Err(Error::Lock(LockError::Deadlock { cycle })) if cycle[0].lock == "mine"),
        "{inner:?}"
    );
    assert_eq!(value.get(), Ok(1));
}

/// If a value holds handles, it keeps their objects alive.
#[test]
fn handles_in_a_value_live_with_it() {
    let _dog = family::watched();
    let value = Value::new(None::<Lock>).unwrap();
    let put = |value: Value<Option<Lock>>| value.set(Some(Lock::labeled("inside").unwrap()));
    Process::spawn(put, (value.clone(),)).unwrap().join().unwrap().unwrap();
    let lock = value.get().unwrap().expect("the lock is there");
    assert_eq!(lock.name(), "inside");
    value.set(None).unwrap();
    assert!(lock.lock().is_ok());
}

/// The victim updates, sets and exchanges a value. At each instruction the value is the old one or the new one.
fn step(repaired: bool) -> Report {
    arena();
    if !repaired {
        internals::break_rule(Rule::ValueRepaired);
    }
    let text = "a value that takes a block of some size";
    let value: &Value<String> = Box::leak(Box::new(Value::new(text.to_string()).unwrap()));
    open([VICTIM]);
    let stock = Before::now();
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        support::own_a_span();
        drop(Value::new(text.to_string())); // creates the spans
        gate.begin();
        value.set("another value of about that size, or more".into()).unwrap();
        value.update(|value| value.push('!')).unwrap();
        gate.end();
    };
    let blocks_of_objects =
        |census: &internals::Census| census.blocks.iter().filter(|(_, tag)| tag >> 28 == 2).count();
    crash().run(victim, |_| {
        internals::recover(VICTIM);
        let now = value.get().map_err(|e| e.to_string())?;
        let fine = now == text || now.starts_with("another") && now.trim_end_matches('!').ends_with("more");
        ensure!(fine, "torn: {now}");
        let (before, after) = (blocks_of_objects(&stock.0), blocks_of_objects(&internals::census()));
        ensure!(before == after, "{before} blocks belonged to objects, and now {after}");
        value.set("after".into()).map_err(|e| e.to_string())?;
        ensure!(value.get().as_deref() == Ok("after"), "the value cannot be set");
        nothing_in(VICTIM)
    })
}

#[test]
fn a_value_is_old_or_new_at_every_instruction() {
    isolated!({
        let _dog = support::watched();
        assert_finished(&step(true));
    });
}

#[test]
fn without_the_rule_a_death_in_a_change_leaks_a_block() {
    isolated!({
        let _dog = support::watched();
        step(false).assert_broken();
    });
}

#[test]
fn try_and_timeout_forms_do_not_wait_for_an_update() {
    let _dog = family::watched();
    let value = Value::new(1u32).unwrap();
    let other = value.clone();
    value
        .update(|_| {
            let refused = thread::spawn(move || {
                let (soon, now) = (Duration::from_millis(5), Instant::now());
                let at_once = [other.try_get().err(), other.try_set(2).err(), other.try_update(|_| ()).err()];
                let late = [
                    other.get_timeout(soon).err(),
                    other.get_deadline(now).err(),
                    other.set_timeout(2, soon).err(),
                    other.set_deadline(2, now).err(),
                    other.update_timeout(soon, |_| ()).err(),
                    other.update_deadline(now, |_| ()).err(),
                ];
                (at_once, late, format!("{other:?}"))
            });
            let (at_once, late, text) = refused.join().unwrap();
            assert_eq!(at_once, [const { Some(Error::Lock(LockError::WouldBlock)) }; 3]);
            assert_eq!(late, [const { Some(Error::Lock(LockError::TimedOut)) }; 6]);
            assert!(text.contains("main (pid"), "{text}");
        })
        .unwrap();
    value.try_update(|n| *n += 1).unwrap();
    value.update_deadline(Instant::now(), |n| *n += 1).unwrap();
    assert_eq!((value.try_get(), value.get_timeout(Duration::ZERO)), (Ok(3), Ok(3)));
    value.try_set(7).unwrap();
    assert_eq!(value.get_deadline(Instant::now()), Ok(7));
}
