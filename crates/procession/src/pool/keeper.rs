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
use super::limit::{Remaining, Wish};
use super::shared::Core;
use super::worker;
use super::worker::{Left, Transfer};
use crate::arena::thread::with_me;
use crate::arena::{Arena, payload};
use crate::os::clock::{Deadline, now_ns};
use crate::os::threads;
use crate::process::{Failure, Process};
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;
use crate::{Error, Result};

/// So many workers in a row that do not come to work mean that none ever will, if no other limit is set.
const STILLBORN_MOST: u32 = 3;
/// The same for workers that have nothing of the user's to come through first.
const UNBORN_MOST: u32 = 100;
/// What the kernel refuses (a worker, a signal to one) is tried again after so long.
const AGAIN_NS: u64 = 50_000_000;
/// A pool that has no worker left, and has been refused one for so long, is broken.
const HIRE_PATIENCE_NS: u64 = 10_000_000_000;
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
    core: Arc<Core>,
    orders: KeeperOptions,
    workers: Vec<Worker>,
    /// When the last workers died.
    deaths_ns: VecDeque<u64>,
    /// How many in a row never came to work.
    stillborn: u32,
    /// In a closed pool: all cells before this one are done with.
    settled: u32,
    /// Something could not be done in the last look: look again in a while.
    again: bool,
    /// The supervisor has not heard that it is to watch the clock.
    unheard: bool,
    /// Since when no worker could be started; 0 if the last one could.
    refused_ns: u64,
}

struct Worker {
    number: u32,
    process: Process<Left>,
    killed: bool,
}

/// Starts the workers, and a keeper for them.
pub(super) fn start(core: Arc<Core>, orders: KeeperOptions) -> Result<()> {
    let mut keeper = Keeper::new(core, orders);
    // The thread first: workers without a keeper would be left behind. It ends if it gets nothing to do.
    let (give, given) = mpsc::channel::<Keeper>();
    let started = threads::start("procession-pool", move || given.into_iter().for_each(Keeper::keep));
    started.map_err(|e| Error::os("starting a pool's thread", &e))?;
    if let Err(error) = keeper.hire() {
        keeper.dismiss();
        return Err(error);
    }
    give.send(keeper).map_err(|_| Error::Unsupported("the thread of a pool has ended".into()))
}

impl Keeper {
    pub(super) fn new(core: Arc<Core>, orders: KeeperOptions) -> Keeper {
        Keeper {
            core,
            orders,
            workers: Vec::new(),
            deaths_ns: VecDeque::new(),
            stillborn: 0,
            settled: 0,
            again: false,
            unheard: false,
            refused_ns: 0,
        }
    }

