//! [`RunningTask`]: a task as seen by the process that runs it. Handles the task's arguments, attempts, time
//! limit and result.

use std::any::Any;
use std::sync::atomic::Ordering;

use super::cells::attempt::Attempt;
use super::cells::cell::{Cell, INLINE, INLINE_ARGS, INLINE_RESULT, block_in};
use super::cells::cell_table;
use super::cells::chunk_counts::count_retry;
use super::cells::error::TaskError;
use super::cells::state::{KILLING, RUNNING, TAKEN};
use super::cells::view::PoolView;
use super::worker_death;
use crate::arena::awake::OwnMoment;
use crate::arena::blocks::Tag;
use crate::arena::{Arena, blocks, member, payload};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

use crate::rules::Rule;
use crate::supervisor::crash_report;
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;
use crate::{Error, Result, codec, rules};

/// A task that this process has claimed.
pub(super) struct RunningTask {
    pub(super) pool: PoolView<'static>,
    pub(super) cell: &'static Cell,
}

impl RunningTask {
    /// Returns the task in the cell at this offset.
    pub(super) fn at(arena: &'static Arena, offset: u64) -> Result<RunningTask> {
        let damaged = || Error::Message("the task's memory is damaged".into());
        let cell = cell_table::cell_at(arena, offset).ok_or_else(damaged)?;
        let (index, _) = arena.object_around(offset).ok_or_else(damaged)?;
        let pool = PoolView::of(arena, index).ok_or_else(damaged)?;
        Ok(RunningTask { pool, cell })
    }

    /// Begins the task. From now on, the task is retried or fails if this process dies.
    pub(super) fn begin(&self) {
        let me = member::slot();
        // The clock is stored before the phase, because the keeper reads the clocks of running tasks.
        let ends_at = self.restart_clock();
        if !rules::holds(Rule::LimitNotified) {
            self.notify_keeper_of_limit(ends_at);
        }
        let begun = self.cell.fetch_update(|s| (s.phase() == TAKEN).then(|| s.to(RUNNING).by(me)));
        if begun.is_err_and(|s| s.phase() == KILLING) {
            // The task was cancelled after we had claimed it.
            await_death(self.pool.arena, self.cell);
        }
        // ORDERING: the phase is stored before this. If the keeper did not see that the task runs, it has not
        // yet stored when it will wake up.
        if rules::holds(Rule::LimitNotified) {
            self.notify_keeper_of_limit(ends_at);
        }
    }

    /// If an item has a time limit, stores the time when the item begins, and notifies the keeper if
    /// necessary.
    #[inline]
    pub(super) fn start_clock(&self) {
        let ends_at = self.restart_clock();
        self.notify_keeper_of_limit(ends_at);
    }

    /// If an item has a time limit, stores the time when the item begins. Then returns the earliest time at
    /// which the item can exceed its limit.
    #[inline]
    fn restart_clock(&self) -> Option<u64> {
        let timeout_us = self.cell.timeout_us.load(Ordering::Relaxed);
        if timeout_us == 0 {
            return None;
        }
        let arena = self.pool.arena;
        let OwnMoment { monotonic_ns, own_ns, .. } =
            arena.slot(member::slot()).pace.read(&arena.header().awake);
        // ORDERING: SeqCst exchange, against a keeper that moves the task to `KILLING`. Either the keeper sees
        // that another item has begun, or we see the keeper's state.
        self.cell.clock_ns.swap(own_ns, Ordering::SeqCst);
        Some(monotonic_ns.saturating_add(timeout_us.saturating_mul(1000)))
    }

    /// Wakes the keeper if it would wake up too late by itself.
    #[inline]
    fn notify_keeper_of_limit(&self, ends_at: Option<u64>) {
        let wakes = &self.pool.control.keeper_wakes_ns;
        if ends_at.is_some_and(|at| at < wakes.load(Ordering::SeqCst)) {
            self.pool.notify_keeper();
        }
    }

    /// Stores the error with which the task ends.
    pub(super) fn fail(&self, error: &TaskError) {
        let bytes = codec::to_vec(error).unwrap_or_default();
        if let Ok(block) = payload::pack_bytes(&bytes, &[]) {
            // CRASH: the cell names the block, the block is still ours, and the state says that we run the
            // task. Recovery clears the word, and the sweep frees the block.
            self.cell.note.store(block.at(), Ordering::Release);
            self.pool.adopt(block.into_raw());
        } else {
            // This value does not name a block. It means that there was no memory for the error.
            self.cell.note.store(INLINE, Ordering::Release);
        }
    }

