//! The record of the calling thread, and its journal.
//!
//! A thread gets a record when it first acquires a lock or creates an object, and returns the record when it
//! ends. The first such thread of a process has the home record, which lies in the process's slot. Other
//! threads take extra records.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::HEADER;
use super::owned_block::OwnedBlock;
use super::records::{Chunk, Record};
use super::{Arena, member, own_records};
use crate::os::{fatal_signals, process};
use crate::{Error, Result};

/// The calling thread's record.
pub(crate) struct Me {
    /// The record's id + 1, which lock words contain, or 0 while the thread has no record.
    owner: Cell<u32>,
    record: Cell<*const Record>,
    /// The journal entry for the next lock, if that entry is free. After the last entry, and while the thread
    /// has no journal, this is an entry that is never free.
    next: Cell<*const AtomicU64>,
}

/// An entry of a journal.
pub(crate) type Entry = &'static AtomicU64;

/// A journal entry that is never free.
static NEVER_FREE: AtomicU64 = AtomicU64::new(u64::MAX);

thread_local! {
    // Has no destructor, so that it can be used until the very end of the thread.
    static ME: Me =
        const { Me { owner: Cell::new(0), record: Cell::new(ptr::null()), next: Cell::new(&raw const NEVER_FREE) } };
    static GIVE_BACK: GiveBack = const { GiveBack };
}

/// Calls `f` with the calling thread's record. If the thread has no record yet, first takes one.
#[inline]
pub(crate) fn with_me<T>(f: impl FnOnce(&Me) -> T) -> Result<T> {
    ME.with(|me| {
        if me.owner.get() == 0 {
            me.claim_record()?;
        }
        Ok(f(me))
    })
}

/// Forgets the record of the calling thread. Takes no lock, because a forked process inherits locks that
/// other threads held.
pub(crate) fn forget_me() {
    ME.with(Me::leave);
}

/// Forgets the records that this process inherited in a fork. A process that was just forked has one thread.
pub(crate) fn forget() {
    forget_me();
    own_records::forget();
}

/// Writes `lock` into the calling thread's journal if a single store is enough. Returns the thread's id for
/// the lock word, and the entry.
#[inline]
pub(crate) fn journal_fast(lock: u64) -> Option<(u32, Entry)> {
    ME.with(|me| {
        let at = me.next.get();
        // SAFETY: `next` points to an entry of this thread's journal, to the stop after the last entry, or to
        // `NEVER_FREE`. None of them is ever freed.
        let entry = unsafe { &*at };
        if entry.load(Ordering::Relaxed) != 0 {
            return None;
        }
        entry.store(lock, Ordering::Release);
        me.next.set(at.wrapping_add(1));
        Some((me.owner.get(), entry))
    })
}

/// Clears an entry of the calling thread's journal. Called after the lock was released and a waiter was
/// woken.
#[inline]
pub(crate) fn clear_entry(entry: Entry) {
    entry.store(0, Ordering::Release);
    ME.with(|me| {
        // In destructors at the thread's end, the thread may have another record than the one whose journal
        // names the lock.
        if me.owner.get() != 0 && me.record().held.as_ptr_range().contains(&ptr::from_ref(entry)) {
            me.next.set(entry);
        }
    });
}

/// Calls `release` with the id by which lock words name the thread. If `release` returns true, clears the entry and
/// returns true. Returns false if the thread has no record.
#[inline]
pub(crate) fn clear_entry_if(entry: Entry, release: impl FnOnce(u32) -> bool) -> bool {
    ME.with(|me| {
        let owner = me.owner.get();
        let done = owner != 0 && release(owner);
        if done {
            entry.store(0, Ordering::Release);
            me.next.set(entry);
        }
        done
    })
}

/// Returns the id by which lock words name the thread, or 0 if the thread has no record.
#[inline]
pub(crate) fn owner() -> u32 {
    ME.with(|me| me.owner.get())
}

/// Returns whether the calling thread has the process's home record. At most one thread has it at a time.
#[inline]
pub(crate) fn is_home() -> bool {
    owner() == member::slot() + 1
}

