//! A process is killed at every instruction of reading and writing under a read-write lock, and at the exact places
//! where a wake would be lost.

use crate::support;
use std::cell::Cell;
use std::rc::Rc;

use crate::support::scene::crash;
use crate::support::stepping::{self, ends_if_woken, leaked, with_record};
use crate::support::{Diary, OTHER, THIRD, VICTIM, arena, assert_finished, nothing_in, open};
use procession::internals::{self, Rule};
use procession::sync::{LockError, RwLock};
use procession_testkit::{CrashStep, Gate, Report, freeze, isolated, proc, run_until, spawn_parked};

fn step(step: CrashStep, operation: impl Fn(), check: impl Fn(i32) -> Result<(), String>) -> Report {
    stepping::step(step, with_record, operation, check)
}

/// Checks that no process reads or writes. The lock may be poisoned by the victim, and only then may the value be torn.
fn is_whole(lock: &RwLock<[u64; 2]>, victim: i32) -> Result<(), String> {
    let marked = match lock.try_read() {
        Ok(now) => {
            ensure!(now[0] == now[1], "torn, and the lock is not poisoned: {:?}", *now);
            false
        }
        Err(LockError::OwnerDied(who)) if who.pid.cast_signed() == victim => true,
        Err(other) => return Err(format!("to read: {other}")),
    };
    let mut write = lock.try_write_or_recover().map_err(|e| format!("to write: {e}"))?;
    ensure!(write.recovered_from().is_some() == marked, "a reader and a writer get different reports");
    write[1] = write[0];
    drop(write);
    lock.try_read().map(drop).map_err(|e| e.to_string())
}

#[test]
fn a_lock_can_be_read_and_written() {
    isolated!({
        arena();
        let lock = leaked(RwLock::new([0u64; 2]));
        let use_it = || {
            let (read, again) = (lock.read().unwrap(), lock.try_read().unwrap());
            assert!(matches!(lock.write().err(), Some(LockError::Deadlock { .. })));
            drop((read, again));
            let mut write = lock.write().unwrap();
            write[0] += 1;
            write[1] += 1;
        };
        assert_finished(&step(crash(), use_it, |victim| is_whole(lock, victim)));
    });
}

/// A writer that waits for a reader is stopped, loses its turn, and is killed, or continues and writes.
#[test]
fn a_writer_can_lose_its_turn_at_every_instruction() {
    isolated!({
        arena();
        let lock = leaked(RwLock::new([0u64; 2]));
        let inside = Rc::new(Cell::new(lock.read().ok()));
        let leaves = Rc::clone(&inside);
        let writes = || {
            let mut write = lock.write().unwrap();
            write[0] += 1;
            write[1] += 1;
        };
        open([VICTIM]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            writes();
            gate.end();
        };
        let parked = Cell::new(0);
        let step = crash().when_parked(move |_| {
            // First the writer loses its turn, then the reader leaves.
            match parked.replace(parked.get() + 1) {
                0 => internals::pass_by(VICTIM),
                _ => drop(leaves.take()),
            }
        });
        let report = step.run(victim, |point| {
            internals::pass_by(VICTIM);
            internals::recover(VICTIM);
            drop(inside.take()); // in this copy
            is_whole(lock, point.victim_pid)?;
            nothing_in(VICTIM)
        });
        assert_finished(&report);
        assert_eq!(*lock.read().unwrap(), [1, 1]);
    });
}

/// Every cell is taken, and the victim adds a block of cells.
#[test]
fn more_readers_than_cells_can_read() {
    isolated!({
        arena();
        let lock = leaked(RwLock::new([0u64; 2]));
        let all = Cell::new(Some((0..512).map(|_| lock.read().unwrap()).collect::<Vec<_>>()));
        open([VICTIM]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            support::own_a_span();
            gate.begin();
            drop(lock.read().unwrap());
            gate.end();
        };
        let report = crash().max_steps(20_000_000).run(victim, |point| {
            internals::recover(VICTIM);
            let more = lock.try_read().map_err(|e| format!("one more: {e}"))?;
            drop((more, all.take())); // in this copy
            is_whole(lock, point.victim_pid)?;
            nothing_in(VICTIM)
        });
        assert_finished(&report);
    });
}

#[test]
fn without_the_rule_a_dead_reader_stays() {
    isolated!({
        arena();
        internals::break_rule(Rule::ReaderCellCleared);
        let lock = leaked(RwLock::new([0u64; 2]));
        step(crash(), || drop(lock.read().unwrap()), |victim| is_whole(lock, victim)).assert_broken();
    });
}

