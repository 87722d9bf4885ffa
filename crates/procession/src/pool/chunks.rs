//! [`ChunkStream`]: a map whose input the calling thread reads. Items are sent out in chunks, and results are
//! collected.

use std::sync::Arc;

use super::batch::Batch;
use super::cells::error::TaskError;
use super::job::Job;
#[cfg(feature = "internals")]
use super::raw_task::RawTask;
use super::shared::Shared;
use super::window::{InFlight, MapOptions, Window};
use crate::arena::member;
use crate::codec::encoding::Message;
use crate::os::clock::{Deadline, now_ns};
use crate::queue::ring::Refusal;
use crate::queue::waiting;

/// An input that takes longer than this for an item is slow. A batch from a slow input is sent out without
/// waiting for the next item.
const SLOW_NS: u64 = 100_000;

pub(super) struct ChunkStream<I: Iterator> {
    window: Window,
    batch: Batch,
    items: I,
    over: bool,
    /// How long the input took for its last item, if that was measured.
    pull_ns: u64,
}

impl<T: Message, I: Iterator<Item = T>> ChunkStream<I> {
    pub(super) fn new<J: Job<T>>(shared: &Arc<Shared>, items: I, options: MapOptions) -> ChunkStream<I> {
        ChunkStream {
            window: Window::new::<J, T>(shared, options, items.size_hint()),
            batch: Batch::default(),
            items,
            over: false,
            pull_ns: 0,
        }
    }

    /// Notes that the map is itself a task of the pool, so the pool accepts the map's chunks even if it is
    /// closed.
    pub(super) fn belongs_to_a_task(&mut self) {
        self.window.belongs_to_a_task();
    }

    /// Sends chunks out until enough are in flight, or the first chunk is done and the window does not run
    /// low. Panics if the input panics.
    pub(super) fn refill(&mut self) {
        if member::is_forked() {
            return self.refuse_one();
        }
        self.window.report();
        while !self.over && self.window.has_room() {
            self.send_one();
            self.window.report();
            if !self.window.runs_low() && self.first_is_done() {
                break;
            }
        }
    }

    /// Refuses an item, because this process is a plain fork of a member of the family and cannot use the
    /// pool.
    fn refuse_one(&mut self) {
        if self.window.is_empty() && !self.over {
            match self.items.next() {
                Some(_) => self.window.refuse(TaskError::unusable(&crate::Error::Forked)),
                None => self.over = true,
            }
        }
    }

    fn send_one(&mut self) {
        let size = self.window.size(self.items.size_hint());
        while !self.batch.is_full(size) && self.read_one() {}
        self.window.send(&mut self.batch);
    }

    /// Reads an item. Returns false at the end of the input. Panics if the input panics.
    fn read_one(&mut self) -> bool {
        let Some(item) = self.items.next() else {
            self.over = true;
            self.window.input_has_ended(self.batch.len());
            return false;
        };
        if let Err(error) = self.batch.add(&item) {
            self.window.send(&mut self.batch);
            self.window.refuse(error);
        }
        true
    }

    /// Reads items until the batch is full, or the input is slow or ends. Then sends the batch as one chunk.
    /// Panics if the input panics.
    fn send_some(&mut self) {
        let size = self.window.size(self.items.size_hint());
        let mut before = now_ns();
        while !self.batch.is_full(size) && self.read_one() {
            let now = now_ns();
            self.pull_ns = now - std::mem::replace(&mut before, now);
            if self.pull_ns > SLOW_NS {
                break;
            }
        }
        self.window.send(&mut self.batch);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over && self.window.is_empty()
    }

    /// Returns the first chunk in flight.
    #[cfg(feature = "internals")]
    pub(super) fn first_task(&self) -> Option<&RawTask> {
        self.window.first().and_then(InFlight::task)
    }

    /// Reports whether the first chunk in flight is done.
    pub(super) fn first_is_done(&self) -> bool {
        self.window.first().is_some_and(InFlight::is_done)
    }

    /// Waits for the first chunk in flight, and calls `take` with each result and its position.
    pub(super) fn collect_first<R: Message>(&mut self, take: &mut impl FnMut(usize, Result<R, TaskError>)) {
        self.report_until_first_is_done();
        self.collect(0, take);
    }

