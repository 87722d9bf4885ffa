//! [`Keeper`]: a thread of the process that created the pool. It replaces workers, enforces time limits, and ends the
//! pool.
//!
//! The keeper sleeps on one event count. The event count is notified when a worker dies, a task's worker is to be
//! killed, or the pool's phase changes. Whenever the keeper wakes up, it looks at everything. So it does no harm if
//! one wake-up answers several notifications.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::cells::control::phase;
use super::shared::Shared;
use super::worker_set::WorkerSet;
use crate::arena::payload;
use crate::arena::thread::with_me;
use crate::os::clock::now_ns;
use crate::os::threads;
use crate::process::Interrupts;
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;
use crate::{Error, Result};

/// If the kernel refuses to start a worker or to send a signal, the keeper tries again after this time.
pub(super) const RETRY_NS: u64 = 50_000_000;
/// If a pool has no workers and cannot start one for this long, it is broken.
const START_TIMEOUT_NS: u64 = 10_000_000_000;

/// The settings that only the keeper uses.
#[derive(Clone, Debug, Default)]
pub(super) struct KeeperOptions {
    pub(super) name: String,
    /// A number of deaths, and a time in ns. The pool is broken if more workers than this number die within
    /// this time.
    pub(super) max_restarts: Option<(u32, u64)>,
    /// Whether Ctrl-C reaches the workers.
    pub(super) interrupts: Interrupts,
}

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) options: KeeperOptions,
    pub(super) workers: WorkerSet,
    /// In a closed pool: no cell before this one has an unfinished task.
    first_unfinished: u32,
    /// A call failed when the keeper last looked, so it looks again after `RETRY_NS`.
    pub(super) look_again: bool,
    /// The request to watch the clock did not reach the supervisor.
    pub(super) clock_request_failed: bool,
    /// The time since which no worker could be started; 0 if the last start succeeded.
    refused_since_ns: u64,
}

/// Starts the workers, and a keeper for them.
pub(super) fn start(shared: Arc<Shared>, options: KeeperOptions) -> Result<()> {
    let mut keeper = Keeper::new(shared, options);
    // Start the thread first: workers without a keeper would be left behind. If the workers cannot be
    // started, no keeper is sent to the thread, and it ends.
    let (sender, receiver) = mpsc::channel::<Keeper>();
    let started = threads::start("procession-pool", move || receiver.into_iter().for_each(Keeper::keep));
    started.map_err(|e| Error::unstarted("starting a pool's thread", &e))?;
    if let Err(error) = keeper.start_missing_workers() {
        keeper.abort_start();
        return Err(error);
    }
    sender.send(keeper).map_err(|_| Error::Unsupported("the pool's thread has ended".into()))
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, options: KeeperOptions) -> Keeper {
        Keeper {
            shared,
            options,
            workers: WorkerSet::default(),
            first_unfinished: 0,
            look_again: false,
            clock_request_failed: false,
            refused_since_ns: 0,
        }
    }

    fn keep(mut self) {
        while !self.is_shut_down() {
            let shared = self.shared.clone();
            let word = &shared.control.keeper.word;
            let slept = with_me(|me| {
                let announced = Wait::announce_event(shared.arena, me.record(), word);
                let ticket = event::prepare(word);
                self.look();
                let until = self.enforce_limits();
                if !self.is_shut_down() {
                    announced.sleep(word, ticket, until);
                }
            });
            if slept.is_err() {
                // The arena has no free record for this thread: look again later.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn is_shut_down(&self) -> bool {
        self.shared.control.shut_down.load(Ordering::SeqCst) == 1
    }

    /// Reaps and starts workers, and advances the pool's phase.
    fn look(&mut self) {
        self.look_again = false;
        let shared = self.shared.clone();
        let abandoned = event::Word::load(&shared.control.keeper.word) & event::GONE != 0;
        if abandoned && shared.phase() < phase::TERMINATED {
            shared.advance(phase::TERMINATED);
        }
        self.reap_workers();
        match shared.phase() {
            phase::OPEN | phase::CLOSED => self.keep_workers(),
            phase::FINISHED => self.resume_stopped(|_| true),
            _ => {
                self.kill(|_| true);
                self.end_tasks();
            }
        }
        if shared.phase() >= phase::FINISHED && self.workers.list.is_empty() {
            shared.control.shut_down.store(1, Ordering::SeqCst);
            event::notify(&shared.control.ended.word, i32::MAX);
        }
    }

    fn keep_workers(&mut self) {
        let shared = self.shared.clone();
        if shared.phase() == phase::CLOSED && self.all_tasks_done() {
            shared.advance(phase::FINISHED);
            return self.resume_stopped(|_| true);
        }
        let wanted = shared.control.wanted.load(Ordering::SeqCst);
        if self.workers.list.iter().any(|worker| worker.number >= wanted) {
            self.resume_stopped(|worker| worker.number >= wanted);
        }
        match self.start_missing_workers() {
            Ok(()) => self.refused_since_ns = 0,
            Err(error) if self.workers.list.is_empty() && !self.may_still_start(&error) => {
                self.mark_broken(&error.to_string());
            }
            Err(_) => self.look_again = true,
        }
    }

    /// Reports whether a pool without workers may still be able to start one later, despite this error.
    fn may_still_start(&mut self, error: &Error) -> bool {
        let now = now_ns();
        if self.refused_since_ns == 0 {
            self.refused_since_ns = now;
        }
        matches!(error, Error::Os { .. } | Error::Full(_)) && now - self.refused_since_ns < START_TIMEOUT_NS
    }

    /// Reports whether all tasks of a closed pool are done. No new tasks come, so a cell without an
    /// unfinished task is not looked at again.
    fn all_tasks_done(&mut self) -> bool {
        let (control, arena) = (self.shared.control, self.shared.arena);
        let is_done = |index| control.cell(arena, index).is_none_or(|cell| !cell.state().is_unfinished());
        while self.first_unfinished < control.used() && is_done(self.first_unfinished) {
            self.first_unfinished += 1;
        }
        self.first_unfinished == control.used()
    }

    /// Marks the pool as broken: kills the workers, and fails all tasks.
    pub(super) fn mark_broken(&mut self, reason: &str) {
        let shared = &self.shared;
        if let Ok(block) = payload::pack_bytes(reason.as_bytes(), &[]) {
            shared.control.broken_reason.store(block.at(), Ordering::Release);
            shared.adopt(block.into_raw());
        }
        shared.advance(phase::BROKEN);
        self.kill(|_| true);
        self.end_tasks();
    }

    /// Ends the workers of a pool that could not be started.
    fn abort_start(&mut self) {
        self.shared.advance(phase::TERMINATED);
        loop {
            self.look_again = false;
            self.kill(|_| true);
            if !self.look_again {
                break;
            }
            std::thread::sleep(Duration::from_nanos(RETRY_NS));
        }
        for worker in &self.workers.list {
            let _ = worker.process.join();
        }
        self.shared.control.shut_down.store(1, Ordering::SeqCst);
    }

    /// Ends all tasks that no worker has begun.
    fn end_tasks(&self) {
        for (_, cell) in self.shared.control.cells(self.shared.arena) {
            self.shared.end_unstarted(cell);
        }
    }
}
