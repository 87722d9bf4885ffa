//! A process is killed at every instruction of setting an event, waiting for one, and acquiring and releasing permits.
//! It is also killed at the exact places where a wake would be lost.

use crate::support;
use std::time::Duration;

use crate::support::scene::crash;
use crate::support::stepping::{self, ends_if_woken, leaked};
use crate::support::{Diary, OTHER, THIRD, VICTIM, arena, assert_finished, nothing_in, open};
use procession::internals::{self, Rule};
use procession::sync::{Event, Semaphore};
use procession_testkit::{Child, Gate, Report, freeze, isolated, proc, run_until, spawn_parked};

/// Kills the victim at every instruction of `operation`, recovers, and runs `check`.
fn step(
    before: impl Fn(),
    operation: impl Fn(),
    check: impl Fn() -> Result<(), String>,
    parked: Option<fn()>,
) -> Report {
    let step = match parked {
        Some(wake) => crash().when_parked(move |_| wake()),
        None => crash(),
    };
    stepping::step(step, before, operation, |_| check())
}

#[test]
fn an_event_can_be_set_cleared_and_waited_for() {
    isolated!({
        arena();
        let event = leaked(Event::new());
        let use_it = || {
            event.set().unwrap();
            event.wait().unwrap();
            event.clear().unwrap();
            assert!(event.wait_timeout(Duration::ZERO).is_err());
        };
        let works = || {
            event.set().map_err(|e| e.to_string())?;
            event.wait().map_err(|e| e.to_string())
        };
        assert_finished(&step(|| (), use_it, works, None));
    });
}

#[test]
fn a_waiter_for_an_event_is_woken() {
    isolated!({
        arena();
        static EVENT: std::sync::OnceLock<&Event> = std::sync::OnceLock::new();
        let event = *EVENT.get_or_init(|| leaked(Event::new()));
        let set = || EVENT.get().expect("it was made").set().expect("main is a member");
        let works = || {
            event.set().map_err(|e| e.to_string())?;
            event.try_wait().map_err(|e| e.to_string())
        };
        assert_finished(&step(|| (), || event.wait().unwrap(), works, Some(set)));
    });
}

/// The victim sets an event while another process sleeps until the event is set. The victim is killed between
/// the store and the wake.
fn kill_a_setter_before_its_wake() -> bool {
    arena();
    open([VICTIM, OTHER]);
    let event = leaked(Event::new());
    let mut sleeper = spawn_parked(|| {
        internals::become_member(OTHER);
        event.wait().unwrap();
    });
    let mut setter = run_until(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            event.set().unwrap();
            gate.end();
        },
        |_| event.is_set(),
    );
    setter.kill();
    assert!(proc::is_parked(sleeper.pid));
    internals::recover(VICTIM);
    ends_if_woken(&mut sleeper)
}

#[test]
fn a_setter_killed_before_its_wake_leaves_no_waiter_asleep() {
    isolated!({
        assert!(kill_a_setter_before_its_wake());
    });
}

#[test]
fn without_the_sweep_a_waiter_for_an_event_sleeps_on() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_setter_before_its_wake());
    });
}

fn all_free(semaphore: &Semaphore, permits: usize) -> Result<(), String> {
    let free = semaphore.available_permits();
    ensure!(free == permits, "{free} permits of {permits} are free");
    let held: Vec<_> = (0..permits).map(|_| semaphore.try_acquire().map_err(|e| e.to_string())).collect();
    ensure!(held.iter().all(Result::is_ok), "a free permit cannot be acquired");
    ensure!(semaphore.try_acquire().is_err(), "there is one too many");
    Ok(())
}

#[test]
fn permits_can_be_acquired_leaked_and_released() {
    isolated!({
        arena();
        let semaphore = leaked(Semaphore::new(3));
        let use_it = || {
            let first = semaphore.acquire().unwrap();
            let second = semaphore.try_acquire().unwrap();
            drop(first);
            std::mem::forget(semaphore.acquire_timeout(Duration::from_secs(1)).unwrap());
            drop(second);
        };
        assert_finished(&step(|| internals::hold(semaphore), use_it, || all_free(semaphore, 3), None));
    });
}

