//! Acquiring a read-write lock: claiming a reader's cell, and waiting as a writer for the readers.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::acquire;
use super::error::LockError;
use super::guard_state::GuardState;
use super::mutex::Plain;
use super::raw::lock_body::DIRTY;
use super::raw::word;
use super::rwlock::RwLock;
use super::rwlock_guards::{ReadGuard, WriteGuard};
use crate::arena::thread::Entry;
use crate::arena::{member, thread};
use crate::os::clock::Deadline;
use crate::{Error, Result};

impl<T: Plain> RwLock<T> {
    #[inline]
    pub(super) fn try_read_fast(&self) -> Option<ReadGuard<'_, T>> {
        let (cell, offset) = self.cells.of_thread(thread::owner())?;
        let (me, entry) = thread::journal_fast(offset)?;
        self.enter(cell, me, entry)
    }

    /// Claims `cell`, which the journal already names, unless a thread writes or waits to write.
    #[inline]
    fn enter(&self, cell: &'static AtomicU32, me: u32, entry: Entry) -> Option<ReadGuard<'_, T>> {
        // ORDERING: SeqCst. We claim the cell and then look for a writer. A writer acquires the lock and then looks
        // at the cells. At least one of the two sees the other.
        // CRASH: if we die, the journal names the cell, so recovery clears the cell and wakes the writer.
        if cell.compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            let guard = ReadGuard { lock: self, cell, me, entry, _here: PhantomData };
            let word = self.body().raw.load_in_order();
            return (word::owner(word) == 0 && word & word::POISONED == 0).then_some(guard);
        }
        thread::clear_entry(entry);
        None
    }

    #[cold]
    pub(super) fn read_slow(&self, deadline: Deadline) -> Result<ReadGuard<'_, T>, LockError> {
        member::arena().map_err(|e| LockError::unusable(&e))?;
        let me = thread::with_me(|me| me.owner()).map_err(|e| LockError::unusable(&e))?;
        if let Some(guard) = self.enter_any(me)? {
            return Ok(guard);
        }
        // A thread writes or waits to write, or there are more readers than cells. While we hold the writers' lock,
        // no thread writes.
        let body = self.body();
        let mut turn = acquire::acquire_slow(body, false, deadline).map_err(|error| *error)?;
        let entered = loop {
            match self.cells.claim_any(me) {
                Ok(Some((cell, entry))) => {
                    break Ok(ReadGuard { lock: self, cell, me, entry, _here: PhantomData });
                }
                Ok(None) => {
                    if let Err(error) = self.cells.grow() {
                        break Err(LockError::unusable(&error));
                    }
                }
                Err(error) => break Err(LockError::unusable(&error)),
            }
        };
        acquire::release(body, &mut turn);
        entered
    }

    /// Claims any free cell, unless a thread writes or waits to write.
    fn enter_any(&self, me: u32) -> Result<Option<ReadGuard<'_, T>>, LockError> {
        let taken = self.cells.claim_any(me).map_err(|e| LockError::unusable(&e))?;
        Ok(taken.and_then(|(cell, entry)| {
            let guard = ReadGuard { lock: self, cell, me, entry, _here: PhantomData };
            let word = self.body().raw.load_in_order();
            (word::owner(word) == 0 && word & word::POISONED == 0).then_some(guard)
        }))
    }

    /// Waits until the last reader has left. New readers wait for the writers' lock, which this thread holds.
    pub(super) fn drain(
        &self,
        mut state: GuardState,
        recover: bool,
        deadline: Deadline,
    ) -> Result<WriteGuard<'_, T>, LockError> {
        let body = self.body();
        // ORDERING: pairs with the SeqCst claim of the cell in `enter`.
        fence(Ordering::SeqCst);
        while !self.cells.all_empty() {
            match self.await_readers(deadline) {
                Ok(true) => break,
                // This process was stopped, and its turn was withdrawn.
                Ok(false) => {
                    body.raw.release_slow(state.take(), false);
                    state = acquire::acquire_slow(body, recover, deadline).map_err(|error| *error)?;
                    fence(Ordering::SeqCst);
                }
                Err(error) => {
                    // If we were about to clear an earlier poison, the lock stays poisoned.
                    let poisoned = body.extra.load(Ordering::Relaxed) & DIRTY != 0;
                    body.raw.release_slow(state.take(), poisoned);
                    return Err(error);
                }
            }
        }
        // CRASH: from this store on, the value may be half-written, so our death poisons the lock.
        body.extra.store(DIRTY, Ordering::Release);
        Ok(WriteGuard { lock: self, state, _here: PhantomData })
    }

    /// Waits until the last reader has left, while this thread holds the writers' lock. Returns false if this
    /// thread's turn was withdrawn meanwhile: see `lock_body::withdraw`.
    #[cold]
    fn await_readers(&self, deadline: Deadline) -> Result<bool, LockError> {
        let body = self.body();
        if self.cells.names(thread::owner()) {
            return Err(acquire::self_deadlock(body));
        }
        if !body.raw.set_pending(true) {
            return Ok(false);
        }
        match self.cells.await_empty(deadline, || !body.raw.is_mine()) {
            // ORDERING: if this thread has held the lock all the time, no reader has claimed a cell since the
            // cells were empty.
            Ok(true) => Ok(body.raw.set_pending(false)),
            Ok(false) => Err(LockError::TimedOut),
            Err(Error::Lock(deadlock)) => Err(deadlock),
            Err(other) => Err(LockError::unusable(&other)),
        }
    }
}
