//! The names of a manager: which object a name returns, how long a name lasts, and races between processes.

use std::collections::HashSet;

use crate::family::*;
use procession::state::{Array, List, Value};
use procession::sync::{Barrier, Condvar, Event, Latch, Mutex, RLock, RwLock, Semaphore};
use procession::{Dict, Error, JoinableQueue, Lock, Manager, Process, Queue};

#[test]
fn a_name_returns_the_same_object_in_every_process() -> procession::Result<()> {
    let _dog = watched();
    let work = |me: u32| -> procession::Result<()> {
        let manager = Manager::new()?;
        manager.named("same: dict").dict::<u32, String>()?.insert(&me, me.to_string())?;
        manager.named("same: list").list::<u32>()?.push(me)?;
        let lock = manager.named("same: lock").lock()?;
        let _held = lock.lock()?;
        manager.named("same: queue").queue(10)?.put(me)?;
        manager.named("same: jobs").joinable_queue(10)?.put(me)?;
        Ok(())
    };
    let workers: Vec<_> = (0..6).map(|me| Process::spawn(work, (me,))).collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()??;
    }
    let manager = Manager::new()?;
    let named = |name| manager.named(name);
    assert_eq!(named("same: dict").dict::<u32, String>()?.len(), 6);
    let all: HashSet<u32> = named("same: list").list::<u32>()?.to_vec()?.into_iter().collect();
    assert_eq!(all, (0..6).collect());
    assert_eq!(named("same: queue").queue::<u32>(10)?.len(), 6);
    assert_eq!(named("same: jobs").joinable_queue::<u32>(10)?.len(), 6);
    let names = manager.names()?;
    for what in ["dict", "list", "lock", "queue", "jobs"] {
        let name = format!("same: {what}");
        assert!(names.contains(&name), "{names:?}");
        assert_eq!((manager.remove(&name), manager.remove(&name)), (Ok(true), Ok(false)));
    }
    Ok(())
}

#[test]
fn a_name_has_one_type() -> procession::Result<()> {
    let _dog = watched();
    let manager = Manager::new()?;
    let dict = manager.named("typed").dict::<String, u32>()?;
    dict.insert("kept", 1)?;
    for error in [
        manager.named("typed").list::<u32>().err(),
        manager.named("typed").dict::<String, u64>().err(),
        manager.named("typed").lock().err(),
    ] {
        let Some(Error::InvalidArgument(why)) = error else { panic!("{error:?}") };
        assert!(why.contains("typed") && why.contains("Dict<alloc::string::String, u32>"), "{why}");
    }
    assert!(matches!(manager.named("").lock(), Err(Error::InvalidArgument(_))));
    assert!(matches!(manager.named("no queue").queue::<u8>(0), Err(Error::InvalidArgument(_))));
    assert!(!manager.names()?.contains(&"no queue".to_string()));
    assert!(manager.remove("typed")?);
    assert!(manager.named("typed").dict::<String, u64>()?.is_empty(), "the name is unused again");
    assert_eq!(dict.get("kept")?, Some(1), "a handle keeps the object");
    assert!(manager.remove("typed")?);
    Ok(())
}

#[test]
fn a_named_object_outlives_its_creator() -> procession::Result<()> {
    let _dog = watched();
    let make = || -> procession::Result<()> {
        let inner: Dict<u32, u32> = Manager::new()?.dict()?;
        inner.insert(&1, 2)?;
        Manager::new()?.named("outlives").dict::<u32, Dict<u32, u32>>()?.insert(&7, inner)?;
        std::process::abort()
    };
    assert!(Process::spawn(make, ())?.join().is_err());
    // Creates and frees other objects, so the collector runs.
    for _ in 0..20 {
        let carrier = Queue::unbounded()?;
        carrier.put(Queue::<u8>::unbounded()?)?;
    }
    let manager = Manager::new()?;
    let found = manager.named("outlives").dict::<u32, Dict<u32, u32>>()?;
    assert_eq!(found.get(&7)?.expect("it is there").get(&1)?, Some(2));
    assert!(manager.remove("outlives")?);
    Ok(())
}

#[test]
fn an_object_without_a_name_is_new_each_time() -> procession::Result<()> {
    let _dog = watched();
    let manager = Manager::new()?;
    let (one, other) = (manager.list::<u8>()?, manager.list::<u8>()?);
    one.push(1)?;
    assert!(other.is_empty());
    manager.queue::<u8>(1)?.put(1)?;
    assert!(manager.dict::<u8, u8>()?.is_empty() && manager.lock()?.lock().is_ok());
    assert_eq!(manager.joinable_queue::<u8>(3)?.len(), 0);
    Ok(())
}

/// One object of each kind. Their names have the same prefix.
type Everything = (
    (Dict<u32, u32>, List<u32>, Value<String>, Array<u32>),
    (Queue<u32>, JoinableQueue<u32>, Lock, RLock, Mutex<u32>, RwLock<u32>),
    (Semaphore, Event, Condvar, Barrier, Latch),
);

fn everything(prefix: &str) -> procession::Result<Everything> {
    let manager = Manager::new()?;
    let name = |kind: &str| format!("{prefix}: {kind}");
    macro_rules! all {
        ($($kind:ident($($arg:expr)?)),*) => { ($(manager.named(&name(stringify!($kind))).$kind($($arg)?)?),*) };
    }
    Ok((
        all!(dict(), list(), value(String::new()), array(4)),
        all!(queue(5), joinable_queue(5), lock(), rlock(), mutex(0), rwlock(0)),
        all!(semaphore(2), event(), condvar(), barrier(2), latch(1)),
    ))
}

