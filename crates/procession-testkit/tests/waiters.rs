//! Kills at one exact place.

mod toy;

use std::sync::atomic::Ordering::*;

use procession_testkit::{freeze, proc, run_until, spawn_parked};
use toy::{Bug, futex_wait, futex_wake, memory, toy};

#[test]
fn a_sleeper_is_known_to_sleep() {
    let memory = memory();
    memory.inherit();
    let mut child = spawn_parked(|| {
        futex_wait(&toy(memory).arrived, 0);
    });
    assert!(proc::is_parked(child.pid) && proc::children(std::process::id() as i32).contains(&child.pid));
    assert_eq!(futex_wake(&toy(memory).arrived, 1), 1);
    assert_eq!(child.wait(), 0);
    assert!(proc::gone(child.pid) && proc::state(child.pid).is_none());
}

#[test]
fn a_wake_given_to_a_frozen_sleeper_dies_with_it() {
    for _ in 0..20 {
        let memory = memory();
        memory.inherit();
        let word = &toy(memory).arrived;
        let wait_and_tell = || {
            futex_wait(word, 0);
            toy(memory).head.fetch_add(1, SeqCst);
        };
        let first = spawn_parked(wait_and_tell);
        let frozen = freeze(first.pid);
        let mut second = spawn_parked(wait_and_tell);
        assert_eq!(futex_wake(word, 1), 1, "the wake finds the frozen process, which came first");
        frozen.wait_until_woken();
        frozen.kill();
        assert!(proc::is_parked(second.pid), "the wake is lost: the second process still sleeps");
        assert_eq!(toy(memory).head.load(SeqCst), 0, "the first process did not run");
        assert_eq!(futex_wake(word, 1), 1);
        assert_eq!(second.wait(), 0);
        assert_eq!(toy(memory).head.load(SeqCst), 1);
    }
}

#[test]
fn a_thawed_sleeper_continues_unaffected() {
    let memory = memory();
    memory.inherit();
    let word = &toy(memory).arrived;
    for wake_first in [false, true] {
        let mut child = spawn_parked(|| assert_eq!(futex_wait(word, 0), 0));
        let frozen = freeze(child.pid);
        if wake_first {
            assert_eq!(futex_wake(word, 1), 1);
            frozen.wait_until_woken();
            frozen.thaw();
        } else {
            frozen.thaw();
            procession_testkit::wait_until_parked(child.pid);
            assert_eq!(futex_wake(word, 1), 1);
        }
        assert_eq!(child.wait(), 0, "{}", child.text());
    }
}

#[test]
fn a_wake_does_not_find_an_interrupted_or_stopped_sleeper() {
    let memory = memory();
    memory.inherit();
    let word = &toy(memory).arrived;
    let mut child = spawn_parked(|| {
        futex_wait(word, 0);
    });
    // SAFETY: a system call without pointers.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(child.pid, libc::SIGSTOP)
    };
    let ten_seconds = std::time::Duration::from_secs(10);
    proc::wait_until("the child is stopped", ten_seconds, || proc::state(child.pid) == Some('T'));
    assert_eq!(futex_wake(word, 1), 0);
    child.kill();
}

/// An unlocker is killed before its wake. Without recovery, the sleeper would sleep for ever.
#[test]
fn recovery_wakes_the_sleeper_of_a_killed_unlocker() {
    let memory = memory();
    memory.inherit();
    let toy = toy(memory);
    toy.lock(0, Bug::None);
    let mut sleeper = spawn_parked(|| {
        toy.lock(1, Bug::None);
        toy.unlock(1);
    });
    let mut unlocker = run_until(
        |gate| {
            gate.begin();
            toy.unlock(0);
            gate.end();
        },
        |_| toy.lock.load(SeqCst) == 0,
    );
    assert_eq!(proc::state(unlocker.pid), Some('t'));
    assert!(libc::WIFSIGNALED(unlocker.kill()));
    assert!(proc::is_parked(sleeper.pid));
    toy.recover(0);
    assert_eq!(sleeper.wait(), 0);
    assert_eq!(toy.lock.load(SeqCst), 0);
}

#[test]
fn a_victim_that_never_reaches_the_place_is_reported() {
    let memory = memory();
    memory.inherit();
    let nowhere = || run_until(|gate| (gate.begin(), gate.end()).1, |_| false);
    let error = std::panic::catch_unwind(nowhere).err().expect("it panics");
    assert!(error.downcast_ref::<&str>().is_some_and(|text| text.contains("never where")));
}
