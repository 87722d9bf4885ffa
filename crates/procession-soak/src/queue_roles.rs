//! Roles that use queues and pools.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use procession::Result;
use procession::pool::TaskError;
use procession::queue::{GetError, PutError};

use super::outside::{DONE, JOINABLE, Outside, POOL, QUEUE, TAKEN, WORKED};
use super::roles::{Actor, LIMIT, MOST_PUTS};
use super::shared::Item;

impl Actor {
    pub(super) fn item(&mut self, kind: usize) -> Option<Item> {
        if self.outside.words.puts.fetch_add(1, Relaxed) >= MOST_PUTS {
            std::thread::sleep(Duration::from_millis(1));
            return None;
        }
        let long = match self.rng.below(20) {
            0 => self.rng.below(100_000),
            1..4 => self.rng.below(3_000),
            _ => self.rng.below(40),
        };
        let sequence = self.outside.acknowledged(kind, self.number);
        Some((self.number, sequence, vec![sequence as u8; long as usize]))
    }

    pub(super) fn check(&self, item: &Item) {
        let (number, sequence, bytes) = item;
        if bytes.iter().any(|byte| *byte != *sequence as u8) {
            self.fault(format!("item {number}.{sequence} is damaged"));
        }
    }

    /// Returns whether the put succeeded. The end of the round closes the queue.
    pub(super) fn has_put<T>(&self, put: Result<(), PutError<T>>) -> bool {
        match put {
            Ok(()) => true,
            Err(PutError::Closed(_)) => false,
            Err(error) => {
                self.fault(format!("a put fails with {error:?}"));
                false
            }
        }
    }

    pub(super) fn put(&mut self) -> Result<()> {
        let Some(item) = self.item(QUEUE) else { return Ok(()) };
        let sequence = item.1;
        let queue = self.shared.queue.clone();
        if self.has_put(queue.put_timeout(item, LIMIT)) {
            self.outside.acknowledge(QUEUE, self.number, sequence + 1);
        }
        Ok(())
    }

    pub(super) fn get(&mut self) -> Result<()> {
        match self.shared.queue.get_timeout(LIMIT) {
            Ok(item) => {
                self.outside.ledger.record([TAKEN, item.0, item.1, self.number]);
                self.check(&item);
            }
            Err(GetError::Closed) => std::thread::sleep(Duration::from_millis(1)),
            Err(GetError::Empty) if self.outside.words.puts.load(Relaxed) >= MOST_PUTS => {}
            Err(error) => self.fault(format!("a get fails with {error:?}")),
        }
        Ok(())
    }

    pub(super) fn give(&mut self) -> Result<()> {
        let Some(item) = self.item(JOINABLE) else { return Ok(()) };
        let sequence = item.1;
        let queue = self.shared.joinable.clone();
        if self.has_put(queue.put_timeout(item, LIMIT)) {
            self.outside.acknowledge(JOINABLE, self.number, sequence + 1);
        }
        Ok(())
    }

    pub(super) fn work(&mut self) -> Result<()> {
        match self.shared.joinable.get_timeout(LIMIT) {
            Ok(lease) => {
                self.check(&lease);
                if self.rng.below(50) == 0 {
                    return Ok(()); // dropping the lease returns the item
                }
                self.outside.ledger.record([DONE, lease.0, lease.1, u64::from(lease.attempt())]);
                lease.done()?;
            }
            Err(GetError::Closed) => std::thread::sleep(Duration::from_millis(1)),
            Err(GetError::Empty) if self.outside.words.puts.load(Relaxed) >= MOST_PUTS => {}
            Err(error) => self.fault(format!("a joinable get fails with {error:?}")),
        }
        Ok(())
    }

    /// Submits tasks to a pool whose workers are killed.
    pub(super) fn use_pool(&mut self) -> Result<()> {
        let pool = self.shared.pool.clone();
        let first = self.outside.acknowledged(POOL, self.number);
        let directory = self.outside.directory();
        let tasks: std::result::Result<Vec<_>, _> =
            (first..first + 4).map(|n| pool.submit(task, (directory.clone(), self.number, n))).collect();
        let tasks = match tasks {
            Ok(tasks) => tasks,
            Err(TaskError::Closed | TaskError::Terminated) => return Ok(()),
            Err(error) => {
                self.fault(format!("submit fails with {error:?}"));
                return Ok(());
            }
        };
        for (n, task) in (first..).zip(tasks) {
            match task.get_timeout(LIMIT) {
                Ok(result) if result == n => {}
                Err(TaskError::WorkerDied { signal: Some(libc::SIGKILL), .. }) => {
                    // The worker may have died before it recorded the task, so this records the task in its
                    // place.
                    self.outside.ledger.record([WORKED, self.number, n, 0]);
                    self.told();
                }
                other => self.fault(format!("task {n} gives {other:?}")),
            }
            self.outside.acknowledge(POOL, self.number, n + 1);
        }
        Ok(())
    }
}

fn task(directory: PathBuf, number: u64, n: u64) -> u64 {
    static OUTSIDE: OnceLock<Outside> = OnceLock::new();
    let outside = OUTSIDE.get_or_init(|| Outside::open(&directory).expect("the round's files are there"));
    outside.ledger.record([WORKED, number, n, 1]);
    n
}
