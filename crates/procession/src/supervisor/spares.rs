//! The spares: forking them, publishing them, and replacing children that died too early.

use std::io;
use std::sync::atomic::Ordering;

use super::child;
use super::children::Children;
use crate::arena::header::NO_SLOT;
use crate::arena::{member, slots};
use crate::os;
use crate::os::clock::now_ns;
use crate::os::{attributes, futex, process, signal};

/// The number of spares that the supervisor keeps, so that a spawn does not wait for a fork.
const SPARES: usize = 4;
/// The maximum number of forks in a row before the supervisor reaps ended children again.
const BATCH: usize = 16;
/// The maximum number of forks for one child. A child that is signaled before it has left the group is
/// replaced, so a burst of signals costs a few forks. Without this bound, a program that signals without end
/// could hold up the supervisor.
const BIRTHS: u32 = 200;
/// How long the kernel may refuse to fork a child for a request before the request fails.
const FORK_TIMEOUT_NS: u64 = 10_000_000_000;

impl Children {
    /// Makes the first spare.
    pub(super) fn make_first(&mut self) {
        self.make_spare();
        self.publish_spares();
    }

    /// Forks spares until there are enough, and wakes the spawners that wait for one.
    pub(super) fn refill(&mut self) {
        self.replace_dead();
        let header = self.arena.header();
        for _ in 0..BATCH {
            let waited_for = header.spares.load(Ordering::SeqCst) & 1 == 1;
            let spares = self.spares().count();
            if spares >= SPARES && !waited_for {
                break;
            }
            let made = spares < SPARES && self.make_spare();
            if made || !waited_for {
                // Only a spawner that waits for a spare gets the reason why there is none.
                header.fork_errno.store(0, Ordering::Release);
            }
            self.publish_spares();
            if !made {
                break;
            }
        }
    }

    fn spares(&self) -> impl Iterator<Item = u32> {
        let arena = self.arena;
        let spare =
            move |&slot: &u32| slots::phase(arena.slot(slot).state.load(Ordering::Acquire)) == slots::SPARE;
        self.table.children().map(|(_, slot)| slot).filter(spare)
    }

    /// Wakes the spares, which then discard their pending signals.
    pub(super) fn wake_spares(&self) {
        for index in self.spares() {
            futex::wake_all(&self.arena.slot(index).state);
        }
    }

    fn publish_spares(&self) {
        let header = self.arena.header();
        let mut spares = self.spares();
        for hint in &header.spare_slots {
            hint.store(spares.next().unwrap_or(0), Ordering::Relaxed);
        }
        // ORDERING: SeqCst. A spawner sets the lowest bit, loads the slots again and sleeps on the value that it saw. So
        // it sees the new spares, or the kernel refuses the sleep.
        let old = header.spares.fetch_add(2, Ordering::SeqCst);
        if old & 1 == 1 {
            header.spares.fetch_and(!1, Ordering::SeqCst);
            futex::wake_all(&header.spares);
        }
    }

    fn make_spare(&mut self) -> bool {
        let header = self.arena.header();
        let Some(index) = self.table.vacant() else {
            header.fork_errno.store(NO_SLOT, Ordering::Release);
            return false;
        };
        if header.slots_used.fetch_max(index + 1, Ordering::SeqCst) <= index {
            // The guard sleeps on the life words of all slots in use.
            futex::wake_all(&header.slots_used);
        }
        let incarnation = header.incarnations.fetch_add(1, Ordering::Relaxed) + 1;
        self.arena.slot(index).begin_incarnation(incarnation);
        self.arena.slot(index).state.store(slots::FORKING, Ordering::Release);
        if !self.fork_into(index) {
            self.arena.slot(index).state.store(slots::FREE, Ordering::Release);
            return false;
        }
        self.arena.slot(index).state.store(slots::SPARE, Ordering::Release);
        true
    }

    /// Forks a child for a slot. The child will run the slot's request.
    pub(super) fn fork_into(&mut self, index: u32) -> bool {
        let slot = self.arena.slot(index);
        slot.pace.reset();
        match self.fork_unsignalled(index) {
            Ok(pid) => {
                slot.pid.store(pid, Ordering::Release);
                self.table.enter(index, pid);
                true
            }
            Err(e) => {
                let errno = e.raw_os_error().unwrap_or(libc::EAGAIN);
                self.arena.header().fork_errno.store(errno as u32, Ordering::Release);
                false
            }
        }
    }

    /// Forks a child that has no pending signal.
    ///
    /// A spare is in a process group of its own until it gets a function. So it misses a signal that main's
    /// group receives before that, just as a process that main forks after the signal would. A fork begins in
    /// the supervisor's group, though. A signal that arrives before the fork has left that group also reaches
    /// the supervisor, and the fork is then replaced.
    fn fork_unsignalled(&self, index: u32) -> io::Result<i32> {
        let signalled = || {
            let any = signal::discard_pending();
            if any {
                self.wake_spares();
            }
            any
        };
        signalled();
        for left in (0..BIRTHS).rev() {
            // SAFETY: the supervisor has one thread.
            let Some(pid) = (unsafe { member::fork() })? else {
                child::live(self.arena, index, &self.inheritance)
            };
            attributes::separate_group(pid);
            if left == 0 || !signalled() {
                return Ok(pid);
            }
            os::retry_refused(|| process::signal_child(pid, libc::SIGKILL), |_| false)?;
            process::reap(pid);
        }
        unreachable!("INVARIANT: the last one is returned")
    }

    /// Forks again for the slots whose child died before its spawner returned.
    pub(super) fn replace_dead(&mut self) {
        for mut slot in std::mem::take(&mut self.vacancies) {
            if self.fork_into(slot.index) {
                continue;
            }
            let now = now_ns();
            if slot.refused_ns == 0 {
                slot.refused_ns = now;
            }
            let waited = now - slot.refused_ns > FORK_TIMEOUT_NS;
            match slots::phase(self.arena.slot(slot.index).state.load(Ordering::Acquire)) {
                slots::GO if waited => self.give_up(slot.index, slot.ended),
                // In any other phase the spawner is still writing the request, or it has died and the slot is
                // a spare again.
                _ => {
                    self.vacancies.push(slot);
                    self.backlog.note();
                }
            }
        }
    }
}
