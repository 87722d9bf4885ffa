//! A map on its way: items go out in chunks, results come back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cells::cell::Filled;
use super::cells::error::TaskError;
use super::cells::results::{self, Packed};
use super::job::Job;
use super::raw_task::{RawTask, TaskOptions};
use super::shared::Core;
use crate::arena::member;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::queue::ring::Refusal;
use crate::queue::waiting;

/// A chunk should take about so long: what it costs to hand it over is lost in that, and no worker waits long
/// for the last one.
const TARGET_NS: f64 = 400_000.0;
/// And have at most so many bytes, so that its blocks are used again and again.
const MOST_BYTES: usize = 32_000;
const _: () =
    assert!(MOST_BYTES < Filled::MOST_ITEMS as usize, "each item has a byte, so a chunk's are counted");
/// How much larger a chunk may be than those that were measured.
const GROWTH: u32 = 8;
/// So many chunks for each worker are on their way.
const AHEAD: usize = 3;

/// How a chunk of this job is submitted.
type Submit = fn(&Arc<Core>, u32, crate::Result<u64>, TaskOptions) -> Result<RawTask, TaskError>;

/// How a map is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapOptions {
    pub(super) terms: TaskOptions,
    /// Items of a chunk, if that was said.
    pub(super) chunk: Option<u32>,
    /// The most items on their way, if that was said.
    pub(super) prefetch: Option<usize>,
}

/// See the module.
pub(super) struct ChunkStream<I: Iterator> {
    core: Arc<Core>,
    items: I,
    over: bool,
    submit: Submit,
    manner: MapOptions,
    /// The position of the next item that goes out.
    next: usize,
    ahead: usize,
    flights: VecDeque<InFlight>,
    /// Items that were read and are not on their way: the input may panic behind them.
    packed: Packed,
    count: usize,
    sizer: Sizer,
    /// The size of a result side by side with others, or a guess.
    result_bytes: usize,
}

/// A chunk that is on its way.
struct InFlight {
    first: usize,
    count: u32,
    ticket: Result<RawTask, TaskError>,
}

impl<T: Message, I: Iterator<Item = T>> ChunkStream<I> {
    pub(super) fn new<J: Job<T>>(core: &Arc<Core>, items: I, manner: MapOptions) -> ChunkStream<I> {
        ChunkStream {
            core: core.clone(),
            items,
            over: false,
            submit: RawTask::chunk::<J, T>,
            manner,
            next: 0,
            ahead: 0,
            flights: VecDeque::new(),
            packed: Packed::new(),
            count: 0,
            sizer: Sizer::default(),
            result_bytes: size_of::<J::Out>().max(1),
        }
    }

    /// It is part of a task that the pool has already, so it goes on when the pool is closed.
    pub(super) fn belongs_to_a_task(&mut self) {
        self.manner.terms.late = true;
    }

    /// How many items it has in all, if the input says so.
    pub(super) fn total(&self) -> Option<usize> {
        match self.items.size_hint() {
            (least, Some(most)) if least == most => Some(self.next + self.count + least),
            _ => None,
        }
    }

    fn workers(&self) -> usize {
        self.core.control.wanted.load(Ordering::Relaxed).max(1) as usize
    }

    /// How many items the next chunk should have.
    fn size(&self) -> usize {
        let room = self.manner.prefetch.map_or(usize::MAX, |most| most.saturating_sub(self.ahead));
        if let Some(chunk) = self.manner.chunk {
            return (chunk as usize).min(room.max(1));
        }
        if self.core.control.max_tasks.load(Ordering::Relaxed) != 0 {
            return 1;
        }
        let least_left = self.items.size_hint().0.max(1);
        // The last ones are small, so that all workers end together.
        let fair = (least_left / (2 * self.workers())).max(1);
        let known = self.items.size_hint().1.is_some();
        let bytes = MOST_BYTES / self.result_bytes.max(size_of::<T>()).max(1);
        let size = self.sizer.size().min(bytes.max(1)).min(room);
        if known { size.min(fair) } else { size }
    }

    /// Sends items out until there are enough on their way. Panics if the input does.
    pub(super) fn refill(&mut self) {
        if member::is_forked() {
            return self.refuse_one();
        }
        let most = AHEAD * self.workers() + 1;
        while !self.over && self.flights.len() < most {
            if self.manner.prefetch.is_some_and(|most| self.ahead >= most) {
                return;
            }
            self.send_one();
        }
    }

    /// In a plain fork of a member of the family nothing can be done with an item.
    fn refuse_one(&mut self) {
        if self.flights.is_empty() && !self.over {
            match self.items.next() {
                Some(_) => self.launch(1, Err(TaskError::unusable(&crate::Error::Forked))),
                None => self.over = true,
            }
        }
    }

