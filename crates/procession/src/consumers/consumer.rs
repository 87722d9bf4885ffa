//! What a consumer of a fleet does.

use std::any::Any;

use super::fleet::Ties;
use super::handled::Handled;
use crate::codec::encoding::Message;
use crate::process::Captureless;
use crate::process::entry::function;

use crate::queue::{GetError, Lease, select};
use crate::{JoinableQueue, Result, unwind};

/// How a consumer ends without dying. The error says why it cannot continue. Another consumer then replaces it.
pub(super) type Exit = Result<(), String>;

/// Calls `F` with the items of a queue, until the queue is closed and all its items are done, or the fleet is
/// stopped.
pub(super) fn consume<F, T, R>(queue: JoinableQueue<T>, ties: Ties) -> Exit
where
    F: Fn(T) -> R + Captureless,
    T: Message,
    R: Handled,
{
    let consume = || -> Result<()> {
        while let Some(lease) = next(&queue, &ties)? {
            work_on::<F, T, R>(lease, &ties)?;
        }
        Ok(())
    };
    consume().map_err(|error| error.to_string())
}

/// Waits for the next item. Returns `None` if there will be none, or if the fleet is stopped.
fn next<T: Message>(queue: &JoinableQueue<T>, ties: &Ties) -> Result<Option<Lease<T>>> {
    while !ties.are_cut() {
        match queue.try_get() {
            Ok(lease) => return Ok(Some(lease)),
            Err(GetError::Closed) => return Ok(None),
            Err(GetError::Empty) => _ = select(&[&ties.stop, &ties.creator, queue])?,
            Err(GetError::Undecodable(why)) => {
                ties.record_failure(&format!("an item cannot be decoded: {why}"))
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(None)
}

fn work_on<F, T, R>(lease: Lease<T>, ties: &Ties) -> Result<()>
where
    F: Fn(T) -> R + Captureless,
    T: Message,
    R: Handled,
{
    let attempt = lease.attempt();
    let (item, unfinished) = lease.split();
    // The panic hook has reported where the function panicked.
    let returned = unwind::catch(|| function::<F>()(item).outcome());
    let why = match returned {
        Ok(Ok(())) => return unfinished.done(),
        Ok(Err(why)) => why,
        Err(payload) => format!("the function panicked: {}", text_of(payload.as_any())),
    };
    // The failure is recorded before the item returns, so that a process that finds a dead letter also finds it.
    ties.record_failure(&format!("attempt {attempt} at an item failed: {why}"));
    drop(unfinished);
    Ok(())
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}
