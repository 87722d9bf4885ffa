//! [`Value`]: one value in shared memory, of any type that serde can encode.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::store::value::{BEFORE, NEXT, NOW, ValueBody};
use crate::Result;
use crate::arena::blocks::{self, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::{Kind, check_name};
use crate::arena::{Arena, collect, member, owned_block};
use crate::codec;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::sync::raw::guard::RawGuard;
use crate::sync::raw::word::Outcome;
use crate::sync::wait::travels;
use crate::sync::{LockError, acquire};

/// One value that all processes of the family share. It can have any type that implements [`Message`](crate::Message):
/// numbers, `bool`, `String`, enums, structs, handles.
///
/// ```
/// use procession::{Process, state::Value};
///
/// let tickets = Value::new(100u32)?;
/// let sell = |tickets: Value<u32>| tickets.update(|n| *n -= 1);
/// let buyers: Vec<_> =
///     (0..4).map(|_| Process::spawn(sell, (tickets.clone(),))).collect::<Result<_, _>>()?;
/// for buyer in buyers {
///     buyer.join()??;
/// }
/// assert_eq!(tickets.get()?, 96);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// Every method holds the value's lock while it reads or writes. So all methods wait for each other, and for
/// the closure of an [`update`](Value::update). A [`Mutex`](crate::sync::Mutex) is faster for plain numbers
/// that change very often.
///
/// # If a process dies
///
/// Whatever the process was doing, the value is either the complete old value or the complete new one. The
/// lock is released. A value is never poisoned.
pub struct Value<T> {
    handle: Handle,
    _value: PhantomData<fn(T) -> T>,
}

impl<T: Message> Value<T> {
    /// Creates a shared value.
    ///
    /// # Errors
    /// [`Error::Message`](crate::Error::Message) when the value cannot be encoded; [`Error::Full`](crate::Error::Full) when the family's shared memory is full;
    /// another error when the shared memory cannot be created.
    ///
    /// ```
    /// let limits = procession::state::Value::new((10, Some("ten".to_string())))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(value: T) -> Result<Value<T>> {
        Value::labeled("", value)
    }

    /// Creates a shared value with a label of at most 95 bytes, which `Debug` and error messages show. A label
    /// identifies nothing. [`Manager::named`](crate::Manager::named) finds a value by its name.
    ///
    /// # Errors
    /// As [`Value::new`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the label is too long.
    ///
    /// ```
    /// let tickets = procession::state::Value::labeled("tickets", 100u32)?;
    /// assert!(format!("{tickets:?}").contains("tickets"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn labeled(label: &str, value: T) -> Result<Value<T>> {
        check_name(label)?;
        let block = codec::pack_checked(&value)?;
        let made = Handle::create::<ValueBody>(|object| {
            object.set_name(label);
            object.blocks[NOW].store(block, Ordering::Relaxed);
        });
        let (arena, mine) = (member::arena()?, Tag::process(member::slot()));
        match &made {
            // CRASH: until this store, both the block and the object's only handle belong to this process. So
            // recovery frees both.
            Ok(handle) => _ = blocks::hand_over(arena, block, mine, Tag::object(handle.id().index())),
            Err(_) => discard(block),
        }
        // From here on, the handles in the block keep their objects alive, so the handles in `value` can be
        // dropped.
        drop(value);
        Value::of(made?)
    }

    /// Returns a copy of the value. Waits for the value's lock without a limit.
    ///
    /// # Errors
    /// * [`Error::Lock`](crate::Error::Lock) with [`LockError::Deadlock`] inside an update of the same value, or when the thread
    ///   that holds the lock waits for this thread.
    /// * [`Error::Message`](crate::Error::Message) when the value cannot be decoded.
    /// * [`Error::Forked`](crate::Error::Forked) in a process that a member of the family forked by itself.
    ///
    /// ```
    /// let door = procession::state::Value::new("open".to_string())?;
    /// assert_eq!(door.get()?, "open");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get(&self) -> Result<T> {
        self.get_until(Deadline::NEVER)
    }

    pub(super) fn get_until(&self, deadline: Deadline) -> Result<T> {
        self.enter(deadline)?.read()
    }

    /// Replaces the value. Waits for the value's lock without a limit.
    ///
    /// # Errors
    /// As [`get`](Value::get). [`Error::Message`](crate::Error::Message) when the value cannot be encoded; [`Error::Full`](crate::Error::Full) when the family's
    /// shared memory is full. After an error the old value stays.
    ///
    /// ```
    /// let door = procession::state::Value::new("open".to_string())?;
    /// door.set("shut".into())?;
    /// assert_eq!(door.get()?, "shut");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn set(&self, value: T) -> Result<()> {
        self.set_until(value, Deadline::NEVER)
    }

    pub(super) fn set_until(&self, value: T, deadline: Deadline) -> Result<()> {
        let block = codec::pack_checked(&value)?;
        match self.enter(deadline) {
            Ok(inside) => inside.publish(block),
            Err(error) => {
                discard(block);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Calls `change` with the value, stores the changed value, and returns what `change` returned.
    ///
    /// Waits for the value's lock without a limit, and holds it until the new value is stored. No other process or
    /// thread reads or changes the value meanwhile. If `change` panics, the old value stays.
    ///
    /// # Errors
    /// As [`set`](Value::set). If an error occurs after `change` has returned, its result is discarded and
    /// the old value stays.
    ///
    /// ```
    /// use procession::state::Value;
    /// let words = Value::new(vec!["fore".to_string()])?;
    /// let len = words.update(|words| {
    ///     words.push("aft".into());
    ///     words.len()
    /// })?;
    /// assert_eq!((len, words.get()?.join(" ")), (2, "fore aft".into()));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.update_until(Deadline::NEVER, change)
    }

    pub(super) fn update_until<R>(&self, deadline: Deadline, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let inside = self.enter(deadline)?;
        let mut value = inside.read()?;
        let result = change(&mut value);
        inside.publish(codec::pack_checked(&value)?);
        Ok(result)
    }

    /// Replaces the value by `new` if it equals `current`. Returns the previous value, in `Ok` if it was
    /// replaced and in `Err` if it was not.
    ///
    /// Waits for the value's lock without a limit. [`try_update`](Value::try_update) can do the same without waiting.
    ///
    /// # Errors
    /// As [`set`](Value::set).
    ///
    /// ```
    /// use procession::state::Value;
    /// let state = Value::new("idle".to_string())?;
    /// assert_eq!(state.compare_exchange(&"idle".into(), "busy".into())?, Ok("idle".into()));
    /// assert_eq!(state.compare_exchange(&"idle".into(), "busy".into())?, Err("busy".into()));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn compare_exchange(&self, current: &T, new: T) -> Result<Result<T, T>>
    where
        T: PartialEq,
    {
        let block = codec::pack_checked(&new)?;
        let seen = self.enter(Deadline::NEVER).and_then(|inside| {
            let value: T = inside.read()?;
            let same = value == *current;
            if same {
                inside.publish(block);
            }
            Ok((same, value))
        });
        match seen {
            Ok((true, before)) => Ok(Ok(before)),
            Ok((false, now)) => {
                discard(block);
                Ok(Err(now))
            }
            Err(error) => {
                discard(block);
                Err(error)
            }
        }
    }
}

/// Frees a block of this process that did not become the value. The offset 0 means no block.
fn discard(block: u64) {
    if let Some(arena) = member::mapped().filter(|_| block != 0) {
        owned_block::free(arena, block);
    }
}

impl<T> Value<T> {
    fn of(handle: Handle) -> Result<Value<T>> {
        Ok(Value { handle, _value: PhantomData })
    }

    /// Returns the label, or the name that the value has in a manager. The string is empty if it has neither.
    ///
    /// ```
    /// assert_eq!(procession::state::Value::labeled("door", true)?.name(), "door");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    fn enter(&self, deadline: Deadline) -> Result<LockedValue<'_>> {
        let arena = member::arena()?;
        let body: &'static ValueBody = self.handle.body();
        let offset = self.handle.hot_offset();
        let guard = match body.lock.try_lock_fast(offset) {
            Some(guard) => guard,
            None => match body.lock.lock_slow(offset, deadline)? {
                Ok(guard) => guard,
                Err(Outcome::Relocked) => return Err(acquire::self_deadlock_named(self.name()).into()),
                Err(_) => return Err(LockError::TimedOut.into()),
            },
        };
        Ok(LockedValue { arena, handle: &self.handle, _guard: guard })
    }
}

