//! Running the initialization of a [`Once`], and waiting for another thread that runs it.

use std::sync::atomic::{Ordering, fence};

use super::error::{LockError, OwnerDied};
use super::guard_state::GuardState;
use super::once::Once;
use super::raw::deadlock::MAIN_CHECK_INTERVAL_NS;
use super::raw::event::{GONE, notify};
use super::raw::lock_body::LockBody;
use super::raw::word::POISONED;
use super::raw::{deadlock, word};
use super::wait::WaitError;
use super::{acquire, wait};
use crate::arena::{Arena, member};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;

impl Once {
    pub(super) fn until(&self, deadline: Deadline) -> Result<(), LockError> {
        let arena = member::arena().map_err(|e| LockError::unusable(&e))?;
        let (body, began_ns) = (self.body(), now_ns());
        let main_is_due = || deadlock::main_is_due(arena, began_ns);
        loop {
            let due = main_is_due();
            let settled = || match self.outcome(arena) {
                // Main has ended since `due` was computed, and has woken us. Leave this wait, so that the
                // loop computes `due` again.
                None | Some(Err(LockError::MainEnded { .. })) if due.is_none() && main_is_due().is_some() => {
                    Some(None)
                }
                Some(Err(LockError::MainEnded { .. })) if due.is_none_or(|due| now_ns() < due) => None,
                outcome => outcome.map(Some),
            };
            let until =
                due.map_or(deadline, |due| deadline.min_ns(due.max(now_ns() + MAIN_CHECK_INTERVAL_NS)));
            match wait::until(&body.extra, until, settled) {
                Ok(Some(outcome)) => return outcome,
                Err(WaitError::Unusable(why)) => return Err(LockError::Unusable(why)),
                Err(_) if deadline.passed() => return Err(LockError::TimedOut),
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// Returns `Ok` if the initialization is complete, and an error if it failed. Returns
    /// [`LockError::MainEnded`] if one of main's threads runs it, even if main has not ended. Otherwise
    /// returns `None`.
    fn outcome(&self, arena: &Arena) -> Option<Result<(), LockError>> {
        let body = self.body();
        // ORDERING: Acquire, and before the check for completion. If a process completes the initialization
        // and then dies, its word is poisoned only after the store that says that the initialization is
        // complete.
        let now = body.raw.load();
        if self.is_completed() {
            return Some(Ok(()));
        }
        match word::owner(now) {
            0 => (now & POISONED != 0).then(|| Err(acquire::poison_error(body))),
            owner => deadlock::main_ended_error(arena, owner - 1).map(Err),
        }
    }

    pub(super) fn call(
        &self,
        recover: bool,
        deadline: Deadline,
        f: impl FnOnce(Option<&OwnerDied>),
    ) -> Result<(), LockError> {
        member::arena().map_err(|e| LockError::unusable(&e))?;
        if self.is_completed() {
            return Ok(());
        }
        let body = self.body();
        let state = match acquire::acquire_slow(body, recover, deadline) {
            // The thread that poisoned the lock may have completed the initialization first.
            Err(_) if self.is_completed() => return Ok(()),
            taken => taken.map_err(|error| *error)?,
        };
        let guard = RunGuard { body, state };
        if self.is_completed() {
            return Ok(());
        }
        f(guard.state.recovered_from());
        // CRASH: until this store, the initialization is not complete, and our death poisons the lock. From
        // this store on, the initialization is complete, even if the lock is poisoned. If we die before the
        // wake, the death sweep wakes the sleepers.
        body.extra.fetch_or(GONE, Ordering::SeqCst);
        futex::wake_all(&body.extra);
        Ok(())
    }
}

/// Holds the lock while the initialization runs. A panic drops this guard, which releases and poisons the
/// lock.
struct RunGuard {
    body: &'static LockBody,
    state: GuardState,
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        acquire::release(self.body, &mut self.state);
        if self.body.extra.load(Ordering::Relaxed) & GONE == 0 && !member::is_forked() {
            // The initialization failed, so the threads that wait for it are notified.
            // ORDERING: the poison comes before the check for sleepers: see `raw/event.rs`.
            // CRASH: if we die between the poison and the wake, the death sweep wakes the sleepers.
            fence(Ordering::SeqCst);
            notify(&self.body.extra, i32::MAX);
        }
    }
}
