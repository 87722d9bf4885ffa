//! The operations of a dict.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::family::*;
use procession::{Dict, Error, Lock, Process, Queue};
use serde::{Deserialize, Serialize};

#[test]
fn an_inserted_entry_is_found() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::<String, i32>::new()?;
    assert_eq!(dict.insert("count", 100)?, None);
    assert_eq!(dict.insert("count", dict.get("count")?.unwrap() - 1)?, Some(100));
    assert_eq!(dict.get("count")?, Some(99));
    assert_eq!(dict.get(&"count".to_string())?, Some(99));
    assert_eq!((dict.len(), dict.is_empty()), (1, false));
    assert_eq!(dict.remove("count")?, Some(99));
    assert_eq!((dict.get("count")?, dict.remove("count")?, dict.len()), (None, None, 0));
    assert_eq!(format!("{dict:?}"), "Dict { len: 0, .. }");
    Ok(())
}

#[test]
fn keys_can_be_looked_up_in_borrowed_form() -> procession::Result<()> {
    let _dog = watched();
    let paths = Dict::from_entries([(PathBuf::from("/tmp"), 1)])?;
    assert_eq!(paths.get(Path::new("/tmp"))?, Some(1));
    let bytes = Dict::from_entries([(vec![1u8, 2, 3], 1)])?;
    assert_eq!((bytes.get(&[1u8, 2, 3][..])?, bytes.get(&[1u8, 2][..])?), (Some(1), None));
    let texts = Dict::from_entries([(vec!["a".to_string(), "b".to_string()], 1)])?;
    assert_eq!(texts.get(&["a".to_string(), "b".to_string()][..])?, Some(1));
    let pairs = Dict::from_entries([((1u8, "one".to_string()), [1.5f64])])?;
    assert_eq!(pairs.get(&(1, "one".to_string()))?, Some([1.5]));
    let nothing = Dict::from_entries([((), "all".to_string())])?;
    assert_eq!(nothing.get(&())?.as_deref(), Some("all"));
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Goods {
    Nothing,
    Apples(u32),
    Crate { name: String, inner: Box<Goods> },
}

#[test]
fn keys_and_values_can_be_of_any_type_and_size() -> procession::Result<()> {
    let _dog = watched();
    let goods = Dict::new()?;
    let nested = Goods::Crate { name: "x".repeat(300), inner: Box::new(Goods::Apples(3)) };
    goods.extend([(Goods::Nothing, nested.clone()), (nested.clone(), Goods::Apples(1))])?;
    assert_eq!(goods.get(&Goods::Nothing)?, Some(nested.clone()));
    assert_eq!(goods.get(&nested)?, Some(Goods::Apples(1)));
    let sizes = Dict::<usize, Vec<u8>>::new()?;
    let all = [0, 1, 7, 8, 9, 127, 128, 129, 1000, 65_000, 66_000, 3 << 20, 64 << 20];
    for size in all {
        sizes.insert(&size, vec![size as u8; size])?;
    }
    for size in all {
        assert!(sizes.get(&size)?.is_some_and(|value| value == vec![size as u8; size]), "{size}");
    }
    for size in all {
        assert_eq!(sizes.insert(&size, vec![1])?.map(|value| value.len()), Some(size));
    }
    let units = Dict::from_entries((0..100u8).map(|n| (n, ())))?;
    assert_eq!((units.insert(&3, ())?, units.insert(&200, ())?, units.len()), (Some(()), None, 101));
    Ok(())
}

#[test]
fn a_dict_grows_and_shrinks() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::<u64, u64>::new()?;
    for round in 0..3 {
        dict.extend((0..20_000).map(|n| (n, n + round)))?;
        assert_eq!(dict.len(), 20_000);
        assert!((0..20_000).all(|n| dict.get(&n).unwrap() == Some(n + round)));
        for n in 0..20_000 {
            assert_eq!(dict.remove(&n)?, Some(n + round));
        }
        assert_eq!((dict.len(), dict.get(&5)?), (0, None));
    }
    dict.extend((0..1000).map(|n| (n, n)))?;
    dict.clear()?;
    assert_eq!((dict.len(), dict.iter().count()), (0, 0));
    Ok(())
}

