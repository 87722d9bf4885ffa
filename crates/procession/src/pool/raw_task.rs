//! [`RawTask`]: a handle to a task, without the type of its result.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cells::attempt::{Attempt, MOST_RETRIES};
use super::cells::cell::{INLINE, INLINE_ARGS, INLINE_RESULT, block_in};
use super::cells::error::TaskError;
use super::cells::state::{
    ABANDONED, DONE, KILLING, QUEUED, RETURNED, RUNNING, SHARED, State, TAKEN, UNWANTED, WATCHED, ending,
};
use super::job::{EntryPoints, Job};
use super::shared::{CellRef, Shared};
use super::{run, worker, worker_death};
use crate::arena::objects::Id;
use crate::arena::{heap, member, payload, tally};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::queue::ring::Refusal;
use crate::queue::waiting;
use crate::rules::Rule;
use crate::{codec, rules};

/// The settings of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskOptions {
    pub(super) timeout_us: u64,
    pub(super) retries: u32,
    /// A closed pool accepts the task, because the task is part of another task that the pool accepted
    /// earlier.
    pub(super) late: bool,
}

/// A handle to a task.
pub(super) struct RawTask {
    pub(super) shared: Arc<Shared>,
    pub(super) cell_ref: CellRef,
    /// This process submitted the task. The cell counts the handles of this process.
    counted: bool,
}

impl RawTask {
    /// Submits one call.
    pub(super) fn single<J: Job<T>, T: Message>(
        shared: &Arc<Shared>,
        args: &T,
        task_options: TaskOptions,
    ) -> Result<RawTask, TaskError> {
        let (cell_ref, points) = (shared.allocate(task_options.late)?, EntryPoints::<J, T>::single());
        let put = encoding::with_bytes_or(
            args,
            |error| error,
            |bytes, ids| {
                encoding::check_arrival::<T>(bytes)?;
                put_arguments(shared, cell_ref, bytes, ids)
            },
        );
        RawTask::submit(shared, cell_ref, 0, points, task_options, put)
    }

    /// Submits a chunk of `count` items. `block` holds the items, and belongs to this process.
    pub(super) fn chunk<J: Job<T>, T: Message>(
        shared: &Arc<Shared>,
        count: u32,
        block: crate::Result<u64>,
        task_options: TaskOptions,
    ) -> Result<RawTask, TaskError> {
        let (cell_ref, points) = (shared.allocate(task_options.late)?, EntryPoints::<J, T>::chunk());
        let put = block.map(|block| {
            cell_ref.cell.args.store(block, Ordering::Relaxed);
            cell_ref.cell.failures().store(0, Ordering::Relaxed);
            cell_ref.cell.retried().store(0, Ordering::Relaxed);
            shared.adopt(block);
        });
        RawTask::submit(shared, cell_ref, count, points, task_options, put)
    }

    fn submit(
        shared: &Arc<Shared>,
        cell_ref: CellRef,
        count: u32,
        points: (u64, u64),
        task_options: TaskOptions,
        put: crate::Result<()>,
    ) -> Result<RawTask, TaskError> {
        if let Err(error) = put {
            shared.discard(cell_ref);
            return Err(match error {
                crate::Error::Message(why) => TaskError::Undecodable(why),
                other => TaskError::unusable(&other),
            });
        }
        let cell = cell_ref.cell;
        cell.count.store(count, Ordering::Relaxed);
        cell.entry.store(points.0, Ordering::Relaxed);
        cell.type_hash.store(points.1, Ordering::Relaxed);
        cell.timeout_us.store(task_options.timeout_us, Ordering::Relaxed);
        cell.retries.store(task_options.retries.min(MOST_RETRIES), Ordering::Relaxed);
        shared.enqueue(cell_ref)?;
        Ok(RawTask { shared: shared.clone(), cell_ref, counted: true })
    }

