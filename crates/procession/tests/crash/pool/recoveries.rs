//! Recoveries of a pool that are killed themselves, or that race with other processes.

use std::cell::RefCell;

use super::rare::{die_at_work, fragile_sum};
use crate::shop::*;
use crate::support::*;
use procession::Task;
use procession::internals::{self, Rule};
use procession::pool::manual_pool::ManualPool;
use procession_testkit::{Child, CrashStep, Gate, Report, interleave, isolated, run_until};

/// Recovery releases a task of a dead submitter. Meanwhile the task is done, and another submitter's task takes its
/// cell.
#[test]
fn a_task_survives_the_release_of_its_cell_s_last_task() {
    isolated!({
        arena();
        type Next = RefCell<Option<Task<u32>>>;
        let make = || {
            open([VICTIM]);
            let shop = ManualPool::new(0).expect("a workshop");
            let mut submitter = Child::spawn(|| {
                internals::become_member(VICTIM);
                let shop = shop.held_here().expect("its own handle");
                drop(shop.submit(small, (1, 2)));
                std::mem::forget(shop);
            });
            assert_eq!(submitter.wait(), 0, "{}", submitter.text());
            (shop, Next::default())
        };
        let recovery = |(shop, _): &(ManualPool, Next), gate: &Gate| {
            gate.begin();
            shop.recover(VICTIM);
            gate.end();
            internals::recover(VICTIM);
        };
        let other = |(shop, next): &(ManualPool, Next)| {
            assert!(shop.work_once());
            *next.borrow_mut() = shop.submit(small, (3, 4)).ok();
        };
        let stops = interleave(make, recovery, other, |(shop, next)| {
            assert!(shop.work_once());
            let next = next.take().expect("submitted");
            assert_eq!(next.try_get(), Ok(7));
        });
        assert!(stops > 1);
    });
}

/// A worker has died in a task. The worker's recovery is killed at every instruction and started again.
fn recovered() -> Report {
    let shop = workshop();
    let task = shop.submit(fragile_sum, (3, 4)).expect("submitted");
    die_at_work(&shop, OTHER);
    let victim = |gate: &Gate| {
        gate.begin();
        internals::recover(OTHER);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| {
        internals::recover(OTHER);
        nothing_in(OTHER)?;
        while shop.work_once() {}
        ensure!(task.try_get() == Ok(7), "{:?}", task.try_get());
        Ok(())
    });
    std::mem::forget(task);
    report
}

#[test]
fn a_task_is_returned_although_its_recovery_dies() {
    isolated!({
        assert_finished(&recovered());
    });
}

#[test]
fn without_the_rule_a_returned_task_is_lost() {
    isolated!({
        internals::break_rule(Rule::ReturnedListed);
        recovered().assert_broken();
    });
}

/// A free cell still names its last owner, even while another process fills it in. The dead `OTHER` once
/// owned the cell. Its recovery stops at the `at`-th instruction, and meanwhile this process submits a task.
/// Returns the number of the recovery's instructions, and whether the task is done like any other.
fn submitted_during_recovery(at: u64) -> (u64, bool) {
    let shop = ManualPool::new(0).expect("a workshop");
    done_by(OTHER, || {
        let shop = shop.held_here().expect("its own handle");
        let task = shop.submit(small, (1, 2)).expect("submitted");
        assert!(task.cancel());
        drop(task);
        std::mem::forget(shop);
        0
    });
    let mut steps = 0;
    let mut burying = run_until(
        |gate: &Gate| {
            gate.begin();
            shop.recover_first_cell(OTHER);
            gate.end();
        },
        |point| {
            steps = point.step;
            point.finished || point.step >= at
        },
    );
    let task = shop.submit(small, (3, 4)).expect("submitted");
    go_on(&burying);
    assert_eq!(burying.wait(), 0, "{}", burying.text());
    assert_eq!(shop.used_cells(), 1, "the task is in another cell");
    while shop.work_once() {}
    let done = task.try_get() == Ok(7);
    internals::recover(OTHER);
    (steps, done)
}

/// Returns the instructions of the recovery at which a submission is lost.
fn submissions_lost() -> Vec<u64> {
    let _dog = watched();
    arena();
    internals::adopt_working_directory();
    let (steps, done) = submitted_during_recovery(u64::MAX);
    assert!(steps > 10 && done, "{steps} {done}");
    (0..steps).filter(|&at| !submitted_during_recovery(at).1).collect()
}

#[test]
fn a_task_is_not_taken_for_one_of_its_cell_s_last_owner() {
    isolated!({ assert!(submissions_lost().is_empty()) });
}

#[test]
fn without_the_rule_a_task_is_taken_for_a_dead_owner_s() {
    isolated!({
        internals::break_rule(Rule::OwnerReadLast);
        assert!(
            !submissions_lost().is_empty(),
            "either the rule is unnecessary, or this test does not cover it"
        );
    });
}
