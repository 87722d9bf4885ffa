//! Which record the calling thread has.
//!
//! A thread gets its record when it first takes a lock or makes an object, and gives it back when
//! it ends. The process's first such thread has the home record in its slot's page; others take
//! an extra one.

use std::cell::Cell;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Arena;
use super::blocks::{self, HEADER, Tag};
use super::records::{Chunk, HELD, Record};
use super::{heap, member};
use crate::os::process;
use crate::{Error, Result};

/// The calling thread, as the arena knows it.
pub(crate) struct Me {
    /// The record's id + 1: what a lock word holds. 0 while there is none.
    owner: Cell<u32>,
    record: Cell<*const Record>,
    /// Hint: entries of the journal below this one are in use.
    top: Cell<u32>,
}

thread_local! {
    // Without a destructor, so that it can be used until the thread's very end.
    static ME: Me = const { Me { owner: Cell::new(0), record: Cell::new(ptr::null()), top: Cell::new(0) } };
    static GIVE_BACK: GiveBack = const { GiveBack };
}

static HOME_TAKEN: AtomicBool = AtomicBool::new(false);
/// Records that threads took in the destructors of their last moments; nobody gives those back.
static LATE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Calls `f` with the calling thread, which has a record then.
#[inline]
pub(crate) fn with_me<T>(f: impl FnOnce(&Me) -> T) -> Result<T> {
    ME.with(|me| {
        if me.owner.get() == 0 {
            me.enroll()?;
        }
        Ok(f(me))
    })
}

/// Forgets the records of the process that this one was forked from.
pub(crate) fn forget() {
    ME.with(|me| me.leave());
    HOME_TAKEN.store(false, Ordering::Relaxed);
    LATE.lock().unwrap_or_else(|e| e.into_inner()).clear();
}

/// Strikes `entry` out of the journal of the thread `owner`, which calls this: after the lock was
/// let go and a waiter woken. Works also when the thread has given its record back already (a guard
/// that was dropped by a destructor of the thread's last moments).
#[inline]
pub(crate) fn strike(owner: u32, entry: &AtomicU64) {
    entry.store(0, Ordering::Release);
    ME.with(|me| {
        if me.owner.get() == owner {
            me.lower();
        }
    });
}

impl Me {
    /// What a lock word says when this thread holds it.
    #[inline]
    pub(crate) fn owner(&self) -> u32 {
        self.owner.get()
    }

    #[inline]
    pub(crate) fn record(&self) -> &'static Record {
        debug_assert!(!self.record.get().is_null());
        // SAFETY: set together with `owner`, to a record in the arena, which is never unmapped;
        // `with_me` hands out only threads that have one.
        unsafe { &*self.record.get() }
    }

    fn leave(&self) {
        self.owner.set(0);
        self.record.set(ptr::null());
        self.top.set(0);
    }

    #[cold]
    fn enroll(&self) -> Result<()> {
        let arena = member::arena()?;
        let id = take_record(arena)?;
        let record = arena.record(id);
        record.thread.store(process::thread_id(), Ordering::Release);
        self.record.set(record);
        self.owner.set(id + 1);
        self.top.set(0);
        if GIVE_BACK.try_with(|_| ()).is_err() {
            LATE.lock().unwrap_or_else(|e| e.into_inner()).push(id);
        }
        Ok(())
    }

    /// Writes `lock` into the journal: before it is taken.
    #[inline]
    pub(crate) fn note(&self, lock: u64) -> Result<&'static AtomicU64> {
        let top = self.top.get() as usize;
        let record = self.record();
        if top < HELD {
            let entry = &record.held[top];
            if entry.load(Ordering::Relaxed) == 0 {
                entry.store(lock, Ordering::Release);
                self.top.set(top as u32 + 1);
                return Ok(entry);
            }
        }
        self.note_elsewhere(lock)
    }

    /// Lowers the hint after an entry was struck out.
    #[inline]
    fn lower(&self) {
        let record = self.record();
        let mut top = self.top.get() as usize;
        while top > 0 && record.held[top - 1].load(Ordering::Relaxed) == 0 {
            top -= 1;
        }
        self.top.set(top as u32);
    }

    #[cold]
    fn note_elsewhere(&self, lock: u64) -> Result<&'static AtomicU64> {
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

/// Gives the journal another chunk.
fn chain(arena: &Arena, record: &'static Record) -> Result<&'static Chunk> {
    let at = heap::allocate(arena, member::slot(), size_of::<Chunk>() as u64)? + HEADER;
    arena.write(at, &[0; size_of::<Chunk>()]);
    let fresh = AtomicU64::new(at);
    let chunk =
        Record::chunk_at(arena, &fresh).ok_or_else(|| Error::Full("no room for more held locks".into()))?;
    chunk.next.store(record.chunk.load(Ordering::Relaxed), Ordering::Relaxed);
    // CRASH: before this store the block is a block of ours like any other, and is swept.
    record.chunk.store(at, Ordering::Release);
    Ok(chunk)
}

fn take_record(arena: &Arena) -> Result<u32> {
    let slot = member::slot();
    if slot >= arena.layout.slots {
        return Err(Error::Unsupported("the supervisor takes no locks".into()));
    }
    if !HOME_TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(slot);
    }
    take_back_late(arena);
    for extra in 0..arena.layout.extra_records {
        let owner = arena.record_owner(extra);
        if owner.load(Ordering::Relaxed) != 0 {
            continue;
        }
        // Before the claim: recovery looks no further than this.
        arena.header().records_used.fetch_max(extra + 1, Ordering::AcqRel);
        // CRASH: from here on the record is this process's, and is swept with it.
        if owner.compare_exchange(0, slot + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Ok(arena.layout.slots + extra);
        }
    }
    Err(Error::Full(format!(
        "{} threads of the family use it at once, which is the most",
        arena.layout.extra_records
    )))
}

/// Returns the records of threads that ended after their own `GIVE_BACK` had run.
fn take_back_late(arena: &Arena) {
    let mut late = LATE.lock().unwrap_or_else(|e| e.into_inner());
    late.retain(|&id| {
        let thread = arena.record(id).thread.load(Ordering::Acquire);
        let gone = !std::path::Path::new(&format!("/proc/self/task/{thread}")).exists();
        !(gone && return_record(arena, id))
    });
}

/// Gives a record back, unless locks stand in it (`mem::forget` of a guard): those stay held until
/// the process ends, and so does the record.
fn return_record(arena: &Arena, id: u32) -> bool {
    let record = arena.record(id);
    if record.holds_any(arena) {
        return false;
    }
    let mut at = record.chunk.swap(0, Ordering::AcqRel);
    for _ in 0..arena.layout.spans {
        let link = AtomicU64::new(at);
        let Some(chunk) = Record::chunk_at(arena, &link) else { break };
        let next = chunk.next.load(Ordering::Relaxed);
        blocks::free(arena, member::slot(), at - HEADER, Tag::process(member::slot()));
        at = next;
    }
    record.reset();
    if id >= arena.layout.slots {
        arena.record_owner(id - arena.layout.slots).store(0, Ordering::Release);
    } else {
        HOME_TAKEN.store(false, Ordering::Release);
    }
    true
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
            return_record(arena, id);
        }
    }
}
