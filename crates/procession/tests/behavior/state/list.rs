//! The operations of a list, and random operations compared with those of a `VecDeque`.

use std::collections::VecDeque;

use crate::family::*;
use procession::internals;
use procession::state::{Dict, List};
use procession::{Error, Lock, Process, Queue};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn a_list_has_the_operations_of_a_vec_deque() -> procession::Result<()> {
    let _dog = watched();
    let list = List::new()?;
    for n in 0..10 {
        list.push(n)?;
        list.push_front(-n)?;
    }
    assert_eq!((list.len(), list.get(0)?, list.get(19)?, list.get(20)?), (20, Some(-9), Some(9), None));
    assert_eq!((list.pop()?, list.pop_front()?, list.remove(8)?), (Some(9), Some(-9), Some(0)));
    assert_eq!(
        (list.set(0, 100)?, list.update(1, |n| *n += 1)?, list.update(50, |_| ())?),
        (-8, Some(()), None)
    );
    list.insert(17, 5)?;
    assert_eq!(list.to_vec()?, [100, -6, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 5]);
    assert!(matches!(list.set(18, 0), Err(Error::InvalidArgument(why)) if why.contains("18")));
    assert!(matches!(list.insert(19, 0), Err(Error::InvalidArgument(_))));
    assert_eq!((list.remove(18)?, format!("{list:?}").as_str()), (None, "List { len: 18, .. }"));
    list.clear()?;
    assert_eq!((list.is_empty(), list.pop()?, list.pop_front()?, list.get(0)?), (true, None, None, None));
    Ok(())
}

#[test]
fn iteration_sees_changes_and_ends_once() -> procession::Result<()> {
    let _dog = watched();
    let list = List::from_items(["a".to_string()])?;
    let mut iter = list.iter();
    assert_eq!(iter.next(), Some(Ok("a".to_string())));
    list.push("b".to_string())?;
    assert_eq!((iter.next(), iter.next()), (Some(Ok("b".to_string())), None));
    list.push("c".to_string())?;
    assert_eq!(iter.next(), None);
    Ok(())
}

#[test]
fn processes_share_a_list() -> procession::Result<()> {
    let _dog = watched();
    let list = List::from_items([0u64])?;
    let work = |list: List<u64>, me: u64| -> procession::Result<()> {
        for n in 0..500 {
            list.push(me * 1000 + n)?;
            list.update(0, |sum| *sum += 1)?;
        }
        Ok(())
    };
    let workers: Vec<_> =
        (1..4).map(|me| Process::spawn(work, (list.clone(), me))).collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()??;
    }
    let all = list.to_vec()?;
    assert_eq!((all.len(), all[0]), (1501, 1500));
    for me in 1..4 {
        let of_one: Vec<u64> = all[1..].iter().copied().filter(|n| n / 1000 == me).collect();
        assert_eq!(of_one, (0..500).map(|n| me * 1000 + n).collect::<Vec<_>>(), "in order");
    }
    Ok(())
}

