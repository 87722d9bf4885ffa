//! [`Fleet`]: what the handle and the keeper of a fleet share. [`Ties`]: what they share with the consumers.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::Waker;

use serde::{Deserialize, Serialize};

use super::consumer::Exit;
use crate::os::clock::{Deadline, now_ns};
use crate::process::current_process;
use crate::queue::JoinError;
use crate::{AnyProcess, Process, Queue, Result, Value};

/// What connects a consumer with the process that created the fleet.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ties {
    /// The fleet is stopped when this queue is closed.
    pub(super) stop: Queue<()>,
    pub(super) creator: AnyProcess,
    last_failure: Value<Option<String>>,
}

impl Ties {
    pub(super) fn new() -> Result<Ties> {
        Ok(Ties { stop: Queue::bounded(1)?, creator: current_process()?, last_failure: Value::new(None)? })
    }

    /// Reports whether consumers should leave, because the fleet is stopped or its creator is dead.
    pub(super) fn are_cut(&self) -> bool {
        self.stop.is_closed() || !self.creator.is_alive()
    }

    pub(super) fn record_failure(&self, why: &str) {
        // If the memory is full, the previous failure stays.
        let _ = self.last_failure.set(Some(why.into()));
    }

    pub(super) fn last_failure(&self) -> Result<Option<String>> {
        self.last_failure.get()
    }
}

/// A fleet, as the process that created it sees it.
pub(super) struct Fleet {
    pub(super) ties: Ties,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// The consumers that run.
    pub(super) consumers: Vec<Process<Exit>>,
    pub(super) deaths: u64,
    /// How the fleet has ended.
    outcome: Option<Result<(), JoinError>>,
    wakers: Vec<Waker>,
}

impl Fleet {
    pub(super) fn new(ties: Ties) -> Fleet {
        Fleet { ties, state: Mutex::default(), ended: Condvar::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Ends the fleet, and wakes the threads and futures that wait for that.
    pub(super) fn end(&self, outcome: Result<(), JoinError>) {
        let wakers = {
            let mut state = self.state();
            state.consumers.clear();
            state.outcome = Some(outcome);
            std::mem::take(&mut state.wakers)
        };
        self.ended.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until the fleet has ended. Returns `None` at the deadline.
    pub(super) fn wait(&self, deadline: Deadline) -> Option<Result<(), JoinError>> {
        let mut state = self.state();
        while state.outcome.is_none() && !deadline.passed() {
            state = match deadline.as_ns() {
                None => self.ended.wait(state).unwrap_or_else(|e| e.into_inner()),
                Some(at) => {
                    let left = std::time::Duration::from_nanos(at.saturating_sub(now_ns()));
                    self.ended.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        state.outcome.clone()
    }

    /// Returns the outcome of a fleet that has ended. Otherwise adds a waker, which is called when it ends.
    pub(super) fn outcome_or_wake(&self, waker: &Waker) -> Option<Result<(), JoinError>> {
        let mut state = self.state();
        if state.outcome.is_none() && !state.wakers.iter().any(|other| other.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        state.outcome.clone()
    }
}
