//! The lock word under every interleaving that the memory model allows, deaths included.
//!
//! The word algorithms use neither shared memory nor futexes directly. So loom can run them on its own
//! atomics, with a futex made of a mutex and a condition variable. A thread that dies returns without
//! cleaning up. Another thread then does what recovery does.
//!
//! A lost wake-up shows as loom's "deadlock", which aborts the test binary, because loom panics while it
//! unwinds. To see a lost wake-up, leave out the wake in `recover`.

#![allow(unsafe_code)] // The guarded value is a plain cell, so loom sees which thread is inside.
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use procession::internals::word::{self, Outcome, Waiter, Wake, Word};

struct Lock {
    word: ModelWord,
    sleepers: Mutex<()>,
    condvar: Condvar,
    /// The guarded value. Loom reports two threads that use it at the same time.
    inside: UnsafeCell<u32>,
}

struct ModelWord(AtomicU64);

impl Word for ModelWord {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }
}

struct Sleeper<'a> {
    lock: &'a Lock,
    starving: bool,
    /// If true, the sleeper does not wait for an heir that is late.
    impatient: bool,
}

impl Waiter for Sleeper<'_> {
    // In loom, a yield forces another thread to run first. This would hide schedules.
    fn pause(&mut self, _: u32) {}

    fn expired(&mut self) -> bool {
        false
    }

    fn starving(&mut self) -> bool {
        self.starving
    }

    fn heir_is_late(&mut self) -> bool {
        self.impatient
    }

    fn park(&mut self, expected: u64) {
        let guard = self.lock.sleepers.lock().unwrap();
        if self.lock.word.load() as u32 == expected as u32 {
            drop(self.lock.condvar.wait(guard).unwrap());
        }
    }
}

impl Lock {
    fn new() -> Arc<Lock> {
        Arc::new(Lock {
            word: ModelWord(AtomicU64::new(0)),
            sleepers: Mutex::new(()),
            condvar: Condvar::new(),
            inside: UnsafeCell::new(0),
        })
    }

    fn acquire(&self, me: u32, recover: bool, starving: bool) -> Outcome {
        word::acquire(&self.word, me, recover, &mut Sleeper { lock: self, starving, impatient: false })
    }

    fn wake(&self, wake: Wake) {
        let _guard = self.sleepers.lock().unwrap();
        match wake {
            Wake::Nobody => {}
            Wake::One => self.condvar.notify_one(),
            Wake::All | Wake::Heir(_) => self.condvar.notify_all(),
        }
    }

    fn release(&self, me: u32, mark: bool) {
        self.wake(word::release(&self.word, me, mark, || {}));
    }

    fn work(&self) {
        // SAFETY: the lock is held. Loom fails the test if another thread is in here.
        self.inside.with_mut(|inside| unsafe { *inside += 1 });
    }

    fn lock_work_unlock(&self, me: u32, starving: bool) {
        assert_eq!(self.acquire(me, false, starving), Outcome::Acquired);
        self.work();
        self.release(me, false);
    }

