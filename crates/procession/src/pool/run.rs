//! A task in its worker: from the cell to the user's function and back.

use std::any::Any;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use super::cells::cell::{
    Attempt, CONDEMNED, Cell, INLINE, INLINE_ARGS, INLINE_RESULT, RUNNING, TAKEN, UNWANTED, block_in, ending,
};
use super::cells::control::Control;
use super::cells::error::TaskError;
use super::cells::results::{Items, ResultWriter};
use super::cells::{cell, control};
use super::claim::Claimed;
use super::job::{Job, resolve};
use super::shared::CellRef;
use crate::arena::awake::OwnMoment;
use crate::arena::blocks::Tag;
use crate::arena::{Arena, blocks, member, payload};
use crate::codec::encoding;
use crate::codec::encoding::Message;
use crate::os::clock::{Deadline, now_ns};
use crate::os::process;
use crate::rules::Rule;
use crate::supervisor::crash_report;
use crate::supervisor::entrypoint::Returned;
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;
use crate::{Error, Result, codec, rules};

/// Runs a task that this process has taken.
pub(super) fn run(shared: &super::shared::Shared, claimed: Claimed) {
    let Claimed { cell_ref, claim } = claimed;
    let cell = cell_ref.cell;
    let names = (cell.entry.load(Ordering::Acquire), cell.type_hash.load(Ordering::Acquire));
    let run = resolve(names);
    let ran = run.and_then(|entry| entry.run()(shared.arena, shared.arena.offset_of(&raw const *cell)));
    if let Err(error) = ran {
        let work = RunningTask::of(shared.arena, cell, shared.control, shared.tag());
        work.begin();
        work.fail(&TaskError::Undecodable(error.to_string()));
    }
    finish(shared, cell_ref);
    claim.clear();
}

/// The function has come to its end and has left the cell as it wants it; the last step is the pool's.
fn finish(shared: &super::shared::Shared, cell_ref: CellRef) {
    let (cell, me) = (cell_ref.cell, member::slot());
    let mine = |s: cell::State| s.slot() == Some(me) && s.generation() == cell_ref.generation;
    loop {
        let ended = cell.fetch_update(|s| {
            let how = if s.has(UNWANTED) {
                ending::CANCELLED
            } else if cell.note.load(Ordering::Relaxed) != 0 {
                ending::FAILED
            } else {
                ending::RETURNED
            };
            (mine(s) && s.phase() == RUNNING).then(|| s.ended(how))
        });
        match ended {
            Ok(was) => return shared.notify_done(cell, was),
            Err(s) if mine(s) && s.phase() == CONDEMNED => await_death(shared.arena, cell),
            Err(_) => return,
        }
    }
}

/// The keeper is about to kill this process, unless it finds that it came too late.
pub(super) fn await_death(arena: &Arena, cell: &Cell) {
    while cell.state().phase() == CONDEMNED {
        let slept = crate::arena::thread::with_me(|me| {
            let wait = Wait::announce_event(arena, me.record(), &cell.done);
            let ticket = event::prepare(&cell.done);
            if cell.state().phase() == CONDEMNED {
                wait.sleep(&cell.done, ticket, Deadline::NEVER);
            }
        });
        if slept.is_err() {
            std::thread::yield_now();
        }
    }
}

/// A task that this process works on.
struct RunningTask {
    arena: &'static Arena,
    control: &'static Control,
    owner: Tag,
    cell: &'static Cell,
}

impl RunningTask {
    fn at(arena: &'static Arena, offset: u64) -> Result<RunningTask> {
        let damaged = || Error::Message("a damaged task".into());
        let cell = control::cell_at(arena, offset).ok_or_else(damaged)?;
        let (index, _) = arena.object_around(offset).ok_or_else(damaged)?;
        let control = control::control_of(arena, index).ok_or_else(damaged)?;
        Ok(RunningTask::of(arena, cell, control, Tag::object(index)))
    }

    fn of(arena: &'static Arena, cell: &'static Cell, control: &'static Control, owner: Tag) -> RunningTask {
        RunningTask { arena, control, owner, cell }
    }

    /// From here on a death is the task's.
    fn begin(&self) {
        let me = member::slot();
        // The clock before the phase: the keeper looks at the clocks of tasks that run.
        let ends_at = self.restart_clock();
        if !rules::holds(Rule::LimitNotified) {
            self.notify_keeper_of_limit(ends_at);
        }
        let begun = self.cell.fetch_update(|s| (s.phase() == TAKEN).then(|| s.to(RUNNING).by(me)));
        if begun.is_err_and(|s| s.phase() == CONDEMNED) {
            // Cancelled in the last moment.
            await_death(self.arena, self.cell);
        }
        // ORDERING: the phase before this: the keeper that did not see that we run has not settled yet when to
        // look again.
        if rules::holds(Rule::LimitNotified) {
            self.notify_keeper_of_limit(ends_at);
        }
    }