/// Uses each object once. Two processes call this function, because some operations wait for the other
/// caller.
fn use_everything(all: &Everything, me: u32) -> procession::Result<()> {
    let ((dict, list, value, array), (queue, jobs, lock, rlock, mutex, rwlock), meetings) = all;
    let (semaphore, event, condvar, barrier, latch) = meetings;
    dict.insert(&me, me)?;
    list.push(me)?;
    value.update(|text| text.push('x'))?;
    array.lock()?[me as usize] = me;
    queue.put(me)?;
    jobs.put(me)?;
    let one = lock.lock()?;
    let (two, three) = (rlock.lock()?, rlock.lock()?);
    *mutex.lock()? += 1;
    *rwlock.write()? += 1;
    drop((one, two, three));
    let permit = semaphore.acquire()?;
    barrier.wait()?;
    drop(permit);
    if me == 1 {
        event.set()?;
        latch.count_down()?;
        *mutex.lock()? += 10;
        condvar.notify_all()?;
    }
    event.wait()?;
    latch.wait()?;
    drop(condvar.wait_while(mutex.lock()?, |n| **n < 10)?);
    Ok(())
}

#[test]
fn every_kind_of_object_can_be_named_and_sent() -> procession::Result<()> {
    let _dog = watched();
    for given in [true, false] {
        let prefix = format!("everything, given: {given}");
        let here = everything(&prefix)?;
        let child = if given {
            Process::spawn(|all: Everything| use_everything(&all, 1), (everything(&prefix)?,))?
        } else {
            Process::spawn(|prefix: String| use_everything(&everything(&prefix)?, 1), (prefix.clone(),))?
        };
        use_everything(&here, 2)?;
        child.join()??;
        let ((dict, list, value, array), (queue, jobs, lock, _, mutex, rwlock), _) = here;
        assert_eq!(
            (dict.len(), list.len(), value.get()?.as_str(), queue.len(), jobs.len()),
            (2, 2, "xx", 2, 2)
        );
        assert_eq!((&array.lock()?[..], *mutex.lock()?, *rwlock.read()?), (&[0, 1, 2, 0][..], 12, 2));
        assert_eq!(lock.name(), format!("{prefix}: lock"), "the lock has its name");
        let manager = Manager::new()?;
        let names = manager.names()?.into_iter().filter(|name| name.starts_with(&prefix));
        let names: Vec<String> = names.collect();
        assert_eq!(names.len(), 15);
        for name in names {
            assert!(manager.remove(&name)?);
        }
    }
    Ok(())
}

#[test]
fn a_name_may_be_of_any_length() -> procession::Result<()> {
    let _dog = watched();
    let manager = Manager::new()?;
    let name = "\u{e9}".repeat(5000);
    let lock = manager.named(&name).lock()?;
    assert_eq!(lock.name(), "\u{e9}".repeat(47), "a report shows the first 47 characters");
    assert!(manager.names()?.contains(&name) && manager.remove(&name)?);
    Ok(())
}

/// Many processes look up many names at the same time. Some are killed, and names are removed meanwhile.
#[test]
fn names_stay_unique_in_a_race() -> procession::Result<()> {
    let _dog = watched();
    let results = Queue::<(u32, u32)>::unbounded()?;
    let race = |results: Queue<(u32, u32)>, die: bool| -> procession::Result<()> {
        let manager = Manager::new()?;
        for n in 0..40 {
            let name = format!("race {n}");
            let count = manager.named(&name).dict::<(), u32>()?;
            count.get_or_insert_with(&(), || 0)?;
            let place = count
                .update(&(), |n| {
                    *n += 1;
                    *n
                })?
                .expect("it is there");
            results.put((n, place))?;
            if die && n == 25 {
                std::process::abort();
            }
            if n % 4 == 3 {
                manager.remove(&format!("race {}", n - 1))?;
            }
        }
        Ok(())
    };
    let racers: Vec<_> =
        (0..6).map(|n| Process::spawn(race, (results.clone(), n % 3 == 0))).collect::<Result<_, _>>()?;
    let ends: Vec<bool> =
        racers.into_iter().map(|racer| racer.join().is_ok_and(|done| done.is_ok())).collect();
    assert_eq!(ends, [false, true, true, false, true, true]);
    results.close()?;
    let mut of_kept: Vec<(u32, u32)> = results.iter().collect::<Result<_, _>>()?;
    // If no process removes a name, all processes get the same dict, and each of them reads a different count
    // from it.
    of_kept.retain(|(n, _)| n % 4 != 2);
    let (all, distinct) = (of_kept.len(), of_kept.iter().collect::<HashSet<_>>().len());
    assert_eq!((all, distinct), (6 * 30 - 2 * 10, all));
    let manager = Manager::new()?;
    for name in manager.names()?.iter().filter(|name| name.starts_with("race")) {
        manager.remove(name)?;
    }
    Ok(())
}

#[test]
fn a_label_identifies_nothing() {
    let _dog = watched();
    let labeled = Lock::labeled("till").unwrap();
    let _held = labeled.lock().unwrap();
    let named = Manager::new().unwrap().named("till").lock().unwrap();
    assert_eq!((named.name(), labeled.name()), ("till".to_string(), "till".to_string()));
    assert!(named.try_lock().is_ok(), "it is another lock");
}
