//! One process is killed at one exact place while others sleep on a queue. The place is after the wake for an
//! item or for room, or between a commit and its wake.

use std::time::{Duration, Instant};

use crate::support::{Diary, LONG, OTHER, THIRD, VICTIM, arena, go_on, open};
use procession::Queue;
use procession::internals::{self, End, Rule};
use procession::queue::{GetError, PutError};
use procession_testkit::{Child, Gate, freeze, isolated, proc, run_until, spawn_parked};

/// Creates a queue that lives as long as the test, with these items.
fn queue(capacity: usize, items: &[u64]) -> &'static Queue<u64> {
    arena();
    open([VICTIM, OTHER, THIRD]);
    let queue = Box::leak(Box::new(Queue::bounded(capacity).expect("a queue")));
    items.iter().for_each(|&item| queue.try_put(item).expect("there is room"));
    queue
}

/// Starts a process in `slot` that sleeps until it gets this item.
fn getter(slot: u32, queue: &'static Queue<u64>, item: u64) -> Child {
    spawn_parked(move || {
        internals::become_member(slot);
        assert_eq!(queue.get(), Ok(item));
    })
}

/// Starts a process in `slot` that sleeps until it has put this item.
fn putter(slot: u32, queue: &'static Queue<u64>, item: u64) -> Child {
    spawn_parked(move || {
        internals::become_member(slot);
        assert_eq!(queue.put(item), Ok(()));
    })
}

/// Starts a process in `slot` that runs `operation`, and stops it once `far` returns true.
fn stopped(slot: u32, operation: impl Fn(), far: impl Fn() -> bool) -> Child {
    run_until(
        |gate: &Gate| {
            internals::become_member(slot);
            gate.begin();
            operation();
            gate.end();
        },
        |_| far(),
    )
}

fn is_busy(queue: &Queue<u64>, end: End) -> bool {
    internals::queue_lock_word(queue, end) != 0
}

/// Returns false if `sleeper` still sleeps. Otherwise `sleeper` has been woken, and must end with success.
fn came_through(slot: u32, sleeper: &mut Child) -> bool {
    if proc::is_parked(sleeper.pid) {
        return false;
    }
    assert_eq!(sleeper.wait(), 0, "{}", sleeper.text());
    internals::recover(slot);
    true
}

/// Defines two tests of a kill. With the rule that wakes sleepers after a death, the sleeper must be woken.
/// Without the rule, it must sleep on.
macro_rules! sweeps {
    ($($holds:ident, $broken:ident = $kill:ident;)*) => {$(
        #[test]
        fn $holds() {
            isolated!({
                assert!($kill(), "the sleeper sleeps on");
            });
        }

        #[test]
        fn $broken() {
            isolated!({
                internals::break_rule(Rule::SweepWakes);
                assert!(!$kill(), "either the sweep is unnecessary, or this test does not cover it");
            });
        }
    )*};
}

sweeps! {
    a_woken_consumer_that_is_killed_takes_no_wake_with_it, without_the_sweep_a_woken_consumer_takes_its_wake_with_it
        = kill_a_woken_consumer;
    a_woken_producer_that_is_killed_takes_no_wake_with_it, without_the_sweep_a_woken_producer_takes_its_wake_with_it
        = kill_a_woken_producer;
    a_producer_that_is_killed_before_its_wake_leaves_nobody_asleep, without_the_sweep_nobody_hears_of_its_item
        = kill_a_producer_before_its_wake;
    a_consumer_that_is_killed_before_its_wake_leaves_nobody_asleep, without_the_sweep_nobody_hears_of_its_room
        = kill_a_consumer_before_its_wake;
    who_is_killed_when_it_has_closed_the_queue_leaves_nobody_asleep, without_the_sweep_nobody_hears_of_the_close
        = kill_before_the_wake_of_a_close;
}

/// Two consumers sleep. The first is woken for an item and killed before it runs.
fn kill_a_woken_consumer() -> bool {
    let queue = queue(3, &[]);
    let mut first = getter(VICTIM, queue, 1);
    let frozen = freeze(first.pid);
    let mut second = getter(OTHER, queue, 1);
    queue.put(1).unwrap();
    frozen.wait_until_woken();
    assert!(proc::is_parked(second.pid), "one item, one wake");
    frozen.kill();
    first.wait();
    internals::recover(VICTIM);
    came_through(OTHER, &mut second)
}

/// Two producers sleep. The first is woken for room and killed before it runs.
fn kill_a_woken_producer() -> bool {
    let queue = queue(1, &[1]);
    let mut first = putter(VICTIM, queue, 2);
    let frozen = freeze(first.pid);
    let mut second = putter(OTHER, queue, 3);
    assert_eq!(queue.get(), Ok(1));
    frozen.wait_until_woken();
    assert!(proc::is_parked(second.pid), "room for one item wakes one producer");
    frozen.kill();
    first.wait();
    internals::recover(VICTIM);
    came_through(OTHER, &mut second) && queue.get() == Ok(3)
}

fn kill_a_producer_before_its_wake() -> bool {
    let queue = queue(3, &[]);
    let mut sleeper = getter(OTHER, queue, 1);
    let mut dead = stopped(VICTIM, || queue.put(1).unwrap(), || queue.len() == 1);
    assert!(proc::is_parked(sleeper.pid));
    dead.kill();
    internals::recover(VICTIM);
    came_through(OTHER, &mut sleeper)
}

