//! Waiting on a condition variable: releases the lock, sleeps, and acquires the lock again.

use std::sync::atomic::Ordering;

use super::acquire;
use super::condvar::{Condvar, WaitTimeoutResult};
use super::condvar_guard::Guard;
use super::error::LockError;
use super::raw::event;
use super::raw::park::Wait;
use super::spin::spin;
use crate::arena::member;
use crate::arena::thread::with_me;
use crate::os::clock::Deadline;
use crate::os::futex;

impl Condvar {
    pub(super) fn sleep_while<G: Guard>(
        &self,
        mut guard: G,
        deadline: Deadline,
        mut condition: impl FnMut(&mut G) -> bool,
    ) -> Result<(G, WaitTimeoutResult), LockError> {
        let mut late = false;
        while condition(&mut guard) {
            if late {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            let (again, waited) = self.sleep(guard, deadline)?;
            (guard, late) = (again, waited.timed_out() || deadline.passed());
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    pub(super) fn sleep<G: Guard>(
        &self,
        mut guard: G,
        deadline: Deadline,
    ) -> Result<(G, WaitTimeoutResult), LockError> {
        let arena = member::arena().map_err(|e| LockError::unusable(&e))?;
        let events = self.events();
        let (body, state) = guard.parts();
        let news = state.recovered_from().cloned();
        let timed_out = with_me(|me| {
            let wait = Wait::announce_event(arena, me.record(), events);
            // A notification that comes after we release the lock either finds us asleep or changes the word.
            // If the word has changed, we do not sleep.
            let ticket = event::prepare(events);
            acquire::release(body, state);
            if spin(deadline, || events.load(Ordering::SeqCst) != ticket) {
                return false;
            }
            wait.sleep_as(events, ticket, deadline, futex::class_of(me.owner()))
        });
        let taken = match timed_out {
            Ok(_) => acquire::acquire_slow(body, false, Deadline::NEVER),
            Err(error) => return Err(LockError::unusable(&error)), // the guard still holds the lock, and releases it when dropped
        };
        match (taken, timed_out) {
            (Ok(again), timed_out) => {
                *state = again.or_recovered_from(news);
                Ok((guard, WaitTimeoutResult(timed_out.unwrap_or(false))))
            }
            (Err(error), _) => {
                std::mem::forget(guard); // it no longer holds the lock
                Err(*error)
            }
        }
    }
}
