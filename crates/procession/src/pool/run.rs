//! Running a task in its worker: from the cell to the user's function and back.

use std::sync::atomic::Ordering;

use super::cells::attempt::Attempt;
use super::cells::cell::block_in;
use super::cells::error::TaskError;
use super::cells::items::ItemReader;
use super::cells::results::ResultWriter;
use super::cells::state::{KILLING, RUNNING, State, UNWANTED, ending};
use super::claim::Claimed;
use super::job::{Job, resolve};
use super::running_task::{RunningTask, await_death};
use super::shared::{CellRef, Shared};
use crate::arena::{Arena, member};
use crate::codec::encoding::Message;
use crate::os::clock::now_ns;
use crate::supervisor::entrypoint::Returned;
use crate::unwind;
use crate::{Error, Result};

/// Runs a task that this process has claimed. Returns the number of items that were finished.
pub(super) fn run(shared: &Shared, claimed: Claimed) -> u64 {
    let Claimed { cell_ref, claim } = claimed;
    let cell = cell_ref.cell;
    let names = (cell.entry.load(Ordering::Acquire), cell.type_hash.load(Ordering::Acquire));
    let run = resolve(names);
    let ran = run.and_then(|entry| entry.run()(shared.arena, shared.arena.offset_of(&raw const *cell)));
    let items = match ran {
        Ok(Returned::Value(items)) => items,
        Ok(_) => 1,
        Err(error) => {
            let task = RunningTask { pool: **shared, cell };
            task.begin();
            task.fail(&TaskError::Undecodable(error.to_string()));
            1
        }
    };
    finish(shared, cell_ref);
    claim.clear();
    items
}

/// Moves a task to `DONE`. Its function has returned, and the cell contains the result or the error.
fn finish(shared: &Shared, cell_ref: CellRef) {
    let (cell, me) = (cell_ref.cell, member::slot());
    let mine = |s: State| s.slot() == Some(me) && s.generation() == cell_ref.generation;
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
            Err(s) if mine(s) && s.phase() == KILLING => await_death(shared.arena, cell),
            Err(_) => return,
        }
    }
}

fn undecodable(what: &str, error: &Error) -> TaskError {
    let text = format!("the task's {what}: {error}");
    if matches!(error, Error::Full(_)) { TaskError::Full(text) } else { TaskError::Undecodable(text) }
}

/// Runs the job for a single call. Returns 1, the number of items.
pub(super) fn single<J: Job<T>, T: Message>(arena: &'static Arena, at: u64) -> Result<Returned> {
    let task = RunningTask::at(arena, at)?;
    let mut attempt = match task.next_attempt(0) {
        Ok(attempt) => attempt,
        Err(error) => {
            task.begin();
            task.drop_panic_text();
            task.fail(&error);
            return Ok(Returned::Value(1));
        }
    };
    task.begin();
    if attempt > 1 {
        task.drop_panic_text();
    }
    loop {
        let done = unwind::catch(|| {
            let args = task.arguments::<T>().map_err(|e| undecodable("argument cannot be decoded", &e))?;
            let value = J::run(args);
            task.store_result(&value).map_err(|e| undecodable("result cannot be encoded", &e))
        });
        match done {
            Ok(Ok(())) => break,
            Ok(Err(error)) => {
                task.fail(&error);
                break;
            }
            Err(payload) => {
                let error = task.panicked(payload.as_any(), attempt);
                if attempt > task.retries() {
                    task.fail(&error);
                    break;
                }
                attempt = task.retry(0, attempt);
                task.start_clock();
            }
        }
    }
    Ok(Returned::Value(1))
}

/// Runs the job for the items of a chunk, starting with the first unfinished item. Returns the number of
/// items that were finished.
pub(super) fn chunk<J: Job<T>, T: Message>(arena: &'static Arena, at: u64) -> Result<Returned> {
    let task = RunningTask::at(arena, at)?;
    let cell = task.cell;
    let count = cell.count.load(Ordering::Relaxed);
    let mut output = ResultWriter::<J::Out>::open(arena, task.pool.tag, cell);
    let (began, first) = (now_ns(), output.progress.items);
    let timed = cell.timeout_us.load(Ordering::Relaxed) != 0;
    // If the previous worker died while it ran the first unfinished item, that item may have no attempts
    // left. Then `next` is the item's error.
    let next = if first < count { task.next_attempt(first) } else { Ok(1) };
    task.begin();
    if !matches!(next, Ok(1)) {
        task.drop_panic_text();
    }
    if let Err(error) = next {
        output.push_error(&error)?;
    }
    let block = block_in(cell.args.load(Ordering::Acquire));
    while output.progress.items < count {
        let mut items = match ItemReader::<T>::open(arena, block, output.progress.items) {
            Ok(items) => items,
            Err(error) => {
                task.fail(&undecodable("items cannot be decoded", &error));
                break;
            }
        };
        let ran = unwind::catch(|| -> Result<(), TaskError> {
            while output.progress.items < count {
                if timed {
                    task.start_clock();
                }
                let state = cell.state();
                if state.phase() != RUNNING || state.has(UNWANTED) {
                    return Ok(());
                }
                let item = items.next().map_err(|e| undecodable("argument cannot be decoded", &e))?;
                let value = J::run(item);
                output.push(&value).map_err(|e| undecodable("result cannot be encoded", &e))?;
            }
            Ok(())
        });
        let item = output.progress.items;
        match ran {
            Ok(Ok(())) => match cell.state() {
                s if s.phase() == KILLING => await_death(arena, cell),
                s if s.has(UNWANTED) => break,
                _ => {}
            },
            Ok(Err(error)) => output.push_error(&error)?,
            Err(payload) => {
                let attempt = Attempt::read(cell.attempt.load(Ordering::Relaxed), item).number;
                let error = task.panicked(payload.as_any(), attempt);
                if attempt > task.retries() {
                    output.push_error(&error)?;
                } else {
                    task.retry(item, attempt);
                }
            }
        }
    }
    if !timed {
        cell.clock_ns.store(now_ns() - began, Ordering::Relaxed);
    }
    Ok(Returned::Value(u64::from(output.progress.items - first)))
}

/// Ends a task that this process itself has run, and stores the outcome.
pub(super) fn finish_own<R: Message>(shared: &Shared, cell_ref: CellRef, outcome: Result<R, TaskError>) {
    let task = RunningTask { pool: **shared, cell: cell_ref.cell };
    let stored = outcome
        .and_then(|value| task.store_result(&value).map_err(|e| undecodable("result cannot be encoded", &e)));
    if let Err(error) = stored {
        task.fail(&error);
    }
    finish(shared, cell_ref);
}
