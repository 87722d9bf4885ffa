//! A process is killed at every instruction of its operations on a list.

use crate::support;
use crate::support::{VECTORS, VICTIM, arena, assert_finished, open};
use procession::internals::{self, Rule};
use procession::state::List;
use procession_testkit::{CrashStep, Gate, Report, isolated};

/// Returns an item that is larger than a word.
fn item(n: u32) -> String {
    format!("item {n}, which is a little longer")
}

fn items(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(item).collect()
}

/// Allocates memory of the sizes that the operation needs.
fn warm_up() {
    for bytes in [20, 40, 100, 200] {
        internals::free(internals::reserve(bytes).expect("a block"));
    }
}

/// Kills the victim at every instruction of `operation` on a list of these items. After each death the list
/// must be sound and usable, and in one of the `allowed` states.
fn step(first: &[String], allowed: &[Vec<String>], operation: impl Fn(&List<String>)) -> Report {
    arena();
    open([VICTIM]);
    let list = List::from_items(first.to_vec()).expect("a list");
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        warm_up();
        gate.begin();
        operation(&list);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| {
        internals::recover(VICTIM);
        is_one_of(&list, first, allowed)?;
        support::nothing_in(VICTIM)
    });
    println!("{report}");
    report
}

fn is_one_of(list: &List<String>, first: &[String], allowed: &[Vec<String>]) -> Result<(), String> {
    let there = list.to_vec().map_err(|e| e.to_string())?;
    ensure!(there == first || allowed.contains(&there), "the list is {there:?}");
    let faults = internals::faults_of_list(list);
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    let others: Vec<_> = internals::census().blocks.into_iter().filter(|&(_, tag)| tag >> 28 == 1).collect();
    ensure!(others.is_empty(), "blocks of processes: {others:x?}");
    for n in 0..10 {
        list.push(item(n)).and_then(|()| list.push_front(item(n))).map_err(|e| e.to_string())?;
    }
    ensure!(
        list.len() == there.len() + 20 && list.pop() == Ok(Some(item(9))),
        "the list can no longer be used"
    );
    let faults = internals::faults_of_list(list);
    ensure!(faults.is_empty(), "used again: {}", faults.join("; "));
    Ok(())
}

#[test]
fn items_can_be_pushed_at_both_ends() {
    isolated!(env = VECTORS, {
        let report = step(&[], &[items([1]), items([2, 1])], |list| {
            list.push(item(1)).unwrap();
            list.push_front(item(2)).unwrap();
        });
        assert_finished(&report);
        // The seventh item needs a larger table.
        let report = step(&items(0..6), &[items(0..7)], |list| list.push(item(6)).unwrap());
        assert_finished(&report);
    });
}

#[test]
fn items_can_be_popped_at_both_ends() {
    isolated!(env = VECTORS, {
        let report = step(&items(0..3), &[items(0..2), items(1..2), vec![]], |list| {
            assert_eq!(list.pop(), Ok(Some(item(2))));
            assert_eq!(list.pop_front(), Ok(Some(item(0))));
            assert_eq!((list.pop(), list.pop()), (Ok(Some(item(1))), Ok(None)));
        });
        assert_finished(&report);
    });
}

#[test]
fn the_table_of_a_list_can_shrink() {
    isolated!(env = VECTORS, {
        arena();
        open([VICTIM]);
        let list = List::from_items(items(0..20)).unwrap();
        for _ in 0..16 {
            list.pop().unwrap();
        }
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            warm_up();
            gate.begin();
            assert_eq!(list.pop(), Ok(Some(item(3))));
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |_| {
            internals::recover(VICTIM);
            is_one_of(&list, &items(0..4), &[items(0..3)])
        });
        println!("{report}");
        assert_finished(&report);
    });
}

#[test]
fn items_can_be_inserted_and_removed_in_the_middle() {
    isolated!(env = VECTORS, {
        let report = step(&items(0..3), &[items([0, 9, 1, 2]), items([0, 9, 2])], |list| {
            list.insert(1, item(9)).unwrap();
            assert_eq!(list.remove(2), Ok(Some(item(1))));
        });
        assert_finished(&report);
    });
}

#[test]
fn an_item_can_be_changed() {
    isolated!(env = VECTORS, {
        let report = step(&items(0..3), &[items([0, 9, 2]), items([0, 8, 2])], |list| {
            assert_eq!(list.set(1, item(9)), Ok(item(1)));
            assert_eq!(list.update(1, |item| *item = self::item(8)), Ok(Some(())));
        });
        assert_finished(&report);
    });
}

#[test]
fn it_is_cleared() {
    isolated!(env = VECTORS, {
        assert_finished(&step(&items(0..4), &[vec![]], |list| list.clear().unwrap()));
    });
}

#[test]
fn without_intent_or_repair_a_change_of_a_list_leaks() {
    isolated!(env = VECTORS, {
        internals::break_rule(Rule::ChangeJournaled);
        let report = step(&items(0..3), &[items([9, 1, 2])], |list| _ = list.set(0, item(9)).unwrap());
        report.assert_broken();
        assert!(report.failures.iter().all(|failure| failure.why.contains("not reached")), "{report}");
    });
}

#[test]
fn without_the_rule_words_beyond_the_ends_stay_set() {
    isolated!(env = VECTORS, {
        internals::break_rule(Rule::Recounted);
        let report = step(&items(0..3), &[items(0..2)], |list| _ = list.pop().unwrap());
        report.assert_broken();
        assert!(report.failures.iter().all(|failure| failure.why.contains("beyond the ends")), "{report}");
    });
}