    /// Creates a task that this process itself runs, and begins it.
    pub(super) fn own(shared: &Arc<Shared>) -> Result<RawTask, TaskError> {
        let cell_ref = shared.allocate(false)?;
        let (cell, me) = (cell_ref.cell, member::slot());
        for word in [&cell.entry, &cell.type_hash, &cell.timeout_us] {
            word.store(0, Ordering::Relaxed);
        }
        cell.count.store(0, Ordering::Relaxed);
        cell.retries.store(0, Ordering::Relaxed);
        // CRASH: before this store, the cell is `NEW` and names us, and recovery frees it. After this store,
        // recovery ends the task.
        let _ = cell.fetch_update(|s| Some(s.to(RUNNING).by(me)));
        Ok(RawTask { shared: shared.clone(), cell_ref, counted: true })
    }

    /// Creates a handle from the parts of a handle that was received from another process.
    pub(super) fn of_another(shared: Arc<Shared>, cell_ref: CellRef) -> RawTask {
        RawTask { shared, cell_ref, counted: false }
    }

    /// Reports whether the process that submitted the task runs the task itself.
    fn is_own(&self) -> bool {
        self.cell_ref.cell.entry.load(Ordering::Relaxed) == 0
    }

    pub(super) fn state(&self) -> State {
        self.cell_ref.cell.state()
    }

    pub(super) fn is_done(&self) -> bool {
        !member::is_forked() && self.state().is_done()
    }

    /// Waits until the task is done. Returns false if the wait times out. A worker may wait for a task of its
    /// own pool. If no worker has begun the task, and there is no deadline, the waiting worker runs the task
    /// itself.
    pub(super) fn wait(&self, deadline: Deadline) -> Result<bool, TaskError> {
        if member::is_forked() {
            return Err(TaskError::unusable(&crate::Error::Forked));
        }
        if worker::is_worker_of(&self.shared)
            && deadline.as_ns().is_none()
            && let Some(claimed) = self.shared.claim_cell(self.cell_ref.index, self.cell_ref.generation)
        {
            run::run(&self.shared, claimed);
        }
        let done = || if self.is_done() { Ok(()) } else { Err(Refusal::Empty) };
        let word = &self.cell_ref.cell.done;
        match waiting::wait(self.shared.arena, word, deadline, || 0, || self.is_done(), done) {
            Ok(()) => Ok(true),
            Err(Refusal::Unusable(error)) => Err(TaskError::unusable(&error)),
            Err(_) => Ok(false),
        }
    }

    /// Returns the error of a task that is done, if it failed.
    pub(super) fn error(&self) -> Option<TaskError> {
        let cell = self.cell_ref.cell;
        Some(match self.state().ending() {
            ending::RETURNED => return None,
            ending::FAILED => {
                let note = cell.note.load(Ordering::Acquire);
                let text = payload::contents(self.shared.arena, block_in(note)).unwrap_or_default();
                codec::from_slice(text).unwrap_or_else(|_| {
                    TaskError::Full(heap::why_no_room("the error of the task when it ended"))
                })
            }
            ending::CANCELLED => TaskError::Cancelled,
            ending::TERMINATED => TaskError::Terminated,
            ending::BROKEN => self.shared.broken(),
            _ => {
                let last = Attempt::read(cell.attempt.load(Ordering::Acquire), 0);
                worker_death::error_of(self.shared.arena, cell, last)
            }
        })
    }

    /// Returns the result of a single call that is done.
    pub(super) fn value<R: Message>(&self) -> Result<R, TaskError> {
        if let Some(error) = self.error() {
            return Err(error);
        }
        let cell = self.cell_ref.cell;
        let result = cell.result.load(Ordering::Acquire);
        let read = if result & INLINE != 0 {
            let bytes = cell.progress.load(Ordering::Relaxed).to_le_bytes();
            encoding::from_bytes(&bytes[..((result >> 8) as usize).min(INLINE_RESULT)])
        } else {
            codec::unpack(self.shared.arena, result)
        };
        read.map_err(|e| TaskError::Undecodable(format!("the task's result cannot be decoded: {e}")))
    }

