//! Rules of dicts that are broken on purpose, and recoveries of a dict that are killed themselves.

use crate::support;

use super::dict::*;
use crate::support::{VECTORS, VICTIM, arena, assert_finished, open};
use procession::Dict;
use procession::internals::{self, Rule};
use procession_testkit::{CrashStep, Gate, isolated, run_until};

/// Runs a control: with this rule broken, some death must leave the `expected` error.
fn broken(rule: Rule, expected: &str, operation: impl Fn(&Dict<u32, String>)) {
    let before = model(0..40);
    let dict = dict(&before);
    internals::break_rule(rule);
    let mut changed = before.clone();
    changed.insert(3, text(9));
    let mut less = before.clone();
    less.remove(&3);
    let report = step(&dict, &[before, changed, less], operation);
    report.assert_broken();
    assert!(report.failures.iter().all(|failure| failure.why.contains(expected)), "{report}");
}

#[test]
fn without_the_intent_a_change_leaks() {
    isolated!(env = VECTORS, {
        broken(Rule::ChangeJournaled, "is owned and not reached", |dict| {
            dict.insert(&3, text(9)).unwrap();
        });
    });
}

#[test]
fn without_the_repair_a_change_leaks() {
    isolated!(env = VECTORS, {
        broken(Rule::ChangeBlocksFreed, "is owned and not reached", |dict| {
            dict.insert(&3, text(9)).unwrap();
        });
    });
}

#[test]
fn without_the_recount_counts_are_wrong() {
    isolated!(env = VECTORS, {
        broken(Rule::Recounted, "count", |dict| {
            dict.remove(&3).unwrap();
        });
    });
}

#[test]
fn without_the_journal_a_dead_process_keeps_a_lock() {
    isolated!(env = VECTORS, {
        let dict = Dict::from_entries([(1u32, 1u64)]).unwrap();
        arena();
        open([VICTIM]);
        internals::break_rule(Rule::Journal);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            dict.update_or_insert_with(&1, || 0, |n| *n += 1).unwrap();
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |_| {
            internals::recover(VICTIM);
            ensure!(!internals::is_locked_part_of_dict(&dict, &1), "the dead holds a part");
            Ok(())
        });
        report.assert_broken();
    });
}

/// Returns a value so long that few of them fit into one span. Recovery examines each block that shares a
/// span with the dead process's blocks.
fn long(n: u32) -> String {
    format!("value {n}").repeat(600)
}

/// A process is killed while it replaces a value, once `place` returns true. Then its recovery is killed at every
/// instruction, and started again. The value must be `expected`.
fn recovered_twice(expected: &str, place: impl Fn(&Dict<u32, String>) -> bool) {
    arena();
    open([VICTIM]);
    let dict = Dict::from_entries([(1, long(1)), (2, long(2))]).expect("a dict");
    let is_half_done = || !internals::faults_of_dict(&dict).is_empty();
    let mut dead = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            dict.insert(&1, long(9)).expect("the old value");
            gate.end();
        },
        |_| is_half_done() && place(&dict),
    );
    dead.kill();
    assert!(is_half_done(), "the process was killed in the middle of the change");
    let recovery = |gate: &Gate| {
        gate.begin();
        internals::recover(VICTIM);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(recovery, |_| {
        internals::recover(VICTIM);
        let faults = internals::faults_of_dict(&dict);
        ensure!(faults.is_empty(), "{}", faults.join("; "));
        ensure!(dict.get(&1).as_ref().is_ok_and(|value| value.as_deref() == Some(expected)), "another value");
        ensure!(dict.insert(&1, long(3)) == Ok(Some(expected.into())), "the dict can no longer be changed");
        support::nothing_in(VICTIM)
    });
    println!("{report}");
    assert_finished(&report);
}

#[test]
fn a_recovery_killed_before_the_store_can_be_repeated() {
    isolated!(env = VECTORS, {
        recovered_twice(&long(1), |_| true);
    });
}

#[test]
fn a_recovery_killed_after_the_store_can_be_repeated() {
    isolated!(env = VECTORS, {
        recovered_twice(&long(9), |dict| dict.get(&1) == Ok(Some(long(9))));
    });
}

/// Recovery finds a freed dict's blocks by the marks on the spans in which they may be.
#[test]
fn without_the_mark_a_span_keeps_a_freed_dict_s_blocks() {
    isolated!({
        arena();
        for noted in [true, false] {
            if !noted {
                internals::break_rule(Rule::TouchedFirst);
            }
            let dict = Dict::from_entries((0..100).map(|n| (n, text(n)))).unwrap();
            assert!(internals::census().blocks.len() > 100);
            drop(dict);
            assert_eq!(internals::census().blocks.is_empty(), noted);
        }
    });
}