/// The value while this thread holds its lock.
struct LockedValue<'a> {
    arena: &'static Arena,
    handle: &'a Handle,
    _guard: RawGuard,
}

impl LockedValue<'_> {
    fn read<T: Message>(&self) -> Result<T> {
        codec::unpack(self.arena, self.handle.object().blocks[NOW].load(Ordering::Acquire))
    }

    /// Makes a block of this process the value.
    fn publish(&self, block: u64) {
        let (object, index) = (self.handle.object(), self.handle.id().index());
        let before = object.blocks[NOW].load(Ordering::Relaxed);
        // CRASH: `NEXT` names the block before the object owns the block. So if the block does not become the
        // value, recovery frees it.
        object.blocks[NEXT].store(block, Ordering::Release);
        object.blocks[BEFORE].store(before, Ordering::Release);
        if block != 0 {
            blocks::hand_over(self.arena, block, Tag::process(member::slot()), Tag::object(index));
        }
        // CRASH: this store commits the change.
        object.blocks[NOW].store(block, Ordering::SeqCst);
        if before != 0 && blocks::free(self.arena, member::slot(), before, Tag::object(index)) {
            collect::want(self.arena);
        }
        object.blocks[BEFORE].store(0, Ordering::Release);
        object.blocks[NEXT].store(0, Ordering::Release);
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value { handle: self.handle.clone(), _value: PhantomData }
    }
}

impl<T> fmt::Debug for Value<T> {
    /// Shows which process holds the lock and how many threads wait. Does not show the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: &'static ValueBody = self.handle.body();
        acquire::describe_raw(f, "Value", &self.name(), &body.lock)
    }
}

travels!(Value<T: Sized>, Kind::Value);
