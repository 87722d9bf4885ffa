//! A process is killed at every instruction of creating an object, sending it and releasing it.
#![allow(unsafe_code, reason = "drops what a leaked box holds")]

use crate::support;
use crate::support::{
    Before, Diary, OTHER, State, THIRD, VICTIM, arena, assert_finished, lock, lock_for_the_victim, open,
    own_a_span, state,
};
use procession::internals::{self, Rule};
use procession::{Lock, Process};
use procession_testkit::{Child, CrashStep, Gate, Report, isolated};

/// Kills the victim at every instruction of `operation`. After each death the arena must be in the state
/// `before`.
fn step(before: &Before, operation: impl Fn()) -> Report {
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        own_a_span();
        gate.begin();
        operation();
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| before.is_back_without(VICTIM));
    println!("{report}");
    report
}

fn make_and_drop() {
    let first = Lock::new().expect("a lock");
    let second = Lock::labeled("with a name that takes some words to write down").expect("a lock");
    let third = first.clone();
    drop(first);
    drop(second);
    drop(third);
}

#[test]
fn an_object_can_be_created_and_dropped() {
    isolated!({
        arena();
        open([VICTIM]);
        let before = Before::now();
        assert_finished(&step(&before, make_and_drop));
        before.is_back_without(VICTIM).unwrap();
    });
}

#[test]
fn without_the_rule_an_object_named_by_no_record_leaks() {
    isolated!({
        arena();
        open([VICTIM]);
        internals::break_rule(Rule::ObjectIntent);
        let report = step(&Before::now(), make_and_drop);
        report.assert_broken();
        assert!(report.failures.iter().all(|failure| failure.why.contains("objects")), "{report}");
    });
}

#[test]
fn a_handle_can_be_packed_and_unpacked() {
    isolated!({
        arena();
        open([VICTIM]);
        let report = step(&Before::now(), || {
            let lock = Lock::new().expect("a lock");
            let block = internals::pack(&lock).expect("a block");
            drop(lock);
            let again: Lock = internals::unpack(block).expect("the lock");
            internals::free(block);
            drop(again);
        });
        assert_finished(&report);
    });
}

#[test]
fn the_last_handle_can_arrive_in_a_block() {
    isolated!({
        arena();
        open([VICTIM]);
        let before = Before::now();
        let block = lock_for_the_victim(OTHER);
        internals::recover(OTHER);
        let report = step(&before, || {
            let lock: Lock = internals::unpack(block).expect("the lock");
            internals::free(block);
            drop(lock);
        });
        assert_finished(&report);
    });
}

/// Another process holds the object, too. The object outlives the victim, and the victim has not changed it.
#[test]
fn an_object_with_another_holder_outlives_the_victim() {
    isolated!({
        arena();
        open([VICTIM]);
        let block = lock_for_the_victim(OTHER);
        let mine: Lock = internals::unpack(block).unwrap();
        let mut before = Before::now();
        let place = before.0.blocks.iter().position(|&(at, _)| at == block).expect("the victim's block");
        before.0.blocks.remove(place);
        let operation = || {
            let lock: Lock = internals::unpack(block).expect("the lock");
            internals::free(block);
            std::mem::forget(lock);
        };
        assert_finished(&step(&before, operation));
        assert_eq!((state(&mine), mine.name()), (State::Free, "passed on".to_owned()));
    });
}

/// Decodes a handle to a freed object whose place another object has taken. Encoded handles can be kept
/// longer than their objects exist.
#[test]
fn a_stale_handle_is_refused() {
    isolated!({
        arena();
        open([VICTIM]);
        let gone = lock();
        let block = internals::pack(gone).unwrap();
        let bytes: Vec<u8> = internals::unpack(block).unwrap();
        internals::free(block);
        // SAFETY: the box was leaked by `lock`, and no other code uses it.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(gone).cast_mut()) });
        internals::collect();
        assert_eq!(internals::census().objects, 0);
        let successor = Lock::labeled("the successor").unwrap();
        let stale = internals::pack(&bytes).unwrap();
        assert!(internals::hand_over(stale, OTHER), "main frees the block only at the end");
        open([OTHER]);
        let before = Before::now();
        let report = step(&before, || assert!(internals::unpack::<Lock>(stale).is_err()));
        assert_finished(&report);
        assert_eq!(successor.name(), "the successor");
        assert_eq!(state(&successor), State::Free);
    });
}

/// Two processes create objects at the same time, and one of them is killed.
#[test]
fn two_processes_can_create_objects_at_the_same_time() {
    isolated!({
        arena();
        open([VICTIM, OTHER]);
        let before = Before::now();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            make_and_drop();
            gate.end();
        };
        let other = || {
            internals::become_member(OTHER);
            let lock = Lock::new().expect("a lock");
            assert_eq!(state(&lock), State::Free);
            std::mem::forget(lock);
        };
        let report = CrashStep::new(arena()).run_pairwise(
            victim,
            other,
            || internals::recover(VICTIM),
            |_| {
                let objects = internals::census().holdings;
                ensure!(objects.len() == 1 && objects[0].0 == OTHER, "held: {objects:?}");
                before.is_back_without(OTHER)?;
                support::nothing_in(VICTIM)
            },
        );
        println!("{report}");
        assert_finished(&report);
    });
}

/// An object that was never sent is freed by the last process that releases it. Here the object owns blocks,
/// which are freed too.
#[test]
fn a_process_with_a_large_result_can_be_released() {
    isolated!({
        arena();
        internals::open_spare(THIRD);
        internals::adopt_working_directory();
        open([VICTIM]);
        let before = Before::now();
        let diary = Diary::new();
        let mut spawned = Child::spawn(|| {
            diary.wait(0, 1);
            internals::become_member(THIRD);
            internals::give_result(THIRD, internals::reserve(200 << 10).expect("a block"));
            internals::recover(THIRD);
            diary.write(0, 2);
        });
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            let process = Process::spawn(|| (), ()).expect("the spare takes it");
            diary.write(0, 1);
            diary.wait(0, 2);
            gate.begin();
            drop(process);
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |point| {
            let spans = internals::census().large_spans;
            ensure!((spans == 4) == (point.step == 0) || !point.finished, "{spans} spans at {point:?}");
            before.is_back_without(VICTIM)
        });
        assert_eq!(spawned.wait(), 0, "{}", spawned.text());
        println!("{report}");
        assert_finished(&report);
    });
}
