//! A plain fork of a member, made by `fork`. Every library call fails in the fork, and whatever the fork does
//! harms no other process.
#![allow(unsafe_code, reason = "forks, closes descriptors, kills")]

use crate::family;
use std::time::Duration;

use crate::family::*;
use procession::pool::{TaskError, as_completed};
use procession::queue::{GetError, PutError};
use procession::sync::{Latch, Once};
use procession::{
    Array, Barrier, Condvar, Dict, Error, Event, JoinableQueue, List, Lock, LockError, Manager, Mutex, Pool,
    Process, Queue, RLock, RwLock, Semaphore, Value, WaitError, pipe, select,
};
use procession_testkit::{isolated, proc};

type Expectation = (&'static str, fn(&Lock, &Process<()>) -> bool);

const IN_A_FORK: &[Expectation] = &[
    ("a new lock", |_, _| matches!(Lock::new(), Err(Error::Forked))),
    ("lock", |lock, _| matches!(lock.lock(), Err(LockError::Unusable(_)))),
    ("try_lock", |lock, _| matches!(lock.try_lock(), Err(LockError::Unusable(_)))),
    ("lock_or_recover", |lock, _| matches!(lock.lock_or_recover(), Err(LockError::Unusable(_)))),
    ("a lock's name", |lock, _| lock.name().is_empty()),
    ("a lock's Debug", |lock, _| !format!("{lock:?}").is_empty()),
    ("cloning and dropping", |lock, child| {
        drop((lock.clone(), child.clone()));
        true
    }),
    ("spawning", |_, _| matches!(Process::spawn(|| (), ()), Err(Error::Forked))),
    ("the current process", |_, _| matches!(procession::current_process(), Err(Error::Forked))),
    ("the parent", |_, _| matches!(procession::parent_process(), Err(Error::Forked))),
    ("the children", |_, _| matches!(procession::active_children(), Err(Error::Forked))),
    ("killing", |_, child| matches!(child.kill(), Err(Error::Forked))),
    ("a pidfd", |_, child| matches!(child.pidfd(), Err(Error::Forked))),
    ("join", |_, child| child.join().is_err()),
    ("try_join", |_, child| child.try_join().is_err()),
    ("a process's Debug", |_, child| !format!("{child:?}").is_empty()),
    ("a process's name", |_, child| child.name().len() < 96),
    ("a process's number", |_, child| child.pid().is_none_or(|pid| pid > 0)),
    ("is_alive", |_, child| [true, false].contains(&child.is_alive())),
    ("a process's status", |_, child| child.exit_status().is_none()),
];

/// Returns the names of the expectations that do not hold in a plain fork of this process.
fn broken_in_a_fork(lock: &Lock, child: &Process<()>) -> Vec<String> {
    let broken = IN_A_FORK.iter().filter(|(_, expectation)| !holds_in_a_fork(|| expectation(lock, child)));
    let mut names: Vec<String> = broken.map(|(name, _)| name.to_string()).collect();
    let held = lock.lock().unwrap();
    // SAFETY: dropped in the fork, while the original lives on here.
    let twin = unsafe { std::ptr::read(&raw const held) };
    if !holds_in_a_fork(move || (!format!("{twin:?}").is_empty(), drop(twin)).0) {
        names.push("a guard".into());
    }
    if Process::spawn(|lock: Lock| lock.try_lock().is_err(), (lock.clone(),)).unwrap().join() != Ok(true) {
        names.push("the fork let go of the original's lock".into());
    }
    names
}

#[test]
fn a_fork_of_a_child_is_refused_and_harms_no_process() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let p = Process::spawn(
        |lock: Lock| {
            let child = sleeper();
            let broken = broken_in_a_fork(&lock, &child);
            let alive = child.is_alive();
            child.kill().unwrap();
            child.join().unwrap_err();
            (broken, alive)
        },
        (lock.clone(),),
    );
    assert_eq!(p.unwrap().join(), Ok((vec![], true)));
    assert!(lock.try_lock().is_ok());
}

/// The fork returns from the function, as the original process does, or panics in it.
#[test]
fn a_fork_that_returns_from_the_function_is_no_member() {
    let _dog = watched();
    let forks = |panics: bool| -> i32 {
        // SAFETY: the process has one thread.
        match unsafe { libc::fork() } {
            0 if panics => panic!("the copy"),
            0 => -1,
            copy => {
                let mut status = 0;
                // SAFETY: `status` is a valid place.
                assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
                status
            }
        }
    };
    let p = Process::spawn(forks, (false,)).unwrap();
    assert_eq!(p.join(), Ok(0), "the copy's status");
    assert!(p.exit_status().is_some_and(|status| status.success()));
    assert_eq!(Process::spawn(forks, (true,)).unwrap().join(), Ok(101 << 8), "the copy's status");
}

