//! [`ManualPool`]: a pool without workers, for the crash tests. Any process can run the next task, as a
//! worker would.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cells::attempt::Attempt;
use super::cells::cell::Cell;
use super::cells::chunk_counts::ChunkCounts;
use super::cells::control::phase;
use super::cells::progress::ChunkProgress;
use super::cells::recover;
use super::cells::state::{FREE, KILLING, RETURNED};
use super::cells::task_recovery::TaskRecovery;
use super::chunks::ChunkStream;
use super::claim::Claimed;
use super::job::Each;
use super::keeper::{Keeper, KeeperOptions};
use super::pool::Pool;
use super::raw_task::{RawTask, TaskOptions};
use super::shared::Shared;
use super::task::Task;
use super::window::MapOptions;
use super::{TaskError, run, worker};
use crate::arena::member;
use crate::arena::recover::Dead;
use crate::codec::encoding::Message;
use crate::os::process::Ended;
use crate::process::Entry;
use crate::sync::raw::event;
use crate::{Error, Result};

/// How a dead process ended, for recovery: a signal killed it.
const KILLED: Option<Ended> = Some(Ended::Signaled { signal: libc::SIGKILL, core: false });

#[derive(Clone)]
pub struct ManualPool {
    shared: Arc<Shared>,
    task_options: TaskOptions,
}

impl ManualPool {
    /// Creates a pool whose tasks are retried `retries` times.
    pub fn new(retries: u32) -> Result<ManualPool> {
        let shared = Shared::create(|control| {
            control.wanted.store(8, Ordering::Relaxed);
        })?;
        Ok(ManualPool { shared, task_options: TaskOptions { timeout_us: 0, retries, late: false } })
    }

    /// Returns the pool with a handle that this process holds. A fork made by the test has inherited the
    /// handle counts, but the arena does not list any handles for the fork.
    pub fn held_here(&self) -> Result<ManualPool> {
        self.shared.arena.held_objects(member::slot()).set(self.shared.handle().id().index());
        Ok(ManualPool {
            shared: Shared::with_id(self.shared.handle().id())?,
            task_options: self.task_options,
        })
    }

    /// Submits a call.
    pub fn submit<F, A>(&self, _: F, args: A) -> Result<Task<F::Output>, TaskError>
    where
        F: Entry<A, Output: Message>,
        A: Message,
    {
        RawTask::single::<super::job::Spread<F>, A>(&self.shared, &args, self.task_options).map(Task::new)
    }

    /// Starts a map whose items form one chunk. The chunk is in flight when this returns.
    pub fn map<F, T, R>(&self, _: F, items: Vec<T>) -> Mapping<T, R>
    where
        F: Fn(T) -> R + crate::process::Captureless,
        T: Message,
        R: Message,
    {
        let options = MapOptions {
            task_options: self.task_options,
            chunk: Some(items.len() as u32),
            prefetch: None,
            hook: None,
        };
        let mut stream = ChunkStream::new::<Each<F, R>>(&self.shared, items.into_iter(), options);
        stream.refill();
        Mapping { stream, _results: std::marker::PhantomData }
    }

    /// Runs the next task, as a worker does. Returns false if there is none.
    pub fn work_once(&self) -> bool {
        match worker::try_next(&self.shared) {
            Some(claimed) => {
                run::run(&self.shared, claimed);
                true
            }
            None => false,
        }
    }

    /// Returns the same pool with a time limit for its tasks.
    pub fn with_limit(mut self, timeout_us: u64) -> ManualPool {
        self.task_options.timeout_us = timeout_us;
        self
    }

    /// Returns a handle of the type that users have.
    pub fn owner(&self) -> Result<Pool> {
        Pool::with_owner(&self.shared)
    }

    /// Sets the number of workers.
    pub fn resize(&self, workers: u32) {
        self.shared.resize(workers);
    }

    /// Returns the number of workers that the pool should have.
    pub fn workers(&self) -> u32 {
        self.shared.control.wanted.load(Ordering::SeqCst)
    }

    /// Returns the number of cells for tasks.
    pub fn cells(&self) -> usize {
        (0..).take_while(|&index| self.shared.cell(index).is_some()).count()
    }

    /// Returns the number of cells that were ever used.
    pub fn used_cells(&self) -> u32 {
        self.shared.control.used()
    }

    /// Recovers the pool, as if a signal had killed the process in `slot`.
    pub fn recover(&self, slot: u32) {
        self.recover_after(self.dead(slot));
    }

    /// Recovers the pool, as if the process in `slot` had aborted.
    pub fn recover_aborted(&self, slot: u32) {
        let how = Some(Ended::Signaled { signal: libc::SIGABRT, core: false });
        self.recover_after(Dead { how, ..self.dead(slot) });
    }

