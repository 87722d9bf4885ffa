//! An async program that awaits processes, and tasks of a pool. No thread of the runtime blocks meanwhile.

use std::time::Duration;

use procession::{Failure, Pool, Process};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Takes a while, so it should run in another process and not on a thread of the runtime.
fn count_primes(below: u32) -> usize {
    (2..below).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
}

fn hang() {
    loop {
        std::thread::park()
    }
}

#[tokio::main]
async fn main() -> procession::Result<()> {
    // `build` waits for the pool's first process, so call it before there are other async tasks to delay.
    let pool = Pool::builder().workers(2).name("primes").build()?;

    // A task is a future.
    println!("below 10: {}", pool.submit(count_primes, (10,))?.await?);

    // Awaits many tasks at the same time.
    let mut tasks = JoinSet::new();
    for below in [100, 1000, 10_000] {
        let task = pool.submit(count_primes, (below,))?;
        tasks.spawn(async move { (below, task.await) });
    }
    let mut counts = tasks.join_all().await;
    counts.sort_by_key(|(below, _)| *below);
    for (below, count) in counts {
        println!("below {below}: {}", count?);
    }

    // A process is a future, too. After a timeout, kill the process: dropping the future would only detach
    // it.
    let process = Process::builder().name("endless").spawn(hang, ())?;
    if timeout(Duration::from_millis(50), process.clone()).await.is_err() {
        process.kill()?;
    }
    match process.await.unwrap_err().failure() {
        Failure::Killed { signal, .. } => println!("endless: killed by signal {signal}"),
        other => println!("endless: {other}"),
    }

    // `join` blocks until the remaining tasks have ended, so it runs on a thread for blocking calls.
    tokio::task::spawn_blocking(move || {
        pool.close()?;
        Ok(pool.join()?)
    })
    .await
    .unwrap()
}
