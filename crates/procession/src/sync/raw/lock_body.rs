//! A lock as an object in shared memory: its word, and the process that poisoned it.
#![allow(unsafe_code)] // The layout consists of atomics.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::lock::RawLock;
use crate::arena::Arena;
use crate::arena::objects::{Body, Kind, Object};
use crate::arena::recover::{Dead, Found, Journaled};
use crate::sync::error::OwnerDied;

/// A lock in shared memory: its word, and the process that poisoned it.
#[repr(C)]
pub(crate) struct LockBody {
    pub(crate) raw: RawLock,
    /// Odd while the fields below are being written.
    poison_version: AtomicU32,
    /// The cause in the low byte, and above it the length of the name.
    poison_cause: AtomicU32,
    poison_pid: AtomicI32,
    /// The meaning depends on the kind of lock. `RLock`: the number of the owner's further guards. `RwLock`:
    /// [`DIRTY`]. `Once`: whether it is complete.
    pub(crate) extra: AtomicU32,
    poison_name: [AtomicU64; 4],
}

// SAFETY: all fields are atomics, the size is 64 bytes, and all zeros are a free lock.
unsafe impl Body for LockBody {
    const KIND: Kind = Kind::Lock;
}

/// Declares a [`LockBody`] as the hot line of another kind of object.
macro_rules! also {
    ($($name:ident = $kind:ident: $what:literal;)*) => {$(
        #[doc = $what]
        #[repr(transparent)]
        pub(crate) struct $name(LockBody);

        const _: () = assert!(Kind::$kind.is_lock(), "`arena/kind.rs` says LOCK for each of these");

        // SAFETY: as for `LockBody`.
        unsafe impl Body for $name {
            const KIND: Kind = Kind::$kind;
        }
    )*};
}

also! {
    RLockBody = RLock: "A recursive lock.";
    MutexBody = Mutex: "A lock with its value in a block.";
    RwLockBody = RwLock: "The writers' lock, with the value in one block and the readers in others.";
    OnceBody = Once: "A lock for what is done once.";
    ArrayBody = Array: "A lock with its elements in a block.";
}

/// Returns the lock in the object's hot line, if its kind has one.
pub(crate) fn of(object: &'static Object) -> Option<&'static LockBody> {
    object.kind().filter(|kind| kind.is_lock()).map(|_| object.body())
}

/// Why a lock is poisoned.
const DIED: u32 = 1;
pub(crate) const PANICKED: u32 = 2;

/// In [`LockBody::extra`] of an `RwLock`: a thread writes, or died while it wrote. A writer that still waits for
/// readers has changed nothing, so its death does not poison the lock.
pub(crate) const DIRTY: u32 = 1;

impl LockBody {
    /// Stores which process poisons the lock. Only the owner calls this, or recovery on its behalf.
    pub(crate) fn write_poison(&self, cause: u32, pid: i32, name: &str) {
        let version = self.poison_version.load(Ordering::Relaxed) | 1;
        self.poison_version.store(version, Ordering::Release);
        self.poison_pid.store(pid, Ordering::Release);
        let mut bytes = [0u8; 32];
        let len = (0..=name.len().min(32)).rev().find(|&n| name.is_char_boundary(n)).unwrap_or(0);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        for (to, from) in self.poison_name.iter().zip(bytes.chunks_exact(8)) {
            to.store(u64::from_le_bytes(from.try_into().expect("INVARIANT: chunks of 8")), Ordering::Release);
        }
        self.poison_cause.store(cause | (len as u32) << 8, Ordering::Release);
        // CRASH: if we die before this store, the version stays odd, and the next process that poisons the
        // lock overwrites it. Only the word decides whether the lock is poisoned.
        self.poison_version.store(version.wrapping_add(1), Ordering::Release);
    }

    /// Returns why the lock is poisoned, and by which process. Reads again if the fields change meanwhile.
    pub(crate) fn read_poison(&self) -> (u32, OwnerDied) {
        for _ in 0..1000 {
            let version = self.poison_version.load(Ordering::Acquire);
            let what = self.poison_cause.load(Ordering::Acquire);
            let pid = self.poison_pid.load(Ordering::Acquire);
            let mut bytes: Vec<u8> =
                self.poison_name.iter().flat_map(|w| w.load(Ordering::Acquire).to_le_bytes()).collect();
            bytes.truncate((what >> 8).min(32) as usize);
            if version & 1 == 0 && self.poison_version.load(Ordering::Acquire) == version {
                return (
                    what & 0xff,
                    OwnerDied::new(pid.cast_unsigned(), String::from_utf8_lossy(&bytes).into_owned()),
                );
            }
            std::hint::spin_loop();
        }
        (DIED, OwnerDied::new(0, String::new()))
    }
}

/// Releases the lock in the object's hot line if the dead thread held it, and poisons the lock.
pub(crate) fn release(dead: &Dead<'_>, found: &Found, entry: Journaled) {
    let is_named = |body: &&LockBody| dead.arena.offset_of(&raw const **body) == entry.offset;
    let Some(body) = of(found.object).filter(is_named) else { return };
    let kind = found.object.kind();
    super::lock::recover(entry.record, &body.raw, || {
        // A writer that still waited for readers has changed nothing.
        let poison = kind != Some(Kind::RwLock) || body.extra.load(Ordering::Acquire) != 0;
        if poison {
            let pid = dead.arena.slot(dead.slot).pid.load(Ordering::Relaxed);
            body.write_poison(DIED, pid, &dead.arena.process_name(dead.slot));
        }
        if kind == Some(Kind::RLock) {
            body.extra.store(0, Ordering::Release); // the dead owner's further guards
        }
        poison
    });
}

/// Withdraws the turn of a stopped writer that waits for readers while it holds the object's lock. The other
/// threads continue. When the writer continues, it waits for another turn.
pub(crate) fn withdraw(arena: &Arena, object: &'static Object, entry: Journaled) {
    let is_named = |body: &&LockBody| arena.offset_of(&raw const **body) == entry.offset;
    if let Some(body) = of(object).filter(is_named) {
        // If the writer was about to clear an earlier poison, the lock stays poisoned.
        body.raw.withdraw(entry.record, body.extra.load(Ordering::Acquire) & DIRTY != 0);
    }
}
