//! A process is killed at every instruction of its operations on a dict.

use crate::support;
use std::collections::{BTreeMap, HashMap};

use crate::support::{Before, VECTORS, VICTIM, arena, assert_finished, open};
use procession::internals;
use procession::{Dict, Lock, Manager};
use procession_testkit::{CrashStep, Gate, Report, isolated};

pub(super) type Model = BTreeMap<u32, String>;

/// Returns a value that is larger than a word. The same number yields the same value.
pub(super) fn text(n: u32) -> String {
    format!("value {n}, which is a little longer")
}

pub(super) fn model(entries: impl IntoIterator<Item = u32>) -> Model {
    entries.into_iter().map(|n| (n, text(n))).collect()
}

/// Creates the dict that the victim will find.
pub(super) fn dict(entries: &Model) -> Dict<u32, String> {
    arena();
    open([VICTIM]);
    Dict::from_entries(entries.clone()).expect("a dict")
}

/// Allocates memory of the sizes that the operation needs, so that the operation opens no spans. Other tests cover
/// that.
pub(super) fn warm_up() {
    for bytes in [40, 64, 100, 200, 500, 1000] {
        internals::free(internals::reserve(bytes).expect("a block"));
    }
}

/// Kills the victim at every instruction of `operation`. After each death the dict must be sound and usable,
/// and in one of the `allowed` states.
pub(super) fn step(
    dict: &Dict<u32, String>,
    allowed: &[Model],
    operation: impl Fn(&Dict<u32, String>),
) -> Report {
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        warm_up();
        gate.begin();
        operation(dict);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| {
        internals::recover(VICTIM);
        is_one_of(dict, allowed)?;
        support::nothing_in(VICTIM)
    });
    println!("{report}");
    report
}

pub(super) fn is_one_of(dict: &Dict<u32, String>, allowed: &[Model]) -> Result<(), String> {
    let there: HashMap<u32, String> = dict.to_map().map_err(|e| e.to_string())?;
    let there: Model = there.into_iter().collect();
    ensure!(allowed.contains(&there), "the dict is {there:?}");
    ensure!(dict.len() == there.len(), "{} entries are counted, and {} there", dict.len(), there.len());
    for (key, value) in &there {
        ensure!(dict.get(key).as_ref() == Ok(&Some(value.clone())), "{key} is not found");
    }
    let faults = internals::faults_of_dict(dict);
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    let others: Vec<_> = internals::census().blocks.into_iter().filter(|&(_, tag)| tag >> 28 == 1).collect();
    ensure!(others.is_empty(), "blocks of processes: {others:x?}");
    // The dict can still be used.
    for key in there.keys().copied().chain(1000..1010) {
        dict.insert(&key, text(key + 1)).map_err(|e| e.to_string())?;
    }
    ensure!(dict.get(&1005) == Ok(Some(text(1006))), "an inserted entry is not found");
    let faults = internals::faults_of_dict(dict);
    ensure!(faults.is_empty(), "used again: {}", faults.join("; "));
    Ok(())
}

#[test]
fn the_first_entry_can_be_inserted() {
    isolated!(env = VECTORS, {
        let dict = dict(&model([]));
        let report = step(&dict, &[model([]), model([7])], |dict| {
            assert_eq!(dict.insert(&7, text(7)), Ok(None));
        });
        assert_finished(&report);
        assert_eq!(dict.len(), 1);
    });
}

#[test]
fn a_value_can_be_replaced() {
    isolated!(env = VECTORS, {
        let before = model(0..5);
        let after: Model =
            before.iter().map(|(&k, v)| (k, if k == 3 { text(9) } else { v.clone() })).collect();
        let dict = dict(&before);
        let allowed = [before, after.clone()];
        assert_finished(&step(&dict, &allowed, |dict| {
            assert_eq!(dict.insert(&3, text(9)), Ok(Some(text(3))));
        }));
        let dict = self::dict(&allowed[0]);
        assert_finished(&step(&dict, &allowed, |dict| {
            assert_eq!(dict.update(&3, |value| *value = text(9)), Ok(Some(())));
        }));
        let dict = self::dict(&allowed[0]);
        assert_finished(&step(&dict, &allowed, |dict| {
            assert_eq!(dict.compare_exchange(&3, &text(3), text(9)), Ok(true));
        }));
    });
}

