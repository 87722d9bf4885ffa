//! A process is killed at every instruction of the rare operations of a pool: continuing a dead worker's chunk, adding
//! cells, sending a task, creating and resizing a pool.
#![allow(unsafe_code, reason = "ends a child in the middle of a task")]

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::shop::*;
use crate::support::*;
use procession::internals::{self, Rule};
use procession::pool::TaskError;
use procession::pool::manual_pool::{ManualPool, Mapping};
use procession::{Message, Queue, Task};
use procession_testkit::{Child, CrashStep, Gate, Report, isolated};

/// True if this process dies in the fragile functions below.
static DIES: AtomicBool = AtomicBool::new(false);

pub(super) fn fragile_sum(a: u32, b: u32) -> u32 {
    if DIES.load(Relaxed) {
        // SAFETY: ends the process immediately.
        unsafe { libc::_exit(0) }
    }
    a + b
}

fn fragile_number(n: u64) -> u64 {
    if n == 2 { fragile_sum(1, 2).into() } else { n + 1 }
}

fn fragile_text(n: u64) -> String {
    format!("{} is a number of this length", fragile_number(n))
}

type Results<R> = Vec<Result<R, TaskError>>;

/// A way to submit a chunk.
type Map<R> = fn(&ManualPool) -> Mapping<u64, R>;

/// Starts a worker in `slot` that takes a task and dies in it.
pub(super) fn die_at_work(shop: &ManualPool, slot: u32) {
    let mut worker = Child::spawn(|| {
        internals::become_member(slot);
        let shop = shop.held_here().expect("its own handle");
        DIES.store(true, Relaxed);
        shop.work_once();
        panic!("the worker has survived");
    });
    assert_eq!(worker.wait(), 0, "{}", worker.text());
}

/// A worker processes the first of three items, and dies in the second.
fn half_done<R: Message>(shop: &ManualPool, map: Map<R>) -> RefCell<Mapping<u64, R>> {
    let mapping = map(shop);
    die_at_work(shop, OTHER);
    internals::recover(OTHER);
    open([OTHER]);
    RefCell::new(mapping)
}

/// Returns how many retries the chunk will have had when it is done. Item 1 is retried because `half_done` has killed
/// its first worker. The item in which the victim died, if any, is retried as well.
fn expected_retries<R: Message>(mapping: &Mapping<u64, R>, retries: u32) -> u32 {
    let (item, number, died) = mapping.attempt().expect("the chunk is there");
    let victim_died = died && item < 3 && (item, number) != (1, 1);
    if retries == 0 { 0 } else { 1 + u32::from(victim_died) }
}

/// The victim continues a chunk that `half_done` has left. A rule may be switched off meanwhile.
fn gone_on_with<R: Message>(
    retries: u32,
    map: Map<R>,
    broken: Option<Rule>,
    good: impl Fn(&Results<R>) -> bool,
) -> Report {
    let shop = workshop_with(retries);
    let once = half_done(&shop, map);
    while shop.work_once() {}
    drop(once.into_inner().results());
    let before = Before::now();
    let mapping = half_done(&shop, map);
    broken.into_iter().for_each(internals::break_rule);
    let report = stepped(
        &shop,
        |shop| assert!(shop.work_once()),
        || {
            let retries_expected = expected_retries(&mapping.borrow(), retries);
            while shop.work_once() {}
            let (done, failed, retried) = mapping.borrow().counts();
            let results = mapping.borrow_mut().results().map_err(|e| e.to_string())?;
            ensure!(good(&results), "wrong results");
            let errors = results.iter().filter(|result| result.is_err()).count();
            ensure!(
                (done, failed) == (3, errors as u32),
                "{failed} of {done} failed, and there are {errors} errors"
            );
            ensure!(retried == retries_expected, "{retried} retries, not {retries_expected}");
            drop(results);
            ensure!(shop.is_empty(), "a cell is not free");
            before.is_back()
        },
    );
    std::mem::forget(mapping);
    report
}

fn texts_gone_on_with(broken: Option<Rule>) -> Report {
    let good = |results: &Results<String>| {
        let expected = [1, 2, 3].map(fragile_text);
        results.iter().zip(&expected).filter(|(result, text)| result.as_ref() == Ok(*text)).count() == 3
    };
    let map: Map<String> = |shop| shop.map(fragile_text, vec![1, 2, 3]);
    gone_on_with(2, map, broken, good)
}

#[test]
fn a_dead_worker_s_chunk_can_be_continued() {
    isolated!({
        assert_finished(&texts_gone_on_with(None));
    });
}

#[test]
fn without_the_rule_a_chunk_is_not_continued() {
    isolated!({
        texts_gone_on_with(Some(Rule::TaskReturned)).assert_broken();
    });
}

fn last_attempts(broken: Option<Rule>) -> Report {
    let good = |results: &Results<u64>| {
        let died = |at: usize| matches!(results[at], Err(TaskError::WorkerDied { .. }));
        // The victim's own death is the last attempt of the third item.
        results.len() == 3 && results[0] == Ok(2) && died(1) && (results[2] == Ok(4) || died(2))
    };
    let map: Map<u64> = |shop| shop.map(fragile_number, vec![1, 2, 3]);
    gone_on_with(0, map, broken, good)
}

