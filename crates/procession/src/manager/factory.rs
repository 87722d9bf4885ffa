//! The methods of [`Manager`] that create objects without a name.

use super::manager::{Home, Manager};
use crate::queue::{JoinableQueue, Queue};
use crate::state::{Array, Dict, List, Value};
use crate::sync::{Barrier, Condvar, Event, Latch, Lock, Mutex, Plain, RLock, RwLock, Semaphore};
use crate::{Message, Result};

impl Manager {
    /// Creates a [`Dict`] without a name.
    ///
    /// # Errors
    /// As [`Dict::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let dict = manager.dict::<String, u32>()?;
    /// assert!(dict.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn dict<K, V>(&self) -> Result<Dict<K, V>> {
        match self.home {
            Home::Family => Dict::new(),
        }
    }

    /// Creates a [`List`] without a name.
    ///
    /// # Errors
    /// As [`List::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.list()?.push(1)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn list<T>(&self) -> Result<List<T>> {
        match self.home {
            Home::Family => List::new(),
        }
    }

    /// Creates a [`Value`] without a name, with this value.
    ///
    /// # Errors
    /// As [`Value::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// assert_eq!(manager.value("text".to_string())?.get()?, "text");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn value<T: Message>(&self, value: T) -> Result<Value<T>> {
        match self.home {
            Home::Family => Value::new(value),
        }
    }

    /// Creates an [`Array`] without a name, of `len` zeros.
    ///
    /// # Errors
    /// As [`Array::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// assert_eq!(manager.array::<u32>(10)?.len(), 10);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn array<T: Plain>(&self, len: usize) -> Result<Array<T>> {
        match self.home {
            Home::Family => Array::new(len),
        }
    }

    /// Creates a [`Queue`] without a name, for at most `capacity` items.
    ///
    /// # Errors
    /// As [`Queue::bounded`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.queue(10)?.put(1)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn queue<T>(&self, capacity: usize) -> Result<Queue<T>> {
        match self.home {
            Home::Family => Queue::bounded(capacity),
        }
    }

    /// Creates a [`JoinableQueue`] without a name, for at most `capacity` items.
    ///
    /// # Errors
    /// As [`JoinableQueue::bounded`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.joinable_queue(10)?.put(1)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn joinable_queue<T>(&self, capacity: usize) -> Result<JoinableQueue<T>> {
        match self.home {
            Home::Family => JoinableQueue::bounded(capacity),
        }
    }

    /// Creates a [`Lock`] without a name.
    ///
    /// # Errors
    /// As [`Lock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let lock = manager.lock()?;
    /// let _held = lock.lock()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock(&self) -> Result<Lock> {
        match self.home {
            Home::Family => Lock::new(),
        }
    }

    /// Creates an [`RLock`] without a name.
    ///
    /// # Errors
    /// As [`RLock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let lock = manager.rlock()?;
    /// let _held = lock.lock()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn rlock(&self) -> Result<RLock> {
        match self.home {
            Home::Family => RLock::new(),
        }
    }

    /// Creates a [`Mutex`] without a name, with this value.
    ///
    /// # Errors
    /// As [`Mutex::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// *manager.mutex(1)?.lock()? += 1;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn mutex<T: Plain>(&self, value: T) -> Result<Mutex<T>> {
        match self.home {
            Home::Family => Mutex::new(value),
        }
    }

    /// Creates a [`RwLock`] without a name, with this value.
    ///
    /// # Errors
    /// As [`RwLock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// assert_eq!(*manager.rwlock(1)?.read()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn rwlock<T: Plain>(&self, value: T) -> Result<RwLock<T>> {
        match self.home {
            Home::Family => RwLock::new(value),
        }
    }

    /// Creates a [`Semaphore`] without a name, with this many permits.
    ///
    /// # Errors
    /// As [`Semaphore::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let semaphore = manager.semaphore(2)?;
    /// let _permit = semaphore.acquire()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn semaphore(&self, permits: u32) -> Result<Semaphore> {
        match self.home {
            Home::Family => Semaphore::new(permits),
        }
    }

    /// Creates an [`Event`] without a name.
    ///
    /// # Errors
    /// As [`Event::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.event()?.set()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn event(&self) -> Result<Event> {
        match self.home {
            Home::Family => Event::new(),
        }
    }

    /// Creates a [`Condvar`] without a name.
    ///
    /// # Errors
    /// As [`Condvar::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.condvar()?.notify_all()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn condvar(&self) -> Result<Condvar> {
        match self.home {
            Home::Family => Condvar::new(),
        }
    }

    /// Creates a [`Barrier`] without a name, for this many parties.
    ///
    /// # Errors
    /// As [`Barrier::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.barrier(1)?.wait()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn barrier(&self, parties: u32) -> Result<Barrier> {
        match self.home {
            Home::Family => Barrier::new(parties),
        }
    }

    /// Creates a [`Latch`] without a name. The latch opens after `count` calls of `count_down`.
    ///
    /// # Errors
    /// As [`Latch::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.latch(1)?.count_down()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn latch(&self, count: u32) -> Result<Latch> {
        match self.home {
            Home::Family => Latch::new(count),
        }
    }
}