#[test]
fn entries_can_be_removed() {
    isolated!(env = VECTORS, {
        let before = model(0..80);
        let mut less = before.clone();
        less.remove(&5);
        let dict = dict(&before);
        assert_finished(&step(&dict, &[before.clone(), less], |dict| {
            assert_eq!(dict.remove(&5), Ok(Some(text(5))));
        }));
        let dict = self::dict(&model([5]));
        assert_finished(&step(&dict, &[model([5]), model([])], |dict| {
            assert_eq!(dict.remove(&5), Ok(Some(text(5))));
            assert_eq!(dict.remove(&5), Ok(None));
        }));
    });
}

#[test]
fn entry_can_insert() {
    isolated!(env = VECTORS, {
        let dict = dict(&model([1]));
        let report = step(&dict, &[model([1]), model([1, 2])], |dict| {
            assert_eq!(dict.get_or_insert_with(&2, || text(2)), Ok(text(2)));
        });
        assert_finished(&report);
    });
}

#[test]
fn an_entry_is_created_or_changed_in_one_step() {
    isolated!(env = VECTORS, {
        let (start, one, two) = (model([1]), model([1, 2]), [(1, text(1)), (2, text(9))].into());
        let dict = dict(&start);
        let report = step(&dict, &[start, one, two], |dict| {
            // The value of `make` is never visible.
            let length = dict.update_or_insert_with(
                &2,
                || text(7),
                |value| {
                    *value = text(2);
                    value.len()
                },
            );
            assert_eq!(length, Ok(text(2).len()));
            let changed = dict.update_or_insert_with(&2, || unreachable!(), |value| *value = text(9));
            assert_eq!(changed, Ok(()));
        });
        assert_finished(&report);
    });
}

#[test]
fn reading_leaves_nothing_behind() {
    isolated!(env = VECTORS, {
        let before = model(0..3);
        let dict = dict(&before);
        let report = step(&dict, std::slice::from_ref(&before), |dict| {
            assert_eq!((dict.get(&2), dict.get(&3)), (Ok(Some(text(2))), Ok(None)));
            assert_eq!(dict.to_map().unwrap().len(), 3);
        });
        assert_finished(&report);
    });
}

#[test]
fn a_value_of_one_word_can_be_changed_in_place() {
    isolated!({
        arena();
        open([VICTIM]);
        let dict = Dict::from_entries([(1u64, 10u64), (2, 20)]).unwrap();
        let before = Before::now();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            assert_eq!(dict.update(&1, |value| *value += 1), Ok(Some(())));
            assert_eq!(dict.insert(&1, 12), Ok(Some(11)));
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |_| {
            before.is_back_without(VICTIM)?;
            let value = dict.get(&1);
            ensure!([Ok(Some(10)), Ok(Some(11)), Ok(Some(12))].contains(&value), "the value is {value:?}");
            ensure!(
                dict.update(&1, |value| *value = 5) == Ok(Some(())),
                "the value can no longer be changed"
            );
            ensure!(internals::faults_of_dict(&dict).is_empty(), "the dict is not sound");
            Ok(())
        });
        println!("{report}");
        assert_finished(&report);
        assert_eq!(dict.get(&1), Ok(Some(12)));
    });
}