#[test]
fn an_item_without_attempts_left_fails_alone() {
    isolated!({
        assert_finished(&last_attempts(None));
    });
}

#[test]
fn without_the_rule_a_failure_is_counted_twice() {
    isolated!({
        last_attempts(Some(Rule::CountedOnce)).assert_broken();
    });
}

#[test]
fn without_the_rule_a_retry_is_counted_twice() {
    isolated!({
        texts_gone_on_with(Some(Rule::CountedOnce)).assert_broken();
    });
}

/// The victim submits one task more than there are cells. After its death, the task can be done or was never
/// submitted, and another task can be submitted.
fn room_is_made() -> Report {
    arena();
    open([VICTIM]);
    let shop = ManualPool::new(0).expect("a workshop");
    let mut tasks = vec![shop.submit(small, (1, 2)).expect("submitted")];
    tasks.extend((1..shop.cells()).map(|_| shop.submit(small, (1, 2)).expect("submitted")));
    let (cells, spans) = (shop.cells(), internals::census().large_spans);
    let report = stepped(
        &shop,
        |shop| std::mem::forget(shop.submit(small, (3, 4))),
        || {
            let next = shop.submit(small, (5, 6)).map_err(|e| e.to_string())?;
            while shop.work_once() {}
            ensure!(next.try_get() == Ok(11) && shop.cells() > cells, "the next task is not done");
            let now = internals::census().large_spans;
            ensure!(now == spans + 2, "{now} spans, where there were {spans}");
            Ok(())
        },
    );
    std::mem::forget(tasks);
    report
}

#[test]
fn cells_can_be_added() {
    isolated!({
        assert_finished(&room_is_made());
    });
}

#[test]
fn without_the_rule_added_cells_are_swept_with_their_creator() {
    isolated!({
        internals::break_rule(Rule::ChunkAdopted);
        room_is_made().assert_broken();
    });
}

/// The victim works for a pool whose creator has just died.
#[test]
fn a_task_ends_with_its_pool_although_its_worker_dies_later() {
    isolated!({
        let shop = workshop();
        let task = shop.submit(small, (3, 4)).expect("submitted");
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            let shop = shop.held_here().expect("its own handle");
            gate.begin();
            shop.work_once();
            gate.end();
            std::mem::forget(shop);
        };
        let report = CrashStep::new(arena()).run(victim, |_| {
            shop.end();
            internals::recover(VICTIM);
            let got = task.try_get();
            ensure!(matches!(got, Ok(7) | Err(TaskError::Terminated)), "{got:?}");
            Ok(())
        });
        assert_finished(&report);
        std::mem::forget(task);
    });
}

/// The victim submits a task, sends it, and dies.
fn sent() -> Report {
    let shop = workshop();
    let queue = Queue::<Task<u32>>::bounded(4).expect("a queue");
    let report = stepped(
        &shop,
        |shop| {
            internals::inherit_handles(0);
            let task = shop.submit(small, (3, 4)).expect("submitted");
            queue.put(task).expect("put");
        },
        || {
            let got = queue.try_get();
            while shop.work_once() {}
            match got {
                Ok(task) => ensure!(task.try_get() == Ok(7), "{:?}", task.try_get()),
                Err(e) => ensure!(matches!(e, procession::queue::GetError::Empty), "{e:?}"),
            }
            Ok(())
        },
    );
    std::mem::forget(queue);
    report
}

#[test]
fn a_sent_task_exists() {
    isolated!({
        assert_finished(&sent());
    });
}

#[test]
fn without_the_rule_a_sent_task_is_freed() {
    isolated!({
        internals::break_rule(Rule::TaskShared);
        sent().assert_broken();
    });
}

/// The victim creates a pool and drops it.
fn made() -> Report {
    let shop = workshop();
    drop(ManualPool::new(1).and_then(|another| another.owner()).expect("a pool"));
    let before = Before::now();
    stepped(
        &shop,
        |_| {
            let another = ManualPool::new(1).expect("a workshop");
            drop(another.owner().expect("a pool"));
        },
        || before.is_back(),
    )
}

#[test]
fn a_pool_can_be_created_and_dropped() {
    isolated!({
        assert_finished(&made());
    });
}

#[test]
fn without_the_rule_a_new_pool_leaks() {
    isolated!({
        internals::break_rule(Rule::ObjectIntent);
        made().assert_broken();
    });
}

/// The victim raises the number of workers. If it has raised the number, the keeper and the workers are
/// notified.
fn resized() -> Report {
    let shop = workshop();
    let (keeper, worker) = (shop.keeper_looks(), shop.worker_looks().expect("nothing to do"));
    stepped(
        &shop,
        |shop| shop.resize(3),
        || {
            let told = shop.keeper_knows(&keeper) && shop.worker_knows(&worker);
            ensure!(told || shop.workers() != 3, "neither the keeper nor a worker was notified");
            Ok(())
        },
    )
}

#[test]
fn a_pool_can_be_resized() {
    isolated!({
        assert_finished(&resized());
    });
}

#[test]
fn without_the_rule_a_resize_goes_unnoticed() {
    isolated!({
        internals::break_rule(Rule::KeeperNotified);
        resized().assert_broken();
    });
}
