//! Handles: how this process holds objects, and how it passes them on.
//!
//! Many handles of one process to one object count, in private memory; the arena only has one bit
//! for "this process holds it", which its death clears. Counts in shared memory could not survive
//! a crash.
//!
//! A handle travels as index, generation and the family's nonce. Serializing one notes it with the
//! [`Carrier`] that is being filled; deserializing one takes hold of the object before the carrier
//! lets it go. Outside a carrier a handle is only a number, so both are refused there.

use std::cell::{Cell, RefCell};
use std::fmt;
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

/// How many handles this process has to each object: an array as long as the object table.
static COUNTS: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// The object that stands for this very process, + 1: its own death is what lets it go, and no handle
/// to it that the user drops.
static OWN: AtomicU32 = AtomicU32::new(0);
/// Held while a count moves between 0 and 1, together with the bit in the arena.
static FIRST_OR_LAST: Mutex<()> = Mutex::new(());

/// Makes room for the counts.
pub(super) fn prepare(arena: &Arena) -> Result<()> {
    let bytes = arena.layout.objects as usize * size_of::<AtomicU32>();
    let at = memory::map_private(bytes).map_err(|e| Error::os("making room for handles", &e))?;
    COUNTS.store(at.as_ptr().cast(), Ordering::Release);
    Ok(())
}

/// A forked child holds nothing yet: the counts it inherited are its parent's, which is the
/// supervisor, and that has no handles.
pub(super) fn forget() {
    debug_assert!(FIRST_OR_LAST.try_lock().is_ok(), "INVARIANT: the supervisor has one thread");
}

/// From now on this process is the one that `id` stands for. (The spawner has set the bit that says
/// that it holds it.)
pub(crate) fn this_is(id: Id) {
    OWN.store(id.index() + 1, Ordering::Relaxed);
}

fn is_own(index: u32) -> bool {
    OWN.load(Ordering::Relaxed) == index + 1
}

fn count(index: u32) -> &'static AtomicU32 {
    // SAFETY: `prepare` came before any handle; indices are below the table's length.
    unsafe { &*COUNTS.load(Ordering::Acquire).add(index as usize) }
}

/// How many handles this process has to an object.
#[cfg(feature = "internals")]
pub(crate) fn counted(index: u32) -> &'static AtomicU32 {
    count(index)
}

/// One counted handle to an object of the arena.
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

    /// Makes an object and the first handle to it.
    pub(crate) fn create<T: Body>(fill: impl FnOnce(&Object)) -> Result<Handle> {
        let arena = member::arena()?;
        if objects::is_crowded(arena) {
            super::collect::alone_if_wanted(arena);
        }
        // Held over both: a stale handle to a former object of this place is not to undo the new one.
        let _one = FIRST_OR_LAST.lock().unwrap_or_else(|e| e.into_inner());
        let id = with_me(|me| objects::create::<T>(arena, me.record(), member::slot(), fill))??;
        tally::count_up(count(id.index()));
        Ok(Handle::new(arena, id))
    }

    /// Takes hold of an object that somebody else holds while this runs.
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
        // Held from here on, whatever it is; if it is not what was meant, dropping lets it go.
        object.is(id, kind).then_some(handle).ok_or_else(stale)
    }

    /// Whether this is the only handle, in the only process that can have one.
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

    /// Where the object's hot line lies in the arena.
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
            let_go(self.id.index());
        }
    }
}

#[cold]
fn let_go(index: u32) {
    let _one = FIRST_OR_LAST.lock().unwrap_or_else(|e| e.into_inner());
    let Some(arena) = member::mapped() else { return };
    if count(index).load(Ordering::Acquire) == 1 && objects::has_cells_of(arena, index, member::slot()) {
        // A permit was leaked: the process keeps its hold, so that its death finds the permit.
        return;
    }
    // (Another thread may have cloned a handle of its own meanwhile.)
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
    // Without a record (the table is full) the bit stays set until this process ends.
    let collect = with_me(|me| objects::let_go(arena, me.record(), member::slot(), index));
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
    static CARRIER: Cell<Carrier> = const { Cell::new(Carrier { doing: Doing::Nothing, ids: 0 }) };
    /// Handles that were met in what is being encoded, and in what was being encoded around that.
    static IDS: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

/// What is being encoded or decoded on this thread, and how many handles `IDS` has. (Apart from them,
/// because few values carry any.)
#[derive(Clone, Copy)]
struct Carrier {
    doing: Doing,
    ids: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Filling,
    Emptying,
}

/// Puts the previous carrier back, also when encoding panics.
struct Restore(Carrier);

impl Restore {
    #[inline]
    fn after(doing: Doing) -> Restore {
        let before = CARRIER.get();
        CARRIER.set(Carrier { doing, ..before });
        Restore(before)
    }
}

impl Drop for Restore {
    #[inline]
    fn drop(&mut self) {
        if CARRIER.replace(self.0).ids != self.0.ids {
            IDS.with_borrow_mut(|ids| ids.truncate(self.0.ids));
        }
    }
}

/// Runs `encode` and gives the handles that were serialized in it.
#[inline]
pub(crate) fn collecting<T>(encode: impl FnOnce() -> T) -> (T, Vec<Id>) {
    let restore = Restore::after(Doing::Filling);
    let (value, before) = (encode(), restore.0.ids);
    let ids = match CARRIER.get().ids == before {
        true => Vec::new(),
        false => IDS.with_borrow(|ids| ids[before..].to_vec()),
    };
    (value, ids)
}

/// Runs `decode`, in which handles may be deserialized.
#[inline]
pub(crate) fn emptying<T>(decode: impl FnOnce() -> T) -> T {
    let _restore = Restore::after(Doing::Emptying);
    decode()
}

impl Handle {
    /// For `Serialize` of the types that are handles.
    pub(crate) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nonce = member::arena().map_err(S::Error::custom)?.header().nonce.load(Ordering::Relaxed);
        let carrier = CARRIER.get();
        if carrier.doing != Doing::Filling {
            return Err(S::Error::custom(OUTSIDE));
        }
        IDS.with_borrow_mut(|ids| ids.push(self.id));
        CARRIER.set(Carrier { ids: carrier.ids + 1, ..carrier });
        (self.id.0, nonce).serialize(serializer)
    }

    /// For `Deserialize` of the types that are handles to a `kind`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: Kind,
    ) -> Result<Handle, D::Error> {
        let (id, nonce) = <(u64, u64)>::deserialize(deserializer)?;
        if CARRIER.get().doing != Doing::Emptying {
            return Err(D::Error::custom(OUTSIDE));
        }
        let arena = member::arena().map_err(D::Error::custom)?;
        if arena.header().nonce.load(Ordering::Relaxed) != nonce {
            return Err(D::Error::custom("a handle of another family"));
        }
        let handle = Handle::take(Id(id), kind).map_err(D::Error::custom)?;
        handle.object.touch();
        Ok(handle)
    }
}

const OUTSIDE: &str =
    "a handle can only travel inside its family: in an argument, a result or a message of this library";

/// A public type that stands for an object, as the crash tests see it.
#[cfg(feature = "internals")]
pub trait HasHandle {
    /// The object's index in the table.
    fn object_index(&self) -> u32;
}