#[test]
fn a_dict_can_be_created_filled_and_dropped() {
    isolated!(env = VECTORS, {
        arena();
        open([VICTIM]);
        let before = Before::now();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            drop(Dict::from_entries([(1u32, text(1))]).unwrap());
            gate.begin();
            let dict = Dict::from_entries([(1u32, text(1))]).unwrap();
            drop(dict);
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |_| before.is_back_without(VICTIM));
        println!("{report}");
        assert_finished(&report);
    });
}

/// Tests values with handles. An object lives as long as a handle to it does.
#[test]
fn a_dict_can_hold_a_lock() {
    isolated!(env = VECTORS, {
        arena();
        open([VICTIM]);
        let dict = Dict::from_entries([(1u32, Lock::labeled("first").unwrap())]).unwrap();
        let names = |dict: &Dict<u32, Lock>| -> Vec<String> {
            let entries = dict.to_map().expect("the entries");
            let entries: BTreeMap<u32, String> = entries.into_iter().map(|(k, v)| (k, v.name())).collect();
            entries.into_values().collect()
        };
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            support::own_a_span();
            warm_up();
            gate.begin();
            assert_eq!(dict.get(&1).unwrap().expect("the lock").name(), "first");
            dict.insert(&2, Lock::labeled("second").unwrap()).unwrap();
            assert_eq!(dict.insert(&1, Lock::labeled("third").unwrap()).unwrap().unwrap().name(), "first");
            drop(dict.remove(&1).unwrap());
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |_| {
            internals::recover(VICTIM);
            internals::collect_if_wanted();
            let there = names(&dict);
            let allowed: [&[&str]; 4] = [&["first"], &["first", "second"], &["third", "second"], &["second"]];
            ensure!(allowed.iter().any(|allowed| *allowed == there), "the dict is {there:?}");
            // Only the dict and the locks in it are alive.
            internals::collect();
            let census = internals::census();
            ensure!(census.objects as usize == 1 + there.len(), "{} objects, and {there:?}", census.objects);
            let faults = internals::faults_of_dict(&dict);
            ensure!(faults.is_empty(), "{}", faults.join("; "));
            support::nothing_in(VICTIM)
        });
        println!("{report}");
        assert_finished(&report);
    });
}

/// The victim gives an object a name and removes the name. Afterwards the name exists or not. If it was
/// removed, the object is freed.
#[test]
fn a_name_can_be_given_and_removed() {
    isolated!(env = VECTORS, {
        arena();
        let manager = Manager::new().unwrap();
        // Creating the dict of all names takes many steps, and more without optimization.
        let first_name = if cfg!(debug_assertions) { vec![false] } else { vec![true, false] };
        for first in first_name {
            if !first {
                assert!(!manager.remove("door").unwrap());
            }
            open([VICTIM]);
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                support::own_a_span();
                warm_up();
                gate.begin();
                drop(manager.named("door").lock().unwrap());
                assert_eq!(manager.remove("door"), Ok(true));
                gate.end();
            };
            let report = CrashStep::new(arena()).run(victim, |_| {
                internals::recover(VICTIM);
                let names = manager.names().map_err(|e| e.to_string())?;
                ensure!(names.is_empty() || names == ["door"], "the names are {names:?}");
                let lock = manager.named("door").lock().map_err(|e| e.to_string())?;
                ensure!(support::state(&lock) == support::State::Free && lock.name() == "door", "{lock:?}");
                ensure!(manager.names() == Ok(vec!["door".into()]), "the name is missing");
                ensure!(manager.remove("door") == Ok(true), "the name cannot be removed");
                drop(lock);
                internals::collect();
                let census = internals::census();
                ensure!(census.objects == 1, "{} objects, and the names are one", census.objects);
                let others: Vec<_> = census.blocks.into_iter().filter(|&(_, tag)| tag >> 28 == 1).collect();
                ensure!(others.is_empty(), "blocks of processes: {others:x?}");
                support::nothing_in(VICTIM)
            });
            println!("{report}");
            assert_finished(&report);
            internals::recover(VICTIM);
        }
    });
}
