//! A hundred processes count a number in a shared dict down from 100 to 0: once under a lock, and once
//! without.

use procession::{Dict, Lock, Process};

/// Reads the count and writes it in two steps, so a lock must exclude the other processes.
fn under_a_lock(dict: Dict<String, i32>, lock: Lock) -> procession::Result<()> {
    let _held = lock.lock()?;
    let count = dict.get("count")?.unwrap_or(0);
    dict.insert("count", count - 1)?;
    Ok(())
}

/// Calls `update`, which reads and writes the count in one atomic step.
fn at_once(dict: Dict<String, i32>) -> procession::Result<()> {
    dict.update("count", |count| *count -= 1)?;
    Ok(())
}

fn join(processes: Vec<Process<procession::Result<()>>>) -> procession::Result<()> {
    processes.into_iter().try_for_each(|process| process.join()?)
}

fn main() -> procession::Result<()> {
    let dict = Dict::from_entries([("count".to_string(), 100)])?;
    println!("{:?}", dict.to_map()?);

    let lock = Lock::new()?;
    let spawn = |_| Process::spawn(under_a_lock, (dict.clone(), lock.clone()));
    join((0..100).map(spawn).collect::<Result<_, _>>()?)?;
    println!("{:?}", dict.to_map()?);

    dict.insert("count", 100)?;
    let spawn = |_| Process::spawn(at_once, (dict.clone(),));
    join((0..100).map(spawn).collect::<Result<_, _>>()?)?;
    println!("{:?}", dict.to_map()?);
    Ok(())
}
