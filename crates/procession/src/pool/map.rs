//! Maps that return all results together.

use std::any::Any;

use super::cells::error::{MapError, TaskError};
use super::cells::state::UNWANTED;
use super::chunks::ChunkStream;
use super::raw_task::RawTask;
use super::run;
use crate::codec::encoding::Message;
use crate::os::threads;
use crate::unwind;

/// Returns all results in the order of the input, or the error that comes first in that order.
pub(super) fn all<T: Message, R: Message, I: Iterator<Item = T>>(
    mut stream: ChunkStream<I>,
) -> Result<Vec<R>, MapError> {
    let mut results = Vec::new();
    loop {
        stream.refill();
        if stream.is_over() {
            return Ok(results);
        }
        gather(&mut stream, &mut results)?;
    }
}

/// Waits for the first chunk in flight, and adds its results.
fn gather<T: Message, R: Message, I: Iterator<Item = T>>(
    stream: &mut ChunkStream<I>,
    results: &mut Vec<R>,
) -> Result<(), MapError> {
    let mut failed = None;
    stream.collect_first(&mut |index, result| match result {
        Ok(value) => results.push(value),
        Err(error) => {
            failed.get_or_insert(MapError { index, error });
        }
    });
    failed.map_or(Ok(()), Err)
}

/// Runs a map in a thread. `task` stands for the map, and this process has already begun it.
pub(super) fn in_a_thread<T, I, R>(task: RawTask, stream: ChunkStream<I>) -> Result<(), TaskError>
where
    T: Message,
    I: Iterator<Item = T> + Send + 'static,
    R: Message,
{
    let its_own = task.clone();
    let started = threads::start("procession-map", move || {
        // The panic hook has reported where the panic happened.
        let done = unwind::catch(|| until_done_or_unwanted(&its_own, stream));
        let outcome: Result<Vec<R>, TaskError> =
            done.unwrap_or_else(|payload| Err(of_panic(payload.as_any())));
        run::finish_own(&its_own.shared, its_own.cell_ref, outcome);
    });
    started.map(drop).map_err(|e| {
        let error = TaskError::Unusable(format!("cannot start a thread for the map: {e}"));
        run::finish_own::<()>(&task.shared, task.cell_ref, Err(error.clone()));
        error
    })
}

fn until_done_or_unwanted<T: Message, R: Message, I: Iterator<Item = T>>(
    task: &RawTask,
    mut stream: ChunkStream<I>,
) -> Result<Vec<R>, TaskError> {
    let mut results = Vec::new();
    loop {
        stream.refill();
        if stream.is_over() {
            return Ok(results);
        }
        if task.state().has(UNWANTED) {
            return Err(TaskError::Cancelled);
        }
        gather(&mut stream, &mut results)?;
    }
}

fn of_panic(payload: &(dyn Any + Send)) -> TaskError {
    let said = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let message = said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    TaskError::Panicked {
        message,
        location: String::new(),
        backtrace: String::new(),
        pid: std::process::id(),
        attempt: 1,
    }
}

/// Returns the result or the error of each item, in order.
pub(super) fn each<T: Message, R: Message, I: Iterator<Item = T>>(
    mut stream: ChunkStream<I>,
) -> Vec<Result<R, MapError>> {
    let mut results = Vec::new();
    loop {
        stream.refill();
        if stream.is_over() {
            return results;
        }
        stream.collect_first(&mut |index, result| {
            results.push(result.map_err(|error| MapError { index, error }));
        });
    }
}
