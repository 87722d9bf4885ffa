//! [`Children`]: what the supervisor keeps about its children. The files `spares.rs`, `reaping.rs` and
//! `family_end.rs` have most of its methods.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::Ordering;

use super::backlog::Backlog;
use super::child_table::ChildTable;
use super::dying::Dying;
use super::orphans::Orphans;
use crate::arena::records::Record;
use crate::arena::{Arena, slots};
use crate::os::clock::Deadline;
use crate::os::process::Ended;
use crate::os::{oom, process, signal};
use crate::pool::cells;
use crate::{os, recovery};

/// What children inherit from main, and what they must not inherit from the supervisor.
pub(super) struct Inheritance {
    pub(super) mask: signal::Mask,
    /// Main's disposition of SIGCHLD.
    pub(super) child_signal: signal::Disposition,
    /// The process group that children join when they begin.
    pub(super) group: i32,
    pub(super) private_fds: Vec<RawFd>,
    /// The arena's file, for a child that executes the program again. Other children close it when they begin.
    pub(super) memfd: OwnedFd,
}

/// A slot whose child died before its spawner returned. It gets another child.
pub(super) struct Vacancy {
    pub(super) index: u32,
    pub(super) ended: Ended,
    /// The time at which a fork for this slot first failed, or 0.
    pub(super) refused_ns: u64,
}

pub(super) struct Children {
    pub(super) arena: &'static Arena,
    pub(super) inheritance: Inheritance,
    /// Every child that is forked and not reaped.
    pub(super) table: ChildTable,
    /// The record in which the collector notes what it frees, because the supervisor has no record in the
    /// arena.
    pub(super) intent: Box<Record>,
    /// Slots whose child died before its spawner returned.
    pub(super) vacancies: Vec<Vacancy>,
    /// The calls that the kernel has refused.
    pub(super) backlog: Backlog,
    /// Detects whether the kernel has killed a process because memory ran out.
    pub(super) memory: oom::Watch,
    /// The kernel's list of this process's children. `None` if the kernel does not provide one.
    pub(super) children: Option<process::Children>,
    pub(super) orphans: Orphans,
    /// Children that may be dead although they cannot be reaped yet.
    pub(super) dying: Dying,
    /// The span at which the next inspection of spans begins.
    pub(super) inspected: u32,
}

impl Children {
    pub(super) fn new(arena: &'static Arena, mut inheritance: Inheritance) -> io::Result<Children> {
        let list = || process::Children::of_this_thread();
        let children = os::retry_refused(list, |errno| matches!(errno, libc::ENOENT | libc::EACCES)).ok();
        inheritance.private_fds.extend(children.as_ref().map(process::Children::raw_fd));
        Ok(Children {
            arena,
            inheritance,
            table: ChildTable::new(arena.layout.slots)?,
            intent: Record::private(),
            vacancies: Vec::new(),
            backlog: Backlog::default(),
            memory: oom::Watch::begin(),
            children,
            orphans: Orphans::default(),
            dying: Dying::default(),
            inspected: 0,
        })
    }

    pub(super) fn intent(&self) -> &Record {
        &self.intent
    }

    /// Sends the signals that processes have left in the arena because the kernel does not permit those
    /// processes to send them.
    pub(super) fn send_signals(&mut self) {
        let left = &self.arena.header().signals_left;
        if left.load(Ordering::Relaxed) == 0 {
            return;
        }
        // ORDERING: SeqCst, before the slots are read. If this pass misses a signal's bit, the sender's store
        // to `signals_left` comes after this one.
        left.store(0, Ordering::SeqCst);
        for (pid, index) in self.table.children() {
            let slot = self.arena.slot(index);
            let signals = match slots::phase(slot.state.load(Ordering::SeqCst)) {
                slots::RUNNING => slot.take_early_signals(),
                // The child takes its early signals itself when it begins. A stopped child does not begin, so
                // SIGKILL is sent here.
                slots::GO if slot.has_early_kill() => 1 << libc::SIGKILL,
                _ => 0,
            };
            for signal in (1..32).filter(|signal| signals & 1 << signal != 0) {
                match signal {
                    libc::SIGKILL => self.backlog.kill(pid),
                    _ => drop(process::signal_child(pid, signal)),
                }
            }
        }
    }

    /// Notes which children were stopped or continued.
    pub(super) fn note_stops(&self) {
        let clock = &self.arena.header().awake;
        while let Ok(Some((pid, is_stopped))) = process::next_stop() {
            let Some(index) = self.table.slot_of(pid) else { continue };
            if is_stopped {
                self.arena.slot(index).pace.stop(clock);
                recovery::pass_by(self.arena, index);
            } else {
                self.arena.slot(index).pace.go_on(clock);
                // The task's time limit runs again. A worker that has a task also has a handle to its pool,
                // so its arguments need not be searched for one.
                cells::recover::notify_keepers(self.arena, index, true);
            }
        }
    }

    /// Returns when the loop must run again even if nothing happens.
    pub(super) fn looks_again(&self) -> Deadline {
        self.dying.due_or(self.backlog.due())
    }

    /// Repeats the calls that the kernel has refused, when they are due.
    pub(super) fn catch_up(&mut self) {
        if self.backlog.is_due() {
            let before = self.backlog.due();
            self.backlog.kill_again();
            self.kill_orphans(false);
            self.replace_dead();
            self.backlog.settle(before);
        }
    }
}
