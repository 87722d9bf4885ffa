//! A process is killed at every instruction of its work in a pool: submitting a task, claiming it, running
//! it, publishing its result, and releasing the result. Another worker does the task exactly once, and
//! nothing leaks.

#![allow(unsafe_code, reason = "takes a handle over in a copy of the process")]

use std::cell::Cell;

use crate::shop::*;
use crate::support::*;
use procession::Task;
use procession::internals::{self, Rule};
use procession::pool::manual_pool::{Look, ManualPool, Mapping};
use procession_testkit::{Gate, Report, interleave, isolated};

/// The victim works on a task. Another worker finishes the task if the victim did not.
fn worked_on<R: procession::Message + PartialEq + std::fmt::Debug>(
    shop: &ManualPool,
    before: &Before,
    task: Task<R>,
    expected: impl Fn(&R) -> bool,
) -> Report {
    let report = stepped(
        shop,
        |shop| assert!(shop.work_once()),
        || {
            while shop.work_once() {}
            let got = task.try_get();
            ensure!(got.as_ref().is_ok_and(&expected), "{got:?}");
            drop(got);
            // The original handle stays with the test process. This copy is released.
            drop(unsafe_copy(&task));
            ensure!(shop.is_empty(), "a cell is not free");
            before.is_back()
        },
    );
    std::mem::forget(task);
    report
}

/// Copies the only handle. This is sound because the caller is a checker, a copy of this process that is
/// thrown away.
fn unsafe_copy<R>(task: &Task<R>) -> Task<R> {
    // SAFETY: the original is forgotten by this copy of the process.
    unsafe { std::ptr::read(task) }
}

#[test]
fn a_task_with_a_small_result_is_done() {
    isolated!({
        let shop = workshop();
        let before = Before::now();
        let task = shop.submit(small, (3, 4)).unwrap();
        assert_finished(&worked_on(&shop, &before, task, |n| *n == 7));
    });
}

#[test]
fn a_task_with_a_large_result_is_done() {
    isolated!({
        let shop = workshop();
        let before = Before::now();
        let task = shop.submit(large, (3,)).unwrap();
        assert_finished(&worked_on(&shop, &before, task, |v| v.len() == 20));
    });
}

/// The victim maps a chunk of three items.
fn mapped<T, R>(shop: &ManualPool, before: &Before, mapping: Mapping<T, R>, expected: &[R]) -> Report
where
    T: procession::Message,
    R: procession::Message + PartialEq + std::fmt::Debug,
{
    let mapping = std::cell::RefCell::new(mapping);
    let report = stepped(
        shop,
        |shop| assert!(shop.work_once()),
        || {
            while shop.work_once() {}
            let results = mapping.borrow_mut().results().map_err(|e| e.to_string())?;
            let results: Result<Vec<R>, _> = results.into_iter().collect();
            let same = results.as_ref().is_ok_and(|results| results == expected);
            ensure!(same, "{results:?}");
            ensure!(shop.is_empty(), "a cell is not free");
            before.is_back()
        },
    );
    std::mem::forget(mapping);
    report
}

#[test]
fn a_chunk_of_numbers_is_done() {
    isolated!({
        let shop = workshop();
        let before = Before::now();
        let mapping = shop.map(small_item, vec![1, 2, 3]);
        assert_finished(&mapped(&shop, &before, mapping, &[2, 3, 4]));
    });
}

#[test]
fn a_chunk_of_strings_is_done() {
    isolated!({
        let shop = workshop();
        let before = Before::now();
        let expected = [1, 2, 3].map(large_item);
        let mapping = shop.map(large_item, vec![1, 2, 3]);
        assert_finished(&mapped(&shop, &before, mapping, &expected));
    });
}

#[test]
fn a_task_is_submitted_entirely_or_not_at_all() {
    isolated!({
        let shop = workshop();
        let before = Before::now();
        for long in [false, true] {
            let report = stepped(
                &shop,
                |shop| {
                    if long {
                        std::mem::forget(shop.submit(named, ("x".repeat(50),)));
                    } else {
                        std::mem::forget(shop.submit(small, (1, 2)));
                    }
                },
                || {
                    while shop.work_once() {}
                    ensure!(shop.is_empty(), "a cell is not free");
                    before.is_back()
                },
            );
            assert_finished(&report);
        }
    });
}

/// The victim releases the result of a task, or withdraws a waiting task.
fn release_or_withdraw<R: procession::Message>(submit: impl Fn(&ManualPool) -> Task<R>) {
    let _dog = watched();
    let shop = workshop();
    let before = Before::now();
    for done in [false, true] {
        let report = stepped(
            &shop,
            |shop| {
                let task = submit(shop);
                if done {
                    assert!(shop.work_once());
                } else {
                    assert!(task.cancel());
                }
                drop(task);
            },
            || {
                while shop.work_once() {}
                ensure!(shop.is_empty(), "a cell is not free");
                before.is_back()
            },
        );
        assert_finished(&report);
    }
}

