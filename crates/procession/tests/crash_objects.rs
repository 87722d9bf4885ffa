//! A process is killed at every instruction of making an object, passing it on and letting it go.
#![allow(unsafe_code, reason = "lets a traced process go on")]

mod support;

use procession::Lock;
use procession::internals::{self, Rule};
use procession_testkit::{Child, CrashStep, Gate, Outcome, Report, isolated, run_until};
use support::{Before, Diary, OTHER, State, THIRD, VICTIM, arena, lock, open, state, watched};

/// Has this process own a span for blocks that carry a handle: to make one has a test of its own.
/// Nor is a pass of the collector wanted afterwards.
fn own_a_span() {
    let lock = Lock::new().expect("a lock");
    internals::free(internals::pack(&lock).expect("a block"));
    drop(lock);
    internals::collect_if_wanted();
}

/// Kills the victim at every instruction; each time the arena must be as it was `before`.
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

#[track_caller]
fn assert_finished(report: &Report) {
    report.assert_sound();
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(report.points > 1, "{report}");
}

/// What a process in `slot` does before it stops there, without ending: what it holds stays held.
fn done_by(slot: u32, f: impl FnOnce() -> u64) -> u64 {
    open([slot]);
    let diary = Diary::new();
    let mut child = Child::spawn(|| {
        internals::become_member(slot);
        diary.write(0, f());
    });
    assert_eq!(child.wait(), 0, "{}", child.text());
    diary.read(0)
}

/// A block of the victim's that carries a handle to a lock of `maker`'s.
fn lock_for_the_victim(maker: u32) -> u64 {
    done_by(maker, || {
        let lock = Lock::named("passed on").expect("a lock");
        let block = internals::pack(&lock).expect("a block");
        assert!(internals::hand_over(block, VICTIM));
        std::mem::forget(lock);
        block
    })
}

fn make_and_drop() {
    let first = Lock::new().expect("a lock");
    let second = Lock::named("with a name that takes some words to write down").expect("a lock");
    let third = first.clone();
    drop(first);
    drop(second);
    drop(third);
}

#[test]
fn an_object_is_made_and_dropped() {
    isolated!({
        let _dog = watched();
        arena();
        open([VICTIM]);
        let before = Before::now();
        assert_finished(&step(&before, make_and_drop));
        before.is_back_without(VICTIM).unwrap();
    });
}

#[test]
fn an_object_that_no_record_names_is_found() {
    isolated!({
        let _dog = watched();
        arena();
        open([VICTIM]);
        internals::break_rule(Rule::ObjectIntent);
        let report = step(&Before::now(), make_and_drop);
        report.assert_broken();
        assert!(report.failures.iter().all(|failure| failure.why.contains("objects")), "{report}");
    });
}

#[test]
fn a_handle_is_packed_and_unpacked() {
    isolated!({
        let _dog = watched();
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
fn the_last_handle_arrives_in_a_block() {
    isolated!({
        let _dog = watched();
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

/// The object lives on with the other one who holds it, and the dead has not touched it.
#[test]
fn what_another_holds_too_outlives_the_victim() {
    isolated!({
        let _dog = watched();
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

/// A handle to an object that is gone, and whose place another has: bytes are easy to keep too long.
#[test]
fn a_stale_handle_is_refused() {
    isolated!({
        let _dog = watched();
        arena();
        open([VICTIM]);
        let gone = lock();
        let block = internals::pack(gone).unwrap();
        let bytes: Vec<u8> = internals::unpack(block).unwrap();
        internals::free(block);
        // SAFETY: the box was leaked by `lock`, and nobody else uses it.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(gone).cast_mut()) });
        internals::collect();
        assert_eq!(internals::census().objects, 0);
        let successor = Lock::named("the successor").unwrap();
        let stale = internals::pack(&bytes).unwrap();
        assert!(internals::hand_over(stale, OTHER), "main frees it only at the end");
        open([OTHER]);
        let before = Before::now();
        let report = step(&before, || assert!(internals::unpack::<Lock>(stale).is_err()));
        assert_finished(&report);
        assert_eq!(successor.name(), "the successor");
        assert_eq!(state(&successor), State::Free);
    });
}

/// Two processes make objects at once, and one of them dies of it.
#[test]
fn another_makes_an_object_meanwhile() {
    isolated!({
        let _dog = watched();
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

/// At every instruction of a process that moves the only handle from a block to itself and to a block
/// again, the collector makes a pass.
#[test]
fn the_collector_passes_by_while_a_handle_moves() {
    isolated!({
        let _dog = watched();
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
            assert_eq!(internals::census().objects, 1, "it was held all the time");
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

/// Large enough that a span has room for few such blocks: the pass looks at each.
const LARGE: usize = 20_000;

/// A collector stands still at its `at`-th instruction while another process moves the only handle to a
/// lock from itself to a block; then it goes on. Gives how far it would come, and whether the lock is there.
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
    // SAFETY: a system call without pointers: the child, traced by this thread, runs on.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, collector.pid, 0, 0) };
    assert_eq!(collector.wait(), 0, "{}", collector.text());
    let alive = internals::unpack::<(Lock, Vec<u8>)>(diary.read(2)).is_ok();
    [VICTIM, OTHER].into_iter().for_each(internals::recover);
    internals::collect();
    (steps, alive)
}

/// At how many of some moments of a pass a move loses the object.
fn moves_that_lose_the_object() -> usize {
    arena();
    let (steps, _) = move_during_a_pass(u64::MAX);
    assert!(steps > 100);
    let lost = (0..12).filter(|n| !move_during_a_pass(steps * n / 12).1).count();
    println!("{steps} steps, {lost} of 12 moves lose it");
    lost
}

#[test]
fn an_object_that_moves_during_a_pass_is_not_freed() {
    isolated!({
        let _dog = watched();
        assert_eq!(moves_that_lose_the_object(), 0);
    });
}

#[test]
fn an_object_that_moves_untouched_is_lost() {
    isolated!({
        let _dog = watched();
        internals::break_rule(Rule::Touch);
        assert_ne!(moves_that_lose_the_object(), 0);
    });
}

/// The supervisor is killed while it frees what nobody holds: a lock, and a process with a large result.
#[test]
fn a_killed_collector_leaves_nothing_half_freed() {
    isolated!({
        let _dog = watched();
        arena();
        open([VICTIM]);
        let before = Before::now();
        internals::open_spare(THIRD);
        internals::come_home();
        done_by(OTHER, || {
            let process = procession::Process::spawn(|| (), ()).expect("the spare takes it");
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