    /// Cancels the task. Returns false if the task is done already. A running task is done when its worker is
    /// dead.
    pub(super) fn cancel(&self) -> bool {
        let generation = self.cell_ref.generation;
        let cell = self.cell_ref.cell;
        let is_mine = move |s: State| s.generation() == generation;
        let waits = move |s: State| is_mine(s) && matches!(s.phase(), QUEUED | RETURNED);
        // A task whose worker is killed because of the time limit may be retried. So cancelling stores the state
        // again, with another ending.
        let works = move |s: State| {
            let is_cancelled = s.phase() == KILLING && s.ending() == ending::CANCELLED;
            is_mine(s) && matches!(s.phase(), TAKEN | RUNNING | KILLING) && !is_cancelled
        };
        if self.is_own() {
            return cell
                .fetch_update(|s| (is_mine(s) && s.phase() == RUNNING).then(|| s.with(UNWANTED)))
                .is_ok();
        }
        loop {
            if self.shared.end_if(cell, ending::CANCELLED, waits) {
                return true;
            }
            let marked = cell.fetch_update(|s| works(s).then(|| s.killing(ending::CANCELLED)));
            match marked {
                Ok(_) => {
                    self.shared.notify_keeper();
                    return true;
                }
                Err(s) if waits(s) => {}
                Err(_) => return false,
            }
        }
    }

    /// Withdraws the task. If no worker has begun it, the task is cancelled. Otherwise, the task stops before
    /// its next item.
    pub(super) fn withdraw(&self) {
        if member::is_forked() {
            return;
        }
        let generation = self.cell_ref.generation;
        let waits = move |s: State| s.generation() == generation && matches!(s.phase(), QUEUED | RETURNED);
        if !self.shared.end_if(self.cell_ref.cell, ending::CANCELLED, waits) {
            let _ = self.cell_ref.cell.fetch_update(|s| s.is_unfinished().then(|| s.with(UNWANTED)));
        }
    }

    /// Requests that the pool's `completed` event is notified when the task is done.
    pub(super) fn watch(&self) {
        if member::is_forked() {
            return;
        }
        let _ = self.cell_ref.cell.fetch_update(|s| s.is_unfinished().then(|| s.with(WATCHED)));
    }

    /// Notes that a handle is about to be sent to another process.
    pub(super) fn share(&self) {
        if member::is_forked() || !rules::holds(Rule::TaskShared) {
            return;
        }
        let _ = self.cell_ref.cell.fetch_update(|s| Some(s.with(SHARED)));
    }
}

fn put_arguments(shared: &Shared, cell_ref: CellRef, bytes: &[u8], ids: &[Id]) -> crate::Result<()> {
    let cell = cell_ref.cell;
    if bytes.len() <= INLINE_ARGS && ids.is_empty() {
        let mut words = [0; INLINE_ARGS];
        words[..bytes.len()].copy_from_slice(bytes);
        for (to, from) in cell.inline.iter().zip(words.as_chunks::<8>().0) {
            to.store(u64::from_le_bytes(*from), Ordering::Relaxed);
        }
        cell.args.store((bytes.len() as u64) << 8 | INLINE, Ordering::Relaxed);
        return Ok(());
    }
    let block = payload::pack_bytes(bytes, ids)?;
    // CRASH: the cell is `NEW`, and names a block that is still ours. Recovery frees the cell, and the sweep
    // frees the block.
    cell.args.store(block.at(), Ordering::Release);
    shared.adopt(block.into_raw());
    Ok(())
}

impl Clone for RawTask {
    fn clone(&self) -> RawTask {
        if self.counted && !member::is_forked() {
            tally::count_up(&self.cell_ref.cell.handles);
        }
        RawTask { shared: self.shared.clone(), cell_ref: self.cell_ref, counted: self.counted }
    }
}

impl Drop for RawTask {
    fn drop(&mut self) {
        if !self.counted || member::is_forked() {
            return;
        }
        let CellRef { index, generation, cell } = self.cell_ref;
        // The count is not decremented for the last handle: no handle is left that could be cloned.
        if !tally::count_down(&cell.handles) {
            return;
        }
        let state = cell.state();
        if state.is_done_here() && state.generation() == generation {
            return self.shared.free_done(self.cell_ref);
        }
        let was = cell.fetch_update(|s| (s.generation() == generation).then(|| s.with(ABANDONED)));
        // If a process completes the task from now on, that process frees it. If the task is already
        // complete, we free it here.
        if was.is_ok_and(State::is_done_here) {
            self.shared.free(Some(index), cell, generation, DONE);
        }
    }
}
