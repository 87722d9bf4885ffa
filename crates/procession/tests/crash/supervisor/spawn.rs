//! A process is killed at every instruction of spawning another. The request is complete, or was never made.

use std::cell::Cell;

use procession_testkit::{
    Child, CrashStep, Gate, Outcome, Report, Storm, interleave, isolated, proc, run_until, spawn_parked,
};

use crate::support;
use crate::support::{Before, LONG, OTHER, State, VICTIM, arena, lock, open, owner, state};
use procession::internals::Rule;
use procession::{Lock, Process, internals};

/// The slot in which a spare would sleep.
const SPARE: u32 = 3;
/// The slot's phase when no spawner has claimed it, and when its request is complete.
const ASLEEP: u32 = 2;
const GO: u32 = 4;

type Args = (Lock, String);

/// The function of the child.
fn work(_lock: Lock, name: String) -> usize {
    name.len()
}

fn args(lock: &Lock) -> Args {
    (lock.clone(), "Egon".to_owned())
}

/// Opens the spans that a request is written to. Another test covers opening spans.
fn own_spans(lock: &Lock) {
    internals::free(internals::pack(&args(lock)).expect("a block"));
    let directory = std::env::current_dir().expect("a working directory").into_os_string();
    internals::free(internals::pack(&directory.into_encoded_bytes()).expect("a block"));
    internals::collect_if_wanted();
}

/// Creates a family without a supervisor. Main holds a lock, and a spare's slot is open without a process in
/// it.
fn family() -> (&'static Lock, Before) {
    arena();
    let lock = lock();
    // Puts the lock into the state that it has after it was sent.
    internals::free(internals::pack(lock).expect("a block"));
    open([VICTIM, OTHER]);
    internals::open_spare(SPARE);
    internals::collect();
    (lock, Before::now())
}

/// Checks after the victim's death that the spare is untouched, or that it owns a complete request.
fn either_spare_or_go(lock: &Lock, before: &Before) -> Result<(), String> {
    let phase = internals::slot_phase(SPARE);
    internals::recover(VICTIM);
    support::nothing_in(VICTIM)?;
    if phase != GO {
        ensure!(internals::slot_phase(SPARE) == ASLEEP, "the spare is in phase {phase}");
        let left = internals::residue(SPARE);
        ensure!(left.is_empty(), "left in the spare: {}", left.join(", "));
    } else {
        ensure!(internals::slot_phase(SPARE) == GO, "the request was lost with its spawner");
        request_is_complete(lock)?;
        internals::recover(SPARE);
    }
    before.is_back()
}

/// Checks the request as the child would find it.
fn request_is_complete(lock: &Lock) -> Result<(), String> {
    let (entry, args, cwd, process) = internals::request(SPARE);
    ensure!(entry != 0 && args != 0 && cwd != 0, "entry {entry:x}, arguments {args:x}, directory {cwd:x}");
    let census = internals::census();
    for block in [args, cwd] {
        let tag = census.blocks.iter().find(|&&(at, _)| at == block).map_or(0, |&(_, tag)| tag);
        ensure!(tag & 0xffff == SPARE, "the block {block:x} has the tag {tag:x}");
    }
    let held = census.holdings.contains(&(SPARE, process as u32));
    ensure!(held, "nobody holds the process object {process:x}");
    let (its_lock, name): Args = internals::unpack(args).map_err(|e| e.to_string())?;
    ensure!(name == "Egon", "the name is {name}");
    let held = its_lock.lock().map_err(|e| e.to_string())?;
    ensure!(owner(lock) == support::id(0), "another lock arrived");
    drop(held);
    Ok(())
}

fn spawn_stepped(lock: &'static Lock, before: &Before, prepare: fn(&Lock)) -> Report {
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        prepare(lock);
        gate.begin();
        let process = Process::spawn(work, args(lock)).expect("the spare takes it");
        drop(process);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| either_spare_or_go(lock, before));
    println!("{report}");
    report
}

#[test]
fn a_request_is_complete_or_never_made() {
    isolated!({
        let (lock, before) = family();
        let report = spawn_stepped(lock, &before, own_spans);
        report.assert_sound();
        assert_eq!(report.outcome, Outcome::Finished);
        assert_eq!(internals::slot_phase(SPARE), GO);
        internals::recover(VICTIM);
        request_is_complete(lock).unwrap();
    });
}

