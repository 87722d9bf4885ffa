//! `Lock`: which waiters learn that the owner died or panicked, what they learn, and until when.
#![allow(unsafe_code, reason = "stops and continues processes")]

use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::sync::{LockError, LockGuard};
use procession::{Lock, Process};
use procession_testkit::proc;

#[test]
fn a_lock_of_a_dead_holder_stays_poisoned_until_it_is_recovered() {
    let _dog = watched();
    let (lock, p) = orphaned("cashier");
    for _ in 0..3 {
        let LockError::OwnerDied(who) = refusal(lock.lock()) else { panic!("{lock:?}") };
        assert_eq!((Some(who.pid), who.name.as_str()), (p.pid(), "cashier"));
    }
    let says = |lock: Lock| lock.try_lock().map(drop);
    let elsewhere = Process::spawn(says, (lock.clone(),)).unwrap().join().unwrap();
    assert!(
        matches!(&elsewhere, Err(LockError::OwnerDied(who)) if Some(who.pid) == p.pid()),
        "{elsewhere:?}"
    );
    assert!(matches!(refusal(lock.lock_timeout(Duration::from_secs(1))), LockError::OwnerDied(_)));
    assert!(matches!(refusal(lock.lock_deadline(Instant::now())), LockError::OwnerDied(_)));
    let text = refusal(lock.lock()).to_string();
    assert!(text.contains("cashier") && text.contains("lock_or_recover"), "{text}");

    let held = lock.lock_or_recover().unwrap();
    assert_eq!(held.recovered_from().map(|who| Some(who.pid)), Some(p.pid()));
    let elsewhere = Process::spawn(says, (lock.clone(),)).unwrap().join().unwrap();
    assert_eq!(elsewhere, Err(LockError::WouldBlock), "the lock is held, and no longer poisoned");
    drop(held);
    assert!(lock.lock().unwrap().recovered_from().is_none());
    assert!(lock.lock_or_recover().unwrap().recovered_from().is_none());
}

#[test]
fn every_waiter_is_notified_of_the_holder_s_death() {
    let _dog = watched();
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let p = holder("holder", &lock, &board);
    let waits = |lock: Lock| lock.lock().map(drop).unwrap_err();
    let waiting: Vec<_> = (0..4).map(|_| Process::spawn(waits, (lock.clone(),)).unwrap()).collect();
    until("all wait", || format!("{lock:?}").contains("waiters: 4"));
    p.kill().unwrap();
    for one in waiting {
        let told = one.join().unwrap();
        assert!(matches!(&told, LockError::OwnerDied(who) if Some(who.pid) == p.pid()), "{told:?}");
    }
}

#[test]
fn only_one_of_several_recovering_waiters_recovers() {
    let _dog = watched();
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let p = holder("holder", &lock, &board);
    let recovers = |lock: Lock| lock.lock_or_recover().unwrap().recovered_from().map(|who| who.pid);
    let waiting: Vec<_> = (0..4).map(|_| Process::spawn(recovers, (lock.clone(),)).unwrap()).collect();
    until("all wait", || format!("{lock:?}").contains("waiters: 4"));
    p.kill().unwrap();
    let news: Vec<_> = waiting.iter().filter_map(|one| one.join().unwrap()).collect();
    assert_eq!(news, [p.pid().unwrap()]);
}

#[test]
fn a_death_during_recovery_poisons_the_lock_again() {
    let _dog = watched();
    let (lock, first) = orphaned("first");
    let board = Board::new();
    let second = holder("second", &lock, &board);
    second.kill().unwrap();
    second.join().unwrap_err();
    let held = lock.lock_or_recover().unwrap();
    assert_eq!(held.recovered_from().map(|who| Some(who.pid)), Some(second.pid()));
    assert_ne!(first.pid(), second.pid());
}