    /// Notes when an item begins, if it has a limit.
    #[inline]
    fn start_clock(&self) {
        let ends_at = self.restart_clock();
        self.notify_keeper_of_limit(ends_at);
    }

    /// When the item that begins now has had its time, at the earliest, if it has a limit.
    #[inline]
    fn restart_clock(&self) -> Option<u64> {
        let timeout_us = self.cell.timeout_us.load(Ordering::Relaxed);
        if timeout_us == 0 {
            return None;
        }
        let OwnMoment { monotonic_ns, own_ns, .. } =
            self.arena.slot(member::slot()).pace.read(&self.arena.header().awake);
        // ORDERING: SeqCst exchange, against the keeper that condemns: either it sees that another item has begun,
        // or we see that we are condemned.
        self.cell.clock_ns.swap(own_ns, Ordering::SeqCst);
        Some(monotonic_ns.saturating_add(timeout_us.saturating_mul(1000)))
    }

    /// Wakes the keeper if it would look too late.
    #[inline]
    fn notify_keeper_of_limit(&self, ends_at: Option<u64>) {
        if ends_at.is_some_and(|at| at < self.control.watching_until_ns.load(Ordering::SeqCst)) {
            event::notify(&self.control.keeper.word, i32::MAX);
        }
    }

    fn pid(&self) -> i32 {
        process::pid()
    }

    fn adopt(&self, block: u64) {
        blocks::hand_over(self.arena, block, Tag::process(member::slot()), self.owner);
    }

    /// Leaves word of what went wrong.
    fn fail(&self, error: &TaskError) {
        let bytes = postcard::to_stdvec(error).unwrap_or_default();
        if let Ok(block) = payload::pack_bytes(&bytes, &[]) {
            // CRASH: named and still ours, and the word says that we run it: swept, and forgotten by recovery.
            self.cell.note.store(block.at(), Ordering::Release);
            self.adopt(block.into_raw());
        } else {
            // An odd place says that there was no room for more.
            self.cell.note.store(cell::INLINE, Ordering::Release);
        }
    }

    fn panicked(&self, payload: &(dyn Any + Send), attempt: u32) -> TaskError {
        let (arena, slot) = (self.arena, member::slot());
        let block = crash_report::panic_text(arena, arena.slot(slot), payload);
        let text = payload::contents(arena, block).unwrap_or_default();
        let (message, location, backtrace) =
            postcard::from_bytes::<crash_report::PanicText>(text).unwrap_or_default();
        blocks::free(arena, slot, block, Tag::process(slot));
        TaskError::Panicked { message, location, backtrace, pid: self.pid(), attempt }
    }

    /// What the item that the task is at has behind it: the attempt that begins now, or the error that it has
    /// come to.
    fn next_attempt(&self, item: u32) -> Result<u32, TaskError> {
        let cell = self.cell;
        let fate = Attempt::read(cell.fate.load(Ordering::Acquire), item);
        if fate.ending == 0 {
            return Ok(fate.attempt);
        }
        if fate.attempt > cell.retries.load(Ordering::Relaxed) {
            let (pid, timeout) = (cell.pid.load(Ordering::Relaxed), cell.timeout_us.load(Ordering::Relaxed));
            return Err(TaskError::of_death(fate, pid, timeout));
        }
        Ok(self.try_again(item, fate.attempt))
    }

    fn try_again(&self, item: u32, last: u32) -> u32 {
        let next = Attempt { attempt: last + 1, ..Attempt::default() };
        self.cell.fate.store(next.word(item), Ordering::Release);
        next.attempt
    }

    fn retries(&self) -> u32 {
        self.cell.retries.load(Ordering::Relaxed)
    }

    fn arguments<T: Message>(&self) -> Result<T> {
        let args = self.cell.args.load(Ordering::Acquire);
        if args & INLINE == 0 {
            return codec::unpack(self.arena, args);
        }
        let mut bytes = [0; INLINE_ARGS];
        for (to, from) in bytes.chunks_exact_mut(8).zip(&self.cell.inline) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_le_bytes());
        }
        encoding::from_bytes(&bytes[..((args >> 8) as usize).min(INLINE_ARGS)])
    }

    fn give_result<R: Message>(&self, value: &R) -> Result<()> {
        encoding::with_bytes(value, |bytes, ids| {
            let cell = self.cell;
            if bytes.len() <= INLINE_RESULT && ids.is_empty() {
                let mut word = [0; INLINE_RESULT];
                word[..bytes.len()].copy_from_slice(bytes);
                cell.filled.store(u64::from_le_bytes(word), Ordering::Relaxed);
                cell.result.store((bytes.len() as u64) << 8 | INLINE, Ordering::Release);
                return Ok(());
            }
            let block = payload::pack_bytes(bytes, ids)?;
            // CRASH: as in `fail`.
            cell.result.store(block.at(), Ordering::Release);
            self.adopt(block.into_raw());
            Ok(())
        })?
    }
}

