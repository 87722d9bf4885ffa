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
//! let stock = manager.named("stock").dict()?;
//! stock.insert("apples", 10)?;
//! Process::spawn(work, ())?.join()??;
//! assert_eq!(stock.get("apples")?, Some(9));
//! # Ok::<(), procession::Error>(())
//! ```

mod names;

use crate::queue::{JoinableQueue, Queue};
use crate::state::{Dict, List};
use crate::{Error, Lock, Message, Result};
use names::Entry;

/// Makes what processes share, and finds what has a name.
///
/// Names belong to the family: the same name gives the same object to each of its processes. What has a name
/// lives until it is [removed](Manager::remove), or the family ends.
///
/// There is no manager process. Everything lies in the family's shared memory, so nothing has to be asked, and
/// nothing can be killed that others need.
///
/// # If a process dies
///
/// A name that it was about to give is given or not. What it had named stays.
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
    pub fn dict<K, V>(&self) -> Result<Dict<K, V>> {
        match self.home {
            Home::Family => Dict::new(),
        }
    }

    /// A new [`List`] without a name.
    ///
    /// # Errors
    /// As [`List::new`].
    pub fn list<T>(&self) -> Result<List<T>> {
        match self.home {
            Home::Family => List::new(),
        }
    }

    /// A new [`Lock`] without a name.
    ///
    /// # Errors
    /// As [`Lock::new`].
    pub fn lock(&self) -> Result<Lock> {
        match self.home {
            Home::Family => Lock::new(),
        }
    }

    /// A new [`Queue`] without a name, for at most `capacity` items.
    ///
    /// # Errors
    /// As [`Queue::bounded`].
    pub fn queue<T>(&self, capacity: usize) -> Result<Queue<T>> {
        match self.home {
            Home::Family => Queue::bounded(capacity),
        }
    }

    /// A new [`JoinableQueue`] without a name, for at most `capacity` items.
    ///
    /// # Errors
    /// As [`JoinableQueue::bounded`].
    pub fn joinable_queue<T>(&self, capacity: usize) -> Result<JoinableQueue<T>> {
        match self.home {
            Home::Family => JoinableQueue::bounded(capacity),
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

/// A name: see [`Manager::named`].
///
/// Each of its functions gives what has the name, and makes it if nothing has. Whoever comes first makes it,
/// and all get the same. It is an error when the name belongs to something of another type, also if only the
/// types of keys or items differ. How large a queue is to be is said by who makes it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    manager: &'a Manager,
    name: &'a str,
}

impl Named<'_> {
    /// The [`Dict`] of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; as [`Dict::new`].
    pub fn dict<K: 'static, V: 'static>(&self) -> Result<Dict<K, V>> {
        self.find_or_make(Manager::dict)
    }

    /// The [`List`] of this name.
    ///
    /// # Errors
    /// As [`dict`](Named::dict).
    pub fn list<T: 'static>(&self) -> Result<List<T>> {
        self.find_or_make(Manager::list)
    }

    /// The [`Lock`] of this name.
    ///
    /// # Errors
    /// As [`dict`](Named::dict).
    pub fn lock(&self) -> Result<Lock> {
        self.find_or_make(Manager::lock)
    }

    /// The [`Queue`] of this name, for at most `capacity` items if it is new.
    ///
    /// # Errors
    /// As [`dict`](Named::dict), and as [`Queue::bounded`].
    pub fn queue<T: 'static>(&self, capacity: usize) -> Result<Queue<T>> {
        self.find_or_make(|manager| manager.queue(capacity))
    }

    /// The [`JoinableQueue`] of this name, for at most `capacity` items if it is new.
    ///
    /// # Errors
    /// As [`dict`](Named::dict), and as [`JoinableQueue::bounded`].
    pub fn joinable_queue<T: 'static>(&self, capacity: usize) -> Result<JoinableQueue<T>> {
        self.find_or_make(|manager| manager.joinable_queue(capacity))
    }

    fn find_or_make<X: Message>(&self, make: impl FnOnce(&Manager) -> Result<X>) -> Result<X> {
        if self.name.is_empty() {
            return Err(Error::InvalidArgument("a name has at least one character".into()));
        }
        let names = match self.manager.home {
            Home::Family => names::of_family::<X>()?,
        };
        let found = match names.get(self.name)? {
            Some(found) => found,
            // Of two that make one at the same time one finds the other's, and drops its own.
            None => {
                let made = Entry::new(make(self.manager)?);
                names.get_or_insert_with(self.name, || made)?
            }
        };
        let (type_name, name) = (found.type_name, self.name);
        found.object.ok_or_else(|| {
            let wanted = std::any::type_name::<X>();
            Error::InvalidArgument(format!("`{name}` is the name of a {type_name}, and not of a {wanted}"))
        })
    }
}
