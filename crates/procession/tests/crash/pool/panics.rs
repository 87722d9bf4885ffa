//! A panic has aborted a worker. The text of the panic becomes the note of the task's cell. It is freed when the item
//! is retried, and is part of the item's error otherwise. A process is killed at every instruction of both steps.

#![allow(unsafe_code, reason = "ends a child in the middle of a task")]

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::shop::*;
use crate::support::*;
use procession::internals::{self, Rule};
use procession::pool::TaskError;
use procession::pool::manual_pool::{ManualPool, Mapping};
use procession_testkit::{Child, CrashStep, Gate, Report, isolated};

/// True if this process aborts in the function below.
static ABORTS: AtomicBool = AtomicBool::new(false);

fn aborting(n: u64) -> u64 {
    if n == 2 && ABORTS.load(Relaxed) {
        internals::leave_panic_text("no number");
        // SAFETY: ends the process immediately.
        unsafe { libc::_exit(0) }
    }
    n + 1
}

/// A worker processes the first of three items, and aborts in the second. It is not recovered.
fn aborted(shop: &ManualPool) -> Mapping<u64, u64> {
    let mapping = shop.map(aborting, vec![1, 2, 3]);
    let mut worker = Child::spawn(|| {
        internals::become_member(OTHER);
        let shop = shop.held_here().expect("its own handle");
        ABORTS.store(true, Relaxed);
        shop.work_once();
        panic!("the worker has survived");
    });
    assert_eq!(worker.wait(), 0, "{}", worker.text());
    mapping
}

/// Checks that all items are done and that nothing is left of them.
fn ends(shop: &ManualPool, mapping: &RefCell<Mapping<u64, u64>>, before: &Before, fails: bool) -> Checked {
    while shop.work_once() {}
    let results = mapping.borrow_mut().results().map_err(|e| e.to_string())?;
    // The victim of the step may have been killed in its last attempt at the item.
    let killed = |result: &Result<u64, TaskError>| {
        fails && matches!(result, Err(TaskError::WorkerDied { signal: Some(libc::SIGKILL), .. }))
    };
    let second = match &results[1] {
        Err(TaskError::Panicked { message, .. }) => fails && message == "no number",
        other => killed(other) || !fails && *other == Ok(3),
    };
    let third = results[2] == Ok(4) || killed(&results[2]);
    ensure!(second && third && results[0] == Ok(2), "wrong results: {results:?}");
    drop(results);
    ensure!(shop.is_empty(), "a cell is not free");
    before.is_back()
}

/// Does everything once, so that the memory that it needs is there. Returns what there is before a task.
fn rehearsed(shop: &ManualPool, fails: bool) -> Before {
    for last in [false, true] {
        let before = Before::now();
        let mapping = RefCell::new(aborted(shop));
        internals::recover_aborted(OTHER);
        open([OTHER]);
        let ended = ends(shop, &mapping, &before, fails);
        if last {
            ended.expect("the same as before");
        }
    }
    Before::now()
}

/// The recovery of an aborted worker's tasks is killed at every instruction and started again.
fn recovered(retries: u32) -> Report {
    let shop = workshop_with(retries);
    let before = rehearsed(&shop, retries == 0);
    let mapping = RefCell::new(aborted(&shop));
    let victim = |gate: &Gate| {
        gate.begin();
        shop.recover_aborted(OTHER);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| {
        internals::recover_aborted(OTHER);
        nothing_in(OTHER)?;
        ends(&shop, &mapping, &before, retries == 0)
    });
    std::mem::forget(mapping);
    report
}

#[test]
fn the_text_of_a_panic_survives_the_death_of_recovery() {
    isolated!({
        assert_finished(&recovered(0));
    });
}

#[test]
fn an_aborted_worker_s_item_is_retried_although_its_recovery_dies() {
    isolated!({
        assert_finished(&recovered(1));
    });
}

/// The victim continues the chunk of an aborted worker.
fn continued(retries: u32) -> Report {
    let shop = workshop_with(retries);
    let before = rehearsed(&shop, retries == 0);
    let mapping = RefCell::new(aborted(&shop));
    internals::recover_aborted(OTHER);
    open([OTHER]);
    let report = stepped(
        &shop,
        |shop| assert!(shop.work_once()),
        || {
            while shop.work_once() {}
            ends(&shop, &mapping, &before, retries == 0)
        },
    );
    std::mem::forget(mapping);
    report
}

#[test]
fn an_aborted_worker_s_item_can_fail() {
    isolated!({
        assert_finished(&continued(0));
    });
}

#[test]
fn an_aborted_worker_s_item_can_be_retried() {
    isolated!({
        assert_finished(&continued(2));
    });
}

#[test]
fn without_the_rule_the_text_of_a_panic_is_leaked() {
    isolated!({
        internals::break_rule(Rule::PanicTextTakenOver);
        continued(2).assert_broken();
    });
}
