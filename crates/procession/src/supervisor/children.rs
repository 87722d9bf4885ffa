//! Slots, forks and spares: how the supervisor creates and reaps its children.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::Ordering;

use super::backlog::Backlog;
use super::child;
use super::child_table::ChildTable;
use super::dying::Dying;
use super::orphans::Orphans;
use crate::arena::header::NO_SLOT;
use crate::arena::process_body::ProcessBody;
use crate::arena::records::Record;
use crate::arena::slots::Slot;
use crate::arena::{Arena, member, process_body, slots, sweep};
use crate::os::clock::{Deadline, now_ns};
use crate::os::process::Ended;
use crate::os::{attributes, futex, oom, process, signal};
use crate::pool::cells;
use crate::rules::Rule;
use crate::{os, recovery, rules};

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
/// A slot at or above this index returns its pages to the kernel when it becomes free.
const WARM_SLOTS: u32 = 64;

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
struct Vacancy {
    index: u32,
    ended: Ended,
    /// The time at which a fork for this slot first failed, or 0.
    refused_ns: u64,
}

pub(super) struct Children {
    arena: &'static Arena,
    inheritance: Inheritance,
    /// Every child that is forked and not reaped.
    table: ChildTable,
    /// The record in which the collector notes what it frees, because the supervisor has no record in the
    /// arena.
    intent: Box<Record>,
    /// Slots whose child died before its spawner returned.
    vacancies: Vec<Vacancy>,
    /// The calls that the kernel has refused.
    backlog: Backlog,
    /// Detects whether the kernel has killed a process because memory ran out.
    memory: oom::Watch,
    /// The kernel's list of this process's children. `None` if the kernel does not provide one.
    children: Option<process::Children>,
    orphans: Orphans,
    /// Children that may be dead although they cannot be reaped yet.
    dying: Dying,
    /// The span at which the next inspection of spans begins.
    inspected: u32,
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
    fn fork_into(&mut self, index: u32) -> bool {
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

    /// Completes a request whose function is never called.
    fn give_up(&mut self, index: u32, ended: Ended) {
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
    fn kill_orphans(&mut self, ends: bool) {
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
                format!("{}{stopped}", self.arena.describe_process(index))
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

/// Returns whether another child takes the place of the dead one in `slot`. The dead child was not a spare.
fn can_be_replaced(slot: &Slot) -> bool {
    let phase = || slots::phase(slot.state.load(Ordering::SeqCst));
    // While the slot is claimed, its spawner has not asked for the child's process id.
    !matches!(phase(), slots::RUNNING | slots::DEAD) && (slot.replace_child() || phase() == slots::CLAIMED)
}
