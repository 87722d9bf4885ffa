//! [`Manager`]: one factory for everything that is shared, also by name.
//!
//! ```
//! use procession::{Manager, Process};
//!
//! fn work() -> procession::Result<()> {
//!     let stock = Manager::new()?.named("stock").dict::<String, u32>()?;
//!     stock.update("apples", |n| *n -= 1)?;
//!     Ok(())
//! }
//!
//! let manager = Manager::new()?;
//! let stock = manager.named("stock").dict::<String, u32>()?;
//! stock.insert("apples", 10)?;
//! Process::spawn(work, ())?.join()??;
//! assert_eq!(stock.get("apples")?, Some(9));
//! # Ok::<(), procession::Error>(())
//! ```

mod named;
mod names;

pub use named::Named;

use crate::queue::{JoinableQueue, Queue};
use crate::state::{Array, Dict, List, Value};
use crate::sync::{Barrier, Condvar, Event, Latch, Lock, Mutex, Plain, RLock, RwLock, Semaphore};
use crate::{Message, Result};

/// Makes what processes share, and finds what has a name.
///
/// Names belong to the family: the same name gives the same object to each of its processes. What has a name
/// lives until it is [removed](Manager::remove), or the family ends.
///
/// There is no manager process. Everything lies in the family's shared memory, so nothing has to be asked, and
/// nothing can be killed that others need. Of everything with a name, the name shows in reports and errors.
///
/// # If a process dies
///
/// A name that it was about to give is given or not. What it had named stays.
///
/// ```
/// use procession::{Manager, Process};
///
/// let manager = Manager::new()?;
/// let stock = manager.dict::<String, u32>()?; // without a name: who gets the handle has it
/// stock.insert("apples", 3)?;
/// manager.named("greetings").list::<String>()?.push("hello".to_string())?;
/// let first = || Manager::new()?.named("greetings").list::<String>()?.get(0);
/// assert_eq!(Process::spawn(first, ())?.join()??, Some("hello".to_string()));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Manager {
    home: Home,
}

/// Where things lie.
#[derive(Clone, Debug)]
enum Home {
    /// In the shared memory of this family.
    Family,
}

impl Manager {
    /// The manager of this family.
    ///
    /// # Errors
    /// When the shared memory cannot be had, and in a plain fork of a member of the family.
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let dict = manager.dict::<String, u32>()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Manager> {
        crate::arena::member::arena()?;
        Ok(Manager { home: Home::Family })
    }

    /// A new [`Dict`] without a name.
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

    /// A new [`List`] without a name.
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

    /// A new [`Value`] without a name of this value.
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

    /// A new [`Array`] without a name of `len` zeros.
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

    /// A new [`Queue`] without a name, for at most `capacity` items.
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

    /// A new [`JoinableQueue`] without a name, for at most `capacity` items.
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

    /// A new [`Lock`] without a name.
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

    /// A new [`RLock`] without a name.
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

    /// A new [`Mutex`] without a name of this value.
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

    /// A new [`RwLock`] without a name of this value.
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

    /// A new [`Semaphore`] without a name of so many permits.
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

    /// A new [`Event`] without a name.
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

    /// A new [`Condvar`] without a name.
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

    /// A new [`Barrier`] without a name for so many parties.
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

    /// A new [`Latch`] without a name that opens after so many reports.
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

    /// What has this name, or gets it: say what it is to be.
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let one = manager.named("a list").list::<u32>()?;
    /// let same = manager.named("a list").list::<u32>()?;
    /// one.push(1)?;
    /// assert_eq!(same.to_vec()?, [1]);
    /// assert!(manager.named("a list").lock().is_err());
    /// # manager.remove("a list")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named { manager: self, name }
    }

    /// All names, in no particular order.
    ///
    /// # Errors
    /// As [`Dict::get`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.named("door").lock()?;
    /// assert!(manager.names()?.contains(&"door".to_string()));
    /// # manager.remove("door")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn names(&self) -> Result<Vec<String>> {
        match self.home {
            Home::Family => names::of_family::<()>()?.keys().collect(),
        }
    }

    /// Forgets a name; says whether there was one. Who has a handle keeps it; the next one to ask for the name
    /// gets something new.
    ///
    /// # Errors
    /// As [`Dict::remove`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.named("old").lock()?;
    /// assert!(manager.remove("old")? && !manager.remove("old")?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn remove(&self, name: &str) -> Result<bool> {
        match self.home {
            Home::Family => Ok(names::of_family::<()>()?.remove(name)?.is_some()),
        }
    }
}