/// A spawner with options is killed at every instruction, even while it waits for the options to be applied.
/// Its request is complete or was never made.
#[test]
fn a_request_with_options_is_complete_or_never_made() {
    isolated!({
        let (lock, before) = family();
        let builder = Process::builder().name("wishful").env("A", "1").current_dir("/").nice(3);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            own_spans(lock);
            gate.begin();
            let process = builder.spawn(work, args(lock)).expect("the spare takes it");
            drop(process);
            gate.end();
        };
        let step = CrashStep::new(arena()).when_parked(|_| internals::prepared(SPARE));
        let report = step.run(victim, |_| {
            let options = internals::request_options(SPARE);
            let go = internals::slot_phase(SPARE) == GO;
            ensure!(!go || options != 0, "the request has lost its options");
            let owned = |&(at, tag): &(u64, u32)| at != options || tag & 0xffff == SPARE || !go;
            ensure!(internals::census().blocks.iter().all(owned), "the options do not belong to the child");
            either_spare_or_go(lock, &before)
        });
        println!("{report}");
        report.assert_sound();
        assert_eq!(report.outcome, Outcome::Finished);
    });
}

/// The child of a spawner with options dies before the options are applied. Returns whether the spawner is notified.
fn child_dies_before_it_is_ready() -> bool {
    let (lock, _) = family();
    let mut spawner = spawn_parked(|| {
        internals::become_member(VICTIM);
        let spawned = Process::builder().nice(3).spawn(work, args(lock));
        assert!(spawned.is_err());
    });
    internals::recover(SPARE);
    proc::wait_until("the spawner has returned, or still sleeps", LONG, || {
        spawner.try_wait().is_some() || proc::is_parked(spawner.pid)
    });
    spawner.try_wait().is_some_and(|status| status == 0)
}

#[test]
fn a_spawner_is_notified_of_a_child_that_dies_before_it_is_ready() {
    isolated!({
        assert!(child_dies_before_it_is_ready());
    });
}

#[test]
fn without_the_rule_a_spawner_waits_for_a_dead_child() {
    isolated!({
        internals::break_rule(Rule::SpawnerNotified);
        assert!(!child_dies_before_it_is_ready());
    });
}

#[test]
fn without_the_rule_a_spare_stays_claimed() {
    isolated!({
        internals::break_rule(Rule::ClaimReturned);
        let (lock, before) = family();
        let report = spawn_stepped(lock, &before, own_spans);
        report.assert_broken();
        assert!(report.failures.iter().any(|failure| failure.why.contains("in phase 3")), "{report}");
    });
}

/// The process id of the child that the spawner reads. It can be that of any living process.
fn first() -> i32 {
    std::process::id() as i32
}
/// The process id of the child that takes the first child's place.
const SECOND: i32 = i32::MAX;

/// A spawner makes the process id of its child known while the supervisor decides to replace that child. One
/// of the two acts between two instructions of the other. Returns how often each came first.
fn known_or_replaced(supervisor_first: bool) -> Result<(u32, u32), String> {
    family();
    let (diary, incarnation) = (support::Diary::new(), Cell::new(100));
    let spawner = |incarnation| {
        let known = internals::make_known(SPARE, incarnation);
        diary.write(0, known.map_or(0, |pid| pid as u64));
    };
    let supervisor = || {
        let replaced = internals::replace_child(SPARE);
        if replaced {
            internals::say_pid(SPARE, 0);
            internals::say_pid(SPARE, SECOND);
        }
        diary.write(1, replaced.into());
    };
    let prepare = || {
        incarnation.set(incarnation.get() + 1);
        internals::begin_incarnation(SPARE, incarnation.get());
        internals::say_pid(SPARE, first());
        incarnation.get()
    };
    let victim = |incarnation: &u32, gate: &Gate| {
        gate.begin();
        if supervisor_first {
            supervisor()
        } else {
            spawner(*incarnation)
        }
        gate.end();
    };
    let meanwhile = |incarnation: &u32| if supervisor_first { spawner(*incarnation) } else { supervisor() };
    let (mut known_in, mut replaced_in, mut wrong) = (0, 0, 0);
    interleave(prepare, victim, meanwhile, |_| {
        let (known, replaced) = (diary.read(0), diary.read(1) == 1);
        known_in += u32::from(known != 0);
        replaced_in += u32::from(replaced);
        // The spawner would return a process id that is not that of its child.
        wrong += u32::from(known != 0 && (replaced || known != first() as u64));
    });
    if wrong == 0 { Ok((known_in, replaced_in)) } else { Err(format!("{wrong} numbers are wrong")) }
}

#[test]
fn a_child_whose_pid_is_known_is_not_replaced() {
    isolated!({
        for supervisor_first in [false, true] {
            let (known, replaced) = known_or_replaced(supervisor_first).unwrap();
            assert!(replaced > 0 && known > 0, "{replaced} were replaced, {known} were known");
        }
    });
}

#[test]
fn without_the_rule_a_known_child_is_replaced() {
    isolated!({
        internals::break_rule(Rule::FinalIdKept);
        known_or_replaced(false).unwrap_err();
    });
}