#[test]
fn a_list_can_hold_handles() -> procession::Result<()> {
    let _dog = watched();
    let outer = List::<List<u32>>::from_items([List::from_items([1])?, List::new()?])?;
    outer.update(1, |inner| inner.push(2))?.expect("the inner list is there")?;
    let inner = outer.get(1)?.expect("the inner list is there");
    assert_eq!(inner.to_vec()?, [2]);
    outer.clear()?;
    assert_eq!(inner.to_vec()?, [2], "clearing the outer list leaves the inner one");
    let mixed = List::<(u32, Option<Lock>, Option<Queue<u8>>)>::new()?;
    mixed.extend([
        (1, None, None),
        (2, Some(Lock::labeled("two")?), None),
        (3, None, Some(Queue::bounded(4)?)),
    ])?;
    let all = mixed.to_vec()?;
    assert_eq!(all.iter().map(|item| item.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(all[1].1.as_ref().map(Lock::name).as_deref(), Some("two"));
    let itself = Dict::<u32, List<u32>>::new()?;
    itself.insert(&1, inner)?;
    assert_eq!(itself.get(&1)?.map(|list| list.len()), Some(1));
    Ok(())
}

#[test]
fn an_update_s_closure_can_only_read_the_same_list() -> procession::Result<()> {
    let _dog = watched();
    let list = List::from_items([1, 2])?;
    list.update(0, |item| {
        assert_eq!((list.get(1), list.len()), (Ok(Some(2)), 2));
        assert!(matches!(list.push(3), Err(Error::Unsupported(_))));
        assert!(list.pop().is_err() && list.clear().is_err() && list.to_vec().is_err());
        *item = 7;
    })?;
    assert!(std::panic::catch_unwind(|| list.update(1, |_| panic!("on purpose"))).is_err());
    assert_eq!(list.to_vec()?, [7, 2]);
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>),
    PushFront(Vec<u8>),
    Pop,
    PopFront,
    Insert(usize, Vec<u8>),
    Remove(usize),
    Set(usize, Vec<u8>),
    Update(usize, u8),
    Extend(Vec<Vec<u8>>),
    PopMany(usize),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let item = || prop_oneof![3 => vec(any::<u8>(), 0..12), 1 => vec(any::<u8>(), 0..300)];
    let index = || 0..60usize;
    prop_oneof![
        6 => item().prop_map(Step::Push),
        6 => item().prop_map(Step::PushFront),
        4 => Just(Step::Pop),
        4 => Just(Step::PopFront),
        3 => (index(), item()).prop_map(|(i, v)| Step::Insert(i, v)),
        3 => index().prop_map(Step::Remove),
        3 => (index(), item()).prop_map(|(i, v)| Step::Set(i, v)),
        3 => (index(), any::<u8>()).prop_map(|(i, n)| Step::Update(i, n)),
        1 => vec(item(), 0..40).prop_map(Step::Extend),
        1 => index().prop_map(Step::PopMany),
        1 => Just(Step::Clear),
    ]
}

fn same(list: &List<Vec<u8>>, model: &mut VecDeque<Vec<u8>>, step: Step) {
    match step {
        Step::Push(v) => {
            list.push(v.clone()).unwrap();
            model.push_back(v);
        }
        Step::PushFront(v) => {
            list.push_front(v.clone()).unwrap();
            model.push_front(v);
        }
        Step::Pop => assert_eq!(list.pop(), Ok(model.pop_back())),
        Step::PopFront => assert_eq!(list.pop_front(), Ok(model.pop_front())),
        Step::Insert(i, v) if i <= model.len() => {
            list.insert(i, v.clone()).unwrap();
            model.insert(i, v);
        }
        Step::Insert(i, v) => assert!(list.insert(i, v).is_err()),
        Step::Remove(i) => assert_eq!(list.remove(i), Ok(model.remove(i))),
        Step::Set(i, v) => match model.get_mut(i) {
            Some(place) => assert_eq!(list.set(i, v.clone()), Ok(std::mem::replace(place, v))),
            None => assert!(list.set(i, v).is_err()),
        },
        Step::Update(i, n) => {
            assert_eq!(list.update(i, |v| v.push(n)), Ok(model.get_mut(i).map(|v| v.push(n))));
        }
        Step::Extend(items) => {
            list.extend(items.clone()).unwrap();
            model.extend(items);
        }
        Step::PopMany(count) => {
            for _ in 0..count {
                assert_eq!(list.pop_front(), Ok(model.pop_front()));
            }
        }
        Step::Clear => {
            list.clear().unwrap();
            model.clear();
        }
    }
    assert_eq!(
        (list.len(), list.get(model.len() / 2)),
        (model.len(), Ok(model.get(model.len() / 2).cloned()))
    );
}

#[test]
fn random_operations_match_a_vec_deque() {
    let _dog = watched();
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 0..150))| {
        let (list, mut model) = (List::new().unwrap(), VecDeque::new());
        for step in steps {
            same(&list, &mut model, step);
        }
        prop_assert_eq!(internals::faults_of_list(&list), Vec::<String>::new());
        prop_assert_eq!(list.to_vec().unwrap(), Vec::from(model));
    });
}
