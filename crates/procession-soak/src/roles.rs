//! The roles of a round. A process plays its role until the round is over or the process is killed.
//!
//! Every wait has a timeout. Only a hang reaches it, so a timeout is a fault. A process records each step
//! outside the library, right after the step. So the records lack at most one step of each killed process.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use procession::pool::TaskError;
use procession::queue::{Connection, GetError, PutError};
use procession::sync::{Broken, LockError, WaitError};
use procession::{Process, Queue, Result, pipe};
use procession_testkit::Rng;
use serde::{Deserialize, Serialize};

use super::outside::{DICT, DONE, JOINABLE, LIST, LOCKS, Outside, POOL, POPPED, QUEUE, TAKEN, VALUE, WORKED};
use super::shared::{Item, Shared};

/// The timeout of every wait. Even on a busy machine, an operation takes less time unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);
/// The maximum number of items that a round puts into queues and lists.
const MOST_PUTS: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Locker,
    Producer,
    Consumer,
    Giver,
    Worker,
    Lister,
    Popper,
    Counter,
    Writer,
    Meeter,
    Talker,
    Signaller,
    Boss,
}

/// The roles of a round. A role appears once for each process that plays it.
pub const ROLES: &[Role] = &[
    Role::Locker,
    Role::Locker,
    Role::Producer,
    Role::Producer,
    Role::Consumer,
    Role::Consumer,
    Role::Giver,
    Role::Worker,
    Role::Worker,
    Role::Lister,
    Role::Popper,
    Role::Counter,
    Role::Counter,
    Role::Writer,
    Role::Writer,
    Role::Meeter,
    Role::Meeter,
    Role::Talker,
    Role::Signaller,
    Role::Boss,
    Role::Boss,
];

/// A process of the round: its number, its random numbers, and the objects that it uses.
struct Actor {
    number: u64,
    rng: Rng,
    outside: Outside,
    shared: Shared,
}

/// Plays a role until the round is over.
pub fn play(role: Role, number: u64, seed: u64, directory: PathBuf, shared: Shared) -> Result<()> {
    let outside = Outside::open(&directory).map_err(|e| std::io::Error::other(e.to_string()))?;
    let mut actor = Actor { number, rng: Rng::seeded(seed), outside, shared };
    while !actor.outside.is_over() {
        match role {
            Role::Locker => actor.lock(),
            Role::Producer => actor.put(),
            Role::Consumer => actor.get(),
            Role::Giver => actor.give(),
            Role::Worker => actor.work(),
            Role::Lister => actor.list(),
            Role::Popper => actor.pop(),
            Role::Counter => actor.count(),
            Role::Writer => actor.write(),
            Role::Meeter => actor.meet(),
            Role::Talker => actor.talk(),
            Role::Signaller => actor.signal(),
            Role::Boss => actor.use_pool(),
        }?;
        actor.outside.count(role as usize);
    }
    Ok(())
}

impl Actor {
    fn fault(&self, what: impl std::fmt::Display) {
        self.outside.fault(&format!("process {}: {what}", self.number));
    }

    fn told(&self) {
        self.outside.words.told.fetch_add(1, Relaxed);
    }