    /// If there is a progress hook, calls it until the first chunk in flight is done.
    fn report_until_first_is_done(&mut self) {
        while let Some(due_ns) = self.window.report_due_ns()
            && let Some(task) = self.window.first().and_then(InFlight::task)
        {
            let done = task.wait(self.until_report(Deadline::NEVER, due_ns));
            self.window.report();
            if !matches!(done, Ok(false)) {
                return;
            }
        }
    }

    /// Returns the earlier of the deadline and the next report. A worker of the pool that waits without a deadline
    /// must wait without reports, so that it runs the chunk itself.
    fn until_report(&self, deadline: Deadline, due_ns: u64) -> Deadline {
        let is_worker = super::worker::is_worker_of(&self.window.shared);
        if is_worker { deadline } else { deadline.min_ns(due_ns) }
    }

    /// Calls the progress hook for the last time.
    pub(super) fn finish_report(&mut self) {
        self.window.finish_report();
    }

    fn collect<R: Message>(&mut self, at: usize, take: &mut impl FnMut(usize, Result<R, TaskError>)) {
        if let Some(chunk) = self.window.take(at) {
            self.window.release_collected();
            let collected = Window::collect(&self.window.shared, chunk, take);
            self.window.learn(collected);
        }
    }

    /// Collects the results of one chunk that is done: the first chunk if `in_order`, else any chunk. Reads
    /// the input while no such chunk is done. Returns false when all results have been collected.
    pub(super) fn advance<R: Message>(
        &mut self,
        in_order: bool,
        take: &mut impl FnMut(usize, Result<R, TaskError>),
    ) -> bool {
        if member::is_forked() {
            self.refuse_one();
            self.collect(0, take);
            return !self.is_over();
        }
        self.window.report();
        loop {
            let reads = !self.over && self.window.has_room();
            let until = match (self.window.is_empty(), reads, self.pull_ns > SLOW_NS) {
                (true, false, _) => return false,
                // The input is slow. First wait for a result, at most as long as the input took for its last
                // item.
                (false, true, true) => Deadline::NEVER.min_ns(now_ns() + self.pull_ns),
                (_, true, _) => Deadline::NEVER.min_ns(0),
                (false, false, _) => Deadline::NEVER,
            };
            if let Some(at) = self.done_or_report(in_order, until) {
                self.collect(at, take);
                return true;
            }
            if reads {
                self.send_some();
            }
        }
    }

    /// As [`done`](ChunkStream::done), but also calls the progress hook while it waits.
    fn done_or_report(&mut self, in_order: bool, deadline: Deadline) -> Option<usize> {
        while let Some(due_ns) = self.window.report_due_ns() {
            let until = self.until_report(deadline, due_ns);
            let done = self.done(in_order, until);
            self.window.report();
            if done.is_some() || until.as_ns() == deadline.as_ns() {
                return done;
            }
        }
        self.done(in_order, deadline)
    }

    /// Waits until a chunk is done, and returns the chunk's place. Returns `None` at the deadline.
    fn done(&self, in_order: bool, deadline: Deadline) -> Option<usize> {
        let first = self.window.first()?;
        let shared = &self.window.shared;
        let is_done = |chunk: &InFlight| chunk.is_done();
        if !in_order {
            self.window.in_flight().filter_map(InFlight::task).for_each(|task| task.watch());
        }
        // A worker of the pool may have to run the first chunk itself.
        if in_order || (super::worker::is_worker_of(shared) && !self.window.in_flight().any(is_done)) {
            return match first.task() {
                Some(task) => task.wait(deadline).unwrap_or(true).then_some(0),
                None => Some(0),
            };
        }
        let find = || self.window.in_flight().position(is_done).ok_or(Refusal::Empty);
        let word = &shared.control.completed.word;
        match waiting::wait(shared.arena, word, deadline, || 0, || find().is_ok(), find) {
            Ok(at) => Some(at),
            Err(Refusal::Empty | Refusal::TimedOut) => None,
            // Waiting is impossible. Collecting the first chunk returns the error.
            Err(_) => Some(0),
        }
    }
}
