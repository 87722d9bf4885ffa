//! An async program: tasks of a pool and processes are awaited, and no thread of the runtime waits for them.

use std::time::Duration;

use procession::{Failure, Pool, Process};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Takes a while, so it belongs in a process and not in a thread of the runtime.
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
    // Making a pool waits for its first process, so it is made before there is anything to hold up.
    let pool = Pool::builder().workers(2).name("primes").build()?;

    // A task is a future.
    println!("below 10: {}", pool.submit(count_primes, (10,))?.await?);

    // Many of them, each as soon as it is done.
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

    // A process is a future, too. What takes too long is killed: dropping the future would only detach it.
    let process = Process::builder().name("endless").spawn(hang, ())?;
    if timeout(Duration::from_millis(50), process.clone()).await.is_err() {
        process.kill()?;
    }
    match process.await.unwrap_err().failure() {
        Failure::Killed { signal, .. } => println!("endless: killed by signal {signal}"),
        other => println!("endless: {other}"),
    }

    // The end waits for tasks in hand, so it has a thread of its own.
    tokio::task::spawn_blocking(move || {
        pool.close()?;
        Ok(pool.join()?)
    })
    .await
    .unwrap()
}