#[test]
fn a_fork_of_main_is_refused_and_harms_no_process() {
    isolated!({
        let lock = Lock::new().unwrap();
        let child = sleeper();
        let supervisor = family::supervisor();
        assert_eq!(broken_in_a_fork(&lock, &child), Vec::<String>::new());
        assert!(child.is_alive() && !proc::gone(supervisor), "the end of the fork does not end the family");
        assert!(lock.try_lock().is_ok());
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
    });
}

#[test]
fn a_dict_and_a_list_are_refused_in_a_fork() {
    isolated!({
        let dict = Dict::from_entries([(1, "one".to_string())]).unwrap();
        let list = List::from_items(["one".to_string()]).unwrap();
        let refused = || {
            let new = "new".to_string();
            let dict = [
                dict.get(&1).err(),
                dict.contains_key(&1).err(),
                dict.insert(&1, new.clone()).err(),
                dict.remove(&1).err(),
                dict.update(&1, |_| ()).err(),
                dict.compare_exchange(&1, &new, new.clone()).err(),
                dict.get_or_insert_with(&1, || new.clone()).err(),
                dict.iter().next().and_then(Result::err),
                dict.clear().err(),
            ];
            let list = [
                list.get(0).err(),
                list.push(new.clone()).err(),
                list.pop().err(),
                list.set(0, new.clone()).err(),
                list.insert(0, new.clone()).err(),
                list.remove(0).err(),
                list.update(0, |_| ()).err(),
                list.to_vec().err(),
                list.clear().err(),
            ];
            dict.into_iter().chain(list).all(|error| error == Some(Error::Forked))
        };
        assert!(holds_in_a_fork(refused));
        assert!(holds_in_a_fork(|| dict.is_empty() && list.is_empty() && Manager::new().is_err()));
        assert_eq!((dict.get(&1).unwrap().as_deref(), list.len()), (Some("one"), 1));
    });
}

#[test]
fn a_fork_before_the_first_use_can_launch_its_own_family() {
    isolated!({
        let works = || {
            let lock = Lock::new().unwrap();
            let _held = lock.lock().unwrap();
            let refused = Process::spawn(|lock: Lock| lock.try_lock().is_err(), (lock.clone(),)).unwrap();
            refused.join() == Ok(true)
        };
        assert!(holds_in_a_fork(works));
        assert!(works());
    });
}

/// Operations on queues and pipes fail in a fork, or do nothing.
#[test]
fn queues_and_pipes_refuse_a_fork() {
    isolated!({
        let (queue, work) = (Queue::bounded(3).unwrap(), JoinableQueue::bounded(3).unwrap());
        let (here, _there) = pipe::<u8, u8>().unwrap();
        queue.put(1u8).unwrap();
        work.put(1u8).unwrap();
        let refused = || {
            matches!(queue.put(2), Err(PutError::Unusable(2, _)))
                && matches!(queue.get(), Err(GetError::Unusable(_)))
                && !queue.is_closed()
                && queue.close().is_err()
                && work.get().is_err()
                && work.join().is_err()
                && matches!(work.dead_letters().take(3).collect::<Vec<_>>()[..], [Err(GetError::Unusable(_))])
                && matches!(work.iter().take(3).collect::<Vec<_>>()[..], [Err(GetError::Unusable(_))])
                && matches!(queue.iter().take(3).collect::<Vec<_>>()[..], [Err(GetError::Unusable(_))])
                && matches!(here.poll_timeout(Duration::ZERO), Err(GetError::Unusable(_)))
                && here.send(1).is_err()
                && select(&[&queue, &here]).is_err()
                && !format!("{queue:?} {work:?} {here:?}").is_empty()
        };
        assert!(holds_in_a_fork(refused));
        assert_eq!((queue.get(), work.len()), (Ok(1), 1));
    });
}

#[test]
fn a_pool_refuses_a_fork() {
    isolated!({
        let pool = Pool::new(1).unwrap();
        let task = pool.submit(|| 1, ()).unwrap();
        let mut squares = pool.imap(|n: u64| n * n, 0..);
        assert_eq!(squares.next(), Some(Ok(0)));
        let refused = |error: &TaskError| matches!(error, TaskError::Unusable(_));
        assert!(holds_in_a_fork(|| pool.submit(|| 1, ()).is_err_and(|e| refused(&e))));
        assert!(holds_in_a_fork(|| pool.map(|n: u32| n, [1]).is_err_and(|e| refused(&e.error))));
        assert!(holds_in_a_fork(|| pool.try_map(|n: u32| n, [1, 2]).len() == 2));
        assert!(holds_in_a_fork(|| pool.submit_map(|n: u32| n, [1]).is_err()));
        assert!(holds_in_a_fork(|| pool.imap_unordered(|n: u32| n, 0..).next().unwrap().is_err()));
        assert!(holds_in_a_fork(|| task.get().is_err_and(|e| refused(&e))
            && !task.is_done()
            && !task.cancel()));
        assert!(holds_in_a_fork(|| task.on_done(|_| ()).is_err() && !format!("{task:?}{pool:?}").is_empty()));
        assert!(holds_in_a_fork(|| as_completed([task.clone()]).count() == 1));
        assert!(holds_in_a_fork(|| pool.stats().pids.is_empty() && pool.resize(3).is_err()));
        assert!(holds_in_a_fork(|| pool.close().is_err()
            && pool.terminate().is_err()
            && pool.join().is_err()));
        // SAFETY: dropped in the fork, while the original lives on here.
        let twin = unsafe { std::ptr::read(&raw const squares) };
        let other = pool.clone();
        assert!(holds_in_a_fork(move || {
            drop((twin, other));
            true
        }));
        assert_eq!((task.get(), squares.nth(9)), (Ok(1), Some(Ok(100))));
    });
}

