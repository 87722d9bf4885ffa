//! The error of a task whose worker died.

use std::sync::atomic::Ordering;

use super::cells::attempt::Attempt;
use super::cells::cell::{Cell, block_in};
use super::cells::error::TaskError;
use crate::arena::{Arena, payload};
use crate::codec;
use crate::supervisor::crash_report::PanicText;

/// Returns the error of a task whose `last` attempt ended with its worker's death.
pub(super) fn error_of(arena: &Arena, cell: &Cell, last: Attempt) -> TaskError {
    let pid = cell.pid.load(Ordering::Relaxed).cast_unsigned();
    if last.panicked {
        let text = payload::contents(arena, block_in(cell.note.load(Ordering::Acquire))).unwrap_or_default();
        if let Ok((message, location, backtrace)) = codec::from_slice::<PanicText>(text) {
            return TaskError::Panicked { message, location, backtrace, pid, attempt: last.number };
        }
    }
    TaskError::of_death(last, pid, cell.timeout_us.load(Ordering::Relaxed))
}
