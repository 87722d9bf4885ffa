//! A waiting process is stopped. It holds nothing, so other processes get what it waited for. When it is
//! continued, it goes on waiting and gets its turn.

use crate::family::{asleep, send, until, watched};
use procession::pool::Pool;
use procession::queue::{JoinableQueue, Queue};
use procession::sync::{Condvar, Event, Latch, Mutex, RwLock, Semaphore};
use procession::{Lock, Message, Process, internals};
use procession_testkit::proc;

/// Stops a process, and returns when it is stopped.
fn stop<R: Message>(p: &Process<R>) {
    let pid = p.pid().expect("it runs");
    send(pid, libc::SIGSTOP);
    until("the process is stopped", || proc::state(pid) == Some('T'));
}

/// Continues a process, which must end with success.
fn continues_and_ends<R: Message>(p: &Process<R>) {
    send(p.pid().expect("it is stopped"), libc::SIGCONT);
    p.join().unwrap_or_else(|e| panic!("its turn comes: {e}"));
}

fn is_reserved(lock: &Lock) -> bool {
    internals::word::heir(internals::lock_word(lock)) != 0
}

fn takes_lock(lock: Lock) {
    drop(lock.lock().expect("the lock, sound"));
}

#[test]
fn a_lock_is_acquired_past_its_stopped_heir() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    let heir = asleep(takes_lock, (lock.clone(),));
    until("the process is the heir", || is_reserved(&lock));
    stop(&heir);
    drop(held);
    drop(lock.lock().unwrap());
    continues_and_ends(&heir);
}

/// Both waiters sleep when the lock is released. The heir is stopped, so the other waiter must be woken.
#[test]
fn a_sleeper_acquires_a_lock_past_its_stopped_heir() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    let heir = asleep(takes_lock, (lock.clone(),));
    until("the process is the heir", || is_reserved(&lock));
    let sleepers = [(); 2].map(|()| asleep(takes_lock, (lock.clone(),)));
    stop(&heir);
    drop(held);
    sleepers.iter().for_each(|p| p.join().unwrap());
    continues_and_ends(&heir);
}

#[test]
fn each_of_many_stopped_waiters_delays_a_lock_once() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    let stopped = [(); 4].map(|()| asleep(takes_lock, (lock.clone(),)));
    stopped.iter().for_each(stop);
    let last = asleep(takes_lock, (lock.clone(),));
    drop(held);
    last.join().unwrap();
    for _ in 0..1000 {
        drop(lock.lock().unwrap());
    }
    stopped.iter().for_each(continues_and_ends);
    assert!(lock.lock().is_ok(), "the lock is free, and not poisoned");
}

fn takes_permit(permits: Semaphore) {
    drop(permits.acquire().expect("a permit"));
}

#[test]
fn permits_are_acquired_past_a_stopped_heir() {
    let _dog = watched();
    let permits = Semaphore::new(4).unwrap();
    let held: Vec<_> = (0..4).map(|_| permits.acquire().unwrap()).collect();
    let heir = asleep(takes_permit, (permits.clone(),));
    until("the process is the heir", || internals::semaphore_heir(&permits) != 0);
    stop(&heir);
    drop(held);
    let all: Vec<_> = (0..4).map(|_| permits.acquire().unwrap()).collect();
    drop(all);
    continues_and_ends(&heir);
    assert_eq!(permits.available_permits(), 4);
}

#[test]
fn sleepers_acquire_permits_past_a_stopped_heir() {
    let _dog = watched();
    let permits = Semaphore::new(2).unwrap();
    let held: Vec<_> = (0..2).map(|_| permits.acquire().unwrap()).collect();
    let heir = asleep(takes_permit, (permits.clone(),));
    until("the process is the heir", || internals::semaphore_heir(&permits) != 0);
    let sleepers = [(); 2].map(|()| asleep(takes_permit, (permits.clone(),)));
    stop(&heir);
    drop(held);
    sleepers.iter().for_each(|p| p.join().unwrap());
    continues_and_ends(&heir);
}

#[test]
fn readers_and_writers_pass_a_stopped_waiter() {
    let _dog = watched();
    let lock = RwLock::new(0u64).unwrap();
    let reads = |lock: RwLock<u64>| *lock.read().unwrap();
    let writes = |lock: RwLock<u64>| *lock.write().unwrap() += 1;
    let held = lock.write().unwrap();
    let (reader, writer) = (asleep(reads, (lock.clone(),)), asleep(writes, (lock.clone(),)));
    stop(&reader);
    stop(&writer);
    let (next_reader, next_writer) = (asleep(reads, (lock.clone(),)), asleep(writes, (lock.clone(),)));
    drop(held);
    next_writer.join().unwrap();
    next_reader.join().unwrap();
    assert!(*lock.read().unwrap() >= 1);
    continues_and_ends(&writer);
    continues_and_ends(&reader);
    assert_eq!(*lock.read().unwrap(), 2);
}

