//! The recovery of a queue is itself killed at every instruction, and another recovery starts from the beginning.

use crate::support;
use std::cell::Cell;

use crate::support::line::{Line, Mixed, Numbered, become_victim, drain, put_all};
use crate::support::{VECTORS, VICTIM, arena, assert_finished};
use procession::Queue;
use procession::internals::{self, End, Rule};
use procession_testkit::{CrashStep, Gate, Report, isolated, run_until};

const NEW: u64 = 20;

/// Kills the victim in the middle of `operation`, as soon as `far` returns true. `far` receives the queue's
/// number of blocks before the operation and now. Then kills the victim's recovery at every instruction, and
/// recovers again. In the end the queue must hold `left`.
fn recover_twice<T: Numbered, P>(
    line: Line<T>,
    prepare: impl Fn() -> P,
    operation: impl Fn(&Queue<T>, P),
    far: impl Fn(&Queue<T>, usize, usize) -> bool,
    left: &[u64],
) {
    let blocks = || internals::queue_blocks(line.queue()).0.len();
    let before = Cell::new(None);
    let mut victim = run_until(
        |gate: &Gate| {
            become_victim();
            let prepared = prepare();
            gate.begin();
            operation(line.queue(), prepared);
            gate.end();
        },
        |_| {
            let now = blocks();
            let before = before.get().unwrap_or_else(|| (before.set(Some(now)), now).1);
            far(line.queue(), before, now)
        },
    );
    victim.kill();
    let recovery = |gate: &Gate| {
        gate.begin();
        internals::recover(VICTIM);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(recovery, |_| {
        internals::recover(VICTIM);
        support::nothing_in(VICTIM)?;
        line.holds(left)
    });
    println!("{report}");
    assert_finished(&report);
    assert!(line.is_whole().is_ok());
}

/// Does the same with segments that are runs. Other processes may allocate such a run as soon as it is free.
/// What they write there looks like records that lead to a segment in use.
fn before_a_commit_in_a_new_run() -> Report {
    let line = Line::<Vec<u32>>::new(|| Queue::bounded(1100), |queue| put_all(queue, 1..=104));
    let owned = || internals::queue_blocks(line.queue()).0;
    let before = owned();
    let mut victim = run_until(
        |gate: &Gate| {
            become_victim();
            let item = <Vec<u32> as Numbered>::new(NEW);
            gate.begin();
            drop(line.queue().put(item));
            gate.end();
        },
        |_| owned().len() > before.len(),
    );
    victim.kill();
    let grown = owned().into_iter().find(|block| !before.contains(block)).expect("a new segment");
    let (in_use, _) = internals::queue_place(line.queue(), End::Consumers);
    let recovery = |gate: &Gate| {
        gate.begin();
        internals::recover(VICTIM);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(recovery, |_| {
        let lies = lie_at(grown, in_use - HEADER);
        internals::recover(VICTIM);
        lies.into_iter().for_each(internals::free);
        support::nothing_in(VICTIM)?;
        line.holds(&line.held)
    });
    println!("{report}");
    report
}

#[test]
fn without_the_rule_recovery_frees_blocks_too_early() {
    isolated!(env = VECTORS, {
        internals::break_rule(Rule::UncommittedKept);
        before_a_commit_in_a_new_run().assert_broken();
    });
}

/// The number of bytes in a block before its contents, and the size of the first segment that is a run.
const HEADER: u64 = 16;
const FIRST_RUN: usize = 2 << 16;

/// Allocates the run at `block` if it is free, and fills it with records that name the block `named`.
fn lie_at(block: u64, named: u64) -> Vec<u64> {
    internals::release_kept();
    let record = [8 << 8 | 2, named]; // a message in a block of its own: see `ring/record.rs`
    let lies: Vec<u64> = record.into_iter().cycle().take((FIRST_RUN - HEADER as usize) / 8).collect();
    let mut taken = Vec::new();
    while taken.last() != Some(&block) && taken.len() < 3 {
        taken.push(internals::pack(&lies).expect("a block"));
    }
    taken
}

/// The queue already owns some new blocks, and no item is committed yet.
fn before_a_commit() {
    recover_twice(
        Line::<Mixed>::with([1]),
        || (NEW..NEW + 6).map(Mixed::new).collect::<Vec<_>>(),
        |queue, items| drop(queue.put_many(items)),
        |_, before, now| now == before + 3,
        &[1],
    );
}

/// The queue has grown, and no item is committed yet.
fn before_a_commit_in_a_new_segment() {
    recover_twice(
        Line::<Vec<u32>>::with([1, 2, 3]),
        || Vec::<u32>::from([NEW as u32; 100]),
        |queue, item| drop(queue.put(item)),
        |_, before, now| now == before + 1,
        &[1, 2, 3],
    );
}

/// Every item is committed, and the producers' cursor has not passed the items yet.
fn after_a_commit() {
    recover_twice(
        Line::<Mixed>::with([]),
        || [Mixed::new(22), Mixed::new(23)],
        |queue, items| drop(queue.put_many(items)),
        |queue, _, _| has_come(queue),
        &[22, 23],
    );
}

/// Reports whether a consumer would find an item that the producers' cursor has not passed yet.
fn has_come<T>(queue: &Queue<T>) -> bool {
    let (consumer, producer) =
        (internals::queue_place(queue, End::Consumers), internals::queue_place(queue, End::Producers));
    // The control block, a segment, and at least one message.
    consumer == producer && internals::queue_blocks(queue).1.len() > 2
}

/// The victim already owns some messages, and no item is committed as taken yet.
fn before_a_get() {
    recover_twice(
        Line::<Mixed>::with(1..=6),
        || (),
        |queue, ()| drop(queue.get_many(6)),
        |_, before, now| now + 2 == before,
        &[1, 2, 3, 4, 5, 6],
    );
}

/// The victim already owns the old segment, which it is about to free.
fn while_a_segment_is_freed() {
    let line = Line::<Vec<u32>>::new(
        || Queue::bounded(20),
        |queue| {
            put_all(queue, 1..=5);
            (0..3).for_each(|_| drop(queue.get().expect("an item")));
            vec![4, 5]
        },
    );
    recover_twice(line, || (), |queue, ()| drop(queue.get()), |_, before, now| now < before, &[4, 5]);
}

/// The queue is closed, and no sleeper has been notified.
fn after_a_close() {
    let line = Line::<u64>::with([]);
    let victim = |gate: &Gate| {
        become_victim();
        gate.begin();
        line.queue().close().expect("the queue can be closed");
        gate.end();
    };
    run_until(victim, |_| line.queue().is_closed()).kill();
    let recovery = |gate: &Gate| {
        gate.begin();
        internals::recover(VICTIM);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(recovery, |_| {
        internals::recover(VICTIM);
        support::nothing_in(VICTIM)?;
        line.is_whole()?;
        ensure!(line.queue().is_closed() && drain(line.queue()).is_empty(), "the queue is open");
        line.end()
    });
    assert_finished(&report);
}

tests! {
    recovery_can_be_repeated_before_a_commit = before_a_commit();
    recovery_can_be_repeated_before_a_commit_in_a_new_segment = before_a_commit_in_a_new_segment();
    recovery_can_be_repeated_before_a_commit_in_a_new_run = assert_finished(&before_a_commit_in_a_new_run());
    recovery_can_be_repeated_after_a_commit = after_a_commit();
    recovery_can_be_repeated_before_a_get = before_a_get();
    recovery_can_be_repeated_while_a_segment_is_freed = while_a_segment_is_freed();
    recovery_can_be_repeated_after_a_close = after_a_close();
}
