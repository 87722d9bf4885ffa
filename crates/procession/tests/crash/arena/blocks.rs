//! A process is killed at every instruction of allocating memory, filling it, transferring it and freeing it.

use crate::support;
use crate::support::{Before, Diary, OTHER, THIRD, VECTORS, VICTIM, arena, assert_finished, done_by, open};
use procession::internals::{self, Rule};
use procession_testkit::{CrashStep, Gate, Report, isolated};

/// Block sizes whose spans hold few blocks, so that opening a span takes few steps. The last two are runs of spans.
const SIZES: [u64; 5] = [3 << 10, 10_000, 30_000, 40 << 10, 200 << 10];

const RUN: u64 = 200 << 10;

fn begin() -> Before {
    arena();
    open([VICTIM, OTHER, THIRD]);
    Before::now()
}

/// Kills the victim at every instruction of `operation`, which the victim runs on the result of `prepare`.
/// After each death the arena must be in the state `before`.
fn step<P>(before: &Before, prepare: impl Fn() -> P, operation: impl Fn(P)) -> Report {
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        let prepared = prepare();
        gate.begin();
        operation(prepared);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| before.is_back_without(VICTIM));
    println!("{report}");
    report
}

fn reserve(bytes: u64) -> u64 {
    internals::reserve(bytes).expect("a block")
}

#[test]
fn a_block_of_a_new_span_can_be_allocated_and_freed() {
    isolated!({
        let before = begin();
        for bytes in SIZES {
            assert_finished(&step(&before, || (), |()| internals::free(reserve(bytes))));
            open([VICTIM]);
        }
    });
}

#[test]
fn a_block_of_an_own_span_can_be_allocated_and_freed() {
    isolated!({
        let before = begin();
        for bytes in [1, 100, 3 << 10] {
            let operation = |first| {
                let second = reserve(bytes);
                internals::free(first);
                internals::free(second);
            };
            assert_finished(&step(&before, || reserve(bytes), operation));
        }
    });
}

/// A cached free run is allocated by a single store, and returned to the cache by a single store.
#[test]
fn a_cached_run_can_be_allocated_and_freed() {
    isolated!({
        let report = step(&begin(), keep_a_run, |()| {
            let run = reserve(RUN);
            assert_eq!(internals::kept_spans(), 0, "the cached run is allocated");
            internals::free(run);
            assert_eq!(internals::kept_spans(), 4);
        });
        assert_finished(&report);
    });
}

/// A run is freed and allocated again between many other allocations, as happens to a segment of a long
/// queue. When it is freed once more, the victim must be able to allocate it from the cache.
#[test]
fn a_cached_run_can_be_allocated_after_many_others() {
    isolated!({
        let _open = begin();
        let first = reserve(RUN);
        let others: Vec<u64> = (0..70).map(|_| reserve(RUN)).collect();
        internals::free(first);
        assert_eq!(reserve(RUN), first);
        others.into_iter().for_each(internals::free);
        internals::release_kept();
        internals::free(first);
        let report = step(
            &Before::now(),
            || (),
            |()| {
                assert_eq!(reserve(RUN), first);
                assert_eq!(internals::kept_spans(), 0, "the cached run is allocated");
                internals::free(first);
            },
        );
        assert_finished(&report);
    });
}

/// When the cache is full, a freed run replaces another run, which returns to the kernel.
#[test]
fn a_freed_run_replaces_another_in_the_cache() {
    isolated!({
        let prepare = || {
            keep_a_run();
            internals::keep_no_more();
        };
        let report = step(&begin(), prepare, |()| {
            internals::free(reserve(40 << 10));
            assert_eq!(internals::kept_spans(), 1, "a run of one span replaced a run of four");
        });
        assert_finished(&report);
    });
}

#[test]
fn cached_runs_can_be_freed() {
    isolated!({
        let report = step(&begin(), keep_a_run, |()| {
            assert_eq!((internals::release_kept(), internals::kept_spans()), (4, 0));
        });
        assert_finished(&report);
    });
}

#[test]
fn without_the_rule_an_untouched_cached_run_leaks() {
    isolated!({
        internals::break_rule(Rule::TouchedFirst);
        step(&begin(), keep_a_run, |()| internals::free(reserve(RUN))).assert_broken();
    });
}

fn keep_a_run() {
    internals::free(reserve(RUN));
    assert_eq!(internals::kept_spans(), 4);
}

#[test]
fn a_full_span_can_be_followed_by_another() {
    isolated!({
        let before = begin();
        let report = step(
            &before,
            || [reserve(30_000), reserve(30_000)],
            |[first, _]| {
                let third = reserve(30_000);
                internals::free(first);
                assert_eq!(reserve(30_000) >> 16, third >> 16, "the span in use is searched first");
                assert_eq!(reserve(30_000), first);
            },
        );
        assert_finished(&report);
    });
}

#[test]
fn empty_spans_can_be_freed() {
    isolated!({
        let before = begin();
        // A span holds two such blocks. One of the two stays allocated.
        let report = step(
            &before,
            || [(); 6].map(|()| reserve(30_000)),
            |blocks| {
                blocks.into_iter().for_each(internals::free);
                internals::trim();
                let spans = internals::census().small_spans;
                assert_eq!(spans.iter().filter(|(_, by)| *by == VICTIM).count(), 1);
            },
        );
        assert_finished(&report);
    });
}

