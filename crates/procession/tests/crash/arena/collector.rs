//! The collector is killed at every instruction, and runs while handles move.

use crate::support::{
    Before, Diary, OTHER, THIRD, VICTIM, arena, assert_finished, done_by, go_on, lock_for_the_victim, open,
    own_a_span,
};
use procession::internals::{self, Rule};
use procession::{Lock, Process};
use procession_testkit::{Child, CrashStep, Gate, isolated, run_until};

/// A process moves the only handle to an object out of one block and into another. At every instruction of
/// that process, the collector makes a pass.
#[test]
fn the_collector_can_run_while_a_handle_moves() {
    isolated!({
        arena();
        open([VICTIM]);
        let before = Before::now();
        let block = lock_for_the_victim(OTHER);
        internals::recover(OTHER);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            own_a_span();
            gate.begin();
            let lock: Lock = internals::unpack(block).expect("the lock");
            internals::free(block);
            let next = internals::pack(&lock).expect("a block");
            drop(lock);
            gate.end();
            let lock: Lock = internals::unpack(next).expect("the lock is still there");
            std::mem::forget(lock);
        };
        let pass = || {
            internals::collect_as_supervisor();
            assert_eq!(internals::census().objects, 1, "the lock was held all the time");
        };
        let report = CrashStep::new(arena()).run_pairwise(
            victim,
            pass,
            || internals::recover(VICTIM),
            |_| before.is_back(),
        );
        println!("{report}");
        assert_finished(&report);
    });
}

/// Large, so that a span holds few such blocks. A pass examines each block of a span.
const LARGE: usize = 20_000;

/// Stops a collector at its `at`-th instruction while another process moves the only handle to a lock from
/// itself into a block. Then the collector continues. Returns the collector's number of instructions, and
/// whether the lock still exists.
fn move_during_a_pass(at: u64) -> (u64, bool) {
    open([VICTIM, OTHER]);
    let (diary, mut steps) = (Diary::new(), 0);
    let mut mover = Child::spawn(|| {
        internals::become_member(OTHER);
        let sent = (Lock::new().expect("a lock"), vec![7u8; LARGE]);
        internals::free(internals::pack(&sent).expect("a block"));
        diary.write(0, 1);
        diary.wait(1, 1);
        let block = internals::pack(&sent).expect("a block");
        drop(sent);
        diary.write(2, block);
    });
    diary.wait(0, 1);
    let mut collector = run_until(
        |gate: &Gate| {
            gate.begin();
            internals::collect_as_supervisor();
            gate.end();
        },
        |point| {
            steps = point.step;
            point.finished || point.step >= at
        },
    );
    diary.write(1, 1);
    assert_eq!(mover.wait(), 0, "{}", mover.text());
    go_on(&collector);
    assert_eq!(collector.wait(), 0, "{}", collector.text());
    let alive = internals::unpack::<(Lock, Vec<u8>)>(diary.read(2)).is_ok();
    [VICTIM, OTHER].into_iter().for_each(internals::recover);
    internals::collect();
    (steps, alive)
}

/// Stops a pass at some of its instructions. Returns at how many of them a move loses the object.
fn moves_that_lose_the_object() -> usize {
    arena();
    let (steps, _) = move_during_a_pass(u64::MAX);
    assert!(steps > 100);
    let lost = (0..12).filter(|n| !move_during_a_pass(steps * n / 12).1).count();
    println!("{steps} steps, {lost} of 12 moves lose it");
    lost
}

#[test]
fn an_object_whose_handle_moves_during_a_pass_is_not_freed() {
    isolated!({
        assert_eq!(moves_that_lose_the_object(), 0);
    });
}

#[test]
fn without_the_touch_an_object_whose_handle_moves_is_lost() {
    isolated!({
        internals::break_rule(Rule::Touch);
        assert_ne!(moves_that_lose_the_object(), 0);
    });
}

/// The supervisor is killed while it frees objects without handles: a lock, and a process with a large result.
#[test]
fn a_killed_collector_leaves_nothing_half_freed() {
    isolated!({
        arena();
        open([VICTIM]);
        let before = Before::now();
        internals::open_spare(THIRD);
        internals::adopt_working_directory();
        done_by(OTHER, || {
            let process = Process::spawn(|| (), ()).expect("the spare takes it");
            let sent = (process, Lock::new().expect("a lock"), vec![7u8; LARGE]);
            internals::free(internals::pack(&sent).expect("a block"));
            std::mem::forget(sent);
            0
        });
        done_by(THIRD, || {
            internals::give_result(THIRD, internals::reserve(200 << 10).expect("a block"));
            0
        });
        [OTHER, THIRD].into_iter().for_each(internals::recover);
        let garbage = internals::census();
        assert_eq!((garbage.objects, garbage.holdings.len(), garbage.large_spans), (2, 0, 4));
        let victim = |gate: &Gate| {
            gate.begin();
            internals::collect_as_supervisor();
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |_| {
            internals::recover_supervisor();
            internals::collect_as_supervisor();
            before.is_back()
        });
        println!("{report}");
        assert_finished(&report);
        assert_eq!(internals::census().objects, 0);
    });
}
