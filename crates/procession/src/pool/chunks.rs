//! A map on its way whose input the calling thread reads: items go out in chunks, results come back.

use std::sync::Arc;

use super::cells::error::TaskError;
use super::job::Job;
use super::shared::Shared;
use super::window::{Batch, InFlight, MapOptions, Window};
use crate::arena::member;
use crate::codec::encoding::Message;
use crate::os::clock::{Deadline, now_ns};
use crate::queue::ring::Refusal;
use crate::queue::waiting;

/// An input is slow if it takes longer than this for an item: then nothing waits for the next item.
const SLOW_NS: u64 = 100_000;

/// See the module.
pub(super) struct ChunkStream<I: Iterator> {
    window: Window,
    batch: Batch,
    items: I,
    over: bool,
    /// How long the input took for its last item, when that was measured.
    pull_ns: u64,
}

impl<T: Message, I: Iterator<Item = T>> ChunkStream<I> {
    pub(super) fn new<J: Job<T>>(shared: &Arc<Shared>, items: I, options: MapOptions) -> ChunkStream<I> {
        ChunkStream {
            window: Window::new::<J, T>(shared, options),
            batch: Batch::default(),
            items,
            over: false,
            pull_ns: 0,
        }
    }

    /// It is part of a task that the pool has already, so it goes on when the pool is closed.
    pub(super) fn belongs_to_a_task(&mut self) {
        self.window.belongs_to_a_task();
    }

    /// How many items it has in all, if the input says so.
    pub(super) fn total(&self) -> Option<usize> {
        match self.items.size_hint() {
            (least, Some(most)) if least == most => Some(self.window.sent() + self.batch.len() + least),
            _ => None,
        }
    }

    /// Sends items out until there are enough on their way, or the first ones have come back. Panics if the input
    /// does.
    pub(super) fn refill(&mut self) {
        if member::is_forked() {
            return self.refuse_one();
        }
        while !self.over && self.window.has_room() {
            self.send_one();
            if !self.window.runs_low() && self.first_is_done() {
                break;
            }
        }
    }

    /// In a plain fork of a member of the family nothing can be done with an item.
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

    /// Reads an item; false at the end of the input. Panics if the input does.
    fn read_one(&mut self) -> bool {
        let Some(item) = self.items.next() else {
            self.over = true;
            return false;
        };
        if let Err(error) = self.batch.add(&item) {
            self.window.send(&mut self.batch);
            self.window.refuse(error);
        }
        true
    }

    /// Sends one chunk out, as soon as the input takes its time. Panics if the input does.
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

    /// Whether the first chunk that is on its way has come to its end.
    pub(super) fn first_is_done(&self) -> bool {
        self.window.first().is_some_and(InFlight::is_done)
    }

    /// Waits for the first chunk that is on its way, and gives its results, each with its position.
    pub(super) fn collect_first<R: Message>(&mut self, take: &mut impl FnMut(usize, Result<R, TaskError>)) {
        self.collect(0, take);
    }

    fn collect<R: Message>(&mut self, at: usize, take: &mut impl FnMut(usize, Result<R, TaskError>)) {
        if let Some(chunk) = self.window.take(at) {
            self.window.release_collected();
            let measured = Window::collect(&self.window.shared, chunk, take);
            self.window.learn(measured);
        }
    }

    /// The results of a chunk that has come to its end, as soon as there is one: the first, or any. Reads the input
    /// while there is none. Returns false when there will be none any more.
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
        loop {
            let reads = !self.over && self.window.has_room();
            let patience = match (self.window.is_empty(), reads, self.pull_ns > SLOW_NS) {
                (true, false, _) => return false,
                // What is on its way is given before a slow input is asked, for as long as that takes for an item.
                (false, true, true) => Deadline::NEVER.min_ns(now_ns() + self.pull_ns),
                (_, true, _) => Deadline::NEVER.min_ns(0),
                (false, false, _) => Deadline::NEVER,
            };
            if let Some(at) = self.done(in_order, patience) {
                self.collect(at, take);
                return true;
            }
            if reads {
                self.send_some();
            }
        }
    }

    /// The place of a flight that is done, for which this waits until the deadline.
    fn done(&self, in_order: bool, deadline: Deadline) -> Option<usize> {
        let first = self.window.first()?;
        let shared = &self.window.shared;
        let is_done = |chunk: &InFlight| chunk.is_done();
        if !in_order {
            self.window.in_flight().filter_map(InFlight::task).for_each(|task| task.watch());
        }
        // A worker may have to run its first one itself.
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
            // Landing it tells why.
            Err(_) => Some(0),
        }
    }
}