/// A writer that waits for readers blocks later readers. A stopped writer does not block them, whether the
/// earlier readers still hold the lock or have left.
#[test]
fn readers_and_writers_pass_a_stopped_writer_that_waits_for_readers() {
    let _dog = watched();
    let lock = RwLock::new(0u64).unwrap();
    let reads = |lock: RwLock<u64>| *lock.read().unwrap();
    let writes = |lock: RwLock<u64>| *lock.write().unwrap() += 1;
    let inside = lock.read().unwrap();
    let stopped = asleep(writes, (lock.clone(),));
    let reader = asleep(reads, (lock.clone(),));
    stop(&stopped);
    assert_eq!(reader.join().unwrap(), 0);
    let writer = asleep(writes, (lock.clone(),));
    drop(inside);
    writer.join().unwrap();
    assert_eq!(*lock.read().unwrap(), 1);
    continues_and_ends(&stopped);
    assert_eq!(*lock.write().unwrap(), 2);
}

/// An item that is put while a sleeping consumer is stopped goes to another consumer.
#[test]
fn items_are_consumed_past_a_stopped_consumer() {
    let _dog = watched();
    let (queue, joinable) = (Queue::<u64>::unbounded().unwrap(), JoinableQueue::<u64>::unbounded().unwrap());
    let gets = |queue: Queue<u64>| queue.get().unwrap();
    let does = |queue: JoinableQueue<u64>| queue.get().unwrap().done().unwrap();
    for _ in 0..2 {
        let (stopped, stopped_too) = (asleep(gets, (queue.clone(),)), asleep(does, (joinable.clone(),)));
        let (other, other_too) = (asleep(gets, (queue.clone(),)), asleep(does, (joinable.clone(),)));
        stop(&stopped);
        stop(&stopped_too);
        queue.put(1).unwrap();
        joinable.put(1).unwrap();
        assert_eq!(other.join().unwrap(), 1);
        other_too.join().unwrap();
        joinable.join().unwrap();
        queue.put(2).unwrap();
        joinable.put(2).unwrap();
        continues_and_ends(&stopped);
        continues_and_ends(&stopped_too);
    }
}

#[test]
fn producers_put_past_a_stopped_producer() {
    let _dog = watched();
    let queue = Queue::<u64>::bounded(1).unwrap();
    queue.put(0).unwrap();
    let puts = |queue: Queue<u64>, n: u64| queue.put(n).unwrap();
    let stopped = asleep(puts, (queue.clone(), 1));
    let other = asleep(puts, (queue.clone(), 2));
    stop(&stopped);
    assert_eq!(queue.get().unwrap(), 0);
    other.join().unwrap();
    assert_eq!(queue.get().unwrap(), 2);
    continues_and_ends(&stopped);
    assert_eq!(queue.get().unwrap(), 1);
}

#[test]
fn tasks_are_done_while_idle_workers_are_stopped() {
    let _dog = watched();
    let pool = Pool::new(3).unwrap();
    pool.map(|n: u32| n, 0..100).unwrap();
    until("every worker has started", || pool.stats().pids.len() == 3);
    let pids = pool.stats().pids;
    until("every worker is idle", || pids.iter().all(|&pid| proc::is_parked(pid)));
    for &pid in &pids[..2] {
        send(pid, libc::SIGSTOP);
        until("the worker is stopped", || proc::state(pid) == Some('T'));
    }
    for n in 0..20 {
        assert_eq!(pool.apply(|n: u32| n, (n,)).unwrap(), n);
    }
    pids[..2].iter().for_each(|&pid| send(pid, libc::SIGCONT));
    assert_eq!(pool.map(|n: u32| n, 0..100).unwrap().len(), 100);
}

#[test]
fn a_stopped_waiter_does_not_keep_others_from_being_notified() {
    let _dog = watched();
    let (event, latch) = (Event::new().unwrap(), Latch::new(1).unwrap());
    let waits = |event: Event, latch: Latch| {
        event.wait().unwrap();
        latch.wait().unwrap();
    };
    let [stopped, other] = [(); 2].map(|()| asleep(waits, (event.clone(), latch.clone())));
    stop(&stopped);
    event.set().unwrap();
    latch.count_down().unwrap();
    other.join().unwrap();
    continues_and_ends(&stopped);
}

/// One notification wakes one waiter that can run.
#[test]
fn a_notification_does_not_go_to_a_stopped_waiter() {
    let _dog = watched();
    let (mutex, condvar) = (Mutex::new(0u32).unwrap(), Condvar::new().unwrap());
    let waits = |mutex: Mutex<u32>, condvar: Condvar| {
        let held = condvar.wait_while(mutex.lock().unwrap(), |n| **n == 0).unwrap();
        drop(held);
    };
    let [stopped, other] = [(); 2].map(|()| asleep(waits, (mutex.clone(), condvar.clone())));
    stop(&stopped);
    *mutex.lock().unwrap() = 1;
    condvar.notify_one().unwrap();
    other.join().unwrap();
    continues_and_ends(&stopped);
}
