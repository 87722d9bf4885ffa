//! Handles: how this process holds objects and sends them to other processes.
//!
//! A process counts its handles to an object in private memory. In the arena, one bit says that the process
//! holds the object, and recovery clears this bit. A count in shared memory could not survive a crash.
//!
//! A handle is sent as its object's index and generation, and the family's nonce. Serializing a handle adds
//! its id to the ids that the block will carry. Deserializing a handle acquires the object before the block
//! releases the object. Outside the library's own messages, a handle would be only a number, so serializing
//! and deserializing fail there.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::objects::{self, Body, Id, Kind, Object, SUPERVISOR};
use super::thread::with_me;
use super::{Arena, member, tally};
use crate::os::memory;
use crate::{Error, Result};

/// For each object, the number of handles that this process has to it. The array is as long as the object
/// table.
static COUNTS: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// The index + 1 of the object that stands for this process itself. Only the process's death releases this
/// object. Dropping a handle does not.
static OWN: AtomicU32 = AtomicU32::new(0);
/// Held while a count changes between 0 and 1 and the bit in the arena changes with it.
static FIRST_OR_LAST: Mutex<()> = Mutex::new(());

/// Allocates the counts.
pub(super) fn prepare(arena: &Arena) -> Result<()> {
    let bytes = arena.layout.objects as usize * size_of::<AtomicU32>();
    let at = memory::map_private(bytes).map_err(|e| Error::os("making room for handles", &e))?;
    COUNTS.store(at.as_ptr().cast(), Ordering::Release);
    Ok(())
}

/// Checks the state in a forked child, which holds nothing yet. The child inherits the supervisor's counts,
/// and the supervisor has no handles.
pub(super) fn forget() {
    debug_assert!(FIRST_OR_LAST.try_lock().is_ok(), "INVARIANT: the supervisor has one thread");
}

/// Notes that `id` is the object of this process. The spawner has already set the bit by which this process
/// holds the object.
pub(crate) fn set_own_object(id: Id) {
    OWN.store(id.index() + 1, Ordering::Relaxed);
}

fn is_own(index: u32) -> bool {
    OWN.load(Ordering::Relaxed) == index + 1
}

fn count(index: u32) -> &'static AtomicU32 {
    // SAFETY: `prepare` ran before any handle existed, and indices are below the table's length.
    unsafe { &*COUNTS.load(Ordering::Acquire).add(index as usize) }
}

/// Returns the count of this process's handles to an object.
#[cfg(feature = "internals")]
pub(crate) fn counted(index: u32) -> &'static AtomicU32 {
    count(index)
}

/// A counted handle to an object.
pub(crate) struct Handle {
    object: &'static Object,
    id: Id,
    hot_offset: u64,
}

impl Handle {
    fn new(arena: &Arena, id: Id) -> Handle {
        let object = arena.object(id.index());
        Handle { object, id, hot_offset: arena.offset_of(object.hot_line()) }
    }

    /// Creates an object and the first handle to it.
    pub(crate) fn create<T: Body>(fill: impl FnOnce(&Object)) -> Result<Handle> {
        let arena = member::arena()?;
        if objects::is_nearly_full(arena) {
            super::collect::alone_if_wanted(arena);
        }
        // Held while the object is created and counted. Otherwise a stale handle to the previous object at
        // this index could release the new one.
        let _one = FIRST_OR_LAST.lock().unwrap_or_else(|e| e.into_inner());
        let id = with_me(|me| objects::create::<T>(arena, me.record(), member::slot(), fill))??;
        tally::count_up(count(id.index()));
        Ok(Handle::new(arena, id))
    }

    /// Acquires an object. Another holder must keep the object alive during the call.
    pub(crate) fn take(id: Id, kind: Kind) -> Result<Handle> {
        let arena = member::arena()?;
        let stale = || Error::StaleHandle(format!("this {} no longer exists", kind.name()));
        if id.index() >= arena.layout.objects {
            return Err(stale());
        }
        let object = arena.object(id.index());
        {
            let _one = FIRST_OR_LAST.lock().unwrap_or_else(|e| e.into_inner());
            if count(id.index()).load(Ordering::Relaxed) == 0 {
                arena.held_objects(member::slot()).set(id.index());
            }
            tally::count_up(count(id.index()));
        }
        let handle = Handle::new(arena, id);
        // From here on, the handle holds whatever object is at the index. If that is not the right object,
        // dropping the handle releases it.
        object.is(id, kind).then_some(handle).ok_or_else(stale)
    }

    /// Returns whether this is the only handle to the object. No other process can have a handle to it.
    pub(crate) fn is_last_here(&self) -> bool {
        !member::is_forked()
            && !self.object.is_embedded()
            && !is_own(self.id.index())
            && count(self.id.index()).load(Ordering::Relaxed) == 1
    }

    pub(crate) fn object(&self) -> &'static Object {
        self.object
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Returns the offset of the object's hot line.
    #[inline]
    pub(crate) fn hot_offset(&self) -> u64 {
        self.hot_offset
    }