/// Returns the entry of the calling thread's journal that names `lock`.
pub(crate) fn entry_for(lock: u64) -> Option<Entry> {
    let arena = member::mapped()?;
    ME.with(|me| {
        let mut found = None;
        if me.owner.get() != 0 {
            me.record().for_each_held(arena, |entry| {
                if entry.load(Ordering::Relaxed) == lock {
                    found = Some(entry);
                }
            });
        }
        found
    })
}

/// Returns the id, as lock words contain it, of the record whose journal contains `entry`. The thread may
/// have returned that record already: this happens when a destructor at the thread's end drops a guard.
#[cold]
pub(crate) fn owner_of(arena: &Arena, entry: Entry) -> Option<u32> {
    arena.records_of(member::slot()).find_map(|id| {
        let mut found = false;
        arena.record(id).for_each_held(arena, |other| found |= ptr::eq(other, entry));
        found.then_some(id + 1)
    })
}

impl Me {
    /// Returns the id that a lock word contains while this thread owns the lock.
    #[inline]
    pub(crate) fn owner(&self) -> u32 {
        self.owner.get()
    }

    #[inline]
    pub(crate) fn record(&self) -> &'static Record {
        debug_assert!(!self.record.get().is_null());
        // SAFETY: `record` is set together with `owner`, to a record in the arena, which is never unmapped.
        // `with_me` calls its closure only when the thread has a record.
        unsafe { &*self.record.get() }
    }

    fn leave(&self) {
        self.owner.set(0);
        self.record.set(ptr::null());
        self.next.set(&raw const NEVER_FREE);
    }

    #[cold]
    fn claim_record(&self) -> Result<()> {
        let arena = member::arena()?;
        let id = own_records::take(arena)?;
        let record = arena.record(id);
        let thread = process::thread_id();
        record.thread.store(thread, Ordering::Release);
        self.record.set(record);
        self.owner.set(id + 1);
        record.stop.store(u64::MAX, Ordering::Relaxed);
        // In a child, each further thread needs an alternate stack of its own for the report of an overflow.
        if !member::is_main() && thread != arena.slot(member::slot()).pid.load(Ordering::Relaxed) {
            fatal_signals::add_alternate_stack();
        }
        self.next.set(&raw const record.held[0]);
        if GIVE_BACK.try_with(|_| ()).is_err() {
            own_records::add_late(id);
        }
        Ok(())
    }

    /// Writes `lock` into the journal. Called before the lock is acquired.
    pub(crate) fn journal(&self, lock: u64) -> Result<Entry> {
        match journal_fast(lock) {
            Some((_, entry)) => Ok(entry),
            None => self.journal_slow(lock),
        }
    }

    #[cold]
    fn journal_slow(&self, lock: u64) -> Result<Entry> {
        let arena = member::arena()?;
        let record = self.record();
        let mut free = None;
        record.for_each_held(arena, |entry| {
            if free.is_none() && entry.load(Ordering::Relaxed) == 0 {
                free = Some(entry);
            }
        });
        let entry = match free {
            Some(entry) => entry,
            None => &chain(arena, record)?.held[0],
        };
        entry.store(lock, Ordering::Release);
        Ok(entry)
    }
}

/// Adds a chunk to the journal.
fn chain(arena: &Arena, record: &'static Record) -> Result<&'static Chunk> {
    let mut block = OwnedBlock::allocate(size_of::<Chunk>() as u64)?;
    block.room_mut(size_of::<Chunk>() as u64).fill(0);
    let at = block.at() + HEADER;
    let fresh = AtomicU64::new(at);
    let chunk = Record::chunk_at(arena, &fresh).ok_or_else(|| {
        Error::Full("no memory for the journal: this thread holds too many locks at the same time".into())
    })?;
    chunk.stop.store(u64::MAX, Ordering::Relaxed);
    chunk.next.store(record.chunk.load(Ordering::Relaxed), Ordering::Relaxed);
    // CRASH: if we die before this store, the block is an ordinary block of this process, and recovery sweeps
    // it.
    record.chunk.store(block.into_raw() + HEADER, Ordering::Release);
    Ok(chunk)
}

struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        let owner = ME.with(|me| {
            let owner = me.owner.get();
            me.leave();
            owner
        });
        if let (Some(id), Some(arena)) = (owner.checked_sub(1), member::mapped()) {
            own_records::put_back(arena, id);
        }
    }
}
