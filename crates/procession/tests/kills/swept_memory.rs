//! A sweep that frees a run can give another run back to the kernel, in the name of the dead process. What that marks
//! must not stay: the slot's next process would find the mark set, and its own sweep would not look there.

use crate::support::{Before, VICTIM, arena, assert_finished, done_by, nothing_in, nothing_is_hidden, open};
use procession::internals::{self, Rule};
use procession::sync::Barrier;
use procession_testkit::{CrashStep, Gate, isolated};

/// Four spans.
const RUN: u64 = 200 << 10;
/// Three spans.
const OTHER_RUN: u64 = 150 << 10;

/// A run of main is kept, and the victim's sweep must give it back to keep the victim's own run, which lies behind it.
/// Returns where the kept run begins.
fn a_death_behind_a_kept_run() -> u64 {
    open([VICTIM]);
    let low = internals::reserve(RUN).expect("a block");
    done_by(VICTIM, || internals::reserve(RUN).expect("a block"));
    internals::free(low);
    assert_eq!(internals::kept_spans(), 4);
    internals::keep_no_more();
    low
}

/// Blocks that belong to the process of the victim's slot, found by their tags.
fn of_the_victim() -> Vec<u64> {
    let blocks = internals::census().blocks.into_iter();
    blocks.filter(|&(_, tag)| tag & !(1 << 27) == 1 << 28 | VICTIM).map(|(at, _)| at).collect()
}

/// The slot's next process takes a run where the kept one was, and dies. Returns what is left of it.
fn a_second_life() -> Vec<u64> {
    let second = done_by(VICTIM, || internals::reserve(OTHER_RUN).expect("a block"));
    assert_eq!(of_the_victim(), [second]);
    internals::recover(VICTIM);
    of_the_victim()
}

#[test]
fn the_memory_of_a_slots_second_process_is_given_back() {
    isolated!({
        arena();
        a_death_behind_a_kept_run();
        internals::recover(VICTIM);
        assert_eq!(nothing_in(VICTIM), Ok(()));
        assert_eq!(a_second_life(), []);
        assert_eq!(nothing_in(VICTIM), Ok(()));
    });
}

/// Control: without the rule the block of the second process is left, and the audit sees why before.
#[test]
fn a_line_that_loses_its_mark_too_early_hides_the_next_process() {
    isolated!({
        arena();
        internals::break_rule(Rule::LineDrained);
        a_death_behind_a_kept_run();
        internals::recover(VICTIM);
        let left = nothing_in(VICTIM).expect_err("the rule is not needed, or this test does not test it");
        assert!(left.contains("touched span"), "{left}");
        let hidden = nothing_is_hidden().expect_err("a span is hidden");
        assert!(hidden.contains("without a mark"), "{hidden}");
        assert_eq!(a_second_life().len(), 1);
        let left = nothing_in(VICTIM).expect_err("a block is left");
        assert!(left.contains("owns block"), "{left}");
    });
}

/// A recovery that gives a kept run back is killed at every instruction, and another one begins anew.
#[test]
fn a_sweep_that_gives_a_kept_run_back_may_die() {
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

/// A barrier whose handle is in the arguments of a process that dies before it looks at them: the second process of
/// its slot, whose arguments lie where the first one's sweep gave a run back.
fn breaks_a_barrier(with_a_first: bool) -> bool {
    arena();
    let barrier = Barrier::new(2).expect("a barrier");
    let low =
        if with_a_first { a_death_behind_a_kept_run() } else { internals::reserve(1).expect("a block") };
    if with_a_first {
        internals::recover(VICTIM);
    }
    let arguments = || internals::pack(&(barrier.clone(), vec![0u8; 30_000])).expect("a block");
    // What lies in front of the place is filled.
    let mut blocks = std::iter::repeat_with(arguments).take(1000);
    let block = blocks.find(|&at| at >= low && (at < low + (64 << 10) || !with_a_first)).expect("the place");
    open([VICTIM]);
    assert!(internals::hand_over(block, VICTIM));
    internals::recover(VICTIM);
    assert_eq!(of_the_victim(), []);
    barrier.is_broken()
}

#[test]
fn a_barrier_breaks_when_a_slots_second_process_dies() {
    isolated!({
        assert!(breaks_a_barrier(true), "the barrier was not notified");
    });
}

#[test]
fn a_barrier_breaks_when_a_slots_first_process_dies() {
    isolated!({
        assert!(breaks_a_barrier(false), "the barrier was not notified");
    });
}