/// The victim waits for main, which reads or writes, and acquires the lock when main releases it.
#[test]
fn waiters_for_a_read_write_lock_acquire_it() {
    isolated!({
        arena();
        for (victim_writes, main_writes) in [(true, false), (false, true), (true, true)] {
            let lock = leaked(RwLock::new([0u64; 2]));
            let read = Rc::new(Cell::new((!main_writes).then(|| lock.read().unwrap())));
            let write = Rc::new(Cell::new(main_writes.then(|| lock.write().unwrap())));
            let (reads, writes) = (Rc::clone(&read), Rc::clone(&write));
            let leaving = crash().when_parked(move |_| drop((reads.take(), writes.take())));
            let use_it = || {
                if victim_writes {
                    let mut write = lock.write().unwrap();
                    write[0] += 1;
                    write[1] += 1;
                } else {
                    drop(lock.read().unwrap());
                }
            };
            let check = |victim| {
                drop((read.take(), write.take())); // in this copy
                is_whole(lock, victim)
            };
            assert_finished(&step(leaving, use_it, check));
        }
    });
}

/// A reader is killed after it has left its cell and before it has woken the writer.
fn kill_a_reader_before_its_wake() -> bool {
    internals::break_rule(Rule::DeadlockSearch);
    arena();
    open([VICTIM, OTHER]);
    let lock = leaked(RwLock::new([0u64; 2]));
    let diary = Diary::new();
    let mut writer = procession_testkit::Child::spawn(|| {
        internals::become_member(OTHER);
        diary.wait(0, 1);
        drop(lock.write().unwrap());
    });
    let mut reader = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            let read = lock.read().unwrap();
            diary.write(0, 1);
            procession_testkit::wait_until_parked(writer.pid);
            gate.begin();
            drop(read);
            gate.end();
        },
        |_| !internals::has_readers(lock),
    );
    reader.kill();
    assert!(proc::is_parked(writer.pid));
    internals::recover(VICTIM);
    ends_if_woken(&mut writer)
}

#[test]
fn a_reader_killed_before_its_wake_leaves_no_writer_asleep() {
    isolated!({
        assert!(kill_a_reader_before_its_wake());
    });
}

#[test]
fn without_the_sweep_the_writer_behind_a_killed_reader_sleeps_on() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        internals::break_rule(Rule::ReaderCellCleared);
        assert!(!kill_a_reader_before_its_wake());
    });
}

/// A writer that the last reader has woken is killed before it runs. The next writer acquires the lock.
#[test]
fn a_writer_killed_after_its_wake_leaves_the_lock_to_others() {
    isolated!({
        internals::break_rule(Rule::DeadlockSearch);
        arena();
        open([VICTIM, OTHER, THIRD]);
        let lock = leaked(RwLock::new([0u64; 2]));
        let read = lock.read().unwrap();
        let writer = |slot| {
            spawn_parked(move || {
                internals::become_member(slot);
                drop(lock.write().unwrap());
            })
        };
        let mut first = writer(VICTIM);
        let frozen = freeze(first.pid);
        let mut second = writer(OTHER);
        drop(read);
        frozen.wait_until_woken();
        frozen.kill();
        let victim = first.pid;
        first.wait();
        internals::recover(VICTIM);
        assert_eq!(second.wait(), 0, "{}", second.text());
        internals::recover(OTHER);
        is_whole(lock, victim).unwrap();
    });
}

/// The program is ending, and a lock that a running thread holds was handed on. When the thread finally
/// releases the lock, another reader in the same cell must stay. The death of another writer must still
/// poison the lock.
#[test]
fn a_late_release_of_what_was_handed_on_touches_nobody() {
    isolated!({
        arena();
        // Threads of these two processes use the same cell first.
        let (one, other) = (VICTIM, VICTIM + 512);
        for writes in [false, true] {
            open([one, other]);
            let (lock, diary) = (leaked(RwLock::new([0u64; 2])), Diary::new());
            let holds = |slot: u32, place: usize| {
                procession_testkit::Child::spawn(move || {
                    internals::become_member(slot);
                    let write = writes.then(|| lock.write_or_recover().unwrap());
                    let read = (!writes).then(|| lock.read().unwrap());
                    diary.write(place, 1);
                    diary.wait(place, 2);
                    drop((read, write));
                })
            };
            let mut late = holds(one, 0);
            diary.wait(0, 1);
            internals::recover(one);
            let mut here = holds(other, 1);
            diary.wait(1, 1);
            diary.write(0, 2);
            assert_eq!(late.wait(), 0, "{}", late.text());
            assert_eq!(lock.try_write().err(), Some(LockError::WouldBlock));
            here.kill();
            internals::recover(other);
            match (writes, lock.try_read().err()) {
                (false, None) => {}
                (true, Some(LockError::OwnerDied(who))) => assert_eq!(who.pid.cast_signed(), here.pid),
                (_, told) => panic!("{told:?}"),
            }
        }
    });
}