#[test]
fn lock_or_recover_has_forms_with_and_without_a_timeout() {
    let _dog = watched();
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let p = holder("holder", &lock, &board);
    let soon = Duration::from_millis(20);
    assert_eq!(refusal(lock.try_lock_or_recover()), LockError::WouldBlock);
    assert_eq!(refusal(lock.lock_or_recover_timeout(soon)), LockError::TimedOut);
    assert_eq!(refusal(lock.lock_or_recover_deadline(Instant::now() + soon)), LockError::TimedOut);
    let waiting = std::thread::spawn({
        let lock = lock.clone();
        move || lock.lock_or_recover_timeout(Duration::MAX).map(|held| held.recovered_from().cloned())
    });
    until("one waits", || format!("{lock:?}").contains("waiters: 1"));
    p.kill().unwrap();
    let news = waiting.join().unwrap().unwrap().expect("the dead holder is named");
    assert_eq!(Some(news.pid), p.pid());
    assert!(lock.try_lock().is_ok());

    type Recover = fn(&Lock) -> Result<LockGuard<'_>, LockError>;
    let at_once: [Recover; 2] =
        [Lock::try_lock_or_recover, |lock| lock.lock_or_recover_deadline(Instant::now())];
    for recover in at_once {
        let (lock, p) = orphaned("dead");
        let held = recover(&lock).unwrap();
        assert_eq!(held.recovered_from().map(|who| Some(who.pid)), Some(p.pid()));
        drop(held);
        assert!(recover(&lock).unwrap().recovered_from().is_none());
    }
}

#[test]
fn poison_poisons_the_lock_again() {
    let _dog = watched();
    let (lock, p) = orphaned("dead");
    let held = lock.lock_or_recover().unwrap();
    assert_eq!(held.recovered_from().map(|who| Some(who.pid)), Some(p.pid()));
    held.poison();
    let LockError::Panicked(who) = refusal(lock.lock()) else { panic!("{lock:?}") };
    assert_eq!((who.pid, who.name.as_str()), (std::process::id(), "main"));
    assert_eq!(lock.lock_or_recover().unwrap().recovered_from(), Some(&who));
    assert!(lock.lock().is_ok());
}

#[test]
fn a_panic_poisons_the_lock() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let panics = |lock: Lock| -> () {
        let _held = lock.lock().unwrap();
        panic!("inside")
    };
    let p = Process::builder().name("clumsy").spawn(panics, (lock.clone(),)).unwrap();
    p.join().unwrap_err();
    let LockError::Panicked(who) = refusal(lock.lock()) else { panic!("{lock:?}") };
    assert_eq!((Some(who.pid), who.name.as_str()), (p.pid(), "clumsy"));
    drop(lock.lock_or_recover().unwrap());
    let here = lock.clone();
    thread::spawn(move || panics(here)).join().unwrap_err();
    assert!(matches!(refusal(lock.try_lock()), LockError::Panicked(who) if who.name == "main"));
    drop(lock.lock_or_recover().unwrap());
    // If a destructor acquires and drops a guard during the panic, that does not poison the lock.
    struct Locks(Lock);
    impl Drop for Locks {
        fn drop(&mut self) {
            drop(self.0.lock());
        }
    }
    let here = lock.clone();
    thread::spawn(move || {
        let _locks = Locks(here);
        panic!("outside")
    })
    .join()
    .unwrap_err();
    assert!(lock.lock().is_ok());
}

#[test]
fn a_dead_owner_s_long_name_is_cut_between_characters() {
    let _dog = watched();
    let (lock, _) = orphaned(&"ä".repeat(47));
    let LockError::OwnerDied(who) = refusal(lock.lock()) else { panic!("{lock:?}") };
    assert_eq!(who.name, "ä".repeat(16));
    let (lock, _) = orphaned(&format!("x{}", "ä".repeat(47)));
    let LockError::OwnerDied(who) = refusal(lock.lock()) else { panic!("{lock:?}") };
    assert_eq!(who.name, format!("x{}", "ä".repeat(15)));
}

#[test]
fn a_stopped_heir_does_not_keep_the_lock() {
    let _dog = watched();
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let held = lock.lock().unwrap();
    let waits = |lock: Lock, board: String| {
        post(&board, "waits", "");
        drop(lock.lock());
        forever();
    };
    let p = Process::builder().daemon(true).spawn(waits, (lock.clone(), board.path())).unwrap();
    board.wait("waits");
    let promised = || procession::internals::lock_word(&lock) >> 32 != 0;
    until("the lock is reserved for the process", promised);
    send(p.pid().unwrap(), libc::SIGSTOP);
    until("the heir is stopped", || proc::state(p.pid().unwrap()) == Some('T'));
    drop(held);
    assert!(lock.lock().is_ok(), "the lock can be acquired past a stopped heir");
    p.kill().unwrap();
    p.join().unwrap_err();
    assert!(lock.lock().is_ok(), "the killed heir had not acquired the lock, so it is not poisoned");
}