    fn send_one(&mut self) {
        let (size, mut misfit) = (self.size().max(1), None);
        while self.count < size && self.packed.len() < MOST_BYTES {
            let Some(item) = self.items.next() else {
                self.over = true;
                break;
            };
            if let Err(error) = self.packed.push(&item) {
                misfit = Some(TaskError::Undecodable(error.to_string()));
                break;
            }
            self.count += 1;
        }
        let (packed, count) =
            (std::mem::replace(&mut self.packed, Packed::new()), std::mem::take(&mut self.count));
        if count > 0 {
            let ticket = (self.submit)(&self.core, count as u32, packed.pack(), self.manner.terms);
            self.launch(count, ticket);
        }
        if let Some(error) = misfit {
            self.launch(1, Err(error));
        }
    }

    fn launch(&mut self, count: usize, ticket: Result<RawTask, TaskError>) {
        self.flights.push_back(InFlight { first: self.next, count: count as u32, ticket });
        self.next += count;
        self.ahead += count;
    }

    pub(super) fn is_over(&self) -> bool {
        self.over && self.flights.is_empty()
    }

    /// Whether the first chunk that is on its way has come to its end.
    #[cfg(feature = "internals")]
    pub(super) fn first_is_done(&self) -> bool {
        self.flights.front().is_some_and(|flight| flight.ticket.as_ref().map_or(true, RawTask::is_done))
    }

    /// Waits for the first chunk that is on its way, and gives its results, each with its position.
    pub(super) fn land_first<R: Message>(&mut self, take: &mut impl FnMut(usize, Result<R, TaskError>)) {
        if let Some(flight) = self.flights.pop_front() {
            self.land(flight, take);
        }
    }

    /// Waits for any chunk that is on its way.
    pub(super) fn land_any<R: Message>(&mut self, take: &mut impl FnMut(usize, Result<R, TaskError>)) {
        if member::is_forked() {
            return self.land_first(take);
        }
        let is_done = |flight: &InFlight| flight.ticket.as_ref().map_or(true, RawTask::is_done);
        self.flights.iter().filter_map(|flight| flight.ticket.as_ref().ok()).for_each(RawTask::watch);
        if super::worker::works_for(&self.core) && !self.flights.iter().any(is_done) {
            // The first one may be ours to run.
            return self.land_first(take);
        }
        let find = || self.flights.iter().position(is_done).ok_or(Refusal::Empty);
        let word = &self.core.control.completed.word;
        let found =
            waiting::wait(self.core.arena, word, Deadline::NEVER, || 0, || find().is_ok(), find).unwrap_or(0);
        if let Some(flight) = self.flights.remove(found) {
            self.land(flight, take);
        }
    }

    fn land<R: Message>(&mut self, flight: InFlight, take: &mut impl FnMut(usize, Result<R, TaskError>)) {
        self.ahead -= flight.count as usize;
        let (mut at, end) = (flight.first, flight.first + flight.count as usize);
        let waited = flight.ticket.and_then(|ticket| ticket.wait(Deadline::NEVER).map(|_| ticket));
        let rest = match waited {
            Err(error) => error,
            Ok(ticket) => {
                let cell = ticket.seat.cell;
                results::read(self.core.arena, cell, &mut |result| {
                    if at < end {
                        take(at, result);
                        at += 1;
                    }
                });
                if self.manner.terms.timeout_us == 0 {
                    let items = Filled::read(cell.filled.load(Ordering::Relaxed)).items;
                    self.sizer.learn(items, cell.clock_ns.load(Ordering::Relaxed));
                }
                ticket.error().unwrap_or(TaskError::Cancelled)
            }
        };
        (at..end).for_each(|at| take(at, Err(rest.clone())));
    }
}

impl<I: Iterator> Drop for ChunkStream<I> {
    /// Nobody wants what is still on its way.
    fn drop(&mut self) {
        for flight in self.flights.drain(..).rev() {
            if let Ok(ticket) = flight.ticket {
                ticket.forgo();
            }
        }
    }
}

/// Finds out how many items a chunk should have.
#[derive(Default)]
struct Sizer {
    ns_an_item: f64,
    largest: u32,
}

impl Sizer {
    fn learn(&mut self, items: u32, took_ns: u64) {
        if items == 0 {
            return;
        }
        let now = (took_ns.max(1) as f64) / f64::from(items);
        let weight = if self.largest < items { 0.7 } else { 0.3 };
        self.ns_an_item =
            if self.largest == 0 { now } else { (1.0 - weight) * self.ns_an_item + weight * now };
        self.largest = self.largest.max(items);
    }

    fn size(&self) -> usize {
        if self.largest == 0 {
            return 1;
        }
        let ideal = (TARGET_NS / self.ns_an_item).max(1.0) as usize;
        ideal.min(self.largest as usize * GROWTH as usize)
    }
}
