//! Random operations on a dict, compared with those of a `HashMap`.

use std::collections::HashMap;

use crate::family::*;
use procession::Dict;
use procession::internals;
use proptest::collection::vec;
use proptest::prelude::*;

/// A step of the test. There are few keys, so most steps find their key. Some keys are long.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, Value),
    Remove(u8),
    Update(u8, Value),
    Exchange(u8, Value, Value),
    Make(u8, Value),
    Get(u8),
    Extend(Vec<(u8, Value)>),
    RemoveMany(u8),
    Clear,
    Compare,
}

type Value = Vec<u8>;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        2 => vec(any::<u8>(), 0..300),
        1 => (0..200_000usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let key = any::<u8>;
    prop_oneof![
        8 => (key(), value()).prop_map(|(k, v)| Step::Insert(k, v)),
        6 => key().prop_map(Step::Remove),
        4 => (key(), value()).prop_map(|(k, v)| Step::Update(k, v)),
        2 => (key(), value(), value()).prop_map(|(k, a, b)| Step::Exchange(k, a, b)),
        2 => (key(), value()).prop_map(|(k, v)| Step::Make(k, v)),
        4 => key().prop_map(Step::Get),
        1 => vec((key(), value()), 0..80).prop_map(Step::Extend),
        1 => key().prop_map(Step::RemoveMany),
        1 => Just(Step::Clear),
        1 => Just(Step::Compare),
    ]
}

/// Returns a key that is short for some numbers, and long for others.
fn key(n: u8) -> String {
    "k".repeat(n as usize % 40) + &n.to_string()
}

fn same(dict: &Dict<String, Value>, model: &mut HashMap<String, Value>, step: Step) {
    match step {
        Step::Insert(k, v) => assert_eq!(dict.insert(&key(k), v.clone()), Ok(model.insert(key(k), v))),
        Step::Remove(k) => assert_eq!(dict.remove(&key(k)), Ok(model.remove(&key(k)))),
        Step::Update(k, v) => {
            let change = |old: &mut Value| std::mem::replace(old, v.clone());
            assert_eq!(dict.update(&key(k), change), Ok(model.get_mut(&key(k)).map(change)));
        }
        Step::Exchange(k, a, b) => {
            let current = dict.get(&key(k)).unwrap().filter(|_| a.len() % 2 == 0).unwrap_or(a);
            let same = model.get(&key(k)) == Some(&current);
            assert_eq!(dict.compare_exchange(&key(k), &current, b.clone()), Ok(same));
            if same {
                model.insert(key(k), b);
            }
        }
        Step::Make(k, v) => {
            let there = model.entry(key(k)).or_insert(v.clone());
            assert_eq!(dict.get_or_insert_with(&key(k), || v).as_ref(), Ok(&*there));
        }
        Step::Get(k) => {
            assert_eq!(dict.get(&key(k)), Ok(model.get(&key(k)).cloned()));
            assert_eq!(dict.contains_key(&key(k)), Ok(model.contains_key(&key(k))));
        }
        Step::Extend(entries) => {
            let entries: Vec<_> = entries.into_iter().map(|(k, v)| (key(k), v)).collect();
            dict.extend(entries.clone()).unwrap();
            model.extend(entries);
        }
        Step::RemoveMany(modulus) => {
            for k in (0..=u8::MAX).filter(|k| k % (modulus | 1) != 1) {
                assert_eq!(dict.remove(&key(k)), Ok(model.remove(&key(k))));
            }
        }
        Step::Clear => {
            dict.clear().unwrap();
            model.clear();
        }
        Step::Compare => assert_eq!(dict.to_map().as_ref(), Ok(&*model)),
    }
    assert_eq!(dict.len(), model.len());
}

#[test]
fn random_operations_match_a_hash_map() {
    let _dog = watched();
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 0..120))| {
        let (dict, mut model) = (Dict::new().unwrap(), HashMap::new());
        for step in steps {
            same(&dict, &mut model, step);
        }
        prop_assert_eq!(internals::faults_of_dict(&dict), Vec::<String>::new());
        prop_assert_eq!(dict.to_map().unwrap(), model);
    });
}
