//! A pool of processes: a crash fails only its own task, a task that hangs is killed, and the pool keeps
//! working.

use std::time::Duration;

use procession::pool::{MapError, Pool, TaskError};

fn square(n: u64) -> u64 {
    match n {
        13 => std::process::abort(), // as a bug in native code would
        n => n * n,
    }
}

fn main() -> procession::Result<()> {
    let pool = Pool::builder().workers(3).name("crunch").build()?;

    let squares = pool.map(square, 0..10)?;
    println!("squares: {squares:?}");

    let results = pool.try_map(square, 12..15);
    for (n, result) in (12..15).zip(results) {
        match result {
            Ok(square) => println!("{n}: {square}"),
            Err(MapError { error: TaskError::WorkerDied { signal: Some(signal), .. }, .. }) => {
                println!("{n}: killed by signal {signal}")
            }
            Err(other) => println!("{other}"),
        }
    }

    let hasty = pool.with_task_timeout(Duration::from_millis(100))?;
    let endless = hasty.submit(
        || -> u64 {
            loop {
                std::thread::park()
            }
        },
        (),
    )?;
    match endless.get() {
        Err(TaskError::TimedOut { limit, .. }) => println!("endless: killed after {limit:?}"),
        other => println!("endless: {other:?}"),
    }

    let cubes = pool.imap(|n: u64| n * n * n, 1..).take(4).collect::<Result<Vec<_>, _>>()?;
    println!("cubes: {cubes:?}");

    pool.close()?;
    pool.join()?;
    println!("deaths: {}", pool.stats().deaths);
    Ok(())
}
