//! A process exits while one of its threads, which has no record, is in the middle of waking other processes.
//! The test is repeated so that the exit ends that thread at each of its instructions. No other process may be
//! left asleep.

use crate::shop::{small, workshop};
use crate::support::{Diary, LONG, OTHER, VICTIM, arena, open};
use procession::Task;
use procession::internals::{self, Rule};
use procession::sync::{Barrier, Condvar, Event, Latch, Mutex, Permit, Semaphore};
use procession_testkit::{Child, Gate, exit_everywhere, isolated, proc};

/// An operation that wakes a sleeper.
struct Waking<T> {
    make: fn() -> T,
    /// Acquires what the victim holds when the operation begins.
    take: for<'a> fn(&'a T) -> Option<Permit<'a>>,
    /// Sleeps until the victim has called `wake`.
    sleep: fn(&T),
    /// Reports whether the sleeper sleeps as intended when the victim begins.
    asleep: fn(&T) -> bool,
    wake: fn(&T, Option<Permit<'_>>),
    /// Reports whether the sleeper has nothing left to wait for when the victim is dead.
    over: fn(&T) -> bool,
}

impl<T> Waking<T> {
    fn new(
        make: fn() -> T,
        sleep: fn(&T),
        wake: fn(&T, Option<Permit<'_>>),
        over: fn(&T) -> bool,
    ) -> Waking<T> {
        Waking { make, take: |_| None, sleep, asleep: |_| true, wake, over }
    }
}

struct Scene<T: 'static> {
    shared: &'static T,
    sleeper: Child,
    diary: Diary,
}

impl<T: Sync + 'static> Waking<T> {
    fn scene(&self) -> Scene<T> {
        open([VICTIM, OTHER]);
        let (shared, diary) = (Box::leak(Box::new((self.make)())), Diary::new());
        let sleeper = Child::spawn(|| {
            internals::become_member(OTHER);
            diary.wait(0, 1);
            (self.sleep)(shared);
        });
        Scene { shared, sleeper, diary }
    }

    fn run(&self, scene: &Scene<T>, gate: &Gate) {
        internals::become_member(VICTIM);
        let taken = (self.take)(scene.shared);
        scene.diary.write(0, 1);
        let asleep = || (self.asleep)(scene.shared) && proc::is_parked(scene.sleeper.pid);
        proc::wait_until("the sleeper sleeps", LONG, asleep);
        gate.begin();
        (self.wake)(scene.shared, taken);
        gate.end();
    }

    /// Makes the victim exit at every instruction. Returns how often the sleeper stayed asleep, and the
    /// number of exits.
    fn step(&self) -> (u64, u64) {
        let mut lost = 0;
        let exit = |_: &Scene<T>| {
            internals::say_returned();
            std::process::exit(0)
        };
        let exits = exit_everywhere(
            || self.scene(),
            |scene, gate| self.run(scene, gate),
            exit,
            |mut scene, status| {
                assert_eq!(status, 0, "the process exits with success");
                internals::recover_exited(VICTIM);
                if !(self.over)(scene.shared) {
                    scene.sleeper.kill();
                } else if proc::is_parked(scene.sleeper.pid) {
                    lost += 1;
                    scene.sleeper.kill();
                } else {
                    assert_eq!(scene.sleeper.wait(), 0, "{}", scene.sleeper.text());
                }
                internals::recover(OTHER);
            },
        );
        (lost, exits)
    }
}

/// Defines two tests of an operation that wakes a sleeper. With the rule, no process is left asleep. Without
/// the rule, the sleeper is left asleep.
macro_rules! wakes {
    ($($test:ident, $control:ident = $waking:expr;)*) => {$(
        #[test]
        fn $test() {
            isolated!({
                arena();
                let (lost, runs) = $waking.step();
                assert!(runs > 3, "{runs} exits are too few");
                assert_eq!(lost, 0, "of {runs} exits");
            });
        }

        #[test]
        fn $control() {
            isolated!({
                arena();
                internals::break_rule(Rule::AloneAtExit);
                let (lost, runs) = $waking.step();
                assert!(lost > 0, "either none of {runs} exits needs the rule, or this test does not cover it");
            });
        }
    )*};
}

