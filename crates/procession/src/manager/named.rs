//! [`Named`]: finding or creating an object by its name.

use super::manager::{Home, Manager};
use super::names::{self, Entry};
use crate::arena::member;
use crate::arena::objects::NAME;
use crate::codec::encoding;
use crate::queue::{JoinableQueue, Queue};
use crate::state::{Array, Dict, List, Value};
use crate::sync::Plain;
use crate::{Error, Message, Result};

/// A name: see [`Manager::named`].
///
/// Each method returns the object that has this name, or creates it if there is none. The first caller
/// creates the object, with the size or value that the caller passes. All other callers get the same object,
/// and the sizes or values that they pass are ignored. It is an error if the name belongs to an object of
/// another type, even if only the types of keys or items differ.
///
/// # If a process dies
///
/// If a process dies while it creates the object, the name belongs to the complete object or to no object. If
/// there is no object, the next caller creates it.
///
/// ```
/// let manager = procession::Manager::new()?;
/// let lock = manager.named("door").lock()?;
/// let held = lock.lock()?;
/// assert!(manager.named("door").lock()?.try_lock().is_err()); // the same lock
/// assert!(manager.named("door").event().is_err()); // that name belongs to a lock
/// # drop(held);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub(super) manager: &'a Manager,
    pub(super) name: &'a str,
}

impl Named<'_> {
    /// Returns the [`Dict`] with this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Dict::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the dict").dict::<String, u32>()?;
    /// let same = manager.named("the dict").dict::<String, u32>()?;
    /// made.insert("apples", 3)?;
    /// assert_eq!(same.get("apples")?, Some(3));
    /// # manager.remove("the dict")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn dict<K: 'static, V: 'static>(&self) -> Result<Dict<K, V>> {
        self.find_or_make(Manager::dict)
    }

    /// Returns the [`List`] with this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the name is empty or belongs to an object of another type.
    /// Otherwise as [`List::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the list").list::<u32>()?;
    /// let same = manager.named("the list").list::<u32>()?;
    /// made.push(7)?;
    /// assert_eq!(same.to_vec()?, [7]);
    /// # manager.remove("the list")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn list<T: 'static>(&self) -> Result<List<T>> {
        self.find_or_make(Manager::list)
    }

    /// Returns the [`Value`] with this name. If it is new, it has this value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Value::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the value").value(1u32)?;
    /// let same = manager.named("the value").value(1u32)?;
    /// made.set(2)?;
    /// assert_eq!(same.get()?, 2);
    /// # manager.remove("the value")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn value<T: Message>(&self, value: T) -> Result<Value<T>> {
        self.find_or_make(|manager| manager.value(value))
    }

    /// Returns the [`Array`] with this name. If it is new, it has `len` zeros.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Array::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the array").array::<u64>(10)?;
    /// let same = manager.named("the array").array::<u64>(10)?;
    /// made.lock()?[3] = 7;
    /// assert_eq!(same.lock()?[3], 7);
    /// # manager.remove("the array")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn array<T: Plain>(&self, len: usize) -> Result<Array<T>> {
        self.find_or_make(|manager| manager.array(len))
    }

    /// Returns the [`Queue`] with this name. If it is new, it holds at most `capacity` items.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Queue::bounded`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the queue").queue::<u8>(3)?;
    /// let same = manager.named("the queue").queue::<u8>(3)?;
    /// made.put(1)?;
    /// assert_eq!(same.get()?, 1);
    /// # manager.remove("the queue")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn queue<T: 'static>(&self, capacity: usize) -> Result<Queue<T>> {
        self.find_or_make(|manager| manager.queue(capacity))
    }

    /// Returns the [`JoinableQueue`] with this name. If it is new, it holds at most `capacity` items.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the name is empty or belongs to an object of another type.
    /// Otherwise as [`JoinableQueue::bounded`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the joinable_queue").joinable_queue::<u8>(3)?;
    /// let same = manager.named("the joinable_queue").joinable_queue::<u8>(3)?;
    /// made.put(1)?;
    /// same.get()?.done()?;
    /// # manager.remove("the joinable_queue")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn joinable_queue<T: 'static>(&self, capacity: usize) -> Result<JoinableQueue<T>> {
        self.find_or_make(|manager| manager.joinable_queue(capacity))
    }

    pub(super) fn find_or_make<X: Message>(&self, make: impl FnOnce(&Manager) -> Result<X>) -> Result<X> {
        if self.name.is_empty() {
            return Err(Error::InvalidArgument("the name of a shared object cannot be empty".into()));
        }
        let names = match self.manager.home {
            Home::Family => names::of_family::<X>()?,
        };
        let found = match names.get(self.name)? {
            Some(found) => found,
            // Two processes may create an object at the same time. One of them then finds the other's object,
            // and drops its own object.
            None => {
                let made = make(self.manager)?;
                self.label(&made)?;
                names.get_or_insert_with(self.name, || Entry::new(made))?
            }
        };
        let (type_name, name) = (found.type_name, self.name);
        found.object.ok_or_else(|| {
            let wanted = std::any::type_name::<X>();
            Error::InvalidArgument(format!("`{name}` is the name of a {type_name}, not of a {wanted}"))
        })
    }

    /// Stores the name in the object, for reports and error messages. A name that is too long is cut off.
    fn label<X: Message>(&self, made: &X) -> Result<()> {
        let arena = member::arena()?;
        let label = &self.name[..self.name.floor_char_boundary(NAME)];
        encoding::with_bytes(made, |_, ids| {
            // No other process has a handle to the object yet.
            ids.iter().for_each(|id| arena.object(id.index()).set_name(label));
        })
    }
}