/// The control: without the rule a dead process keeps its permit.
#[test]
fn without_the_rule_a_dead_process_keeps_its_permit() {
    isolated!({
        arena();
        internals::break_rule(Rule::PermitsReturned);
        let semaphore = leaked(Semaphore::new(1));
        let use_it = || drop(semaphore.acquire().unwrap());
        step(|| internals::hold(semaphore), use_it, || all_free(semaphore, 1), None).assert_broken();
    });
}

/// Forgotten permits disappear by a single store, and added permits appear by a single store.
#[test]
fn permits_can_be_forgotten_and_added() {
    isolated!({
        arena();
        static DIARY: std::sync::OnceLock<Diary> = std::sync::OnceLock::new();
        DIARY.get_or_init(Diary::new);
        let semaphore = leaked(Semaphore::new(2));
        let use_it = || {
            let permit = semaphore.acquire().unwrap();
            DIARY.get().expect("a diary").write(0, 1);
            permit.forget();
            semaphore.add_permits(1).unwrap();
        };
        let one_or_two = || {
            let free = semaphore.available_permits();
            ensure!((1..=2).contains(&free), "{free} permits");
            ensure!(free == 2 || DIARY.get().is_some_and(|diary| diary.read(0) != 0), "a permit is lost");
            all_free(semaphore, free)
        };
        assert_finished(&step(|| internals::hold(semaphore), use_it, one_or_two, None));
    });
}

#[test]
fn a_waiter_gets_a_released_permit_and_one_reserved_for_it() {
    isolated!({
        arena();
        static SEMAPHORE: std::sync::OnceLock<&Semaphore> = std::sync::OnceLock::new();
        let semaphore = *SEMAPHORE.get_or_init(|| leaked(Semaphore::new(1)));
        std::mem::forget(semaphore.acquire().unwrap());
        // Main releases the permit in the way that recovery would. No other process holds the permit.
        let wake = || {
            internals::give_permits_back(SEMAPHORE.get().expect("it was made"));
        };
        let wait = || drop(semaphore.acquire().unwrap());
        let free = || {
            internals::give_permits_back(semaphore);
            all_free(semaphore, 1)
        };
        assert_finished(&step(|| internals::hold(semaphore), wait, free, Some(wake)));
    });
}

/// Returns a semaphore with two permits that are reserved for a stopped process, and that process. If
/// `sleeps`, another process sleeps until it gets a permit, and is returned too.
fn reserved_for_a_stopped_heir(sleeps: bool) -> (&'static Semaphore, Child, Option<Child>) {
    let semaphore = leaked(Semaphore::new(2));
    let held = [(); 2].map(|()| semaphore.acquire().unwrap());
    let wait = |slot| {
        spawn_parked(move || {
            internals::become_member(slot);
            internals::hold(semaphore);
            drop(semaphore.acquire().unwrap());
        })
    };
    open([OTHER, THIRD]);
    let mut heir = wait(THIRD);
    proc::wait_until("there is an heir", support::LONG, || internals::semaphore_heir(semaphore) != 0);
    let sleeper = sleeps.then(|| wait(OTHER));
    support::stop(&mut heir);
    drop(held);
    (semaphore, heir, sleeper)
}

fn wait_for_the_end_of_the_reservation() {
    let ended = std::time::Instant::now() + support::RESERVED;
    proc::wait_until("the reservation ends", support::LONG, || ended < std::time::Instant::now());
}

#[test]
fn a_permit_can_be_acquired_past_its_stopped_heir() {
    isolated!({
        arena();
        let (semaphore, heir, _) = reserved_for_a_stopped_heir(false);
        wait_for_the_end_of_the_reservation();
        let take = || drop(semaphore.acquire().unwrap());
        assert_finished(&step(|| internals::hold(semaphore), take, || all_free(semaphore, 2), None));
        support::go_on_from_stop(&heir);
        let mut heir = heir;
        assert_eq!(heir.wait(), 0, "{}", heir.text());
    });
}

/// Returns whether another waiter gets a permit that is reserved for a stopped process.
fn reserve_for_a_stopped_heir() -> bool {
    arena();
    let (semaphore, heir, sleeper) = reserved_for_a_stopped_heir(true);
    let (mut heir, mut sleeper) = (heir, sleeper.expect("it sleeps"));
    wait_for_the_end_of_the_reservation();
    proc::wait_until("the waiter sleeps or has ended", support::LONG, || {
        proc::is_parked(sleeper.pid) || sleeper.try_wait().is_some()
    });
    if sleeper.try_wait().is_none() {
        assert_ne!(internals::semaphore_heir(semaphore), 0);
        return false;
    }
    support::go_on_from_stop(&heir);
    assert_eq!(heir.wait(), 0, "{}", heir.text());
    true
}

