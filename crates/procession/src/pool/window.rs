//! The chunks of a map that are on their way, how large the next one should be, and how results come back.

use std::any::Any;
use std::collections::VecDeque;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cells::cell::Filled;
use super::cells::error::TaskError;
use super::cells::results::{self, Packed};
use super::job::Job;
use super::raw_task::{RawTask, TaskOptions};
use super::shared::Shared;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

/// A chunk should take about this long: what it costs to hand it over is lost in that, and no worker waits long
/// for the last one.
const TARGET_NS: f64 = 400_000.0;
/// The most bytes of a chunk, so that its blocks are used again and again.
const MOST_BYTES: usize = 32_000;
const _: () =
    assert!(MOST_BYTES < Filled::MOST_ITEMS as usize, "each item has a byte, so a chunk's are counted");
/// How much larger a chunk may be than those that were measured.
const GROWTH: u32 = 8;
/// This many chunks for each worker are on their way.
const AHEAD: usize = 3;

/// How a chunk of this job is submitted.
type Submit = fn(&Arc<Shared>, u32, crate::Result<u64>, TaskOptions) -> Result<RawTask, TaskError>;

/// How a map is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapOptions {
    pub(super) task_options: TaskOptions,
    /// Items of a chunk, if that was said.
    pub(super) chunk: Option<u32>,
    /// The most items on their way, if that was said.
    pub(super) prefetch: Option<usize>,
}

/// See the module.
pub(super) struct Window {
    pub(super) shared: Arc<Shared>,
    submit: Submit,
    options: MapOptions,
    /// The position of the next item that goes out.
    next: usize,
    /// Items that are on their way, and those of them that have been taken out.
    ahead: usize,
    collected: usize,
    in_flight: VecDeque<InFlight>,
    sizer: Sizer,
    item_bytes: usize,
    /// The size of a result side by side with others, or a guess.
    result_bytes: usize,
}

/// Items that were read and are not on their way yet: the input may panic behind them.
#[derive(Default)]
pub(super) struct Batch {
    packed: Packed,
    count: usize,
}

impl Batch {
    /// Adds an item; an error when it cannot be sent.
    #[inline]
    pub(super) fn add<T: Message>(&mut self, item: &T) -> Result<(), TaskError> {
        self.packed.push(item).map_err(|error| TaskError::Undecodable(error.to_string()))?;
        self.count += 1;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether it is to go out as a chunk of `size` items.
    #[inline]
    pub(super) fn is_full(&self, size: usize) -> bool {
        self.count >= size || self.packed.len() >= MOST_BYTES
    }
}

/// A chunk that is on its way, or what stands in its place.
pub(super) struct InFlight {
    first: usize,
    count: usize,
    content: Content,
}

enum Content {
    Submitted(RawTask),
    Refused(TaskError),
    /// The input panicked here.
    Panicked(Box<dyn Any + Send>),
}

impl InFlight {
    pub(super) fn is_done(&self) -> bool {
        self.task().is_none_or(RawTask::is_done)
    }

    pub(super) fn task(&self) -> Option<&RawTask> {
        if let Content::Submitted(task) = &self.content { Some(task) } else { None }
    }
}

/// How long the items of a chunk took.
pub(super) struct Measured(Option<(u32, u64)>);

impl Window {
    pub(super) fn new<J: Job<T>, T: Message>(shared: &Arc<Shared>, options: MapOptions) -> Window {
        Window {
            shared: shared.clone(),
            submit: RawTask::chunk::<J, T>,
            options,
            next: 0,
            ahead: 0,
            collected: 0,
            in_flight: VecDeque::new(),
            sizer: Sizer::default(),
            item_bytes: size_of::<T>(),
            result_bytes: size_of::<J::Out>().max(1),
        }
    }

    /// It is part of a task that the pool has already, so it goes on when the pool is closed.
    pub(super) fn belongs_to_a_task(&mut self) {
        self.options.task_options.late = true;
    }

    /// How many items have gone out.
    pub(super) fn sent(&self) -> usize {
        self.next
    }

    fn workers(&self) -> usize {
        self.shared.control.wanted.load(Ordering::Relaxed).max(1) as usize
    }

    /// Whether another chunk may go out.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() <= AHEAD * self.workers()
            && self.options.prefetch.is_none_or(|most| self.ahead < most)
    }

