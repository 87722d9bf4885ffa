//! Calls that fail because they would block or have timed out. Each group of types reports this by its own
//! error, with the two exceptions that the crate's documentation names.

use std::time::{Duration, Instant};

use crate::family::*;
use procession::process::{try_wait_any, wait_any_deadline, wait_any_timeout};
use procession::queue::{GetError, JoinError, PutError, SelectError};
use procession::queue::{select_deadline, select_timeout, try_select};
use procession::sync::{Condvar, Latch, Once};
use procession::{
    AnyProcess, Barrier, Error, Event, JoinableQueue, Lock, LockError, Mutex, Pool, Queue, RLock, RwLock,
    Semaphore, Value, WaitError, pipe,
};

const SOON: Duration = Duration::from_millis(5);

fn deadline() -> Instant {
    Instant::now() + SOON
}

/// Asserts that the three forms of a call (`try_`, `_timeout`, `_deadline`) fail with this error.
macro_rules! fail {
    ($($call:expr => $error:pat),+ $(,)?) => {$(
        match $call {
            Err($error) => {}
            other => panic!("{}: {:?}", stringify!($call), other.map(drop)),
        }
    )+};
}

/// Runs `hold` in another process, and returns when `hold` has acquired `thing`.
fn held<T: procession::Message + Clone>(
    thing: &T,
    hold: impl procession::process::Entry<(T, Queue<()>), Output = ()>,
) {
    let ready = Queue::bounded(1).unwrap();
    let builder = procession::Process::builder().daemon(true);
    builder.spawn(hold, (thing.clone(), ready.clone())).unwrap();
    ready.get().unwrap();
}

fn stay(ready: &Queue<()>) {
    ready.put(()).unwrap();
    forever();
}

#[test]
fn locks_report_would_block_or_timed_out() {
    let _dog = watched();
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    let (mutex, rwlock) = (Mutex::new(0u8).unwrap(), RwLock::new(0u8).unwrap());
    let (once, value) = (Once::new().unwrap(), Value::new(0u8).unwrap());
    held(&lock, |lock: Lock, ready: Queue<()>| {
        let _held = lock.lock();
        stay(&ready);
    });
    held(&rlock, |lock: RLock, ready: Queue<()>| {
        let _held = lock.lock();
        stay(&ready);
    });
    held(&mutex, |mutex: Mutex<u8>, ready: Queue<()>| {
        let _held = mutex.lock();
        stay(&ready);
    });
    held(&rwlock, |lock: RwLock<u8>, ready: Queue<()>| {
        let _held = lock.write();
        stay(&ready);
    });
    held(&once, |once: Once, ready: Queue<()>| drop(once.call_once(|| stay(&ready))));
    held(&value, |value: Value<u8>, ready: Queue<()>| drop(value.update(|_| stay(&ready))));
    fail! {
        lock.try_lock() => LockError::WouldBlock,
        lock.lock_timeout(SOON) => LockError::TimedOut,
        lock.lock_deadline(deadline()) => LockError::TimedOut,
        lock.try_lock_or_recover() => LockError::WouldBlock,
        lock.lock_or_recover_timeout(SOON) => LockError::TimedOut,
        lock.lock_or_recover_deadline(deadline()) => LockError::TimedOut,
        rlock.try_lock() => LockError::WouldBlock,
        rlock.lock_timeout(SOON) => LockError::TimedOut,
        rlock.lock_deadline(deadline()) => LockError::TimedOut,
        mutex.try_lock() => LockError::WouldBlock,
        mutex.lock_timeout(SOON) => LockError::TimedOut,
        mutex.lock_deadline(deadline()) => LockError::TimedOut,
        rwlock.try_read() => LockError::WouldBlock,
        rwlock.read_timeout(SOON) => LockError::TimedOut,
        rwlock.read_deadline(deadline()) => LockError::TimedOut,
        rwlock.try_write() => LockError::WouldBlock,
        rwlock.write_timeout(SOON) => LockError::TimedOut,
        rwlock.write_deadline(deadline()) => LockError::TimedOut,
        once.try_call_once(|| ()) => LockError::WouldBlock,
        once.call_once_timeout(SOON, || ()) => LockError::TimedOut,
        once.call_once_deadline(deadline(), || ()) => LockError::TimedOut,
        once.try_wait() => LockError::WouldBlock,
        once.wait_timeout(SOON) => LockError::TimedOut,
        once.wait_deadline(deadline()) => LockError::TimedOut,
        value.try_set(1) => Error::Lock(LockError::WouldBlock),
        value.set_timeout(1, SOON) => Error::Lock(LockError::TimedOut),
        value.set_deadline(1, deadline()) => Error::Lock(LockError::TimedOut),
        value.try_update(|_| ()) => Error::Lock(LockError::WouldBlock),
        value.update_timeout(SOON, |_| ()) => Error::Lock(LockError::TimedOut),
        value.update_deadline(deadline(), |_| ()) => Error::Lock(LockError::TimedOut),
    }
}