wakes! {
    an_exit_during_set_leaves_nobody_asleep, without_the_rule_an_exit_during_set_does =
        Waking::new(|| Event::new().unwrap(), |it| it.wait().unwrap(), |it, _| it.set().unwrap(), Event::is_set);

    an_exit_during_count_down_leaves_nobody_asleep, without_the_rule_an_exit_during_count_down_does =
        Waking::new(|| Latch::new(1).unwrap(), |it| it.wait().unwrap(), |it, _| it.count_down().unwrap(), Latch::is_open);

    an_exit_during_add_permits_leaves_no_waiter_asleep, without_the_rule_an_exit_during_add_permits_does = Waking {
        asleep: has_an_heir,
        ..Waking::new(no_permit, acquire, |it, _| it.add_permits(1).unwrap(), has_a_permit)
    };

    an_exit_during_notify_leaves_nobody_asleep, without_the_rule_an_exit_during_notify_does =
        Waking::new(Meeting::new, Meeting::sleep, |it, _| it.condvar.notify_one().unwrap(), |_| true);

    an_exit_during_notify_all_leaves_nobody_asleep, without_the_rule_an_exit_during_notify_all_does =
        Waking::new(Meeting::new, Meeting::sleep, |it, _| it.condvar.notify_all().unwrap(), |_| true);

    an_exit_during_abort_leaves_nobody_asleep, without_the_rule_an_exit_during_abort_does =
        Waking::new(two_parties, fail_to_meet, |it, _| it.abort().unwrap(), Barrier::is_broken);

    an_exit_during_reset_leaves_nobody_asleep, without_the_rule_an_exit_during_reset_does =
        Waking::new(two_parties, fail_to_meet, |it, _| it.reset().unwrap(), |it| it.waiting() == 0);

    an_exit_while_a_permit_is_handed_on_leaves_nobody_asleep,
    without_the_rule_an_exit_while_a_permit_is_handed_on_does = Waking {
        take: take_permit,
        asleep: has_an_heir,
        ..Waking::new(one_permit, acquire, |_, permit| drop(permit), |_| true)
    };

    an_exit_during_cancel_leaves_nobody_asleep, without_the_rule_an_exit_during_cancel_does =
        Waking::new(waiting_task, |it| assert!(it.get().is_err()), |it, _| assert!(it.cancel()), Task::is_done);
}

fn no_permit() -> Semaphore {
    Semaphore::new(0).unwrap()
}

/// Reports whether the sleeper has become the heir. From then on it does not wake up by itself.
fn has_an_heir(semaphore: &Semaphore) -> bool {
    internals::semaphore_heir(semaphore) != 0
}

fn one_permit() -> Semaphore {
    Semaphore::new(1).unwrap()
}

fn has_a_permit(semaphore: &Semaphore) -> bool {
    semaphore.available_permits() > 0
}

fn take_permit(semaphore: &Semaphore) -> Option<Permit<'_>> {
    internals::hold(semaphore);
    Some(semaphore.acquire().unwrap())
}

fn acquire(semaphore: &Semaphore) {
    internals::hold(semaphore);
    std::mem::forget(semaphore.acquire().unwrap());
}

fn two_parties() -> Barrier {
    Barrier::new(2).unwrap()
}

fn fail_to_meet(barrier: &Barrier) {
    assert!(barrier.wait().is_err());
}

/// Submits a task that no worker claims.
fn waiting_task() -> Task<u32> {
    let shop = workshop();
    let task = shop.submit(small, (1, 2)).unwrap();
    std::mem::forget(shop);
    task
}

struct Meeting {
    mutex: Mutex<u32>,
    condvar: Condvar,
}

impl Meeting {
    fn new() -> Meeting {
        Meeting { mutex: Mutex::new(0).unwrap(), condvar: Condvar::new().unwrap() }
    }

    fn sleep(&self) {
        drop(self.condvar.wait(self.mutex.lock().unwrap()).unwrap());
    }
}
