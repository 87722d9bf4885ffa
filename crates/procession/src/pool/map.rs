//! [`Imap`]: the results of a map as they come.

use std::collections::VecDeque;
use std::fmt;

use super::error::{MapError, TaskError};
use super::flow::Flow;
use crate::arena::encoding::Message;

/// All results in order, or the first failure in order.
pub(super) fn all<T: Message, R: Message, I: Iterator<Item = T>>(
    mut flow: Flow<I>,
) -> Result<Vec<R>, MapError> {
    let mut results = Vec::new();
    let mut failed = None;
    loop {
        flow.refill();
        if flow.is_over() {
            return Ok(results);
        }
        flow.land_first(&mut |index, result| match result {
            Ok(value) => results.push(value),
            Err(error) => {
                failed.get_or_insert(MapError { index, error });
            }
        });
        if let Some(failed) = failed {
            return Err(failed);
        }
    }
}

/// What became of each item, in order.
pub(super) fn each<T: Message, R: Message, I: Iterator<Item = T>>(
    mut flow: Flow<I>,
) -> Vec<Result<R, TaskError>> {
    let mut results = Vec::new();
    loop {
        flow.refill();
        if flow.is_over() {
            return results;
        }
        flow.land_first(&mut |_, result| results.push(result));
    }
}

/// The results of [`Pool::imap`](super::Pool::imap) or [`imap_unordered`](super::Pool::imap_unordered), as they
/// come. Dropping it stops the work.
///
/// # Panics
///
/// `next` panics if the input iterator does; then it can go on behind the item at which that happened.
#[must_use = "an iterator does nothing until it is used"]
pub struct Imap<I: Iterator, R> {
    flow: Flow<I>,
    in_order: bool,
    ready: VecDeque<Result<R, TaskError>>,
}

impl<I: Iterator, R> Imap<I, R> {
    pub(super) fn new(flow: Flow<I>, in_order: bool) -> Imap<I, R> {
        Imap { flow, in_order, ready: VecDeque::new() }
    }
}

impl<I: Iterator<Item: Message>, R: Message> Iterator for Imap<I, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Result<R, TaskError>> {
        loop {
            if let Some(result) = self.ready.pop_front() {
                return Some(result);
            }
            self.flow.refill();
            if self.flow.is_over() {
                return None;
            }
            let ready = &mut self.ready;
            let mut take = |_: usize, result| ready.push_back(result);
            if self.in_order { self.flow.land_first(&mut take) } else { self.flow.land_any(&mut take) }
        }
    }
}

impl<I: Iterator, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("in_order", &self.in_order).field("ready", &self.ready.len()).finish()
    }
}
