//! What a manager promises, by behaviour.

mod family;

use std::collections::HashSet;

use family::*;
use procession::{Dict, Error, Manager, Process, Queue};

#[test]
fn the_same_name_gives_the_same_object_to_every_process() -> procession::Result<()> {
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
    assert!(manager.named("typed").dict::<String, u64>()?.is_empty(), "the name is free again");
    assert_eq!(dict.get("kept")?, Some(1), "who has a handle keeps it");
    assert!(manager.remove("typed")?);
    Ok(())
}

#[test]
fn what_has_a_name_outlives_who_made_it() -> procession::Result<()> {
    let _dog = watched();
    let make = || -> procession::Result<()> {
        let inner: Dict<u32, u32> = Manager::new()?.dict()?;
        inner.insert(&1, 2)?;
        Manager::new()?.named("outlives").dict::<u32, Dict<u32, u32>>()?.insert(&7, inner)?;
        std::process::abort()
    };
    assert!(Process::spawn(make, ())?.join().is_err());
    // Other objects come and go, and the collector looks.
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
fn what_has_no_name_is_new_each_time() -> procession::Result<()> {
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
