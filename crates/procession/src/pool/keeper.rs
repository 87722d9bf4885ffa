//! The keeper: a thread of the process that made the pool, which sees to it that there are workers.
//!
//! It sleeps on one event count, and is told when a worker has died, a task is to be killed, or the pool is to
//! end. It looks at everything each time, so it does not matter how many told it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::cells::cell::{CONDEMNED, Cell, RUNNING, State, ending};
use super::cells::control::phase;
use super::limit::{ClockRequest, Remaining};
use super::shared::Shared;
use super::worker;
use super::worker::{Transfer, WorkerExit};
use crate::arena::thread::with_me;
use crate::arena::{Arena, payload};
use crate::os::clock::{Deadline, now_ns};
use crate::os::threads;
use crate::process::{Failure, Process};
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;
use crate::{Error, Result};

/// So many workers in a row that do not come to work mean that none ever will, if no other limit is set.
const MOST_FAILED_INITIALIZERS: u32 = 3;
/// The same for workers that have nothing of the user's to come through first.
const MOST_FAILED_STARTS: u32 = 100;
/// What the kernel refuses (a worker, a signal to one) is tried again after so long.
const RETRY_NS: u64 = 50_000_000;
/// A pool that has no worker left, and has been refused one for so long, is broken.
const START_PATIENCE_NS: u64 = 10_000_000_000;
/// Until the last worker has left, it is looked so often whether one was stopped.
const LOOK_AGAIN_NS: u64 = 100_000_000;

/// What a keeper is told when the pool is made.
#[derive(Clone, Debug, Default)]
pub(super) struct KeeperOptions {
    pub(super) name: String,
    /// So many deaths within that time, in ns, are too many.
    pub(super) max_restarts: Option<(u32, u64)>,
}

pub(super) struct Keeper {
    shared: Arc<Shared>,
    options: KeeperOptions,
    workers: Vec<Worker>,
    /// When the last workers died.
    deaths_ns: VecDeque<u64>,
    /// How many in a row never came to work.
    failed_starts: u32,
    /// In a closed pool: all cells before this one are done with.
    first_unfinished: u32,
    /// Something could not be done in the last look: look again in a while.
    look_again: bool,
    /// The supervisor has not heard that it is to watch the clock.
    clock_request_failed: bool,
    /// Since when no worker could be started; 0 if the last one could.
    refused_ns: u64,
}

struct Worker {
    number: u32,
    process: Process<WorkerExit>,
    killed: bool,
}