#[test]
fn waits_report_would_block_or_timed_out() {
    let _dog = watched();
    let (semaphore, event) = (Semaphore::new(0).unwrap(), Event::new().unwrap());
    let (latch, barrier) = (Latch::new(1).unwrap(), Barrier::new(2).unwrap());
    fail! {
        semaphore.try_acquire() => WaitError::WouldBlock,
        semaphore.acquire_timeout(SOON) => WaitError::TimedOut,
        semaphore.acquire_deadline(deadline()) => WaitError::TimedOut,
        event.try_wait() => WaitError::WouldBlock,
        event.wait_timeout(SOON) => WaitError::TimedOut,
        event.wait_deadline(deadline()) => WaitError::TimedOut,
        latch.try_wait() => WaitError::WouldBlock,
        latch.wait_timeout(SOON) => WaitError::TimedOut,
        latch.wait_deadline(deadline()) => WaitError::TimedOut,
        barrier.wait_timeout(SOON) => WaitError::TimedOut,
    }
    barrier.reset().unwrap();
    fail!(barrier.wait_deadline(deadline()) => WaitError::TimedOut);
    let p = sleeper();
    let any = [AnyProcess::from(&p)];
    fail! {
        any[0].try_wait() => Error::Wait(WaitError::WouldBlock),
        any[0].wait_timeout(SOON) => Error::Wait(WaitError::TimedOut),
        any[0].wait_deadline(deadline()) => Error::Wait(WaitError::TimedOut),
        try_wait_any(&any) => Error::Wait(WaitError::WouldBlock),
        wait_any_timeout(&any, SOON) => Error::Wait(WaitError::TimedOut),
        wait_any_deadline(&any, deadline()) => Error::Wait(WaitError::TimedOut),
    }
    kill(&p);
    assert!(matches!(any[0].try_wait(), Err(Error::Process(_))), "the error says how the process ended");
}

#[test]
fn queues_report_full_or_empty() {
    let _dog = watched();
    let (full, empty) = (Queue::bounded(1).unwrap(), Queue::<u8>::bounded(1).unwrap());
    full.put(1u8).unwrap();
    fail! {
        full.try_put(2) => PutError::Full(2),
        full.put_timeout(2, SOON) => PutError::Full(2),
        full.put_deadline(2, deadline()) => PutError::Full(2),
        full.try_put_many([2]) => PutError::Full(_),
        full.put_many_timeout([2], SOON) => PutError::Full(_),
        full.put_many_deadline([2], deadline()) => PutError::Full(_),
        empty.try_get() => GetError::Empty,
        empty.get_timeout(SOON) => GetError::Empty,
        empty.get_deadline(deadline()) => GetError::Empty,
        empty.try_get_many(1) => GetError::Empty,
        empty.get_many_timeout(1, SOON) => GetError::Empty,
        empty.get_many_deadline(1, deadline()) => GetError::Empty,
    }
    let (full, empty) = (JoinableQueue::bounded(1).unwrap(), JoinableQueue::<u8>::bounded(1).unwrap());
    full.put(1u8).unwrap();
    fail! {
        full.try_put(2) => PutError::Full(2),
        full.put_timeout(2, SOON) => PutError::Full(2),
        full.put_deadline(2, deadline()) => PutError::Full(2),
        full.try_join() => JoinError::WouldBlock,
        full.join_timeout(SOON) => JoinError::TimedOut,
        full.join_deadline(deadline()) => JoinError::TimedOut,
        empty.try_get() => GetError::Empty,
        empty.get_timeout(SOON) => GetError::Empty,
        empty.get_deadline(deadline()) => GetError::Empty,
    }
    let (a, _b) = pipe::<u8, u8>().unwrap();
    fail! {
        a.try_recv() => GetError::Empty,
        a.recv_timeout(SOON) => GetError::Empty,
        a.recv_deadline(deadline()) => GetError::Empty,
        a.poll_timeout(SOON) => GetError::Empty,
        a.poll_deadline(deadline()) => GetError::Empty,
        try_select(&[&a]) => SelectError::WouldBlock,
        select_timeout(&[&a], SOON) => SelectError::TimedOut,
        select_deadline(&[&a], deadline()) => SelectError::TimedOut,
    }
}

#[test]
fn tasks_and_pools_report_not_done() {
    use procession::pool::TaskError;
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(forever, ()).unwrap();
    pool.close().unwrap();
    fail! {
        task.try_get() => TaskError::NotDone,
        task.get_timeout(SOON) => TaskError::NotDone,
        task.get_deadline(deadline()) => TaskError::NotDone,
        pool.try_join() => JoinError::WouldBlock,
        pool.join_timeout(SOON) => JoinError::TimedOut,
        pool.join_deadline(deadline()) => JoinError::TimedOut,
    }
    task.cancel();
}

#[test]
fn joining_a_process_and_waiting_on_a_condition_return_ok() {
    let _dog = watched();
    let p = sleeper();
    assert_eq!(
        (p.try_join(), p.join_timeout(SOON), p.join_deadline(deadline())),
        (Ok(None), Ok(None), Ok(None))
    );
    kill(&p);
    let (lock, condvar) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let (held, waited) = condvar.wait_timeout(lock.lock().unwrap(), SOON).unwrap();
    assert!(waited.timed_out(), "the guard is returned with the lock held");
    drop(held);
}
