//! F1 to F4: the death of a process that holds something, or waits for something.

use procession::sync::{Barrier, Condvar, Event, LockError, OwnerDied, RLock, Semaphore};
use procession::{Lock, Result as Outcome};

use super::{Blocked, SECOND, doing, for_ever, ready, saw};
use crate::Result;

/// Describes the result of acquiring a lock after `pid` has died.
fn told<G>(taken: std::result::Result<G, LockError>, pid: u32) -> String {
    match taken {
        Ok(_) => "taken".into(),
        Err(LockError::OwnerDied(OwnerDied { pid: dead, .. })) if dead == pid => {
            "OwnerDied, with its pid".into()
        }
        Err(other) => format!("{other:?}"),
    }
}

fn hold_lock(path: String, lock: Lock) -> Outcome<()> {
    let _held = lock.lock()?;
    ready(&path);
    for_ever()
}

fn hold_rlock(path: String, lock: RLock) -> Outcome<()> {
    let _held = lock.lock()?;
    ready(&path);
    for_ever()
}

fn hold_permit(path: String, semaphore: Semaphore) -> Outcome<()> {
    let _held = semaphore.acquire()?;
    ready(&path);
    for_ever()
}

pub fn f1() -> Result {
    let lock = Lock::new()?;
    let dead = Blocked::spawn(hold_lock, lock.clone())?.kill()?;
    doing("Lock: lock()");
    saw(format!("Lock: lock() gives {}", told(lock.lock(), dead)));
    saw(format!("lock_or_recover(): {}", told(lock.lock_or_recover(), dead)));
    saw(format!("lock() again: {}", told(lock.lock(), dead)));
    let rlock = RLock::new()?;
    let dead = Blocked::spawn(hold_rlock, rlock.clone())?.kill()?;
    doing("RLock: lock()");
    saw(format!("RLock: lock() gives {}", told(rlock.lock(), dead)));
    let semaphore = Semaphore::new(1)?;
    Blocked::spawn(hold_permit, semaphore.clone())?.kill()?;
    doing("Semaphore: acquire()");
    let acquired = semaphore.acquire();
    saw(format!("Semaphore: acquire() gives {}", if acquired.is_ok() { "the permit" } else { "an error" }));
    Ok(())
}

fn wait_for_event(path: String, event: Event) -> Outcome<()> {
    ready(&path);
    event.wait()?;
    Ok(())
}

pub fn f2() -> Result {
    let event = Event::new()?;
    Blocked::spawn(wait_for_event, event.clone())?.kill()?;
    doing("set()");
    event.set()?;
    saw(format!("set() returns; is_set() gives {}", event.is_set()));
    doing("wait()");
    saw(format!("wait() gives {:?}", event.wait_timeout(SECOND)));
    Ok(())
}

fn wait_for_condition(path: String, (lock, condvar): (Lock, Condvar)) -> Outcome<()> {
    let held = lock.lock()?;
    ready(&path);
    drop(condvar.wait(held)?);
    Ok(())
}

pub fn f3() -> Result {
    let (lock, condvar) = (Lock::new()?, Condvar::new()?);
    let other = Blocked::spawn(wait_for_condition, (lock.clone(), condvar.clone()))?;
    Blocked::spawn(wait_for_condition, (lock.clone(), condvar.clone()))?.kill()?;
    doing("notify_all()");
    let held = lock.lock()?;
    condvar.notify_all()?;
    drop(held);
    saw("notify_all() returns");
    doing("the other waiter");
    let woken = other.0.join_timeout(SECOND).is_ok_and(|returned| returned.is_some());
    saw(format!("another waiter is {}", if woken { "woken" } else { "not woken" }));
    Ok(())
}

fn wait_at_barrier(path: String, barrier: Barrier) -> String {
    ready(&path);
    match barrier.wait() {
        Ok(_) => "passes".into(),
        Err(error) => format!("gets `{error}`"),
    }
}

pub fn f4() -> Result {
    let barrier = Barrier::new(3)?;
    let dies = Blocked::spawn(wait_at_barrier, barrier.clone())?;
    let other = Blocked::spawn(wait_at_barrier, barrier.clone())?;
    dies.kill()?;
    doing("the other waiter");
    saw(format!("the other waiter {}", other.0.join()?));
    doing("wait()");
    saw(match barrier.wait() {
        Ok(_) => "wait() passes".into(),
        Err(error) => format!("wait() gives `{error}`"),
    });
    doing("abort() and reset()");
    barrier.abort()?;
    barrier.reset()?;
    saw(format!("abort() and reset() return; {} are said to wait", barrier.waiting()));
    Ok(())
}