    fn keep(mut self) {
        while !self.is_over() {
            let core = self.core.clone();
            let word = &core.control.keeper.word;
            let slept = with_me(|me| {
                let announced = Wait::announce_event(core.arena, me.record(), word);
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
        self.core.control.over.load(Ordering::SeqCst) == 1
    }

    /// Does what there is to do.
    fn look(&mut self) {
        self.again = false;
        let core = self.core.clone();
        let gone = event::Word::load(&core.control.keeper.word) & event::GONE != 0;
        if gone && core.phase() < phase::TERMINATED {
            core.advance(phase::TERMINATED);
        }
        self.take_leave_of_the_dead();
        match core.phase() {
            phase::OPEN | phase::CLOSED => self.keep_going(),
            phase::FINISHED => self.wake_the_stopped(|_| true),
            _ => {
                self.kill(|_| true);
                self.end_tasks();
            }
        }
        if core.phase() >= phase::FINISHED && self.workers.is_empty() {
            core.control.over.store(1, Ordering::SeqCst);
            event::notify(&core.control.ended.word, i32::MAX);
        }
    }

    fn keep_going(&mut self) {
        let core = self.core.clone();
        if core.phase() == phase::CLOSED && self.all_is_done() {
            core.advance(phase::FINISHED);
            return self.wake_the_stopped(|_| true);
        }
        let wanted = core.control.wanted.load(Ordering::SeqCst);
        if self.workers.iter().any(|worker| worker.number >= wanted) {
            self.wake_the_stopped(|worker| worker.number >= wanted);
        }
        match self.hire() {
            Ok(()) => self.refused_ns = 0,
            Err(error) if self.workers.is_empty() && !self.may_still_hire(&error) => {
                self.break_off(&error.to_string());
            }
            Err(_) => self.again = true,
        }
    }

    /// Whether a pool without workers may get one later, after this error.
    fn may_still_hire(&mut self, error: &Error) -> bool {
        let now = now_ns();
        if self.refused_ns == 0 {
            self.refused_ns = now;
        }
        matches!(error, Error::Os { .. } | Error::Full(_)) && now - self.refused_ns < HIRE_PATIENCE_NS
    }

    /// Whether a closed pool has nothing to do. A cell that is done with stays so: there are no more tasks.
    fn all_is_done(&mut self) -> bool {
        let (control, arena) = (self.core.control, self.core.arena);
        let is_done = |index| control.cell(arena, index).is_none_or(|cell| !cell.state().is_unfinished());
        while self.settled < control.used() && is_done(self.settled) {
            self.settled += 1;
        }
        self.settled == control.used()
    }

    /// Workers that are to leave and were stopped could not.
    fn wake_the_stopped(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter().filter(|worker| which(worker)) {
            self.again |= worker.process.resume().is_err();
        }
    }

    fn take_leave_of_the_dead(&mut self) {
        let core = self.core.clone();
        let mut gone = Vec::new();
        self.workers.retain(|worker| {
            let lives = worker.process.is_alive();
            if !lives {
                gone.push((worker.number, worker.killed, worker.process.clone()));
            }
            lives
        });
        for (number, killed, process) in gone {
            let ready = core.control.ready[number as usize].swap(0, Ordering::SeqCst) != 0;
            let ended = process.join();
            if matches!(ended, Ok(Left::Done)) {
                continue;
            }
            core.control.deaths.fetch_add(1, Ordering::Relaxed);
            if killed {
                continue; // It was to die, with its task: that says nothing about the next one.
            }
            self.stillborn = if ready { 0 } else { self.stillborn + 1 };
            let why = match ended {
                Ok(Left::Uninitialized(why)) => format!("the initializer failed: {why}"),
                Err(e) if matches!(e.failure(), Failure::FamilyLost) => {
                    self.stillborn = 0;
                    e.to_string()
                }
                Err(e) => format!("the workers do not last: {e}"),
                Ok(Left::Done) => continue,
            };
            if core.phase() <= phase::CLOSED && self.too_many() {
                self.break_off(&why);
            }
        }
    }

    /// One more has died: whether that is one too many.
    fn too_many(&mut self) -> bool {
        let Some((most, within_ns)) = self.orders.max_restarts else {
            let initialized = self.core.control.init_entry.load(Ordering::Relaxed) != 0;
            return self.stillborn >= if initialized { STILLBORN_MOST } else { UNBORN_MOST };
        };
        let now = now_ns();
        self.deaths_ns.push_back(now);
        while self.deaths_ns.front().is_some_and(|&at| now - at > within_ns) {
            self.deaths_ns.pop_front();
        }
        self.deaths_ns.len() > most as usize
    }

    /// Gives up.
    fn break_off(&mut self, why: &str) {
        let core = &self.core;
        if let Ok(block) = payload::pack_bytes(why.as_bytes(), &[]) {
            core.control.why.store(block, Ordering::Release);
            core.adopt(block);
        }
        core.advance(phase::BROKEN);
        self.kill(|_| true);
        self.end_tasks();
    }

    /// Starts workers until there are as many as there should be.
    fn hire(&mut self) -> Result<()> {
        let core = self.core.clone();
        let wanted = core.control.wanted.load(Ordering::SeqCst);
        let mut waiting = self.waiting();
        let mut is_there = vec![false; wanted as usize];
        for worker in self.workers.iter().filter(|worker| worker.number < wanted) {
            is_there[worker.number as usize] = true;
        }
        for number in (0..wanted).filter(|&number| !is_there[number as usize]) {
            let idle = &core.control.idle[number as usize];
            if idle.load(Ordering::SeqCst) == 1 {
                if waiting == 0 {
                    continue;
                }
                waiting -= 1;
                idle.store(0, Ordering::SeqCst);
            }
            core.control.ready[number as usize].store(0, Ordering::SeqCst);
            let name = format!("{}-{number}", self.orders.name);
            let builder = Process::builder().name(name).daemon(true);
            let process = builder.spawn(worker::work, (Transfer(core.clone()), number))?;
            core.control.started.fetch_add(1, Ordering::Relaxed);
            self.workers.push(Worker { number, process, killed: false });
        }
        if core.control.idle_us.load(Ordering::Relaxed) != 0 {
            // ORDERING: SeqCst. A worker that leaves sets its mark before this, and this before it looks for a task
            // once more: a mark that we do not see now sets this again.
            core.control.some_idle.store(0, Ordering::SeqCst);
            if core.control.idle[..wanted as usize].iter().any(|idle| idle.load(Ordering::SeqCst) == 1) {
                core.control.some_idle.store(1, Ordering::SeqCst);
                if self.waiting() > 0 {
                    core.tell_keeper();
                }
            }
        }
        Ok(())
    }

    /// How many tasks nobody has begun, about.
    fn waiting(&self) -> u64 {
        let returned = u64::from(self.core.control.returned.word.load(Ordering::SeqCst) != 0);
        self.core.ring.len() + returned
    }

    /// Workers that were started for a pool that comes to nothing.
    fn dismiss(&mut self) {
        self.core.advance(phase::TERMINATED);
        loop {
            self.again = false;
            self.kill(|_| true);
            if !self.again {
                break;
            }
            std::thread::sleep(Duration::from_nanos(AGAIN_NS));
        }
        for worker in &self.workers {
            let _ = worker.process.join();
        }
        self.core.control.over.store(1, Ordering::SeqCst);
    }

    fn kill(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter_mut().filter(|worker| !worker.killed && which(worker)) {
            worker.killed = worker.process.kill().is_ok();
            self.again |= !worker.killed;
        }
    }

    /// Nobody will do what is not begun.
    fn end_tasks(&self) {
        for (_, cell) in self.core.control.cells(self.core.arena) {
            self.core.end_waiting(cell);
        }
    }

    /// Condemns the tasks that have had their time, has the condemned killed, and says when to look again.
    pub(super) fn watch(&mut self) -> Deadline {
        let core = self.core.clone();
        let control = core.control;
        // ORDERING: before the look at the cells: a task that begins after that and ends before it rings.
        control.watching_until_ns.store(u64::MAX, Ordering::SeqCst);
        let (mut next, mut condemned, mut wish) = (u64::MAX, Vec::new(), Wish::default());
        let mut look = |cell: &Cell| match cell.state() {
            s if s.phase() == CONDEMNED => condemned.extend(s.slot()),
            s if s.phase() == RUNNING => match Remaining::of(core.arena, cell, s) {
                None => {}
                Some(Remaining::Nothing) => {
                    if condemn(core.arena, cell, s) {
                        control.timeouts.fetch_add(1, Ordering::Relaxed);
                        condemned.extend(s.slot());
                    } else {
                        next = 0;
                    }
                }
                // Its worker is stopped: the keeper is told when it goes on.
                Some(Remaining::Stopped) => {}
                Some(Remaining::Until(at)) => {
                    wish.add(cell, at);
                    next = next.min(at);
                }
            },
            _ => {}
        };
        // What runs is in some worker's hands.
        match control.hands.all() {
            Some(all) => all.filter_map(|index| core.cell(index)).for_each(look),
            None => control.cells(core.arena).for_each(|(_, cell)| look(cell)),
        }
        if !condemned.is_empty() {
            self.kill(|worker| worker.process.slot().is_some_and(|slot| condemned.contains(&slot)));
        }
        next = next.min(wish.express(core.arena, &mut self.unheard));
        self.again |= self.unheard;
        if self.again {
            next = next.min(now_ns() + AGAIN_NS);
        }
        if core.phase() == phase::FINISHED && !self.workers.is_empty() {
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
    if cell.shift(|s| same(s).then(|| s.condemned(ending::TIMED_OUT))).is_err() {
        return false;
    }
    if matches!(Remaining::of(arena, cell, seen), Some(Remaining::Nothing)) {
        return true;
    }
    // The worker waits, if it has noticed.
    let slot = seen.slot().unwrap_or(0);
    let for_its_time = |s: State| s.phase() == CONDEMNED && s.ending() == ending::TIMED_OUT;
    let pardoned = cell.shift(|s| for_its_time(s).then(|| s.to(RUNNING).by(slot)));
    event::notify(&cell.done, i32::MAX);
    pardoned.is_err()
}
