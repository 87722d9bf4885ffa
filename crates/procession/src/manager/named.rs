//! [`Named`]: what has a name is found, or made.

use super::names::{self, Entry};
use super::{Home, Manager};
use crate::arena::member;
use crate::arena::objects::NAME;
use crate::codec::encoding;
use crate::queue::{JoinableQueue, Queue};
use crate::state::{Array, Dict, List, Value};
use crate::sync::{Barrier, Condvar, Event, Latch, Lock, Mutex, Plain, RLock, RwLock, Semaphore};
use crate::{Error, Message, Result};

/// A name: see [`Manager::named`].
///
/// Each of its functions gives what has the name, and makes it if nothing has. Whoever comes first makes it,
/// and all get the same; what the others said of how large it is to be, or of what value, does not count. It is
/// an error when the name belongs to something of another type, also if only the types of keys or items differ.
///
/// # If a process dies
///
/// While it makes something: the name has it, whole, or nothing has the name, and the next one makes it.
///
/// ```
/// let manager = procession::Manager::new()?;
/// let lock = manager.named("door").lock()?;
/// let held = lock.lock()?;
/// assert!(manager.named("door").lock()?.try_lock().is_err()); // the same one
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
    /// The [`Dict`] of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Dict::new`].
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

    /// The [`List`] of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`List::new`].
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

    /// The [`Value`] of this name of this value, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Value::new`].
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

    /// The [`Array`] of this name of `len` zeros, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Array::new`].
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

    /// The [`Queue`] of this name, for at most `capacity` items, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Queue::bounded`].
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

    /// The [`JoinableQueue`] of this name, for at most `capacity` items, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`JoinableQueue::bounded`].
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

    /// The [`Lock`] of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Lock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the lock").lock()?;
    /// let same = manager.named("the lock").lock()?;
    /// let held = made.lock()?;
    /// assert!(same.try_lock().is_err());
    /// # drop(held);
    /// # manager.remove("the lock")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock(&self) -> Result<Lock> {
        self.find_or_make(Manager::lock)
    }

    /// The [`RLock`] of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`RLock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the rlock").rlock()?;
    /// let same = manager.named("the rlock").rlock()?;
    /// let _one = made.lock()?;
    /// let _two = same.lock()?;
    /// # manager.remove("the rlock")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn rlock(&self) -> Result<RLock> {
        self.find_or_make(Manager::rlock)
    }

    /// The [`Mutex`] of this name of this value, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Mutex::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the mutex").mutex(1u32)?;
    /// let same = manager.named("the mutex").mutex(1u32)?;
    /// *made.lock()? += 1;
    /// assert_eq!(*same.lock()?, 2);
    /// # manager.remove("the mutex")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn mutex<T: Plain>(&self, value: T) -> Result<Mutex<T>> {
        self.find_or_make(|manager| manager.mutex(value))
    }

    /// The [`RwLock`] of this name of this value, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`RwLock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the rwlock").rwlock(1u32)?;
    /// let same = manager.named("the rwlock").rwlock(1u32)?;
    /// let _one = made.read()?;
    /// assert_eq!(*same.read()?, 1);
    /// # manager.remove("the rwlock")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn rwlock<T: Plain>(&self, value: T) -> Result<RwLock<T>> {
        self.find_or_make(|manager| manager.rwlock(value))
    }

    /// The [`Semaphore`] of this name of so many permits, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Semaphore::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the semaphore").semaphore(1)?;
    /// let same = manager.named("the semaphore").semaphore(1)?;
    /// let permit = made.acquire()?;
    /// assert!(same.try_acquire().is_err());
    /// # drop(permit);
    /// # manager.remove("the semaphore")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn semaphore(&self, permits: u32) -> Result<Semaphore> {
        self.find_or_make(|manager| manager.semaphore(permits))
    }

    /// The [`Event`] of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Event::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the event").event()?;
    /// let same = manager.named("the event").event()?;
    /// made.set()?;
    /// assert!(same.is_set());
    /// # manager.remove("the event")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn event(&self) -> Result<Event> {
        self.find_or_make(Manager::event)
    }

    /// The [`Condvar`] of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Condvar::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the condvar").condvar()?;
    /// let same = manager.named("the condvar").condvar()?;
    /// made.notify_all()?;
    /// # drop(same);
    /// # manager.remove("the condvar")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn condvar(&self) -> Result<Condvar> {
        self.find_or_make(Manager::condvar)
    }

    /// The [`Barrier`] of this name for so many parties, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Barrier::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the barrier").barrier(1)?;
    /// let same = manager.named("the barrier").barrier(1)?;
    /// made.wait()?;
    /// same.wait()?;
    /// # manager.remove("the barrier")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn barrier(&self, parties: u32) -> Result<Barrier> {
        self.find_or_make(|manager| manager.barrier(parties))
    }

    /// The [`Latch`] of this name that opens after so many reports, if it is new.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the name is empty, or belongs to something else; and as [`Latch::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the latch").latch(1)?;
    /// let same = manager.named("the latch").latch(1)?;
    /// made.count_down()?;
    /// same.wait()?;
    /// # manager.remove("the latch")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn latch(&self, count: u32) -> Result<Latch> {
        self.find_or_make(|manager| manager.latch(count))
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
                let made = make(self.manager)?;
                self.label(&made)?;
                names.get_or_insert_with(self.name, || Entry::new(made))?
            }
        };
        let (type_name, name) = (found.type_name, self.name);
        found.object.ok_or_else(|| {
            let wanted = std::any::type_name::<X>();
            Error::InvalidArgument(format!("`{name}` is the name of a {type_name}, and not of a {wanted}"))
        })
    }

    /// Writes the name on the object, as far as there is room, for people: reports show it.
    fn label<X: Message>(&self, made: &X) -> Result<()> {
        let arena = member::arena()?;
        let label = &self.name[..self.name.floor_char_boundary(NAME)];
        encoding::with_bytes(made, |_, ids| {
            // Nobody else has it yet.
            ids.iter().for_each(|id| arena.object(id.index()).set_name(label));
        })
    }
}
