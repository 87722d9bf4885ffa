//! The objects that a round's processes share.

use procession::pool::Pool;
use procession::state::{List, Value};
use procession::sync::{Barrier, Condvar, Event, RLock, RwLock, Semaphore};
use procession::{Dict, JoinableQueue, Lock, Queue};
use serde::{Deserialize, Serialize};

use super::outside::LOCKS;

/// The number of the producer, the number of the item, and a payload of random length.
pub type Item = (u64, u64, Vec<u8>);

/// The number of permits.
pub const PERMITS: u32 = 3;
/// The number of parties at the barrier.
pub const PARTIES: u32 = 2;

#[derive(Clone, Serialize, Deserialize)]
pub struct Shared {
    pub locks: [Lock; LOCKS],
    pub nested: RLock,
    pub queue: Queue<Item>,
    pub joinable: JoinableQueue<Item>,
    pub list: List<Item>,
    pub dict: Dict<u64, u64>,
    pub value: Value<(u64, u64)>,
    pub table: RwLock<[u64; 2]>,
    pub semaphore: Semaphore,
    pub barrier: Barrier,
    pub event: Event,
    pub condvar: Condvar,
    pub handles: Queue<Queue<u64>>,
    pub pool: Pool,
}

impl Shared {
    pub fn new() -> procession::Result<Shared> {
        Ok(Shared {
            locks: [Lock::labeled("first")?, Lock::labeled("second")?, Lock::labeled("third")?],
            nested: RLock::new()?,
            queue: Queue::bounded(64)?,
            joinable: JoinableQueue::bounded(64)?,
            list: List::new()?,
            dict: Dict::new()?,
            value: Value::new((0, !0))?,
            table: RwLock::new([0, !0])?,
            semaphore: Semaphore::new(PERMITS)?,
            barrier: Barrier::new(PARTIES)?,
            event: Event::new()?,
            condvar: Condvar::new()?,
            handles: Queue::bounded(8)?,
            pool: Pool::new(3)?,
        })
    }
}
