//! The end of the family: which children it waits for, and how it ends the others.

use std::sync::atomic::Ordering;

use super::children::Children;
use crate::arena::process_body::ProcessBody;
use crate::arena::slots::Slot;
use crate::arena::{process_body, slots};
use crate::os::process;
use crate::rules;
use crate::rules::Rule;

impl Children {
    /// Returns whether this process has neither children nor adopted orphans.
    fn is_alone(&mut self) -> bool {
        let mut listed = false;
        if let Some(children) = &mut self.children {
            listed = children.for_each(|_| listed = true).is_err() || listed;
        }
        !listed && self.table.children().next().is_none()
    }

    /// Returns the names of the processes that the end of the family waits for.
    pub(super) fn awaited(&self) -> Vec<String> {
        let awaited = |&index: &u32| {
            let slot = self.arena.slot(index);
            let state = slots::phase(slot.state.load(Ordering::Acquire));
            let daemon = slot.flags.load(Ordering::Relaxed) & slots::DAEMON != 0;
            state == slots::CLAIMED || (slot.is_live() && !daemon && !self.is_stopped_at_its_end(slot))
        };
        let vacancies = self.vacancies.iter().map(|slot| slot.index);
        self.table
            .children()
            .map(|(_, slot)| slot)
            .chain(vacancies)
            .filter(awaited)
            .map(|index| {
                let stopped = if self.is_stopped(self.arena.slot(index)) { ", which is stopped" } else { "" };
                // Under `cargo test`, the thread has the name of the test.
                let spawner = self.arena.slot(index).spawner.get();
                let spawner = spawner.map_or(String::new(), |name| format!(", spawned by thread `{name}`"));
                format!("{}{spawner}{stopped}", self.arena.describe_process(index))
            })
            .collect()
    }

    fn is_stopped(&self, slot: &Slot) -> bool {
        slot.pace.read(&self.arena.header().awake).is_stopped
    }

    /// Returns whether the process of a slot was stopped after it had published its end. Such a process has
    /// nothing left to do, and perhaps no other process will continue it.
    fn is_stopped_at_its_end(&self, slot: &Slot) -> bool {
        let body = || process_body::object_of(self.arena, slot).map(|(_, _, body)| body);
        self.is_stopped(slot)
            && body().is_some_and(ProcessBody::is_done)
            && rules::holds(Rule::FinishedNotAwaited)
    }

    pub(super) fn has_daemons(&self) -> bool {
        self.table.children().any(|(_, index)| self.arena.slot(index).is_live())
    }

    pub(super) fn terminate_daemons(&self) {
        for (pid, index) in self.table.children() {
            if self.arena.slot(index).is_live() {
                let _ = process::signal_child(pid, libc::SIGTERM);
            }
        }
    }

    /// Kills every child, including stopped ones, and the orphans that they leave behind. Returns when all
    /// are gone.
    pub(super) fn kill_everybody(&mut self) {
        for _ in 0..1000 {
            for (pid, _) in self.table.children() {
                let _ = process::signal_child(pid, libc::SIGKILL);
            }
            self.kill_orphans(true);
            while let Ok(Some((pid, _))) = process::next_ended() {
                if let Some(index) = self.table.slot_of(pid) {
                    self.table.clear_child(index);
                }
                process::reap(pid);
            }
            if self.is_alone() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
