//! A pool without workers, for the crash tests: whoever likes does what the next worker would.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cells::cell::RETURNED;
use super::cells::control::phase;
use super::cells::recover;
use super::cells::recover::Recovery;
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

/// How the dead have died.
const KILLED: Option<Ended> = Some(Ended::Signaled { signal: libc::SIGKILL, core: false });

/// See the module.
#[derive(Clone)]
pub struct ManualPool {
    shared: Arc<Shared>,
    task_options: TaskOptions,
}

impl ManualPool {
    /// One whose tasks are tried again so often.
    pub fn new(retries: u32) -> Result<ManualPool> {
        let shared = Shared::create(|control| {
            control.wanted.store(8, Ordering::Relaxed);
        })?;
        Ok(ManualPool { shared, task_options: TaskOptions { timeout_us: 0, retries, late: false } })
    }

    /// As seen by another process, which holds it as its own. (A fork of the test's has inherited the count of the
    /// handles, but not what the arena says about who holds what.)
    pub fn held_here(&self) -> Result<ManualPool> {
        self.shared.arena.held_objects(member::slot()).set(self.shared.handle().id().index());
        Ok(ManualPool { shared: Shared::take(self.shared.handle().id())?, task_options: self.task_options })
    }

    /// Submits a call.
    pub fn submit<F, A>(&self, _: F, args: A) -> Result<Task<F::Output>, TaskError>
    where
        F: Entry<A, Output: Message>,
        A: Message,
    {
        RawTask::single::<super::job::Spread<F>, A>(&self.shared, &args, self.task_options).map(Task::new)
    }

    /// A map in one chunk, whose items are on their way when this returns.
    pub fn map<F, T, R>(&self, _: F, items: Vec<T>) -> Mapping<T, R>
    where
        F: Fn(T) -> R + crate::process::Captureless,
        T: Message,
        R: Message,
    {
        let options =
            MapOptions { task_options: self.task_options, chunk: Some(items.len() as u32), prefetch: None };
        let mut stream = ChunkStream::new::<Each<F, R>>(&self.shared, items.into_iter(), options);
        stream.refill();
        Mapping { stream, _results: std::marker::PhantomData }
    }

    /// Does the next task, as a worker; false when there is none.
    pub fn work_once(&self) -> bool {
        match worker::try_next(&self.shared) {
            Some(claimed) => {
                run::run(&self.shared, claimed);
                true
            }
            None => false,
        }
    }

    /// The same, whose tasks may take so long.
    pub fn with_limit(mut self, timeout_us: u64) -> ManualPool {
        self.task_options.timeout_us = timeout_us;
        self
    }

    /// As its users see it.
    pub fn owner(&self) -> Result<Pool> {
        Pool::with_owner(&self.shared)
    }

    /// Has so many workers.
    pub fn resize(&self, workers: u32) {
        self.shared.resize(workers);
    }

    /// How many workers there should be.
    pub fn workers(&self) -> u32 {
        self.shared.control.wanted.load(Ordering::SeqCst)
    }

    /// How many cells there are for tasks.
    pub fn cells(&self) -> usize {
        (0..).take_while(|&index| self.shared.cell(index).is_some()).count()
    }

    /// How many of them have ever had a task.
    pub fn used_cells(&self) -> u32 {
        self.shared.control.used()
    }

    /// Does what recovery does for the pool when a signal has ended the process in `slot`.
    pub fn recover(&self, slot: u32) {
        let Shared { arena, control, .. } = *self.shared;
        let index = self.shared.handle().id().index();
        if arena.held_objects(slot).has(index) {
            recover::return_tasks(&Dead { arena, slot, how: KILLED, returned: false }, index, control);
        }
    }

    /// Does the part of that which concerns the first cell.
    pub fn recover_first_cell(&self, slot: u32) {
        let Shared { arena, control, .. } = *self.shared;
        let recovery = Recovery::new(arena, slot, KILLED, control, self.shared.handle().id().index());
        self.shared.cell(0).into_iter().for_each(|cell| recovery.recover(cell, 0));
    }

    /// What recovery does to the pool when its maker has died.
    pub fn end(&self) {
        self.shared.advance(phase::TERMINATED);
        self.shared.control.cells(self.shared.arena).for_each(|(_, cell)| self.shared.end_unstarted(cell));
    }

    /// Makes so many waiting tasks such as recovery returns.
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

    /// The keeper looks at the tasks, and is about to sleep.
    pub fn keeper_looks(&self) -> Look {
        let ticket = event::prepare(&self.shared.control.keeper.word);
        Look { ticket, until: Keeper::new(self.shared.clone(), KeeperOptions::default()).watch().as_ns() }
    }

    /// Whether it will wake up.
    pub fn keeper_knows(&self, look: &Look) -> bool {
        look.until.is_some() || event::Word::load(&self.shared.control.keeper.word) != look.ticket
    }

    /// Another worker does the next task; or, if there is none, it is about to sleep.
    pub fn worker_looks(&self) -> Option<Look> {
        let ticket = event::prepare(&self.shared.ring.control().filled.word);
        (!self.work_once()).then_some(Look { ticket, until: None })
    }

    /// Whether it will wake up.
    pub fn worker_knows(&self, look: &Look) -> bool {
        event::Word::load(&self.shared.ring.control().filled.word) != look.ticket
    }

    /// Whether there is a task whose worker is to be killed.
    pub fn any_condemned(&self) -> bool {
        let mut cells = self.shared.control.cells(self.shared.arena);
        cells.any(|(_, cell)| cell.state().phase() == super::cells::cell::CONDEMNED)
    }

    /// Whether all cells are free.
    pub fn is_empty(&self) -> bool {
        let mut cells = self.shared.control.cells(self.shared.arena);
        cells.all(|(_, cell)| cell.state().phase() == super::cells::cell::FREE)
    }
}

/// What somebody has seen who is about to sleep.
pub struct Look {
    ticket: u32,
    until: Option<u64>,
}

/// See [`ManualPool::map`].
pub struct Mapping<T, R> {
    stream: ChunkStream<std::vec::IntoIter<T>>,
    _results: std::marker::PhantomData<fn() -> R>,
}

impl<T: Message, R: Message> Mapping<T, R> {
    /// The results, which must be there.
    pub fn results(&mut self) -> Result<Vec<Result<R, TaskError>>> {
        if !self.stream.first_is_done() {
            return Err(Error::other("the chunk is not done"));
        }
        let mut results = Vec::new();
        self.stream.collect_first(&mut |_, result| results.push(result));
        Ok(results)
    }
}