    fn recover_after(&self, dead: Dead<'_>) {
        let index = self.shared.handle().id().index();
        if self.shared.arena.held_objects(dead.slot).has(index) {
            recover::return_tasks(&dead, index, **self.shared);
        }
    }

    /// Recovers only the first cell.
    pub fn recover_first_cell(&self, slot: u32) {
        let recovery = TaskRecovery::new(&self.dead(slot), **self.shared);
        self.shared.cell(0).into_iter().for_each(|cell| recovery.recover(cell, 0));
    }

    fn dead(&self, slot: u32) -> Dead<'static> {
        Dead { arena: self.shared.arena, slot, how: KILLED, returned: false }
    }

    /// Terminates the pool, as recovery does when the pool's creator has died.
    pub fn end(&self) {
        self.shared.advance(phase::TERMINATED);
        self.shared.control.cells(self.shared.arena).for_each(|(_, cell)| self.shared.end_unstarted(cell));
    }

    /// Claims `tasks` waiting tasks, and then returns them to the workers as recovery does.
    pub fn return_to_workers(&self, tasks: usize) {
        let taken: Vec<_> = (0..tasks).filter_map(|_| worker::try_next(&self.shared)).collect();
        for Claimed { cell_ref, claim } in taken {
            let control = self.shared.control;
            control.returned_list.list(control, self.shared.arena, cell_ref.index, cell_ref.generation);
            let _ = cell_ref.cell.fetch_update(|s| Some(s.to(RETURNED)));
            claim.clear();
        }
        self.shared.control.returned.word.store(1, Ordering::SeqCst);
    }

    /// Looks at the tasks as the keeper does before it sleeps, and returns what it has seen.
    pub fn keeper_looks(&self) -> Look {
        let ticket = event::prepare(&self.shared.control.keeper.word);
        Look {
            ticket,
            until: Keeper::new(self.shared.clone(), KeeperOptions::default()).enforce_limits().as_ns(),
        }
    }

    /// Reports whether a keeper that went to sleep after this look would wake up.
    pub fn keeper_knows(&self, look: &Look) -> bool {
        look.until.is_some() || event::Word::load(&self.shared.control.keeper.word) != look.ticket
    }

    /// Runs the next task, as another worker would. If there is none, returns what that worker has seen
    /// before it sleeps.
    pub fn worker_looks(&self) -> Option<Look> {
        let ticket = event::prepare(&self.shared.ring.control().filled.word);
        (!self.work_once()).then_some(Look { ticket, until: None })
    }

    /// Reports whether a worker that went to sleep after this look would wake up.
    pub fn worker_knows(&self, look: &Look) -> bool {
        event::Word::load(&self.shared.ring.control().filled.word) != look.ticket
    }

    /// Reports whether a task is in the state `KILLING`.
    pub fn any_killing(&self) -> bool {
        let mut cells = self.shared.control.cells(self.shared.arena);
        cells.any(|(_, cell)| cell.state().phase() == KILLING)
    }

    /// Reports whether all cells are free.
    pub fn is_empty(&self) -> bool {
        let mut cells = self.shared.control.cells(self.shared.arena);
        cells.all(|(_, cell)| cell.state().phase() == FREE)
    }
}

/// What a keeper or worker has seen before it sleeps.
pub struct Look {
    ticket: u32,
    until: Option<u64>,
}

/// A map that [`ManualPool::map`] has started.
pub struct Mapping<T, R> {
    stream: ChunkStream<std::vec::IntoIter<T>>,
    _results: std::marker::PhantomData<fn() -> R>,
}

impl<T: Message, R: Message> Mapping<T, R> {
    /// Returns how many items of the chunk are done and have failed, and how often items were retried.
    pub fn counts(&self) -> (u32, u32, u32) {
        let ChunkCounts { done, failed, retried } = self.cell().map(ChunkCounts::of).unwrap_or_default();
        (done, failed, retried)
    }

    /// Returns the next item of the chunk, the number of its last attempt, and whether a worker died in it.
    pub fn attempt(&self) -> Option<(u32, u32, bool)> {
        let cell = self.cell()?;
        let item = ChunkProgress::read(cell.progress.load(Ordering::SeqCst)).items;
        let attempt = Attempt::read(cell.attempt.load(Ordering::SeqCst), item);
        Some((item, attempt.number, attempt.ending != 0))
    }

    fn cell(&self) -> Option<&'static Cell> {
        self.stream.first_task().map(|task| task.cell_ref.cell)
    }

    /// Returns the results. Returns an error if the chunk is not done.
    pub fn results(&mut self) -> Result<Vec<Result<R, TaskError>>> {
        if !self.stream.first_is_done() {
            return Err(Error::other("the chunk is not done"));
        }
        let mut results = Vec::new();
        self.stream.collect_first(&mut |_, result| results.push(result));
        Ok(results)
    }
}