#[test]
fn a_value_can_be_packed() {
    isolated!(env = VECTORS, {
        let before = begin();
        for bytes in [0, 100, 3000, 70_000] {
            // The memory contains another value first, because the checker skips instructions that do not
            // change memory.
            let (value, another) = (vec![7u8; bytes], vec![8u8; bytes]);
            let report = step(
                &before,
                || internals::free(internals::pack(&another).expect("a block")),
                |()| {
                    let block = internals::pack(&value).expect("a block");
                    assert_eq!(block == 0, value.is_empty());
                    internals::free(block);
                },
            );
            report.assert_sound();
            assert!(report.points > bytes as u64 / 64, "{report}");
        }
    });
}

/// All memory is in spans for blocks of one size, and no block is allocated. These spans are freed.
#[test]
fn empty_spans_can_be_reused_for_another_size() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 2 << 20)], {
        let before = begin();
        for bytes in [10_000, RUN] {
            let fill = || {
                let taken: Vec<u64> = std::iter::from_fn(|| internals::reserve(30_000).ok()).collect();
                assert!(taken.len() > 10, "room for {} blocks", taken.len());
                taken.into_iter().for_each(internals::free);
            };
            assert_finished(&step(&before, fill, |()| internals::free(reserve(bytes))));
            open([VICTIM]);
        }
    });
}

#[test]
fn without_the_rule_an_untouched_block_leaks() {
    isolated!({
        internals::break_rule(Rule::TouchedFirst);
        let before = begin();
        for bytes in [30_000, RUN] {
            let report = step(&before, || (), |()| internals::free(reserve(bytes)));
            report.assert_broken();
            assert!(report.failures.iter().all(|failure| failure.why.contains("spans")), "{report}");
        }
    });
}

#[test]
fn without_the_rule_an_unfinished_run_leaks() {
    isolated!({
        internals::break_rule(Rule::UnfinishedRunSwept);
        step(&begin(), || (), |()| internals::free(reserve(RUN))).assert_broken();
    });
}

/// The victim transfers a block. Afterwards the block belongs either to the victim or to the receiver, and
/// its content is complete.
#[test]
fn a_block_can_be_transferred_to_another_process() {
    isolated!({
        let before = begin();
        let text = "apples and pears".to_owned();
        for run in [false, true] {
            let diary = Diary::new();
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                let block = if run { reserve(RUN) } else { internals::pack(&text).expect("a block") };
                diary.write(0, block);
                gate.begin();
                assert!(internals::hand_over(block, OTHER));
                gate.end();
            };
            let report = CrashStep::new(arena()).run(victim, |point| {
                internals::recover(VICTIM);
                support::nothing_in(VICTIM)?;
                let (blocks, block) = (internals::census().blocks, diary.read(0));
                ensure!(!point.finished || blocks.len() == 1, "the block was transferred: {blocks:x?}");
                if let Some(&(at, _)) = blocks.first() {
                    ensure!(blocks.len() == 1 && at == block, "{blocks:x?} instead of {block:x}");
                    ensure!(run || internals::unpack::<String>(at).as_ref() == Ok(&text), "its content");
                }
                before.is_back_without(OTHER)
            });
            assert_finished(&report);
            [VICTIM, OTHER].into_iter().for_each(internals::recover);
            open([VICTIM, OTHER]);
        }
    });
}

/// A span whose owner is dead contains a block of another process.
#[test]
fn a_span_of_a_dead_process_can_be_adopted() {
    isolated!({
        begin();
        done_by(THIRD, || u64::from(internals::hand_over(reserve(10_000), OTHER)));
        internals::recover(THIRD);
        let before = Before::now();
        let spans = &before.0.small_spans;
        assert_eq!((spans.len(), spans[0].1, before.0.blocks.len()), (1, internals::NOBODY, 1));
        let report = step(&before, || (), |()| assert_eq!(reserve(10_000) >> 16, before.0.blocks[0].0 >> 16));
        assert_finished(&report);
    });
}

/// The victim frees a block in the span of a process that lives on.
#[test]
fn a_block_in_another_process_s_span_can_be_freed() {
    isolated!({
        for bytes in [10_000, RUN] {
            begin();
            let block = done_by(OTHER, || {
                let block = reserve(bytes);
                assert!(internals::hand_over(block, VICTIM));
                block
            });
            let mut before = Before::now();
            before.0.blocks.clear();
            before.0.large_spans = 0;
            assert_finished(&step(&before, || block, internals::free));
            internals::recover(OTHER);
        }
    });
}

/// Two processes allocate memory at the same time. Neither gets the other's block, whichever of them dies.
#[test]
fn two_processes_can_allocate_at_the_same_time() {
    isolated!({
        for (mine, theirs) in [(RUN, RUN), (RUN, 30_000), (30_000, RUN), (30_000, 30_000)] {
            let before = begin();
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                gate.begin();
                internals::free(reserve(mine));
                gate.end();
            };
            let other = || {
                internals::become_member(OTHER);
                reserve(theirs);
            };
            let recover = || internals::recover(VICTIM);
            let report = CrashStep::new(arena()).run_pairwise(victim, other, recover, |_| {
                support::nothing_in(VICTIM)?;
                let now = internals::census();
                let spans = if theirs == RUN { (4, 0) } else { (0, 1) };
                ensure!(now.blocks.len() == 1, "the other's block is one of {:x?}", now.blocks);
                ensure!((now.large_spans, now.small_spans.len()) == spans, "the other's spans: {now:x?}");
                before.is_back_without(OTHER)
            });
            println!("{report}");
            assert_finished(&report);
            internals::recover(VICTIM);
        }
    });
}