#[test]
fn iterators_visit_every_entry() -> procession::Result<()> {
    let _dog = watched();
    let expected: HashMap<String, Vec<u32>> =
        (0..500).map(|n| (n.to_string(), vec![n; n as usize % 50])).collect();
    let dict = Dict::from_entries(expected.clone())?;
    assert_eq!(dict.to_map()?, expected);
    let keys: HashSet<String> = dict.keys().collect::<Result<_, _>>()?;
    assert_eq!(keys, expected.keys().cloned().collect());
    let sum: usize = dict.values().map(|value| value.map(|value| value.len())).sum::<Result<_, _>>()?;
    assert_eq!(sum, expected.values().map(Vec::len).sum::<usize>());
    for entry in &dict {
        let (key, value) = entry?;
        assert_eq!(expected.get(&key), Some(&value));
    }
    let mut iter = dict.iter();
    assert_eq!(iter.by_ref().count(), 500);
    dict.insert("new", vec![])?;
    assert!(iter.next().is_none(), "an ended iterator stays ended");
    Ok(())
}

#[test]
fn an_update_is_atomic() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::from_entries([("n".to_string(), 0u64)])?;
    let texts = Dict::from_entries([("n".to_string(), "0".to_string())])?;
    let work = |dict: Dict<String, u64>, texts: Dict<String, String>| -> procession::Result<()> {
        for _ in 0..2000 {
            dict.update("n", |n| *n += 1)?;
            texts.update("n", |text| *text = (text.parse::<u64>().unwrap() + 1).to_string())?;
        }
        Ok(())
    };
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(work, (dict.clone(), texts.clone()))).collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()??;
    }
    assert_eq!((dict.get("n")?, texts.get("n")?), (Some(6000), Some("6000".to_string())));
    Ok(())
}

#[test]
fn update_or_insert_with_starts_each_counter_once() -> procession::Result<()> {
    let _dog = watched();
    let counts = Dict::<String, u64>::new()?;
    let texts = Dict::<u32, String>::new()?;
    let work = |counts: Dict<String, u64>, texts: Dict<u32, String>| -> procession::Result<()> {
        for n in 0..500u32 {
            let key = format!("word {}", n % 7);
            assert_eq!(counts.update(&format!("not {key}"), |_| unreachable!())?, None::<()>);
            counts.update_or_insert_with(&key, || 0, |n| *n += 1)?;
            texts.update_or_insert_with(&(n % 3), String::new, |text| text.push('x'))?;
        }
        Ok(())
    };
    let workers: Vec<_> =
        (0..8).map(|_| Process::spawn(work, (counts.clone(), texts.clone()))).collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()??;
    }
    assert_eq!((counts.len(), counts.values().sum::<Result<u64, _>>()?), (7, 8 * 500));
    let lengths: Vec<usize> =
        texts.values().map(|text| Ok(text?.len())).collect::<procession::Result<_>>()?;
    assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (3, 8 * 500));
    Ok(())
}

#[test]
fn a_panic_while_an_entry_is_created_leaves_none() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::<u32, String>::new()?;
    let fails = |dict: Dict<u32, String>, in_make: bool| {
        let make = || if in_make { panic!("no value") } else { "value".to_string() };
        dict.update_or_insert_with(&1, make, |_| panic!("no change")).map(drop)
    };
    for in_make in [true, false] {
        let error = Process::spawn(fails, (dict.clone(), in_make))?.join().unwrap_err();
        assert!(error.to_string().contains(if in_make { "no value" } else { "no change" }), "{error}");
        assert_eq!((dict.get(&1)?, dict.len()), (None, 0));
    }
    let length = dict.update_or_insert_with(&1, || "value".into(), |text| text.len())?;
    assert_eq!((length, dict.get(&1)?.as_deref()), (5, Some("value")));
    Ok(())
}

#[test]
fn entry_creates_a_value_once() -> procession::Result<()> {
    let _dog = watched();
    let (dict, made) = (Dict::<u32, u32>::new()?, Dict::from_entries([((), 0)])?);
    let work = |dict: Dict<u32, u32>, made: Dict<(), u32>| -> procession::Result<u32> {
        (0..500)
            .map(|key| {
                dict.get_or_insert_with(&key, || {
                    made.update(&(), |n| *n += 1).unwrap();
                    std::process::id()
                })
            })
            .sum()
    };
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(work, (dict.clone(), made.clone()))).collect::<Result<_, _>>()?;
    let sums =
        workers.into_iter().map(|worker| worker.join()?).collect::<procession::Result<HashSet<_>>>()?;
    assert_eq!((sums.len(), made.get(&())?, dict.len()), (1, Some(500), 500));
    Ok(())
}