fn undecodable(what: &str, error: &Error) -> TaskError {
    let text = format!("the {what} of the task cannot cross: {error}");
    if matches!(error, Error::Full(_)) { TaskError::Full(text) } else { TaskError::Undecodable(text) }
}

/// Does the job for one item.
pub(super) fn single<J: Job<T>, T: Message>(arena: &'static Arena, at: u64) -> Result<Returned> {
    let work = RunningTask::at(arena, at)?;
    let mut attempt = match work.next_attempt(0) {
        Ok(attempt) => attempt,
        Err(error) => {
            work.begin();
            work.fail(&error);
            return Ok(Returned::Value(0));
        }
    };
    work.begin();
    loop {
        let done = panic::catch_unwind(AssertUnwindSafe(|| {
            let args = work.arguments::<T>().map_err(|e| undecodable("argument", &e))?;
            let value = J::run(args);
            work.give_result(&value).map_err(|e| undecodable("result", &e))
        }));
        match done {
            Ok(Ok(())) => break,
            Ok(Err(error)) => {
                work.fail(&error);
                break;
            }
            Err(payload) => {
                let error = work.panicked(payload.as_ref(), attempt);
                if attempt > work.retries() {
                    work.fail(&error);
                    break;
                }
                attempt = work.try_again(0, attempt);
                work.start_clock();
            }
        }
    }
    Ok(Returned::Value(0))
}

/// Does the job for the items of a chunk, from where it was left.
pub(super) fn chunk<J: Job<T>, T: Message>(arena: &'static Arena, at: u64) -> Result<Returned> {
    let work = RunningTask::at(arena, at)?;
    let cell = work.cell;
    let count = cell.count.load(Ordering::Relaxed);
    let mut output = ResultWriter::<J::Out>::open(arena, work.owner, cell);
    let began = now_ns();
    let timed = cell.timeout_us.load(Ordering::Relaxed) != 0;
    // The item at which the last worker died may have come to its end with that.
    let behind = if output.filled.items < count { work.next_attempt(output.filled.items) } else { Ok(1) };
    work.begin();
    if let Err(error) = behind {
        output.push_error(&error)?;
    }
    let block = block_in(cell.args.load(Ordering::Acquire));
    while output.filled.items < count {
        let mut items = match Items::<T>::open(arena, block, output.filled.items) {
            Ok(items) => items,
            Err(error) => {
                work.fail(&undecodable("items", &error));
                break;
            }
        };
        let ran = panic::catch_unwind(AssertUnwindSafe(|| -> Result<(), TaskError> {
            while output.filled.items < count {
                if timed {
                    work.start_clock();
                }
                let state = cell.state();
                if state.phase() != RUNNING || state.has(UNWANTED) {
                    return Ok(());
                }
                let item = items.next().map_err(|e| undecodable("argument", &e))?;
                let value = J::run(item);
                output.push(&value).map_err(|e| undecodable("result", &e))?;
            }
            Ok(())
        }));
        let item = output.filled.items;
        match ran {
            Ok(Ok(())) => match cell.state() {
                s if s.phase() == CONDEMNED => await_death(arena, cell),
                s if s.has(UNWANTED) => break,
                _ => {}
            },
            Ok(Err(error)) => output.push_error(&error)?,
            Err(payload) => {
                let attempt = Attempt::read(cell.fate.load(Ordering::Relaxed), item).attempt;
                let error = work.panicked(payload.as_ref(), attempt);
                if attempt > work.retries() {
                    output.push_error(&error)?;
                } else {
                    work.try_again(item, attempt);
                }
            }
        }
    }
    if !timed {
        cell.clock_ns.store(now_ns() - began, Ordering::Relaxed);
    }
    Ok(Returned::Value(0))
}

/// Says what came of a task that this process has done by itself.
pub(super) fn finish_own<R: Message>(
    shared: &super::shared::Shared,
    cell_ref: CellRef,
    outcome: Result<R, TaskError>,
) {
    let work = RunningTask::of(shared.arena, cell_ref.cell, shared.control, shared.tag());
    let given = outcome.and_then(|value| work.give_result(&value).map_err(|e| undecodable("result", &e)));
    if let Err(error) = given {
        work.fail(&error);
    }
    finish(shared, cell_ref);
}
