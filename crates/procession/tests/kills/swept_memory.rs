//! A sweep that frees a run can return another, cached run to the kernel in the name of the dead process.
//! That sets marks in the process's slot, and these marks must not stay. Otherwise the slot's next process
//! would find its mark already set. The sweep after that process's death would then not search there.

use crate::support::{Before, VICTIM, arena, assert_finished, done_by, nothing_in, nothing_is_hidden, open};
use procession::internals::{self, Rule};
use procession::sync::Barrier;
use procession_testkit::{CrashStep, Gate, isolated};

/// The size of a run of four spans.
const RUN: u64 = 200 << 10;
/// The size of a run of three spans.
const OTHER_RUN: u64 = 150 << 10;

/// Main's run is cached, and the victim owns a run behind it. To cache the victim's run, the victim's sweep
/// must return main's run to the kernel. Returns where main's run begins.
fn a_death_behind_a_kept_run() -> u64 {
    open([VICTIM]);
    let low = internals::reserve(RUN).expect("a block");
    done_by(VICTIM, || internals::reserve(RUN).expect("a block"));
    internals::free(low);
    assert_eq!(internals::kept_spans(), 4);
    internals::keep_no_more();
    low
}

/// Returns the blocks that belong to the process in the victim's slot, found by their tags.
fn of_the_victim() -> Vec<u64> {
    let blocks = internals::census().blocks.into_iter();
    blocks.filter(|&(_, tag)| tag & !(1 << 27) == 1 << 28 | VICTIM).map(|(at, _)| at).collect()
}

/// The next process in the slot allocates a run where the cached run was, and dies. Returns the blocks that
/// its recovery leaves.
fn a_second_life() -> Vec<u64> {
    let second = done_by(VICTIM, || internals::reserve(OTHER_RUN).expect("a block"));
    assert_eq!(of_the_victim(), [second]);
    internals::recover(VICTIM);
    of_the_victim()
}

#[test]
fn memory_of_a_slot_s_second_process_is_freed() {
    isolated!({
        arena();
        a_death_behind_a_kept_run();
        internals::recover(VICTIM);
        assert_eq!(nothing_in(VICTIM), Ok(()));
        assert_eq!(a_second_life(), []);
        assert_eq!(nothing_in(VICTIM), Ok(()));
    });
}

/// The control: without the rule, recovery leaves the second process's block. The audit detects the cause
/// before that.
#[test]
fn without_the_rule_a_lost_mark_hides_the_next_process() {
    isolated!({
        arena();
        internals::break_rule(Rule::LineDrained);
        a_death_behind_a_kept_run();
        internals::recover(VICTIM);
        let left =
            nothing_in(VICTIM).expect_err("either the rule is unnecessary, or this test does not cover it");
        assert!(left.contains("touched span"), "{left}");
        let hidden = nothing_is_hidden().expect_err("a span is hidden");
        assert!(hidden.contains("without a mark"), "{hidden}");
        assert_eq!(a_second_life().len(), 1);
        let left = nothing_in(VICTIM).expect_err("a block is left");
        assert!(left.contains("owns block"), "{left}");
    });
}

/// A recovery that returns a cached run is killed at every instruction. Then another recovery starts from the
/// beginning.
#[test]
fn a_sweep_that_frees_a_cached_run_may_die() {
    isolated!({
        arena();
        open([VICTIM]);
        let before = Before::now();
        a_death_behind_a_kept_run();
        let recovery = |gate: &Gate| {
            gate.begin();
            internals::recover(VICTIM);
            gate.end();
        };
        let report = CrashStep::new(arena()).run(recovery, |_| {
            internals::recover(VICTIM);
            nothing_in(VICTIM)?;
            before.is_back()
        });
        println!("{report}");
        assert_finished(&report);
    });
}

/// A process dies before it has decoded its arguments, which contain a barrier's handle. If `with_a_first`,
/// it is the second process in its slot. Its arguments are then stored where the first process's sweep
/// returned a run. Returns whether the barrier is broken.
fn breaks_a_barrier(with_a_first: bool) -> bool {
    arena();
    let barrier = Barrier::new(2).expect("a barrier");
    let low =
        if with_a_first { a_death_behind_a_kept_run() } else { internals::reserve(1).expect("a block") };
    if with_a_first {
        internals::recover(VICTIM);
    }
    let arguments = || internals::pack(&(barrier.clone(), vec![0u8; 30_000])).expect("a block");
    // Fills the memory in front of the intended place.
    let mut blocks = std::iter::repeat_with(arguments).take(1000);
    let block = blocks.find(|&at| at >= low && (at < low + (64 << 10) || !with_a_first)).expect("the place");
    open([VICTIM]);
    assert!(internals::hand_over(block, VICTIM));
    internals::recover(VICTIM);
    assert_eq!(of_the_victim(), []);
    barrier.is_broken()
}

#[test]
fn a_barrier_breaks_when_a_slot_s_second_process_dies() {
    isolated!({
        assert!(breaks_a_barrier(true), "the barrier was not notified");
    });
}

#[test]
fn a_barrier_breaks_when_a_slot_s_first_process_dies() {
    isolated!({
        assert!(breaks_a_barrier(false), "the barrier was not notified");
    });
}