#[test]
fn compare_exchange_replaces_only_the_expected_value() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::from_entries([(1, "one".to_string())])?;
    assert!(!dict.compare_exchange(&1, &"two".into(), "three".into())?);
    assert!(!dict.compare_exchange(&2, &"one".into(), "three".into())?);
    assert!(dict.compare_exchange(&1, &"one".into(), "three".into())?);
    assert_eq!((dict.get(&1)?.as_deref(), dict.len()), (Some("three"), 1));
    Ok(())
}

#[test]
fn a_panic_in_an_update_leaves_the_old_value() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::from_entries([(1, "old".to_string())])?;
    let panicked = std::panic::catch_unwind(|| {
        dict.update(&1, |value| {
            value.push_str(" and new");
            panic!("on purpose");
        })
    });
    assert!(panicked.is_err());
    assert_eq!(dict.get(&1)?.as_deref(), Some("old"));
    assert_eq!(dict.update(&1, |value| value.push('!'))?, Some(()));
    assert_eq!(dict.get(&1)?.as_deref(), Some("old!"));
    assert!(std::panic::catch_unwind(|| dict.get_or_insert_with(&2, || panic!("on purpose"))).is_err());
    assert_eq!(dict.insert(&2, "fine".into())?, None);
    Ok(())
}

#[test]
fn a_death_in_an_update_leaves_the_old_value() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::from_entries([(1, 10u64)])?;
    let die = |dict: Dict<i32, u64>| -> procession::Result<()> {
        dict.update(&1, |value| {
            *value = 11;
            std::process::abort()
        })
        .map(drop)
    };
    assert!(Process::spawn(die, (dict.clone(),))?.join().is_err());
    assert_eq!(dict.update(&1, |value| *value += 2)?, Some(()));
    assert_eq!(dict.get(&1)?, Some(12));
    Ok(())
}

#[test]
fn an_update_s_closure_can_only_read_the_same_dict() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::from_entries((0..100).map(|n| (n, n)))?;
    let other = Dict::<i32, i32>::new()?;
    dict.update(&1, |value| {
        assert_eq!((dict.get(&1), dict.get(&2), dict.contains_key(&3)), (Ok(Some(1)), Ok(Some(2)), Ok(true)));
        assert_eq!(dict.len(), 100);
        for key in 0..100 {
            assert!(matches!(dict.insert(&key, 0), Err(Error::Unsupported(_))));
            assert!(matches!(dict.remove(&key), Err(Error::Unsupported(_))));
            assert!(matches!(dict.update(&key, |_| ()), Err(Error::Unsupported(_))));
        }
        assert!(dict.clear().is_err() && dict.to_map().is_err());
        assert_eq!(dict.iter().count(), 1);
        other.insert(&1, 1).unwrap();
        *value = 7;
    })?;
    assert_eq!((dict.get(&1)?, dict.len(), other.get(&1)?), (Some(7), 100, Some(1)));
    Ok(())
}

#[test]
fn a_lookup_does_not_wait_for_an_update_s_closure() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::from_entries([(1, "old".to_string())])?;
    let (go, inside) = (Queue::<()>::unbounded()?, Queue::<()>::unbounded()?);
    let slow = |dict: Dict<i32, String>, go: Queue<()>, inside: Queue<()>| {
        dict.update(&1, |value| {
            inside.put(()).unwrap();
            go.get().unwrap();
            *value = "new".into();
        })
        .map(drop)
    };
    let child = Process::spawn(slow, (dict.clone(), go.clone(), inside.clone()))?;
    inside.get()?;
    assert_eq!(dict.get(&1)?.as_deref(), Some("old"));
    go.put(())?;
    child.join()??;
    assert_eq!(dict.get(&1)?.as_deref(), Some("new"));
    Ok(())
}