    pub(super) fn panicked(&self, payload: &(dyn Any + Send), attempt: u32) -> TaskError {
        let (arena, slot) = (self.pool.arena, member::slot());
        let block = crash_report::panic_text(arena, arena.slot(slot), payload);
        let text = payload::contents(arena, block).unwrap_or_default();
        let (message, location, backtrace) =
            codec::from_slice::<crash_report::PanicText>(text).unwrap_or_default();
        blocks::free(arena, slot, block, Tag::process(slot));
        TaskError::Panicked { message, location, backtrace, pid: std::process::id(), attempt }
    }

    /// Returns the number of the attempt at this item that begins now, or the error with which the item has failed.
    pub(super) fn next_attempt(&self, item: u32) -> Result<u32, TaskError> {
        let cell = self.cell;
        let last = Attempt::read(cell.attempt.load(Ordering::Acquire), item);
        if last.ending == 0 {
            return Ok(last.number);
        }
        if last.number > self.retries() {
            return Err(worker_death::error_of(self.pool.arena, cell, last));
        }
        Ok(self.retry(item, last.number))
    }

    /// Frees the text of the panic that aborted the worker of the previous attempt, if there is one. The task
    /// must have begun.
    pub(super) fn drop_panic_text(&self) {
        let (arena, cell) = (self.pool.arena, self.cell);
        let block = block_in(cell.note.load(Ordering::Acquire));
        if block == 0 {
            return;
        }
        // CRASH: the state says that we run the task. Until the note is cleared, it names a block of the pool
        // or of this process. Recovery clears it, and the sweep frees the block.
        let mine = Tag::process(member::slot());
        if !rules::holds(Rule::PanicTextTakenOver) {
            cell.note.store(0, Ordering::Release);
        }
        blocks::hand_over(arena, block, self.pool.tag, mine);
        cell.note.store(0, Ordering::Release);
        blocks::free(arena, member::slot(), block, mine);
    }

    /// Counts another attempt at an item, and returns its number.
    pub(super) fn retry(&self, item: u32, last: u32) -> u32 {
        let next = Attempt { number: last + 1, ..Attempt::default() };
        if self.cell.count.load(Ordering::Relaxed) != 0 {
            count_retry(self.cell, item, next.number);
        }
        self.cell.attempt.store(next.word(item), Ordering::Release);
        next.number
    }

    pub(super) fn retries(&self) -> u32 {
        self.cell.retries.load(Ordering::Relaxed)
    }

    pub(super) fn arguments<T: Message>(&self) -> Result<T> {
        let args = self.cell.args.load(Ordering::Acquire);
        if args & INLINE == 0 {
            return codec::unpack(self.pool.arena, args);
        }
        let mut bytes = [0; INLINE_ARGS];
        for (to, from) in bytes.chunks_exact_mut(8).zip(&self.cell.inline) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_le_bytes());
        }
        encoding::from_bytes(&bytes[..((args >> 8) as usize).min(INLINE_ARGS)])
    }

    /// Stores the result of a single call.
    pub(super) fn store_result<R: Message>(&self, value: &R) -> Result<()> {
        encoding::with_bytes(value, |bytes, ids| {
            let cell = self.cell;
            if bytes.len() <= INLINE_RESULT && ids.is_empty() {
                let mut word = [0; INLINE_RESULT];
                word[..bytes.len()].copy_from_slice(bytes);
                cell.progress.store(u64::from_le_bytes(word), Ordering::Relaxed);
                cell.result.store((bytes.len() as u64) << 8 | INLINE, Ordering::Release);
                return Ok(());
            }
            let block = payload::pack_bytes(bytes, ids)?;
            // CRASH: as in `fail`.
            cell.result.store(block.at(), Ordering::Release);
            self.pool.adopt(block.into_raw());
            Ok(())
        })?
    }
}

/// Waits for the keeper to kill this process. Returns if the keeper finds that the task was in time after
/// all.
pub(super) fn await_death(arena: &Arena, cell: &Cell) {
    while cell.state().phase() == KILLING {
        let slept = crate::arena::thread::with_me(|me| {
            let wait = Wait::announce_event(arena, me.record(), &cell.done);
            let ticket = event::prepare(&cell.done);
            if cell.state().phase() == KILLING {
                wait.sleep(&cell.done, ticket, Deadline::NEVER);
            }
        });
        if slept.is_err() {
            std::thread::yield_now();
        }
    }
}