#[test]
fn a_released_large_result_is_freed() {
    isolated!({ release_or_withdraw(|shop| shop.submit(large, (3,)).expect("submitted")) });
}

#[test]
fn a_released_small_result_is_freed() {
    isolated!({ release_or_withdraw(|shop| shop.submit(small, (3, 4)).expect("submitted")) });
}

/// No process needs the result that the victim computes.
#[test]
fn an_unwanted_result_is_freed_when_the_task_is_done() {
    isolated!({
        let shop = workshop();
        let before = Before::now();
        drop(shop.submit(large, (3,)).unwrap());
        let done = || {
            while shop.work_once() {}
            ensure!(shop.is_empty(), "a cell is not free");
            before.is_back()
        };
        assert_finished(&stepped(&shop, |shop| assert!(shop.work_once()), done));
    });
}

/// Two processes use the same objects. One of them acts between any two instructions of the other.
struct Scene {
    shop: ManualPool,
    task: Task<u32>,
    look: Cell<Option<Look>>,
}

impl Scene {
    fn new() -> Scene {
        open([VICTIM]);
        let shop = ManualPool::new(0).unwrap().with_limit(3_600_000_000);
        let task = shop.submit(small, (1, 2)).unwrap();
        Scene { shop, task, look: Cell::new(None) }
    }

    fn two_returned() -> Scene {
        let scene = Scene::new();
        std::mem::forget(scene.shop.submit(small, (3, 4)));
        scene.shop.return_to_workers(2);
        scene
    }

    fn work(&self, gate: &Gate) {
        internals::become_member(VICTIM);
        let shop = self.shop.held_here().expect("its own handle");
        gate.begin();
        assert!(shop.work_once());
        gate.end();
        std::mem::forget(shop);
    }
}

/// Runs the keeper at every moment of a task. Returns whether the keeper always learns of the task's limit.
fn limits_are_known() -> bool {
    arena();
    let mut known = true;
    let keeper =
        |scene: &Scene| scene.look.set(Some(scene.shop.keeper_looks()).filter(|_| !scene.task.is_done()));
    interleave(Scene::new, Scene::work, keeper, |scene| {
        known &= scene.look.take().is_none_or(|look| scene.shop.keeper_knows(&look));
        internals::recover(VICTIM);
    });
    known
}

#[test]
fn the_keeper_learns_of_each_limit() {
    isolated!({
        assert!(limits_are_known());
    });
}

#[test]
fn without_the_rule_the_keeper_misses_a_limit() {
    isolated!({
        internals::break_rule(Rule::LimitNotified);
        assert!(!limits_are_known(), "either the rule is unnecessary, or this test does not cover it");
    });
}

/// Another worker looks for a task while the victim claims one of two returned tasks. Returns whether the other worker
/// finds the other task.
fn returned_tasks_are_found() -> bool {
    arena();
    let mut found = true;
    let other = |scene: &Scene| scene.look.set(scene.shop.worker_looks());
    interleave(Scene::two_returned, Scene::work, other, |scene| {
        let slept = scene.look.take();
        found &= slept.is_none_or(|look| scene.shop.worker_knows(&look) || !scene.shop.work_once());
        internals::recover(VICTIM);
    });
    found
}

#[test]
fn each_returned_task_is_found() {
    isolated!({
        assert!(returned_tasks_are_found());
    });
}

#[test]
fn without_the_rule_a_returned_task_is_not_found() {
    isolated!({
        internals::break_rule(Rule::ReturnedNotified);
        assert!(
            !returned_tasks_are_found(),
            "either the rule is unnecessary, or this test does not cover it"
        );
    });
}

/// Asserts that a task is lost without this rule.
fn work_without(rule: Rule) {
    let _dog = watched();
    let shop = workshop();
    let before = Before::now();
    let task = shop.submit(small, (3, 4)).unwrap();
    internals::break_rule(rule);
    worked_on(&shop, &before, task, |n| *n == 7).assert_broken();
}

#[test]
fn without_the_rule_a_task_of_a_dead_worker_is_not_finished() {
    isolated!({ work_without(Rule::TaskReturned) });
}

#[test]
fn without_the_rule_a_task_reserved_by_a_dead_worker_is_lost() {
    isolated!({ work_without(Rule::ReservationReturned) });
}

#[test]
fn without_the_rule_results_of_a_dead_worker_are_swept() {
    isolated!({
        let shop = workshop();
        let before = Before::now();
        let expected = [1, 2, 3].map(large_item);
        let mapping = shop.map(large_item, vec![1, 2, 3]);
        internals::break_rule(Rule::ResultsKept);
        mapped(&shop, &before, mapping, &expected).assert_broken();
    });
}

#[test]
fn without_the_rule_a_claimed_task_is_lost() {
    isolated!({ work_without(Rule::ClaimAddedFirst) });
}