    #[inline]
    pub(crate) fn body<T: Body>(&self) -> &'static T {
        self.object.body()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        if !member::is_forked() {
            tally::count_up(count(self.id.index()));
        }
        Handle { object: self.object, id: self.id, hot_offset: self.hot_offset }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !member::is_forked() && tally::count_down(count(self.id.index())) {
            release_last(self.id.index());
        }
    }
}

#[cold]
fn release_last(index: u32) {
    let _one = FIRST_OR_LAST.lock().unwrap_or_else(|e| e.into_inner());
    let Some(arena) = member::mapped() else { return };
    if count(index).load(Ordering::Acquire) == 1 && objects::has_cells_of(arena, index, member::slot()) {
        // A permit was leaked. The process keeps holding the object, so recovery finds the permit after the
        // process's death.
        return;
    }
    // Since the count was read, another thread may have cloned its own handle.
    if !tally::count_down(count(index)) {
        return;
    }
    count(index).store(0, Ordering::Relaxed);
    if is_own(index) {
        return;
    }
    if member::slot() == SUPERVISOR {
        return;
    }
    // If this thread gets no record because the table is full, the bit stays set until this process ends.
    let collect = with_me(|me| objects::release_handle(arena, me.record(), member::slot(), index));
    if collect.unwrap_or(false) {
        super::collect::want(arena);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id.index())
    }
}

thread_local! {
    static CARRIER: Cell<Carrier> = const { Cell::new(Carrier { doing: Activity::Nothing, ids: 0 }) };
    /// The ids of the handles in the value that is being encoded. They follow the ids of the values that
    /// contain it. It has no destructor, because an exit handler or another destructor may send a handle, and the
    /// outermost value leaves no memory in it.
    static IDS: RefCell<ManuallyDrop<Vec<Id>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

/// Whether this thread encodes or decodes a value, and how many ids `IDS` has. This is separate from `IDS`,
/// because few values carry handles.
#[derive(Clone, Copy)]
struct Carrier {
    doing: Activity,
    ids: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    Nothing,
    Encoding,
    Decoding,
}

/// Restores the previous carrier when dropped, even if encoding panics.
struct Restore(Carrier);

impl Restore {
    #[inline]
    fn after(doing: Activity) -> Restore {
        let before = CARRIER.get();
        CARRIER.set(Carrier { doing, ..before });
        Restore(before)
    }
}

impl Drop for Restore {
    #[inline]
    fn drop(&mut self) {
        if CARRIER.replace(self.0).ids != self.0.ids {
            IDS.with_borrow_mut(|ids| match self.0.ids {
                0 => drop(std::mem::take(&mut **ids)),
                left => ids.truncate(left),
            });
        }
    }
}

/// Runs `encode`, and returns its result with the ids of the handles that it serialized.
#[inline]
pub(crate) fn collect_ids<T>(encode: impl FnOnce() -> T) -> (T, Vec<Id>) {
    let restore = Restore::after(Activity::Encoding);
    let (value, before) = (encode(), restore.0.ids);
    let ids = match CARRIER.get().ids == before {
        true => Vec::new(),
        false => IDS.with_borrow_mut(|ids| match before {
            0 => std::mem::take(&mut **ids),
            _ => ids.split_off(before),
        }),
    };
    (value, ids)
}

/// Runs `decode`. Handles can be deserialized inside it.
#[inline]
pub(crate) fn decoding<T>(decode: impl FnOnce() -> T) -> T {
    let _restore = Restore::after(Activity::Decoding);
    decode()
}

impl Handle {
    /// Serializes the handle, for the types that are handles.
    pub(crate) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nonce = member::arena().map_err(S::Error::custom)?.header().nonce.load(Ordering::Relaxed);
        let carrier = CARRIER.get();
        if carrier.doing != Activity::Encoding {
            return Err(S::Error::custom(OUTSIDE));
        }
        IDS.with_borrow_mut(|ids| ids.push(self.id));
        CARRIER.set(Carrier { ids: carrier.ids + 1, ..carrier });
        (self.id.0, nonce).serialize(serializer)
    }

    /// Deserializes a handle to a `kind`, for the types that are handles.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: Kind,
    ) -> Result<Handle, D::Error> {
        let (id, nonce) = <(u64, u64)>::deserialize(deserializer)?;
        if CARRIER.get().doing != Activity::Decoding {
            return Err(D::Error::custom(OUTSIDE));
        }
        let arena = member::arena().map_err(D::Error::custom)?;
        if arena.header().nonce.load(Ordering::Relaxed) != nonce {
            return Err(D::Error::custom("the handle belongs to another family of processes"));
        }
        let handle = Handle::take(Id(id), kind).map_err(D::Error::custom)?;
        handle.object.touch();
        Ok(handle)
    }
}

const OUTSIDE: &str = "a handle can be sent only inside its family of processes: in an argument, a result or a message of this library";

/// A public type that is a handle. The crash tests use this trait.
#[cfg(feature = "internals")]
pub trait HasHandle {
    /// Returns the object's index in the table.
    fn object_index(&self) -> u32;
}
