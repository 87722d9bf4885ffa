//! [`WorkerSet`]: the workers of a pool. The pool's keeper starts, reaps and kills them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::cells::control::phase;
use super::keeper::Keeper;
use super::worker;
use super::worker::{Transfer, WorkerExit};
use crate::Result;
use crate::os::clock::now_ns;
use crate::process::{Failure, Process};

/// A pool with an initializer is broken if this many workers in a row do not get past the initializer. Not
/// used if `max_restarts` is set.
const MOST_FAILED_INITIALIZERS: u32 = 3;
/// A pool without an initializer is broken if this many workers in a row do not get ready for tasks.
const MOST_FAILED_STARTS: u32 = 100;

#[derive(Default)]
pub(super) struct WorkerSet {
    pub(super) list: Vec<Worker>,
    /// The times of the workers' deaths within the period of `max_restarts`.
    deaths_ns: VecDeque<u64>,
    /// How many workers in a row died before they were ready for tasks.
    failed_starts: u32,
}

pub(super) struct Worker {
    pub(super) number: u32,
    pub(super) process: Process<WorkerExit>,
    killed: bool,
}

impl Keeper {
    /// Starts workers until the pool has as many as it should have. A worker that has left because it was
    /// idle is started again only if tasks wait.
    pub(super) fn start_missing_workers(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let wanted = shared.control.wanted.load(Ordering::SeqCst);
        let mut waiting = self.waiting_tasks();
        let mut is_there = vec![false; wanted as usize];
        for worker in self.workers.list.iter().filter(|worker| worker.number < wanted) {
            is_there[worker.number as usize] = true;
        }
        for number in (0..wanted).filter(|&number| !is_there[number as usize]) {
            let idle = &shared.control.idle[number as usize];
            if idle.load(Ordering::SeqCst) == 1 {
                if waiting == 0 {
                    continue;
                }
                waiting -= 1;
                idle.store(0, Ordering::SeqCst);
            }
            shared.control.ready[number as usize].store(0, Ordering::SeqCst);
            let name = format!("{}-{number}", self.options.name);
            let builder = Process::builder().name(name).daemon(true).interrupts(self.options.interrupts);
            let process = builder.spawn(worker::work, (Transfer(shared.clone()), number))?;
            shared.control.started.fetch_add(1, Ordering::Relaxed);
            self.workers.list.push(Worker { number, process, killed: false });
        }
        self.update_some_idle(wanted);
        Ok(())
    }

    /// Stores whether submitters must notify the keeper. They must if a worker has left because it was idle.
    fn update_some_idle(&self, wanted: u32) {
        let (shared, control) = (&self.shared, self.shared.control);
        if control.idle_us.load(Ordering::Relaxed) == 0 {
            return;
        }
        // ORDERING: SeqCst. A worker that leaves sets `idle` and then this flag, before it looks for a task
        // one last time. So if we do not see its `idle` below, the worker sets the flag after us.
        control.some_idle.store(0, Ordering::SeqCst);
        if control.idle[..wanted as usize].iter().any(|idle| idle.load(Ordering::SeqCst) == 1) {
            control.some_idle.store(1, Ordering::SeqCst);
            if self.waiting_tasks() > 0 {
                shared.notify_keeper();
            }
        }
    }

    /// Returns about how many tasks no worker has begun.
    fn waiting_tasks(&self) -> u64 {
        let returned = u64::from(self.shared.control.returned.word.load(Ordering::SeqCst) != 0);
        self.shared.ring.len() + returned
    }

    /// Removes the workers that have ended, and marks the pool as broken if too many died.
    pub(super) fn reap_workers(&mut self) {
        let shared = self.shared.clone();
        let ended: Vec<Worker> =
            self.workers.list.extract_if(.., |worker| !worker.process.is_alive()).collect();
        for Worker { number, process, killed } in ended {
            let ready = shared.control.ready[number as usize].swap(0, Ordering::SeqCst) != 0;
            let ended = process.join();
            if matches!(ended, Ok(WorkerExit::Done)) {
                continue;
            }
            shared.control.deaths.fetch_add(1, Ordering::Relaxed);
            if killed {
                continue; // The keeper killed it because of its task. That says nothing about the next worker.
            }
            self.workers.failed_starts = if ready { 0 } else { self.workers.failed_starts + 1 };
            let reason = match ended {
                Ok(WorkerExit::Uninitialized(why)) => format!("the initializer failed: {why}"),
                Err(e) if matches!(e.failure(), Failure::FamilyLost) => {
                    self.workers.failed_starts = 0;
                    e.to_string()
                }
                Err(e) => format!("workers died too often; the last death: {e}"),
                Ok(WorkerExit::Done) => continue,
            };
            if shared.phase() <= phase::CLOSED && self.too_many_deaths() {
                self.mark_broken(&reason);
            }
        }
    }

    /// Counts a worker's death. Reports whether too many workers have died.
    fn too_many_deaths(&mut self) -> bool {
        let workers = &mut self.workers;
        let Some((most, within_ns)) = self.options.max_restarts else {
            let has_initializer = self.shared.control.init_entry.load(Ordering::Relaxed) != 0;
            let most = if has_initializer { MOST_FAILED_INITIALIZERS } else { MOST_FAILED_STARTS };
            return workers.failed_starts >= most;
        };
        let now = now_ns();
        workers.deaths_ns.push_back(now);
        while workers.deaths_ns.front().is_some_and(|&at| now - at > within_ns) {
            workers.deaths_ns.pop_front();
        }
        workers.deaths_ns.len() > most as usize
    }

    /// Resumes workers that should leave, because a stopped worker cannot leave.
    pub(super) fn resume_stopped(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.list.iter().filter(|worker| which(worker)) {
            self.look_again |= worker.process.resume().is_err();
        }
    }

    pub(super) fn kill(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.list.iter_mut().filter(|worker| !worker.killed && which(worker)) {
            worker.killed = worker.process.kill().is_ok();
            self.look_again |= !worker.killed;
        }
    }
}