    /// Whether so few chunks are on their way that whoever reads the input should go on.
    pub(super) fn runs_low(&self) -> bool {
        self.options.prefetch.is_some() || self.in_flight.len() <= (AHEAD * self.workers()).div_ceil(2)
    }

    /// How many items the next chunk should have, by what is left of the input.
    pub(super) fn size(&self, left: (usize, Option<usize>)) -> usize {
        let room = self.options.prefetch.map_or(usize::MAX, |most| most.saturating_sub(self.ahead)).max(1);
        if let Some(chunk) = self.options.chunk {
            return (chunk as usize).min(room);
        }
        if self.shared.control.max_tasks.load(Ordering::Relaxed) != 0 {
            return 1;
        }
        // The last ones are small, so that all workers end together.
        let fair = (left.0.max(1) / (2 * self.workers())).max(1);
        let bytes = MOST_BYTES / self.result_bytes.max(self.item_bytes).max(1);
        let size = self.sizer.size().min(bytes.max(1)).min(room);
        if left.1.is_some() { size.min(fair) } else { size }
    }

    /// Sends out what was gathered, which is empty then.
    pub(super) fn send(&mut self, batch: &mut Batch) {
        let Batch { packed, count } = std::mem::take(batch);
        if count > 0 {
            let task = (self.submit)(&self.shared, count as u32, packed.pack(), self.options.task_options);
            self.push(count, task.map_or_else(Content::Refused, Content::Submitted));
        }
    }

    /// An item that will not be done.
    pub(super) fn refuse(&mut self, error: TaskError) {
        self.push(1, Content::Refused(error));
    }

    /// The input panicked behind what has gone out.
    pub(super) fn panicked(&mut self, payload: Box<dyn Any + Send>) {
        self.push(0, Content::Panicked(payload));
    }

    fn push(&mut self, count: usize, content: Content) {
        self.in_flight.push_back(InFlight { first: self.next, count, content });
        self.next += count;
        self.ahead += count;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(super) fn first(&self) -> Option<&InFlight> {
        self.in_flight.front()
    }

    pub(super) fn last(&self) -> Option<&InFlight> {
        self.in_flight.back()
    }

    pub(super) fn in_flight(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter()
    }

    /// Takes the flight at this place out. Its items count as on their way until [`settle`](Window::settle).
    pub(super) fn take(&mut self, at: usize) -> Option<InFlight> {
        let chunk = self.in_flight.remove(at)?;
        self.collected += chunk.count;
        Some(chunk)
    }

    /// The results of what was taken out have been given.
    pub(super) fn release_collected(&mut self) {
        self.ahead -= std::mem::take(&mut self.collected);
    }

    /// Waits for a flight, and gives its results, each with its position. Panics where the input did.
    pub(super) fn collect<R: Message>(
        shared: &Shared,
        chunk: InFlight,
        take: &mut impl FnMut(usize, Result<R, TaskError>),
    ) -> Measured {
        let (mut at, end) = (chunk.first, chunk.first + chunk.count);
        let mut measured = Measured(None);
        let waited = match chunk.content {
            Content::Panicked(payload) => panic::resume_unwind(payload),
            Content::Refused(error) => Err(error),
            Content::Submitted(task) => task.wait(Deadline::NEVER).map(|_| task),
        };
        let rest = match waited {
            Err(error) => error,
            Ok(task) => {
                let cell = task.cell_ref.cell;
                results::read(shared.arena, cell, &mut |result| {
                    if at < end {
                        take(at, result);
                        at += 1;
                    }
                });
                if cell.timeout_us.load(Ordering::Relaxed) == 0 {
                    let items = Filled::read(cell.filled.load(Ordering::Relaxed)).items;
                    measured = Measured(Some((items, cell.clock_ns.load(Ordering::Relaxed))));
                }
                task.error().unwrap_or(TaskError::Cancelled)
            }
        };
        (at..end).for_each(|at| take(at, Err(rest.clone())));
        measured
    }

    /// Has later chunks be as large as this one says.
    pub(super) fn learn(&mut self, Measured(measured): Measured) {
        if let Some((items, took_ns)) = measured {
            self.sizer.learn(items, took_ns);
        }
    }

    /// Nobody wants what is still on its way.
    pub(super) fn withdraw(&mut self) {
        for chunk in self.in_flight.drain(..).rev() {
            if let Some(task) = chunk.task() {
                task.withdraw();
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.withdraw();
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
