//! Tests that a run that kills an operation at each instruction finds the bugs of that operation.
#![allow(unsafe_code, reason = "a raw store for the victim that dies")]

mod toy;

use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use procession_testkit::{CrashStep, Gate, Mapping, Outcome, Point, Report};
use toy::{Bug, futex_wake, memory, toy};

fn step_two_puts(memory: Mapping, step: CrashStep, bug: Bug) -> Report {
    let toy = toy(memory);
    let victim = |gate: &Gate| {
        gate.begin();
        toy.put(0, &[3, 1, 4, 1, 5], bug);
        toy.put(0, &[2, 7], bug);
        gate.end();
    };
    step.run(victim, |point: &Point| {
        let messages = toy.recovered(0)?;
        let whole = [vec![3, 1, 4, 1, 5], vec![2, 7]];
        if messages != whole[..messages.len()] {
            return Err(format!("strange messages: {messages:?}"));
        }
        if point.finished && messages.len() != 2 {
            Err("an item was put and is missing".into())
        } else {
            Ok(())
        }
    })
}

#[test]
fn a_sound_put_passes() {
    let memory = memory();
    let start = Instant::now();
    let report = step_two_puts(memory, CrashStep::new(memory), Bug::None);
    report.assert_sound();
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(report.points > 20 && report.points < report.steps, "{report}");
    println!("{report}, {:?} in all", start.elapsed());
    assert_eq!(toy(memory).messages().unwrap().len(), 2, "the victim worked on the real memory");
    assert_eq!(toy(memory).arrived.load(SeqCst), 2, "no checker touched the real memory");
}

#[test]
fn every_instruction_can_be_checked() {
    let memory = memory();
    let start = Instant::now();
    let report = step_two_puts(memory, CrashStep::new(memory).check_every_instruction(true), Bug::None);
    report.assert_sound();
    assert_eq!(report.points, report.steps + 1);
    println!("{report}, {:?} per point", start.elapsed() / report.points as u32);
}

#[test]
fn publishing_before_the_copy_is_found() {
    let memory = memory();
    let report = step_two_puts(memory, CrashStep::new(memory), Bug::PublishBeforeCopy);
    report.assert_broken();
    assert!(report.failures[0].why.contains("torn message"), "{report}");
    assert!(std::panic::catch_unwind(|| report.assert_sound()).is_err());
}

#[test]
fn a_lock_missing_in_the_journal_is_found() {
    let memory = memory();
    let report = step_two_puts(memory, CrashStep::new(memory), Bug::NoJournal);
    report.assert_broken();
    assert!(report.failures.iter().all(|failure| failure.why.contains("still held")), "{report}");
}

fn lock_while_held(memory: Mapping) -> impl FnOnce(&Gate) {
    let toy = toy(memory);
    toy.lock(1, Bug::None);
    |gate| {
        gate.begin();
        toy.lock(0, Bug::None);
        toy.unlock(0);
        gate.end();
    }
}

#[test]
fn a_victim_that_sleeps_is_checked_asleep() {
    let memory = memory();
    let report = CrashStep::new(memory).run(lock_while_held(memory), |point| {
        toy(memory).recover(0);
        if point.parked { Err("asleep".into()) } else { Ok(()) }
    });
    assert_eq!(report.outcome, Outcome::Parked);
    assert_eq!(report.failures.len(), 1, "{report}");
    assert_eq!(report.failures[0].why, "asleep");
}

#[test]
fn a_sleeping_victim_can_be_woken_and_continues() {
    let memory = memory();
    let step = CrashStep::new(memory).when_parked(move |point| {
        assert!(point.parked);
        toy(memory).unlock(1);
    });
    let report = step.run(lock_while_held(memory), |point| {
        let (held_by_other, toy) = (!point.finished && toy(memory).lock.load(SeqCst) & 3 == 2, toy(memory));
        toy.recover(0);
        if held_by_other || toy.lock.load(SeqCst) == 0 { Ok(()) } else { Err("not freed".into()) }
    });
    report.assert_sound();
    assert_eq!(report.outcome, Outcome::Finished);
}

/// A wake in a checker affects only the copy. The real sleeper stays asleep.
#[test]
fn a_checker_wakes_no_real_sleeper() {
    let memory = memory();
    let word = &toy(memory).lock;
    let waiter = CrashStep::new(memory).run(
        |gate| {
            gate.begin();
            toy::futex_wait(word, 0);
            gate.end();
        },
        |_| match futex_wake(word, i32::MAX) {
            0 => Ok(()),
            woken => Err(format!("{woken} woken")),
        },
    );
    waiter.assert_sound();
    assert_eq!(waiter.outcome, Outcome::Parked);
}

#[test]
fn every_failure_of_a_checker_is_reported() {
    let told = |limit, check: fn(&Point) -> Result<(), String>| {
        let memory = memory();
        let step = CrashStep::new(memory).checker_limit(limit);
        let report = step.run(|gate| (gate.begin(), gate.end()).1, check);
        report.failures[0].why.clone()
    };
    let long = Duration::from_secs(10);
    assert_eq!(told(long, |_| Err("so be it".into())), "so be it");
    assert!(told(long, |point| panic!("no {}", point.step)).contains("no 0"));
    assert!(told(long, |_| std::process::abort()).contains("died of signal 6"));
    // SAFETY: ends the checker.
    assert!(told(long, |_| unsafe { libc::_exit(0) }).contains("without an answer"));
    assert!(
        told(Duration::from_millis(20), |_| loop {
            std::thread::park()
        })
        .contains("hangs")
    );
}

#[test]
fn a_victim_that_dies_by_itself_is_a_failure() {
    let memory = memory();
    let outcome = |victim: fn(&Gate)| {
        let report = CrashStep::new(memory).max_steps(20_000).run(victim, |_| Ok(()));
        report.assert_broken();
        (report.outcome, report.failures[0].why.clone())
    };
    let (panicked, why) = outcome(|gate| {
        gate.begin();
        panic!("inside");
    });
    assert!(panicked == Outcome::Died(101 << 8) && why.contains("inside"), "{why}");
    let (panicked, why) = outcome(|gate| {
        gate.begin();
        gate.end();
        panic!("behind");
    });
    assert!(panicked == Outcome::Died(101 << 8) && why.contains("behind"), "{why}");
    let (died, why) = outcome(|gate| {
        gate.begin();
        // SAFETY: this is unsound on purpose. The test is about the resulting fault.
        unsafe { std::ptr::without_provenance_mut::<u64>(8).write_volatile(1) };
    });
    assert!(matches!(died, Outcome::Died(status) if libc::WIFSIGNALED(status)), "{why}");
    let (_, why) = outcome(|_| ());
    assert!(why.contains("before Gate::begin"), "{why}");
    let (stopped, why) = outcome(|gate| {
        gate.begin();
        loop {
            std::hint::spin_loop();
        }
    });
    assert!(stopped == Outcome::Stopped && why.contains("more than 20000 steps"), "{why}");
}