#[test]
fn a_dict_can_hold_dicts() -> procession::Result<()> {
    let _dog = watched();
    let outer = Dict::<String, Dict<String, u32>>::new()?;
    let work = |outer: Dict<String, Dict<String, u32>>, name: String| -> procession::Result<()> {
        let inner = outer.get_or_insert_with("shared", || Dict::new().unwrap())?;
        inner.insert(&name, 1)?;
        outer.update("shared", |inner| inner.insert("updated", 2).map(drop)).map(|_| ())
    };
    let workers: Vec<_> = ["a", "b"]
        .map(|name| Process::spawn(work, (outer.clone(), name.to_string())))
        .into_iter()
        .collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()??;
    }
    let inner = outer.get("shared")?.expect("the inner dict is there");
    let expected = BTreeMap::from([("a", 1), ("b", 1), ("updated", 2)].map(|(k, v)| (k.to_string(), v)));
    assert_eq!(inner.to_map()?.into_iter().collect::<BTreeMap<_, _>>(), expected);
    outer.clear()?;
    assert_eq!((outer.len(), inner.len()), (0, 3), "clearing the outer dict leaves the inner one");
    Ok(())
}

#[test]
fn a_value_that_is_read_is_a_copy() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::from_entries([(1, vec![1])])?;
    let (mut one, mut all) = (dict.get(&1)?.expect("it is there"), dict.to_map()?);
    one.push(2);
    all.clear();
    assert_eq!((dict.get(&1)?, dict.len()), (Some(vec![1]), 1));
    assert_eq!(dict.insert(&1, one)?, Some(vec![1]));
    Ok(())
}

#[test]
fn a_dict_can_hold_handles_of_all_kinds() -> procession::Result<()> {
    let _dog = watched();
    let dict = Dict::<String, (Queue<u32>, Option<Lock>)>::new()?;
    dict.insert("q", (Queue::bounded(3)?, Some(Lock::labeled("inside")?)))?;
    dict.insert("plain", (Queue::bounded(3)?, None))?;
    let work = |dict: Dict<String, (Queue<u32>, Option<Lock>)>| -> procession::Result<()> {
        let (queue, lock) = dict.get("q")?.expect("it is there");
        let _held = lock.as_ref().expect("it is there").lock()?;
        queue.put(7)?;
        Ok(())
    };
    Process::spawn(work, (dict.clone(),))?.join()??;
    let (queue, lock) = dict.remove("q")?.expect("it is there");
    assert_eq!((queue.get()?, lock.map(|lock| lock.name()).as_deref()), (7, Some("inside")));
    assert!(dict.iter().all(|entry| entry.is_ok_and(|(key, (queue, _))| key == "plain" && queue.is_empty())));
    let by_queue = Dict::from_entries([(1, queue.clone())])?;
    by_queue.update(&1, |queue| *queue = Queue::bounded(5).unwrap())?;
    assert_eq!(by_queue.get(&1)?.and_then(|queue| queue.capacity()), Some(5));
    Ok(())
}

#[test]
fn main_may_exit_in_an_update_s_closure() {
    let _dog = watched();
    if role().is_some() {
        let dict = Dict::from_entries([(1, 10)]).unwrap();
        let change = |dict: Dict<i32, i32>, board: String| {
            post(&board, "started", "");
            dict.update(&1, |value| *value += 1).unwrap();
            post(&board, "value", dict.get(&1).unwrap().unwrap().to_string());
        };
        let _ = dict.update(&1, |value| {
            *value = 100;
            Process::spawn(change, (dict.clone(), my_board())).unwrap();
            wait_for(&my_board(), "started");
            std::process::exit(3)
        });
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(std::process::Stdio::null()));
    assert_eq!(main.end().code(), Some(3));
    assert_eq!(board.wait("value"), "11", "the old value stays, and no process waits for the dead one");
}

#[test]
fn a_value_that_cannot_be_decoded_is_an_error_of_the_dict() -> procession::Result<()> {
    let _dog = watched();
    let carrier = Queue::unbounded()?;
    let numbers = Dict::from_entries([(1, 5u64)])?;
    carrier.put(numbers)?;
    let dict = Dict::from_entries([(1, vec![1u8, 2, 3])])?;
    assert_eq!(dict.get(&1)?, Some(vec![1, 2, 3]));
    assert!(matches!(Dict::from_entries([(1, Unsendable)]).map(drop), Err(Error::Message(_))));
    Ok(())
}

#[derive(Clone, PartialEq)]
struct Unsendable;

impl Serialize for Unsendable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not this one"))
    }
}

impl<'de> Deserialize<'de> for Unsendable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Unsendable)
    }
}
