//! A second process races with the victim at each of its instructions.

mod toy;

use std::time::Instant;

use procession_testkit::{CrashStep, Gate, Outcome, Report};
use toy::{Bug, memory, toy};

/// Slot 0 puts a message. At every instruction of this put, slot 1 gets the message. `recover` puts the message
/// if slot 0 has died before it could.
fn get_against_put(bug: Bug, forget_to_recover: bool) -> Report {
    let memory = memory();
    let toy = toy(memory);
    let victim = |gate: &Gate| {
        gate.begin();
        toy.put(0, &[3, 1, 4], bug);
        gate.end();
    };
    let recover = || {
        if !forget_to_recover {
            toy.recover(0);
        }
        toy.put(2, &[9], Bug::None);
    };
    let got_a_whole_one = || assert!([vec![3, 1, 4], vec![9]].contains(&toy.get(1)));
    let start = Instant::now();
    let report = CrashStep::new(memory).run_pairwise(victim, got_a_whole_one, recover, |_| {
        toy.recover(1);
        if toy.messages()?.len() > 1 { Err("got twice".into()) } else { Ok(()) }
    });
    println!("{report}, {:?} per point", start.elapsed() / report.points.max(1) as u32);
    report
}

#[test]
fn a_getter_succeeds_whenever_the_putter_dies() {
    let report = get_against_put(Bug::None, false);
    report.assert_sound();
    assert_eq!(report.outcome, Outcome::Finished);
}

#[test]
fn a_getter_that_sees_half_a_message_is_reported() {
    let report = get_against_put(Bug::PublishBeforeCopy, false);
    report.assert_broken();
}

/// The control of `recover`: without it, the dead process keeps the lock, and the other process hangs.
#[test]
fn a_getter_that_is_left_asleep_is_reported() {
    let memory = memory();
    let toy = toy(memory);
    let step = CrashStep::new(memory).max_steps(1).checker_limit(std::time::Duration::from_millis(200));
    toy.lock(0, Bug::None);
    let report = step.run_pairwise(|gate| gate.begin(), || toy.lock(1, Bug::None), || (), |_| Ok(()));
    assert!(report.failures[0].why.contains("hung: the other process still sleeps"), "{report}");
}
