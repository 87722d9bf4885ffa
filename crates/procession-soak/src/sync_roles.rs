//! Roles that use locks, barriers, pipes and events.

use std::sync::atomic::Ordering::*;
use std::time::Duration;

use procession::queue::{Connection, GetError, PutError};
use procession::sync::{Broken, LockError, WaitError};
use procession::{Process, Queue, Result, pipe};

use super::outside::LOCKS;
use super::roles::{Actor, LIMIT};

impl Actor {
    /// Acquires a random lock, and checks that no other process is inside. Counts the death of an owner that
    /// the lock reports.
    pub(super) fn lock(&mut self) -> Result<()> {
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

    /// Acquires a permit. Then it waits at a barrier, which breaks when a party dies.
    pub(super) fn meet(&mut self) -> Result<()> {
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
    pub(super) fn talk(&mut self) -> Result<()> {
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
    pub(super) fn signal(&mut self) -> Result<()> {
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
}