/// At every instruction of a spawner, a second spawner tries to claim the only spare. The second spawner gets
/// the spare or waits. After the first spawner's death the second has the spare, unless the first was faster.
#[test]
fn two_spawners_can_race_for_a_spare() {
    isolated!({
        let (lock, before) = family();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            own_spans(lock);
            gate.begin();
            let process = Process::spawn(work, args(lock)).expect("the spare takes it");
            std::mem::forget(process);
            gate.end();
        };
        let other = || {
            internals::become_member(OTHER);
            std::mem::forget(Process::spawn(work, args(lock)).expect("a spare takes it"));
        };
        // Acts as the supervisor, which opens another spare after a child has begun.
        let recover = || {
            internals::recover(VICTIM);
            if internals::slot_phase(SPARE) == GO && internals::waits_for(OTHER) != 0 {
                internals::recover(SPARE);
                internals::open_spare(SPARE);
                internals::wake_spawners();
            }
        };
        let report = CrashStep::new(arena()).run_pairwise(victim, other, recover, |_| {
            ensure!(internals::slot_phase(SPARE) == GO, "no spawner got the spare");
            request_is_complete(lock)?;
            internals::recover(OTHER);
            request_is_complete(lock)?;
            internals::recover(SPARE);
            before.is_back()
        });
        println!("{report}");
        report.assert_sound();
        assert_eq!(report.outcome, Outcome::Finished);
    });
}

/// Two processes hold the object of a spawned process, although no handle was sent: the spawner and the
/// spawned process. They release the object at the same time, and one of them is killed.
#[test]
fn a_spawner_and_its_child_can_release_an_object_at_the_same_time() {
    isolated!({
        let (lock, before) = family();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            let process = Process::spawn(work, args(lock)).expect("the spare takes it");
            gate.begin();
            drop(process);
            gate.end();
        };
        let other = || internals::recover(SPARE);
        let recover = || internals::recover(VICTIM);
        let report = CrashStep::new(arena()).run_pairwise(victim, other, recover, |_| before.is_back());
        println!("{report}");
        report.assert_sound();
    });
}

/// In a whole family with real spares, a spawner is killed after its request is complete and before it wakes
/// the child. Returns whether the child begins, and the supervisor's process id.
fn kill_a_spawner_before_its_wake() -> (bool, i32) {
    let slot = 200;
    let supervisor = Process::spawn(std::os::unix::process::parent_id, ()).unwrap().join().unwrap() as i32;
    arena();
    let lock = lock();
    let waits = || (1..32).any(|spare| internals::slot_phase(spare) == GO);
    open([slot]);
    let mut spawner = run_until(
        |gate: &Gate| {
            internals::become_member(slot);
            own_spans(lock);
            gate.begin();
            std::mem::forget(Process::spawn(work, args(lock)));
            gate.end();
        },
        |_| waits(),
    );
    spawner.kill();
    internals::recover(slot);
    // A child that was woken does not sleep, and a child that has begun does not sleep either.
    let all_sleep = || proc::children(supervisor).into_iter().all(proc::is_parked);
    proc::wait_until("the child has begun, or sleeps on", LONG, || all_sleep() || !waits());
    let began = !waits();
    if !began {
        // Kills the sleeping child, which ends the requested process.
        let mut storm = Storm::seeded(1).also_below(supervisor);
        for pid in proc::children(supervisor) {
            let _ = storm.kill_one(&[pid]);
        }
    }
    proc::wait_until("the child has begun or is recovered", LONG, || !waits());
    (began, supervisor)
}

#[test]
fn a_spawner_killed_before_its_wake_has_spawned() {
    isolated!({
        assert!(kill_a_spawner_before_its_wake().0);
    });
}

#[test]
fn without_the_sweep_the_child_of_a_killed_spawner_sleeps_on() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        let (began, supervisor) = kill_a_spawner_before_its_wake();
        assert!(!began);
        // The next child may stay asleep as well, and main would wait for that child at its end.
        crate::family::send(supervisor, libc::SIGKILL);
    });
}

/// The spawner has died. Its child acquires the poisoned lock that the spawner passed to it.
#[test]
fn a_lock_passed_on_by_a_dead_spawner_is_usable() {
    isolated!({
        let (lock, _) = family();
        let mut spawner = Child::spawn(|| {
            internals::become_member(VICTIM);
            std::mem::forget(lock.lock());
            std::mem::forget(Process::spawn(work, args(lock)).expect("the spare takes it"));
        });
        assert_eq!(spawner.wait(), 0, "{}", spawner.text());
        internals::recover(VICTIM);
        let (its_lock, _): Args = internals::unpack(internals::request(SPARE).1).unwrap();
        assert_eq!(state(&its_lock), State::Died(spawner.pid));
    });
}
