//! The state of a guard besides its lock, in one word.
//!
//! A guard of two words stays in registers. A larger guard goes through memory, which costs an uncontended
//! lock a third of its speed. So the rare cases are tag bits of a pointer to the lock's journal entry.
#![allow(unsafe_code)] // Tags a pointer to a journal entry, or to a box with the entry and the previous owner.

use super::error::OwnerDied;
use crate::arena::thread::Entry;

/// Tag: the release poisons the lock.
pub(crate) const POISON_ON_RELEASE: usize = 1;
/// Tag: the thread was already panicking when it acquired the lock.
pub(crate) const WAS_PANICKING: usize = 2;
/// Tag: the pointer leads to a [`Recovered`].
const RECOVERED: usize = 4;
const TAGS: usize = 7;

/// A tagged pointer: to the journal entry, or to a box that also holds the owner from which the lock was recovered.
pub(crate) struct GuardState(*const u8);

#[repr(align(8))]
struct Recovered {
    entry: Entry,
    from: OwnerDied,
}

impl GuardState {
    #[inline]
    pub(crate) fn new(entry: Entry) -> GuardState {
        let state = GuardState(std::ptr::from_ref(entry).cast());
        if std::thread::panicking() { state.with(WAS_PANICKING) } else { state }
    }

    /// Creates the state of a guard that has just recovered its lock, which `from` left poisoned.
    pub(crate) fn recovered(entry: Entry, from: OwnerDied) -> GuardState {
        let boxed = Box::into_raw(Box::new(Recovered { entry, from }));
        let panicking = if std::thread::panicking() { WAS_PANICKING } else { 0 };
        GuardState(boxed.cast_const().cast()).with(RECOVERED | panicking)
    }

    /// Carries over the previous owner that an earlier guard of the same thread reported, unless the lock has
    /// been recovered again since.
    pub(crate) fn or_recovered_from(self, from: Option<OwnerDied>) -> GuardState {
        match from {
            Some(from) if !self.is(RECOVERED) => GuardState::recovered(self.entry(), from),
            _ => self,
        }
    }

    fn with(self, tags: usize) -> GuardState {
        GuardState(self.0.map_addr(|at| at | tags))
    }

    pub(crate) fn set(&mut self, tag: usize) {
        self.0 = self.0.map_addr(|at| at | tag);
    }

    pub(crate) fn is(&self, tag: usize) -> bool {
        self.0.addr() & tag != 0
    }

    /// Returns the journal entry if no tag is set.
    #[inline]
    pub(crate) fn plain(&self) -> Option<Entry> {
        // SAFETY: without a tag, this is the reference that was passed to `new`.
        (self.0.addr() & TAGS == 0).then(|| unsafe { &*self.0.cast() })
    }

    /// Returns the journal entry, whichever tags are set.
    pub(crate) fn entry(&self) -> Entry {
        if self.is(RECOVERED) {
            // SAFETY: as in `recovered_from`.
            return unsafe { &*self.boxed() }.entry;
        }
        // SAFETY: without `RECOVERED`, this is the reference that was passed to `new`, plus tags.
        unsafe { &*self.0.map_addr(|at| at & !TAGS).cast() }
    }

    fn boxed(&self) -> *mut Recovered {
        self.0.map_addr(|at| at & !TAGS).cast_mut().cast()
    }

    /// Returns the owner that left the lock poisoned, if this guard recovered the lock.
    pub(crate) fn recovered_from(&self) -> Option<&OwnerDied> {
        // SAFETY: with this tag, the pointer is the box that `recovered` made. The box lives until `take`.
        self.is(RECOVERED).then(|| unsafe { &(*self.boxed()).from })
    }

    /// Returns the journal entry and frees the box. The caller does not use the state again.
    pub(crate) fn take(&mut self) -> Entry {
        if self.is(RECOVERED) {
            // SAFETY: as in `recovered_from`. The guard that owns this state is being dropped.
            return unsafe { Box::from_raw(self.boxed()) }.entry;
        }
        self.entry()
    }
}