#[test]
fn a_permit_reserved_for_a_stopped_heir_wakes_another_waiter() {
    isolated!({
        assert!(reserve_for_a_stopped_heir());
    });
}

#[test]
fn without_the_wake_a_permit_stays_with_a_stopped_heir() {
    isolated!({
        internals::break_rule(Rule::HeirWatched);
        assert!(!reserve_for_a_stopped_heir());
    });
}

#[test]
fn without_a_time_limit_a_permit_stays_with_a_stopped_heir() {
    isolated!({
        internals::break_rule(Rule::HeirBypassed);
        assert!(!reserve_for_a_stopped_heir());
    });
}

/// Two processes wait for a permit. The first is woken and killed before it runs. Returns whether the second gets the
/// permit.
fn kill_a_woken_waiter() -> bool {
    arena();
    open([VICTIM, OTHER, THIRD]);
    let semaphore = leaked(Semaphore::new(1));
    let held = semaphore.acquire().unwrap();
    let wait = |slot| {
        spawn_parked(move || {
            internals::become_member(slot);
            internals::hold(semaphore);
            drop(semaphore.acquire().unwrap());
        })
    };
    // Once there is an heir, the other waiters sleep without a timeout.
    let mut heir = wait(VICTIM);
    proc::wait_until("there is an heir", support::LONG, || internals::semaphore_heir(semaphore) != 0);
    let frozen = freeze(heir.pid);
    let mut second = wait(OTHER);
    drop(held);
    frozen.wait_until_woken();
    frozen.kill();
    heir.wait();
    assert!(proc::is_parked(second.pid), "the dead process was woken");
    internals::recover(VICTIM);
    ends_if_woken(&mut second)
}

#[test]
fn an_heir_killed_after_its_wake_takes_no_permit() {
    isolated!({
        assert!(kill_a_woken_waiter());
    });
}

#[test]
fn without_the_sweep_a_killed_heir_takes_the_permit() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_woken_waiter());
    });
}

/// The semaphore gets another block of cells.
#[test]
fn a_semaphore_grows() {
    isolated!({
        arena();
        let semaphore = leaked(Semaphore::new(64));
        let use_it = || semaphore.add_permits(2).unwrap();
        open([VICTIM]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            support::own_a_span();
            gate.begin();
            use_it();
            gate.end();
        };
        let report = crash().max_steps(20_000_000).run(victim, |_| {
            internals::recover(VICTIM);
            let free = semaphore.available_permits();
            ensure!((64..=66).contains(&free), "{free} permits");
            semaphore.add_permits(100).map_err(|e| e.to_string())?;
            all_free(semaphore, free + 100)?;
            nothing_in(VICTIM)
        });
        assert_finished(&report);
    });
}

/// A greedy process releases the only permit and acquires it again, each time before the waiter can run. Returns
/// whether the permit is handed to the waiter in the end.
fn pass_over() -> bool {
    arena();
    open([OTHER]);
    let semaphore = leaked(Semaphore::new(1));
    let mut held = semaphore.acquire().ok();
    let mut patient = spawn_parked(|| {
        internals::become_member(OTHER);
        internals::hold(semaphore);
        drop(semaphore.acquire().unwrap());
    });
    let (mut times, began) = (0, std::time::Instant::now());
    let handed = loop {
        held = support::while_stopped(&mut patient, || {
            drop(held.take());
            semaphore.try_acquire().ok()
        });
        times += 1;
        let long = times >= 20 && began.elapsed() > Duration::from_millis(50);
        if held.is_none() || long {
            break held.is_none();
        }
    };
    drop(held);
    assert_eq!(patient.wait(), 0, "{}", patient.text());
    handed
}

#[test]
fn a_starving_waiter_is_handed_the_permit() {
    isolated!({
        assert!(pass_over());
    });
}

#[test]
fn without_the_hand_over_a_waiter_for_a_permit_starves() {
    isolated!({
        internals::break_rule(Rule::LockHandedOver);
        assert!(!pass_over());
    });
}