    /// Recovers this lock after the death of the thread `dead`.
    fn recover(&self, dead: u32) {
        word::recover(&self.word, dead, || true);
        self.wake(Wake::All);
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    model_with(3, f);
}

/// Runs the model with at most this many preemptions. Each preemption multiplies the number of schedules.
fn model_with(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

#[test]
fn threads_exclude_each_other_and_no_waiter_sleeps_on() {
    model(|| {
        let lock = Lock::new();
        let threads: Vec<_> = (1..=2)
            .map(|me| {
                let lock = lock.clone();
                thread::spawn(move || lock.lock_work_unlock(me, false))
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(lock.word.load() as u32 & !(word::WAITERS as u32), 0);
    });
}

#[test]
fn a_starving_waiter_is_handed_the_lock() {
    model(|| {
        let lock = Lock::new();
        let other = lock.clone();
        let waiter = thread::spawn(move || other.lock_work_unlock(2, true));
        lock.lock_work_unlock(1, false);
        waiter.join().unwrap();
        assert_eq!(word::heir(lock.word.load()), 0);
        assert_eq!(word::owner(lock.word.load()), 0);
    });
}

#[test]
fn a_dead_owner_s_lock_is_released_and_its_waiter_gets_an_error() {
    model(|| {
        let lock = Lock::new();
        assert_eq!(lock.acquire(1, false, false), Outcome::Acquired);
        let other = lock.clone();
        let waiter = thread::spawn(move || other.acquire(2, false, false));
        lock.recover(1);
        assert_eq!(waiter.join().unwrap(), Outcome::Poisoned);
        assert_eq!(lock.word.load(), word::POISONED);
    });
}

#[test]
fn one_of_two_waiters_recovers_a_poisoned_lock() {
    model(|| {
        let lock = Lock::new();
        assert_eq!(lock.acquire(9, false, false), Outcome::Acquired);
        lock.recover(9);
        let other = lock.clone();
        let second = thread::spawn(move || {
            let outcome = other.acquire(2, true, false);
            other.work();
            other.release(2, false);
            outcome
        });
        let first = lock.acquire(1, true, false);
        lock.work();
        lock.release(1, false);
        let mut outcomes = [first, second.join().unwrap()];
        outcomes.sort_by_key(|o| *o as u32);
        assert_eq!(outcomes, [Outcome::Acquired, Outcome::Recovered]);
    });
}

#[test]
fn a_reservation_for_a_dead_heir_strands_no_waiter() {
    model(|| {
        let lock = Lock::new();
        assert_eq!(lock.acquire(1, false, false), Outcome::Acquired);
        // The heir, thread 2, has reserved the lock for itself, and dies before it sleeps.
        let promised = lock.word.load() | word::WAITERS | 2 << 32;
        assert!(lock.word.exchange(lock.word.load(), promised).is_ok());
        let other = lock.clone();
        let grave = thread::spawn(move || other.recover(2));
        lock.release(1, false);
        grave.join().unwrap();
        // The lock is free, whether the reservation was removed before the release or afterwards.
        assert_eq!(lock.word.load(), 0);
    });
}

#[test]
fn another_waiter_and_a_late_heir_exclude_each_other() {
    model_with(2, || {
        let lock = Lock::new();
        assert_eq!(lock.acquire(1, false, false), Outcome::Acquired);
        let heir = lock.clone();
        let heir = thread::spawn(move || heir.lock_work_unlock(2, true));
        let other = lock.clone();
        let other = thread::spawn(move || {
            let mut impatient = Sleeper { lock: &other, starving: false, impatient: true };
            assert_eq!(word::acquire(&other.word, 3, false, &mut impatient), Outcome::Acquired);
            other.work();
            other.release(3, false);
        });
        lock.work();
        lock.release(1, false);
        heir.join().unwrap();
        other.join().unwrap();
        assert_eq!((word::owner(lock.word.load()), word::heir(lock.word.load())), (0, 0));
    });
}

/// The heir acquires the lock or dies, while another waiter sleeps behind the heir without a timeout.
#[test]
fn no_waiter_sleeps_on_behind_a_reservation() {
    for dies in [false, true] {
        model_with(2, move || {
            let lock = Lock::new();
            assert_eq!(lock.acquire(1, false, false), Outcome::Acquired);
            let promised = lock.word.load() | word::WAITERS | 2 << 32;
            assert!(lock.word.exchange(lock.word.load(), promised).is_ok());
            let other = lock.clone();
            let other = thread::spawn(move || other.lock_work_unlock(3, false));
            let heir = lock.clone();
            let heir = thread::spawn(move || match dies {
                true => heir.recover(2),
                false => heir.lock_work_unlock(2, false),
            });
            lock.release(1, false);
            heir.join().unwrap();
            other.join().unwrap();
            assert_eq!(word::owner(lock.word.load()), 0);
        });
    }
}

/// The supervisor withdraws the turn of an owner that has not begun, while the owner tries to begin. If the
/// withdrawal succeeds, the owner does not begin.
#[test]
fn a_turn_is_either_withdrawn_or_begun() {
    model_with(2, || {
        let lock = Lock::new();
        assert_eq!(lock.acquire(1, false, false), Outcome::Acquired);
        assert!(word::set_pending(&lock.word, 1, true));
        let other = lock.clone();
        let other = thread::spawn(move || other.lock_work_unlock(2, false));
        let supervisor = lock.clone();
        let supervisor = thread::spawn(move || supervisor.wake(word::withdraw(&supervisor.word, 1, false)));
        if word::set_pending(&lock.word, 1, false) {
            lock.work();
            lock.release(1, false);
        }
        supervisor.join().unwrap();
        other.join().unwrap();
        assert_eq!(word::owner(lock.word.load()), 0);
    });
}