    /// Acquires a random lock, and checks that no other process is inside. Counts the death of an owner that
    /// the lock reports.
    fn lock(&mut self) -> Result<()> {
        let which = self.rng.below(LOCKS as u64) as usize;
        let (lock, inside) = (&self.shared.locks[which], &self.outside.words.inside[which]);
        let me = self.number + 1;
        let (guard, marked) = match lock.lock_timeout(LIMIT) {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied(_)) => (lock.lock_or_recover_timeout(LIMIT)?, true),
            Err(error) => {
                self.fault(format!("a lock fails with {error:?}"));
                return Ok(());
            }
        };
        let was = inside.swap(me, SeqCst);
        if marked {
            self.told();
        } else if was != 0 && guard.recovered_from().is_none() {
            self.fault(format!("inside of a lock with process {}", was - 1));
        }
        let nested = match self.rng.below(4) {
            0 => self.shared.nested.lock_or_recover_timeout(LIMIT).map(Some),
            _ => Ok(None),
        };
        if let Err(error) = &nested {
            self.fault(format!("a nested lock fails with {error:?}"));
        }
        drop(nested);
        if inside.swap(0, SeqCst) != me {
            self.fault("another process entered the lock");
        }
        drop(guard);
        Ok(())
    }

    fn item(&mut self, kind: usize) -> Option<Item> {
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

    fn check(&self, item: &Item) {
        let (number, sequence, bytes) = item;
        if bytes.iter().any(|byte| *byte != *sequence as u8) {
            self.fault(format!("item {number}.{sequence} is damaged"));
        }
    }

    /// Returns whether the put succeeded. The end of the round closes the queue.
    fn has_put<T>(&self, put: Result<(), PutError<T>>) -> bool {
        match put {
            Ok(()) => true,
            Err(PutError::Closed(_)) => false,
            Err(error) => {
                self.fault(format!("a put fails with {error:?}"));
                false
            }
        }
    }

    fn put(&mut self) -> Result<()> {
        let Some(item) = self.item(QUEUE) else { return Ok(()) };
        let sequence = item.1;
        let queue = self.shared.queue.clone();
        if self.has_put(queue.put_timeout(item, LIMIT)) {
            self.outside.acknowledge(QUEUE, self.number, sequence + 1);
        }
        Ok(())
    }

    fn get(&mut self) -> Result<()> {
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

    fn give(&mut self) -> Result<()> {
        let Some(item) = self.item(JOINABLE) else { return Ok(()) };
        let sequence = item.1;
        let queue = self.shared.joinable.clone();
        if self.has_put(queue.put_timeout(item, LIMIT)) {
            self.outside.acknowledge(JOINABLE, self.number, sequence + 1);
        }
        Ok(())
    }

    fn work(&mut self) -> Result<()> {
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

    fn list(&mut self) -> Result<()> {
        if self.shared.list.len() > 1000 {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        let Some(item) = self.item(LIST) else { return Ok(()) };
        let sequence = item.1;
        match self.rng.below(2) {
            0 => self.shared.list.push(item)?,
            _ => self.shared.list.push_front(item)?,
        }
        self.outside.acknowledge(LIST, self.number, sequence + 1);
        Ok(())
    }

    fn pop(&mut self) -> Result<()> {
        let item = match self.rng.below(3) {
            0 => self.shared.list.pop()?,
            1 => self.shared.list.pop_front()?,
            _ => self.shared.list.remove(0)?,
        };
        match item {
            Some(item) => {
                self.outside.ledger.record([POPPED, item.0, item.1, self.number]);
                self.check(&item);
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
        Ok(())
    }

    /// Increments the counter of this process in the dict. Then it either increments a shared counter, or
    /// inserts, removes or reads another key.
    fn count(&mut self) -> Result<()> {
        let dict = &self.shared.dict;
        let mine = self.number + 1;
        if dict.get(&mine)?.is_none() {
            dict.insert(&mine, 0)?;
        }
        dict.update(&mine, |count| *count += 1)?;
        let done = self.outside.acknowledged(DICT, self.number) + 1;
        self.outside.acknowledge(DICT, self.number, done);
        let passing = 1_000_000 + self.rng.below(300);
        match self.rng.below(4) {
            0 => drop(dict.insert(&passing, passing)?),
            1 => drop(dict.remove(&passing)?),
            2 => {
                let wrong = |found: &Option<u64>| found.is_some_and(|found| found != passing);
                if Some(dict.get(&passing)?).as_ref().is_some_and(wrong) {
                    self.fault("a key has the value of another");
                }
            }
            _ => drop(dict.update(&0, |all| *all += 1)?),
        }
        Ok(())
    }

    /// Updates a value of two numbers that belong together. Then it reads or writes such a pair under a
    /// read-write lock.
    fn write(&mut self) -> Result<()> {
        self.shared.value.update(|(n, not_n)| {
            *n += 1;
            *not_n = !*n;
        })?;
        let done = self.outside.acknowledged(VALUE, self.number) + 1;
        self.outside.acknowledge(VALUE, self.number, done);
        let (n, not_n) = self.shared.value.get()?;
        if n != !not_n {
            self.fault(format!("a value is torn: {n} and {not_n}"));
        }
        if self.rng.below(3) == 0 {
            return self.write_table();
        }
        match self.shared.table.read_timeout(LIMIT) {
            Ok(table) if table[0] != !table[1] => self.fault("a table is torn, and the lock is not poisoned"),
            Ok(_) => {}
            Err(LockError::OwnerDied(_)) => self.told(),
            Err(error) => self.fault(format!("a read fails with {error:?}")),
        }
        Ok(())
    }

    fn write_table(&self) -> Result<()> {
        match self.shared.table.write_or_recover_timeout(LIMIT) {
            Ok(mut table) => {
                table[0] += 1;
                table[1] = !table[0];
            }
            Err(error) => self.fault(format!("a write fails with {error:?}")),
        }
        Ok(())
    }

    /// Acquires a permit. Then it waits at a barrier, which breaks when a party dies.
    fn meet(&mut self) -> Result<()> {
        match self.shared.semaphore.acquire_timeout(LIMIT) {
            Ok(permit) => {
                if self.shared.semaphore.available_permits() >= super::shared::PERMITS as usize {
                    self.fault("a permit is acquired and still available");
                }
                drop(permit);
            }
            Err(error) => self.fault(format!("acquire fails with {error:?}")),
        }
        match self.shared.barrier.wait_timeout(Duration::from_millis(50)) {
            Ok(_) => {}
            Err(why @ (WaitError::TimedOut | WaitError::Broken(_))) => {
                if matches!(why, WaitError::Broken(Broken::ProcessDied { .. })) {
                    self.told();
                }
                self.shared.barrier.reset()?;
            }
            Err(error) => self.fault(format!("a barrier fails with {error:?}")),
        }
        Ok(())
    }

    /// Exchanges messages with its own child through a pipe, and kills the child at some point.
    fn talk(&mut self) -> Result<()> {
        let (here, there) = pipe::<u64, u64>()?;
        let echo = |there: Connection<u64, u64>| {
            while let Ok(message) = there.recv() {
                if there.send(message).is_err() {
                    break;
                }
            }
        };
        let child = Process::builder().name("echo").spawn(echo, (there,))?;
        let last = self.rng.below(40);
        for n in 0..40 {
            if n == last {
                child.kill()?;
            }
            let answer = here
                .send_timeout(n, LIMIT)
                .map_err(|_| GetError::Closed)
                .and_then(|()| here.recv_timeout(LIMIT));
            match answer {
                Ok(answer) if answer == n => {}
                Ok(answer) => self.fault(format!("{n} was sent and {answer} was returned")),
                Err(GetError::Closed) if n >= last => {
                    self.told();
                    break;
                }
                Err(error) => self.fault(format!("a pipe to a living child fails with {error:?}")),
            }
        }
        let _ = child.join();
        Ok(())
    }

    /// Uses an event and a condition variable, and sends a queue through another queue.
    fn signal(&mut self) -> Result<()> {
        self.shared.event.set()?;
        if let Err(error) = self.shared.event.wait_timeout(LIMIT) {
            self.fault(format!("waiting for a set event fails with {error:?}"));
        }
        if self.rng.below(2) == 0 {
            self.shared.event.clear()?;
        }
        self.shared.condvar.notify_all()?;
        // The collector frees sent queues. The pause keeps this process from outrunning the collector.
        std::thread::sleep(Duration::from_micros(200));
        let gift = Queue::bounded(1)?;
        gift.put(self.number)?;
        match self.shared.handles.try_put(gift) {
            Ok(()) | Err(PutError::Closed(_)) => {}
            Err(PutError::Full(_)) => match self.shared.handles.try_get() {
                Ok(gift) if gift.try_get().is_ok() => {}
                Ok(_) => self.fault("a queue that was sent is empty"),
                Err(error) => self.fault(format!("a queue of queues fails with {error:?}")),
            },
            Err(error) => self.fault(format!("a queue of queues fails with {error:?}")),
        }
        Ok(())
    }

    /// Submits tasks to a pool whose workers are killed.
    fn use_pool(&mut self) -> Result<()> {
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