/// Starts the workers, and a keeper for them.
pub(super) fn start(shared: Arc<Shared>, options: KeeperOptions) -> Result<()> {
    let mut keeper = Keeper::new(shared, options);
    // The thread first: workers without a keeper would be left behind. It ends if it gets nothing to do.
    let (give, given) = mpsc::channel::<Keeper>();
    let started = threads::start("procession-pool", move || given.into_iter().for_each(Keeper::keep));
    started.map_err(|e| Error::os("starting a pool's thread", &e))?;
    if let Err(error) = keeper.start_missing_workers() {
        keeper.abort_start();
        return Err(error);
    }
    give.send(keeper).map_err(|_| Error::Unsupported("the thread of a pool has ended".into()))
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, options: KeeperOptions) -> Keeper {
        Keeper {
            shared,
            options,
            workers: Vec::new(),
            deaths_ns: VecDeque::new(),
            failed_starts: 0,
            first_unfinished: 0,
            look_again: false,
            clock_request_failed: false,
            refused_ns: 0,
        }
    }

    fn keep(mut self) {
        while !self.is_over() {
            let shared = self.shared.clone();
            let word = &shared.control.keeper.word;
            let slept = with_me(|me| {
                let announced = Wait::announce_event(shared.arena, me.record(), word);
                let ticket = event::prepare(word);
                self.look();
                let until = self.watch();
                if !self.is_over() {
                    announced.sleep(word, ticket, until);
                }
            });
            if slept.is_err() {
                // No room for one more thread in the family: look again in a while.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }

    fn is_over(&self) -> bool {
        self.shared.control.shut_down.load(Ordering::SeqCst) == 1
    }

    /// Does what there is to do.
    fn look(&mut self) {
        self.look_again = false;
        let shared = self.shared.clone();
        let gone = event::Word::load(&shared.control.keeper.word) & event::GONE != 0;
        if gone && shared.phase() < phase::TERMINATED {
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
        if shared.phase() >= phase::FINISHED && self.workers.is_empty() {
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
        if self.workers.iter().any(|worker| worker.number >= wanted) {
            self.resume_stopped(|worker| worker.number >= wanted);
        }
        match self.start_missing_workers() {
            Ok(()) => self.refused_ns = 0,
            Err(error) if self.workers.is_empty() && !self.may_still_start(&error) => {
                self.mark_broken(&error.to_string());
            }
            Err(_) => self.look_again = true,
        }
    }

    /// Whether a pool without workers may get one later, after this error.
    fn may_still_start(&mut self, error: &Error) -> bool {
        let now = now_ns();
        if self.refused_ns == 0 {
            self.refused_ns = now;
        }
        matches!(error, Error::Os { .. } | Error::Full(_)) && now - self.refused_ns < START_PATIENCE_NS
    }

    /// Whether a closed pool has nothing to do. A cell that is done with stays so: there are no more tasks.
    fn all_tasks_done(&mut self) -> bool {
        let (control, arena) = (self.shared.control, self.shared.arena);
        let is_done = |index| control.cell(arena, index).is_none_or(|cell| !cell.state().is_unfinished());
        while self.first_unfinished < control.used() && is_done(self.first_unfinished) {
            self.first_unfinished += 1;
        }
        self.first_unfinished == control.used()
    }

    /// Workers that are to leave and were stopped could not.
    fn resume_stopped(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter().filter(|worker| which(worker)) {
            self.look_again |= worker.process.resume().is_err();
        }
    }

    fn reap_workers(&mut self) {
        let shared = self.shared.clone();
        let mut gone = Vec::new();
        self.workers.retain(|worker| {
            let lives = worker.process.is_alive();
            if !lives {
                gone.push((worker.number, worker.killed, worker.process.clone()));
            }
            lives
        });
        for (number, killed, process) in gone {
            let ready = shared.control.ready[number as usize].swap(0, Ordering::SeqCst) != 0;
            let ended = process.join();
            if matches!(ended, Ok(WorkerExit::Done)) {
                continue;
            }
            shared.control.deaths.fetch_add(1, Ordering::Relaxed);
            if killed {
                continue; // It was to die, with its task: that says nothing about the next one.
            }
            self.failed_starts = if ready { 0 } else { self.failed_starts + 1 };
            let why = match ended {
                Ok(WorkerExit::Uninitialized(why)) => format!("the initializer failed: {why}"),
                Err(e) if matches!(e.failure(), Failure::FamilyLost) => {
                    self.failed_starts = 0;
                    e.to_string()
                }
                Err(e) => format!("the workers do not last: {e}"),
                Ok(WorkerExit::Done) => continue,
            };
            if shared.phase() <= phase::CLOSED && self.too_many() {
                self.mark_broken(&why);
            }
        }
    }

    /// One more has died: whether that is one too many.
    fn too_many(&mut self) -> bool {
        let Some((most, within_ns)) = self.options.max_restarts else {
            let initialized = self.shared.control.init_entry.load(Ordering::Relaxed) != 0;
            return self.failed_starts
                >= if initialized { MOST_FAILED_INITIALIZERS } else { MOST_FAILED_STARTS };
        };
        let now = now_ns();
        self.deaths_ns.push_back(now);
        while self.deaths_ns.front().is_some_and(|&at| now - at > within_ns) {
            self.deaths_ns.pop_front();
        }
        self.deaths_ns.len() > most as usize
    }

    /// Gives up.
    fn mark_broken(&mut self, why: &str) {
        let shared = &self.shared;
        if let Ok(block) = payload::pack_bytes(why.as_bytes(), &[]) {
            shared.control.why.store(block.at(), Ordering::Release);
            shared.adopt(block.into_raw());
        }
        shared.advance(phase::BROKEN);
        self.kill(|_| true);
        self.end_tasks();
    }

    /// Starts workers until there are as many as there should be.
    fn start_missing_workers(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let wanted = shared.control.wanted.load(Ordering::SeqCst);
        let mut waiting = self.waiting();
        let mut is_there = vec![false; wanted as usize];
        for worker in self.workers.iter().filter(|worker| worker.number < wanted) {
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
            let builder = Process::builder().name(name).daemon(true);
            let process = builder.spawn(worker::work, (Transfer(shared.clone()), number))?;
            shared.control.started.fetch_add(1, Ordering::Relaxed);
            self.workers.push(Worker { number, process, killed: false });
        }
        if shared.control.idle_us.load(Ordering::Relaxed) != 0 {
            // ORDERING: SeqCst. A worker that leaves sets its mark before this, and this before it looks for a task
            // once more: a mark that we do not see now sets this again.
            shared.control.some_idle.store(0, Ordering::SeqCst);
            if shared.control.idle[..wanted as usize].iter().any(|idle| idle.load(Ordering::SeqCst) == 1) {
                shared.control.some_idle.store(1, Ordering::SeqCst);
                if self.waiting() > 0 {
                    shared.notify_keeper();
                }
            }
        }
        Ok(())
    }

    /// How many tasks nobody has begun, about.
    fn waiting(&self) -> u64 {
        let returned = u64::from(self.shared.control.returned.word.load(Ordering::SeqCst) != 0);
        self.shared.ring.len() + returned
    }

    /// Workers that were started for a pool that comes to nothing.
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
        for worker in &self.workers {
            let _ = worker.process.join();
        }
        self.shared.control.shut_down.store(1, Ordering::SeqCst);
    }

    fn kill(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter_mut().filter(|worker| !worker.killed && which(worker)) {
            worker.killed = worker.process.kill().is_ok();
            self.look_again |= !worker.killed;
        }
    }

    /// Nobody will do what is not begun.
    fn end_tasks(&self) {
        for (_, cell) in self.shared.control.cells(self.shared.arena) {
            self.shared.end_unstarted(cell);
        }
    }

    /// Condemns the tasks that have had their time, has the condemned killed, and says when to look again.
    pub(super) fn watch(&mut self) -> Deadline {
        let shared = self.shared.clone();
        let control = shared.control;
        // ORDERING: before the look at the cells: a task that begins after that and ends before it rings.
        control.watching_until_ns.store(u64::MAX, Ordering::SeqCst);
        let (mut next, mut condemned, mut request) = (u64::MAX, Vec::new(), ClockRequest::default());
        let mut look = |cell: &Cell| match cell.state() {
            s if s.phase() == CONDEMNED => condemned.extend(s.slot()),
            s if s.phase() == RUNNING => match Remaining::of(shared.arena, cell, s) {
                None => {}
                Some(Remaining::Nothing) => {
                    if condemn(shared.arena, cell, s) {
                        control.timeouts.fetch_add(1, Ordering::Relaxed);
                        condemned.extend(s.slot());
                    } else {
                        next = 0;
                    }
                }
                // Its worker is stopped: the keeper is told when it goes on.
                Some(Remaining::Stopped) => {}
                Some(Remaining::Until(at)) => {
                    request.add(cell, at);
                    next = next.min(at);
                }
            },
            _ => {}
        };
        // What runs is in some worker's hands.
        match control.claims.all() {
            Some(all) => all.filter_map(|index| shared.cell(index)).for_each(look),
            None => control.cells(shared.arena).for_each(|(_, cell)| look(cell)),
        }
        if !condemned.is_empty() {
            self.kill(|worker| worker.process.slot().is_some_and(|slot| condemned.contains(&slot)));
        }
        next = next.min(request.send(shared.arena, &mut self.clock_request_failed));
        self.look_again |= self.clock_request_failed;
        if self.look_again {
            next = next.min(now_ns() + RETRY_NS);
        }
        if shared.phase() == phase::FINISHED && !self.workers.is_empty() {
            next = next.min(now_ns() + LOOK_AGAIN_NS);
        }
        if next == u64::MAX {
            return Deadline::NEVER;
        }
        control.watching_until_ns.store(next, Ordering::SeqCst);
        Deadline::NEVER.min_ns(next)
    }
}

/// Condemns the task that has had its time, unless it has just come to its next item, or its end.
fn condemn(arena: &Arena, cell: &Cell, seen: State) -> bool {
    let same =
        |s: State| s.phase() == RUNNING && s.slot() == seen.slot() && s.generation() == seen.generation();
    if cell.fetch_update(|s| same(s).then(|| s.condemned(ending::TIMED_OUT))).is_err() {
        return false;
    }
    if matches!(Remaining::of(arena, cell, seen), Some(Remaining::Nothing)) {
        return true;
    }
    // The worker waits, if it has noticed.
    let slot = seen.slot().unwrap_or(0);
    let for_its_time = |s: State| s.phase() == CONDEMNED && s.ending() == ending::TIMED_OUT;
    let pardoned = cell.fetch_update(|s| for_its_time(s).then(|| s.to(RUNNING).by(slot)));
    event::notify(&cell.done, i32::MAX);
    pardoned.is_err()
}
