//! Reaping: what the supervisor does with a child that has ended, or is about to.

use std::sync::atomic::Ordering;

use super::children::{Children, Vacancy};
use crate::arena::slots::Slot;
use crate::arena::{process_body, slots, sweep};
use crate::os::process;
use crate::os::process::Ended;
use crate::pool::cells;
use crate::recovery;

/// A slot at or above this index returns its pages to the kernel when it becomes free.
const WARM_SLOTS: u32 = 64;

impl Children {
    /// Reaps every child that has ended.
    pub(super) fn reap(&mut self) {
        let mut any = false;
        while let Ok(Some((pid, ended))) = process::next_ended() {
            any = true;
            // A zombie keeps its process id, so no other process has that id until the zombie is reaped.
            match self.table.slot_of(pid) {
                Some(index) => {
                    self.table.clear_child(index);
                    self.reap_child(index, pid, ended);
                }
                // The process is an adopted orphan.
                None => {
                    self.backlog.forget(pid);
                    self.orphans.forget(pid);
                    process::reap(pid);
                }
            }
        }
        if any {
            self.kill_orphans(false);
            sweep::inspect_spans(self.arena, &mut self.inspected);
        }
    }

    fn reap_child(&mut self, index: u32, pid: i32, ended: Ended) {
        self.backlog.forget(pid);
        let slot = self.arena.slot(index);
        let spare =
            slot.state.compare_exchange(slots::SPARE, slots::DEAD, Ordering::AcqRel, Ordering::Acquire);
        if spare.is_err() && !can_be_replaced(slot) {
            return self.reap_begun(index, pid, ended);
        }
        // The slot drops the process id before another process can get it.
        slot.pid.store(0, Ordering::SeqCst);
        process::reap(pid);
        match spare {
            Ok(_) => self.recover(index, ended),
            Err(_) => self.vacancies.push(Vacancy { index, ended, refused_ns: 0 }),
        }
    }

    /// Recovers a child whose death is that of the user's process, and reaps it.
    fn reap_begun(&mut self, index: u32, pid: i32, ended: Ended) {
        let slot = self.arena.slot(index);
        let phase = slots::phase(slot.state.load(Ordering::Acquire));
        if phase != slots::DEAD {
            self.note_death(index, pid, ended);
        }
        let began = matches!(phase, slots::RUNNING | slots::DEAD);
        let orphans = cells::recover::workers_kept_by(self.arena, index);
        match ended {
            Ended::Exited(_) if !began => self.give_up(index, ended),
            _ => self.recover(index, ended),
        }
        process::reap(pid);
        // No pool wants the results of these workers. A process in the table has not been reaped, so its
        // process id has not been reused.
        for orphan in orphans {
            if self.table.slot_of(orphan).is_some() {
                self.backlog.kill(orphan);
            }
        }
    }

    fn note_death(&mut self, index: u32, pid: i32, ended: Ended) {
        let slot = self.arena.slot(index);
        let killed = matches!(ended, Ended::Signaled { signal: libc::SIGKILL, .. });
        if killed && !slot.was_killed_by_us() && self.memory.has_run_out() {
            slot.flags.fetch_or(slots::NO_MEMORY, Ordering::Relaxed);
        }
        process_body::name_pid(self.arena, slot, pid);
    }

    /// Releases what is held by children that are dead but cannot be reaped yet.
    pub(super) fn release_dying(&mut self) {
        let mut dying = std::mem::take(&mut self.dying);
        for (index, pid, ended) in dying.dead(self.arena, &self.table) {
            self.note_death(index, pid, ended);
            let is_worker = cells::recover::is_worker(self.arena, index, pid);
            recovery::release(self.arena, index, Some(ended));
            if is_worker {
                // The worker's pool need not wait for the reaping either.
                process_body::record(self.arena, index, Some(ended));
                cells::recover::notify_keepers(self.arena, index, false);
            }
        }
        self.dying = dying;
    }

    /// Completes a request whose function is never called.
    pub(super) fn give_up(&mut self, index: u32, ended: Ended) {
        if let Some((_, _, body)) = process_body::object_of(self.arena, self.arena.slot(index)) {
            let code = match ended {
                Ended::Exited(code) => code,
                Ended::Signaled { signal, .. } => -signal,
            };
            body.code.store(code, Ordering::Relaxed);
            body.ending.store(process_body::ending::NOT_STARTED, Ordering::Relaxed);
            body.finish();
        }
        self.recover(index, ended);
    }

    fn recover(&mut self, index: u32, ended: Ended) {
        recovery::recover(self.arena, index, Some(ended));
        self.table.clear_slot(index);
        if index >= WARM_SLOTS {
            self.arena.release_slot_pages(index);
        }
    }

    /// Kills the adopted orphans that dead children have left behind. Kills those of living children only
    /// when the family `ends`.
    pub(super) fn kill_orphans(&mut self, ends: bool) {
        let Some(children) = &mut self.children else { return };
        // This only counts the children at first. A list of them would take memory that every fork inherits, and
        // orphans are rare.
        let mut listed = 0;
        let mut looked = children.for_each(|_| listed += 1);
        if looked.is_ok() && listed == self.table.children().count() {
            return;
        }
        let mut orphans = Vec::new();
        looked = looked.and_then(|()| children.for_each(|pid| orphans.push(pid)));
        orphans.retain(|&pid| {
            let orphan = self.table.slot_of(pid).is_none();
            orphan && (ends || !self.orphans.is_owned(self.arena, &self.table, pid))
        });
        orphans.into_iter().for_each(|pid| self.backlog.kill(pid));
        if looked.is_err() {
            self.backlog.note();
        }
    }
}

/// Returns whether another child takes the place of the dead one in `slot`. The dead child was not a spare.
fn can_be_replaced(slot: &Slot) -> bool {
    let phase = || slots::phase(slot.state.load(Ordering::SeqCst));
    // While the slot is claimed, its spawner has not asked for the child's process id.
    !matches!(phase(), slots::RUNNING | slots::DEAD) && (slot.replace_child() || phase() == slots::CLAIMED)
}