fn kill_a_consumer_before_its_wake() -> bool {
    let queue = queue(1, &[1]);
    let mut sleeper = putter(OTHER, queue, 2);
    let mut dead = stopped(VICTIM, || assert_eq!(queue.get(), Ok(1)), || queue.is_empty());
    assert!(proc::is_parked(sleeper.pid));
    dead.kill();
    internals::recover(VICTIM);
    came_through(OTHER, &mut sleeper) && queue.get() == Ok(2)
}

fn kill_before_the_wake_of_a_close() -> bool {
    let queue = queue(1, &[]);
    let mut sleeper = spawn_parked(|| {
        internals::become_member(OTHER);
        assert_eq!(queue.get(), Err(GetError::Closed));
    });
    let mut dead = stopped(VICTIM, || queue.close().unwrap(), || queue.is_closed());
    assert!(proc::is_parked(sleeper.pid));
    dead.kill();
    internals::recover(VICTIM);
    came_through(OTHER, &mut sleeper)
}

/// A consumer that is about to sleep for an item must first sleep until it is its turn to check the queue.
/// Afterwards it sleeps for an item, and its announcement must say so.
#[test]
fn a_consumer_that_waited_for_its_turn_is_woken_for_an_item() {
    isolated!({
        let queue = queue(3, &[]);
        // The consumer has announced that it will sleep, and is about to check again.
        let mut sleeper = stopped(
            OTHER,
            || assert_eq!(queue.get(), Ok(1)),
            || internals::waits_for(OTHER) != 0 && !is_busy(queue, End::Consumers),
        );
        let mut busy = stopped(THIRD, || drop(queue.try_get()), || is_busy(queue, End::Consumers));
        go_on(&sleeper);
        procession_testkit::wait_until_parked(sleeper.pid);
        let waits_for_its_turn = internals::waits_for(OTHER);
        go_on(&busy);
        assert_eq!(busy.wait(), 0, "{}", busy.text());
        proc::wait_until("the consumer sleeps for an item", LONG, || {
            internals::waits_for(OTHER) != waits_for_its_turn && proc::is_parked(sleeper.pid)
        });
        let mut dead = stopped(VICTIM, || queue.put(1).unwrap(), || queue.len() == 1);
        dead.kill();
        internals::recover(VICTIM);
        assert!(
            came_through(OTHER, &mut sleeper),
            "the consumer sleeps on, announced as {waits_for_its_turn:x}"
        );
    });
}

/// A consumer is woken for an item but has timed out. Meanwhile another process, which has found the queue
/// empty, has the turn. Returns whether the next consumer gets the item.
fn time_out_with_a_wake() -> bool {
    let queue = queue(3, &[]);
    for timeout in [1000, 4000, 16_000].map(Duration::from_millis) {
        let (late, diary) = (Instant::now() + timeout, Diary::new());
        let mut first = spawn_parked(|| {
            internals::become_member(VICTIM);
            assert_eq!(queue.get_deadline(late), Err(GetError::Empty), "the consumer timed out");
        });
        let frozen = freeze(first.pid);
        let mut second = getter(OTHER, queue, 1);
        let mut busy = Child::spawn(|| {
            internals::become_member(THIRD);
            let turn = internals::occupy(queue, End::Consumers);
            diary.write(0, 1);
            diary.wait(1, 1);
            drop(turn);
        });
        diary.wait(0, 1);
        let in_time = !frozen.woken();
        queue.put(1).unwrap();
        frozen.wait_until_woken();
        let first_was_woken = in_time && proc::is_parked(second.pid);
        proc::wait_until("the consumer has timed out", LONG, || Instant::now() > late);
        frozen.thaw();
        assert_eq!(first.wait(), 0, "{}", first.text());
        diary.write(1, 1);
        assert_eq!(busy.wait(), 0, "{}", busy.text());
        if first_was_woken {
            return came_through(OTHER, &mut second);
        }
        drop(second);
        [VICTIM, OTHER, THIRD].into_iter().for_each(internals::recover);
        open([VICTIM, OTHER, THIRD]);
        while queue.try_get().is_ok() {}
    }
    panic!("the first consumer is never woken in time");
}

#[test]
fn a_consumer_that_times_out_passes_its_wake_on() {
    isolated!({
        assert!(time_out_with_a_wake(), "the item is there, and the second sleeps on");
    });
}

#[test]
fn without_the_rule_the_wake_is_lost() {
    isolated!({
        internals::break_rule(Rule::WakePassedOn);
        assert!(!time_out_with_a_wake(), "either the rule is unnecessary, or this test does not cover it");
    });
}

#[test]
fn every_producer_is_woken_by_a_close() {
    isolated!({
        let queue = queue(1, &[1]);
        let sleepers = [VICTIM, OTHER].map(|slot| {
            spawn_parked(move || {
                internals::become_member(slot);
                assert_eq!(queue.put(7), Err(PutError::Closed(7)));
            })
        });
        queue.close().unwrap();
        for mut sleeper in sleepers {
            assert_eq!(sleeper.wait(), 0, "{}", sleeper.text());
        }
        assert_eq!((queue.get(), queue.get()), (Ok(1), Err(GetError::Closed)));
    });
}
