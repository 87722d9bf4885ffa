//! Waiting for a permit: the heir, reservations, and the search for a free permit.

use std::sync::atomic::{AtomicU32, Ordering};

use super::raw::event::notify;
use super::raw::lock::RESERVED_NS;
use super::raw::park::Wait;
use super::raw::permits::{FREE, RESERVED};
use super::raw::{deadlock, event, permits};
use super::semaphore::Semaphore;
use super::wait::WaitError;
use crate::arena::thread::Me;
use crate::arena::{Arena, member};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;
use crate::rules;
use crate::rules::Rule;

/// The next permit is reserved for a waiter that has slept this long.
const STARVING_NS: u64 = 1_000_000;

impl Semaphore {
    pub(super) fn wait_for_permit(
        &self,
        arena: &Arena,
        me: &Me,
        deadline: Deadline,
    ) -> Result<&'static AtomicU32, WaitError> {
        let (body, id) = (self.body(), me.owner());
        let mut since_ns = 0;
        let leave = |taken: Option<&'static AtomicU32>| {
            self.leave_heirship(id);
            // A permit that was reserved for us may now be free for everyone.
            let taken = taken.or_else(|| self.claim_any(0));
            if taken.is_none() && self.any_reserved() {
                // We may have been the only awake thread that watches a reservation. So wake another one.
                notify(&body.events, 1);
            }
            taken
        };
        loop {
            if let Some(cell) = self.claim_any(id) {
                return leave(Some(cell)).ok_or(WaitError::TimedOut);
            }
            if deadline.passed() {
                return leave(None).ok_or(WaitError::TimedOut);
            }
            let now = now_ns();
            if since_ns == 0 {
                since_ns = now;
            }
            let reserved_at = body.reserved_at_ns.load(Ordering::Relaxed);
            let passed_over = now.saturating_sub(since_ns.max(reserved_at)) >= STARVING_NS;
            if passed_over && rules::holds(Rule::LockHandedOver) {
                let _ = body.heir.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst);
            }
            // ORDERING: the wait is announced before we check again: see `wait::until`.
            let wait = Wait::announce_event(arena, me.record(), &body.events);
            let ticket = event::prepare(&body.events);
            if let Some(cell) = self.claim_any(id) {
                return leave(Some(cell)).ok_or(WaitError::TimedOut);
            }
            let main_is_due = deadlock::main_is_due(arena, since_ns);
            if main_is_due.is_some_and(|due| now >= due) && permits::are_all_mains(self.cells()) {
                return leave(None).ok_or(WaitError::MainEnded);
            }
            // If there is no heir, wake up once to become the heir. If there is one, sleep on.
            let promised = body.heir.load(Ordering::SeqCst) != 0;
            let until = if promised { deadline } else { deadline.min_ns(now + STARVING_NS) };
            let watched = self.any_reserved() && rules::holds(Rule::HeirBypassed);
            let until = if watched { until.min_ns(self.reserved_until_ns()) } else { until };
            // Main may acquire the last permit only later, so check again: see `Watch::check` in
            // `deadlock.rs`.
            let until = main_is_due
                .map_or(until, |due| until.min_ns(due.max(now + deadlock::MAIN_CHECK_INTERVAL_NS)));
            wait.sleep_as(&body.events, ticket, until, futex::class_of(id));
        }
    }

    /// Claims a permit that is free for the thread `id`. A reserved permit is free for the heir, or for everyone if
    /// there is no heir.
    pub(super) fn claim_any(&self, id: u32) -> Option<&'static AtomicU32> {
        let slot = member::slot();
        let start = (self.hint.load(Ordering::Relaxed) as usize).min(self.first.len());
        let near = self.first[start..].iter().chain(&self.first[..start]);
        let found = near.chain(self.chunk(0)).chain(self.chunk(1)).find(|cell| {
            match cell.load(Ordering::SeqCst) {
                FREE => permits::claim(cell, FREE, slot),
                RESERVED => {
                    let heir = self.body().heir.load(Ordering::SeqCst);
                    // If a thread becomes the heir after this load, it is passed over once more.
                    let is_ours = heir == 0 || heir == id || self.bypass(heir);
                    is_ours && permits::claim(cell, RESERVED, slot)
                }
                _ => false,
            }
        })?;
        self.remember(found);
        Some(found)
    }

    /// Ends the reservation if the heir has not come in time, perhaps because it is stopped. Returns whether
    /// the heir was late.
    #[cold]
    fn bypass(&self, heir: u32) -> bool {
        let late = rules::holds(Rule::HeirBypassed) && now_ns() >= self.reserved_until_ns();
        if late {
            self.leave_heirship(heir);
        }
        late
    }

    /// Returns when the last reservation ends.
    fn reserved_until_ns(&self) -> u64 {
        self.body().reserved_at_ns.load(Ordering::Relaxed).min(now_ns()) + RESERVED_NS
    }

    fn any_reserved(&self) -> bool {
        self.cells().any(|cell| cell.load(Ordering::SeqCst) == RESERVED)
    }

    /// Removes the thread as the heir. Permits that were reserved for it are then free for everyone, so
    /// waiters are notified.
    fn leave_heirship(&self, id: u32) {
        let body = self.body();
        if body.heir.compare_exchange(id, 0, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        for cell in self.cells() {
            if cell.load(Ordering::SeqCst) == RESERVED {
                notify(&body.events, 1);
            }
        }
    }

    pub(super) fn remember(&self, cell: &'static AtomicU32) {
        if let Some(index) = self.first.element_offset(cell) {
            self.hint.store(index as u32, Ordering::Relaxed);
        }
    }
}
