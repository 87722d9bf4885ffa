//! Tasks that are cancelled or time out, with a death at every instruction.
#![allow(unsafe_code, reason = "duplicates a handle")]

use std::cell::Cell;

use super::rare::{die_at_work, fragile_sum};
use crate::shop::*;
use crate::support::*;
use procession::Task;
use procession::internals::{self, Rule};
use procession::pool::manual_pool::ManualPool;
use procession::pool::{TaskError, TaskState};
use procession_testkit::{Child, Gate, Report, interleave, isolated, proc};

fn forever() -> u32 {
    loop {
        std::thread::park();
    }
}

/// Submits a task that never ends, and starts a worker for it.
fn at_work(shop: &ManualPool) -> (Task<u32>, Child) {
    let task = shop.submit(forever, ()).expect("submitted");
    let worker = Child::spawn(|| {
        internals::become_member(OTHER);
        shop.held_here().expect("its own handle").work_once();
    });
    proc::wait_until("it runs", LONG, || task.state() == TaskState::Running);
    (task, worker)
}

/// The victim cancels a running task. If it has cancelled the task, the keeper knows which worker to kill.
fn cancelled() -> Report {
    let shop = workshop_with(0);
    let before = Before::now();
    let (task, mut other) = at_work(&shop);
    let look = shop.keeper_looks();
    let report = stepped(
        &shop,
        |_| assert!(task.cancel()),
        || {
            ensure!(
                !shop.any_killing() || shop.keeper_knows(&look),
                "the keeper does not know which worker to kill"
            );
            internals::recover(OTHER);
            let ended = task.try_get();
            let over = matches!(ended, Err(TaskError::Cancelled | TaskError::WorkerDied { .. }));
            ensure!(over, "{ended:?}");
            // SAFETY: the original is forgotten by this copy of the process.
            drop(unsafe { std::ptr::read(&task) });
            ensure!(shop.is_empty(), "a cell is not free");
            before.is_back()
        },
    );
    other.kill();
    std::mem::forget(task);
    report
}

#[test]
fn a_running_task_can_be_cancelled() {
    isolated!({
        assert_finished(&cancelled());
    });
}

#[test]
fn without_the_rule_the_keeper_misses_a_death() {
    isolated!({
        internals::break_rule(Rule::KeeperNotified);
        cancelled().assert_broken();
    });
}

/// The victim is the keeper, and times out a task that overran its limit. The pool ends with the victim.
fn timed_out_task() -> Report {
    let shop = workshop_with(0).with_limit(1);
    let before = Before::now();
    let (task, mut other) = at_work(&shop);
    let report = stepped(
        &shop,
        |shop| _ = shop.keeper_looks(),
        || {
            shop.end();
            internals::recover(OTHER);
            let ended = task.try_get();
            ensure!(matches!(ended, Err(TaskError::Terminated)), "{ended:?}");
            // SAFETY: the original is forgotten by this copy of the process.
            drop(unsafe { std::ptr::read(&task) });
            ensure!(shop.is_empty(), "a cell is not free");
            before.is_back()
        },
    );
    assert!(report.points > 3, "the task did not time out: {report}");
    other.kill();
    std::mem::forget(task);
    report
}

#[test]
fn an_overrun_task_ends_although_its_keeper_dies() {
    isolated!({
        assert_finished(&timed_out_task());
    });
}

#[test]
fn without_the_rule_a_task_stays_with_its_dead_worker() {
    isolated!({
        internals::break_rule(Rule::TaskReturned);
        timed_out_task().assert_broken();
    });
}

/// Recovery races with a process that cancels the dead worker's task. A cancelled task must not start again.
#[test]
fn a_cancelled_task_stays_cancelled_when_its_worker_dies() {
    isolated!({
        arena();
        let make = || {
            open([VICTIM]);
            let shop = ManualPool::new(1).expect("a workshop");
            let task = shop.submit(fragile_sum, (3, 4)).expect("submitted");
            die_at_work(&shop, VICTIM);
            (shop, task, Cell::new(false))
        };
        let recovery = |(shop, ..): &(ManualPool, Task<u32>, Cell<bool>), gate: &Gate| {
            gate.begin();
            shop.recover(VICTIM);
            gate.end();
            internals::recover(VICTIM);
        };
        let cancel =
            |(_, task, cancelled): &(ManualPool, Task<u32>, Cell<bool>)| cancelled.set(task.cancel());
        let mut both = 0;
        interleave(make, recovery, cancel, |(_, task, cancelled)| {
            assert!(cancelled.get(), "the task could not be cancelled at some instruction");
            both += 1;
            assert_eq!(task.try_get(), Err(TaskError::Cancelled));
        });
        assert!(both > 1);
    });
}
