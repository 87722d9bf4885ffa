//! A process with a lease is killed before it wakes the waiter for the item. A waiter is killed right after
//! it was woken. A living process with a lease is mistaken for dead.

use crate::support::{Diary, LONG, OTHER, VICTIM, arena, open};
use procession::internals;
use procession::queue::{GetError, Lease};
use procession::{Error, JoinableQueue};
use procession_testkit::{Child, Gate, isolated, proc, run_until, spawn_parked};

type Work = JoinableQueue<u64>;

const FIRST: u64 = 71;
const SECOND: u64 = 72;

/// Creates a queue that this process and its forks use.
fn queue_of(items: &[u64]) -> &'static Work {
    open([VICTIM, OTHER]);
    [VICTIM, OTHER].into_iter().for_each(internals::recover);
    open([VICTIM, OTHER]);
    let queue: &Work = Box::leak(Box::new(Work::unbounded().expect("a queue")));
    queue.put_many(items.iter().copied()).expect("room");
    queue
}

fn become_member(slot: u32) {
    internals::become_member(slot);
    internals::inherit_handles(0);
}

fn get_first(queue: &Work) -> Lease<u64> {
    let lease = queue.get().expect("an item");
    assert_eq!(*lease, FIRST);
    lease
}

/// Starts a process in slot `OTHER` that sleeps in `f`.
fn sleeper(f: impl FnOnce()) -> Child {
    spawn_parked(|| {
        become_member(OTHER);
        f();
    })
}

/// The victim leases the first item. Once the process that runs `sleeps` is asleep, the victim starts
/// `operation`. The victim is killed as soon as `stop` returns true, before it can wake any process. The
/// sleeper must still wake up.
fn kill_before_the_wake(
    queue: &'static Work,
    sleeps: impl FnOnce(),
    operation: impl FnOnce(Lease<u64>),
    stop: impl Fn(&Work) -> bool,
) {
    let diary = Diary::new();
    let mut sleeping = Child::spawn(|| {
        diary.wait(1, 1);
        become_member(OTHER);
        sleeps();
    });
    let mut victim = run_until(
        |gate: &Gate| {
            become_member(VICTIM);
            let lease = get_first(queue);
            diary.write(1, 1);
            proc::wait_until("the sleeper sleeps", LONG, || internals::waits_for(OTHER) != 0);
            procession_testkit::wait_until_parked(sleeping.pid);
            gate.begin();
            operation(lease);
            gate.end();
        },
        |_| stop(queue),
    );
    victim.kill();
    assert!(proc::is_parked(sleeping.pid));
    internals::recover(VICTIM);
    assert_eq!(sleeping.wait(), 0, "{}", sleeping.text());
}

#[test]
fn a_lease_holder_killed_before_its_wake_leaves_no_waiter_asleep() {
    isolated!({
        arena();
        let queue = queue_of(&[FIRST]);
        let join = || queue.join().unwrap();
        kill_before_the_wake(queue, join, |lease| lease.done().unwrap(), |queue| queue.unfinished() == 0);

        let queue = queue_of(&[FIRST]);
        let get = || get_first(queue).done().unwrap();
        kill_before_the_wake(queue, get, drop, |queue| queue.len() == 1);

        let queue = queue_of(&[FIRST]);
        queue.close().unwrap();
        let get = || assert_eq!(queue.get().unwrap_err(), GetError::Closed);
        kill_before_the_wake(queue, get, |lease| lease.done().unwrap(), |queue| queue.unfinished() == 0);
    });
}

/// One of two sleepers is woken for an item, and killed before it runs. The other sleeper gets the item.
#[test]
fn a_getter_killed_after_its_wake_leaves_the_item_to_the_next() {
    isolated!({
        arena();
        let queue = queue_of(&[FIRST]);
        let lease = get_first(queue);
        let mut dies = spawn_parked(|| {
            become_member(VICTIM);
            let _ = queue.get();
        });
        let frozen = procession_testkit::freeze(dies.pid);
        let mut lives = sleeper(|| {
            let lease = get_first(queue);
            assert_eq!(lease.attempt(), 2);
            lease.done().unwrap();
        });
        drop(lease);
        frozen.wait_until_woken();
        assert!(proc::is_parked(lives.pid));
        frozen.kill();
        dies.wait();
        internals::recover(VICTIM);
        assert_eq!(lives.wait(), 0, "{}", lives.text());
        queue.join().unwrap();
    });
}

/// A process that is mistaken for dead loses its leases.
#[test]
fn a_lost_lease_cannot_be_finished() {
    isolated!({
        arena();
        let (queue, diary) = (queue_of(&[FIRST, SECOND]), Diary::new());
        let mut lost = Child::spawn(|| {
            become_member(VICTIM);
            let (first, second) = (queue.get().unwrap(), queue.get().unwrap());
            diary.write(1, 1);
            diary.wait(2, 1);
            assert!(matches!(first.done(), Err(Error::StaleHandle(_))));
            drop(second);
        });
        diary.wait(1, 1);
        internals::recover(VICTIM);
        let (first, second) = (queue.get().unwrap(), queue.get().unwrap());
        assert_eq!((*first + *second, first.attempt(), second.attempt()), (FIRST + SECOND, 2, 2));
        diary.write(2, 1);
        assert_eq!(lost.wait(), 0, "{}", lost.text());
        assert_eq!((queue.len(), queue.unfinished()), (0, 2));
        first.done().unwrap();
        second.done().unwrap();
        queue.join().unwrap();
    });
}