/// Operations on synchronization objects, values and arrays fail in a fork. A guard that the fork drops stays
/// held in the original process.
#[test]
fn synchronization_objects_refuse_a_fork() {
    isolated!({
        let (lock, again) = (Mutex::new(7u32).unwrap(), RLock::new().unwrap());
        let (shared, array) = (RwLock::new(1u8).unwrap(), Array::<u8>::new(3).unwrap());
        let (event, latch, once) = (Event::new().unwrap(), Latch::new(1).unwrap(), Once::new().unwrap());
        let (barrier, condvar) = (Barrier::new(1).unwrap(), Condvar::new().unwrap());
        let (semaphore, value) = (Semaphore::new(1).unwrap(), Value::new(5u32).unwrap());
        let (_held, _again) = (again.lock().unwrap(), again.lock().unwrap());
        let _guards = (lock.lock().unwrap(), shared.read().unwrap(), array.lock().unwrap());
        let _permit = semaphore.acquire().unwrap();
        let refused = || {
            let unusable = |error: Option<LockError>| matches!(error, Some(LockError::Unusable(_)));
            let locks = [
                lock.lock().map(drop).err(),
                lock.try_lock_or_recover().map(drop).err(),
                again.lock().map(drop).err(),
                shared.read().map(drop).err(),
                shared.write().map(drop).err(),
                shared.try_read().map(drop).err(),
                array.lock().map(drop).err(),
                once.call_once(|| ()).err(),
                once.wait().err(),
            ];
            let waits = [
                event.wait().err(),
                latch.wait().err(),
                barrier.wait().map(drop).err(),
                semaphore.acquire().map(drop).err(),
                semaphore.try_acquire().map(drop).err(),
            ];
            let changes = [
                event.set().err(),
                event.clear().err(),
                latch.count_down().err(),
                barrier.abort().err(),
                barrier.reset().err(),
                condvar.notify_all().err(),
                semaphore.add_permits(1).err(),
                value.get().err(),
                value.set(1).err(),
                value.update(|_| ()).err(),
                Mutex::new(1u8).map(drop).err(),
                Barrier::new(1).map(drop).err(),
                Semaphore::new(1).map(drop).err(),
            ];
            let text = format!("{lock:?} {again:?} {shared:?} {array:?} {event:?} {latch:?} {once:?}")
                + &format!("{barrier:?} {condvar:?} {semaphore:?} {value:?}");
            locks.into_iter().all(unusable)
                && waits.into_iter().all(|error| matches!(error, Some(WaitError::Unusable(_))))
                && changes.into_iter().all(|error| error == Some(Error::Forked))
                && !text.is_empty()
                && !event.is_set()
        };
        assert!(holds_in_a_fork(refused));
        // SAFETY: twins that are dropped in the fork, while the originals live on here.
        let twins = unsafe { (std::ptr::read(&raw const _guards), std::ptr::read(&raw const _permit)) };
        // SAFETY: as above.
        let more = unsafe { (std::ptr::read(&raw const _held), std::ptr::read(&raw const _again)) };
        assert!(holds_in_a_fork(move || {
            drop((twins, more));
            true
        }));
        let held = |args: (Mutex<u32>, RLock, RwLock<u8>, Array<u8>, Semaphore)| {
            let (lock, again, shared, array, semaphore) = args;
            lock.try_lock().is_err()
                && again.try_lock().is_err()
                && shared.try_write().is_err()
                && shared.try_read().is_ok()
                && array.try_lock().is_err()
                && semaphore.try_acquire().is_err()
        };
        let args = (lock.clone(), again.clone(), shared.clone(), array.clone(), semaphore.clone());
        assert_eq!(Process::spawn(held, (args,)).unwrap().join(), Ok(true));
        assert!(barrier.wait().is_ok() && value.get() == Ok(5) && !event.is_set());
    });
}
