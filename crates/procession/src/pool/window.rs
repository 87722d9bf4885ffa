//! [`Window`]: the chunks of a map that were sent out but whose results were not yet collected.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Add;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::{Batch, MOST_BYTES};
use super::cells::chunk_counts::ChunkCounts;
use super::cells::error::TaskError;
use super::cells::progress::ChunkProgress;
use super::cells::results;
use super::chunk_size::{ChunkSizer, Measured};
use super::job::Job;
use super::raw_task::{RawTask, TaskOptions};
use super::reporter::{Counts, Hook, Reporter};
use super::shared::Shared;
use crate::codec::encoding::Message;
use crate::os::clock::{Deadline, now_ns};

/// The number of chunks in flight for each worker.
const AHEAD: usize = 3;

/// Submits a chunk of the map's job.
type Submit = fn(&Arc<Shared>, u32, crate::Result<u64>, TaskOptions) -> Result<RawTask, TaskError>;

/// The settings of a map.
#[derive(Clone, Debug)]
pub(super) struct MapOptions {
    pub(super) task_options: TaskOptions,
    /// The number of items in a chunk, if the user has set it.
    pub(super) chunk: Option<u32>,
    /// The maximum number of items in flight, if the user has set it.
    pub(super) prefetch: Option<usize>,
    /// The user's progress hook.
    pub(super) hook: Option<Hook>,
}

pub(super) struct Window {
    pub(super) shared: Arc<Shared>,
    submit: Submit,
    options: MapOptions,
    /// The position of the next item to send out.
    next: usize,
    /// The number of items in flight. Includes `collected`.
    ahead: usize,
    /// The number of items in chunks that were taken out but still count as in flight.
    collected: usize,
    in_flight: VecDeque<InFlight>,
    sizer: ChunkSizer,
    item_bytes: usize,
    /// The size of a result in bytes, at least 1. Exact for results that are stored as adjacent numbers, and
    /// an estimate for all others.
    result_bytes: usize,
    /// The counts of the chunks whose results were collected.
    collected_counts: Counts,
    /// Calls the progress hook, if the user has set one.
    pub(super) reporter: Option<Reporter>,
}

/// The counts and the measured time of a chunk whose results were collected.
pub(super) struct Collected {
    measured: Measured,
    counts: Counts,
}

/// A chunk in flight, or the error or panic that takes the place of a chunk.
pub(super) struct InFlight {
    first: usize,
    count: usize,
    content: Content,
}

enum Content {
    Submitted(RawTask),
    /// These items could not be sent out.
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

    fn counts(&self) -> Counts {
        match &self.content {
            Content::Submitted(task) => ChunkCounts::of(task.cell_ref.cell).into(),
            Content::Refused(_) => Counts::refused(self.count),
            Content::Panicked(_) => Counts::default(),
        }
    }
}

impl Window {
    /// `left` is the size hint of the input.
    pub(super) fn new<J: Job<T>, T: Message>(
        shared: &Arc<Shared>,
        options: MapOptions,
        left: (usize, Option<usize>),
    ) -> Window {
        Window {
            collected_counts: Counts::default(),
            reporter: options.hook.clone().map(|hook| Reporter::new(hook, left)),
            shared: shared.clone(),
            submit: RawTask::chunk::<J, T>,
            options,
            next: 0,
            ahead: 0,
            collected: 0,
            in_flight: VecDeque::new(),
            sizer: ChunkSizer::default(),
            item_bytes: size_of::<T>(),
            result_bytes: size_of::<J::Out>().max(1),
        }
    }

    /// Notes that the map is itself a task of the pool, so the pool accepts the map's chunks even if it is
    /// closed.
    pub(super) fn belongs_to_a_task(&mut self) {
        self.options.task_options.late = true;
    }

    /// Notes that the input has ended, and that `unsent` of its items were not sent out yet.
    pub(super) fn input_has_ended(&mut self, unsent: usize) {
        if let Some(reporter) = &mut self.reporter {
            reporter.total = Some(self.next + unsent);
        }
    }

    fn counts(&self) -> Counts {
        self.in_flight.iter().map(InFlight::counts).fold(self.collected_counts, Counts::add)
    }

    /// Returns when the progress should be reported next, if there is a progress hook.
    pub(super) fn report_due_ns(&self) -> Option<u64> {
        self.reporter.as_ref().map(Reporter::due_ns)
    }

    /// Reports whether there is a progress hook, and a report is due.
    #[inline]
    pub(super) fn is_report_due(&self) -> bool {
        self.report_due_ns().is_some_and(|due_ns| now_ns() >= due_ns)
    }

    /// Takes the reporter out, with the counts to report, if a report is due.
    #[inline]
    pub(super) fn take_due_report(&mut self) -> Option<(Reporter, Counts)> {
        if self.is_report_due() { self.take_report() } else { None }
    }

    /// Takes the reporter out, with the counts to report.
    pub(super) fn take_report(&mut self) -> Option<(Reporter, Counts)> {
        let counts = self.reporter.as_ref().map(|_| self.counts())?;
        Some((self.reporter.take()?, counts))
    }

    /// Calls the progress hook, if there is one and a report is due.
    #[inline]
    pub(super) fn report(&mut self) {
        if let Some((mut reporter, counts)) = self.take_due_report() {
            reporter.report(counts);
            self.reporter = Some(reporter);
        }
    }

    /// Calls the progress hook for the last time.
    pub(super) fn finish_report(&mut self) {
        if let Some((reporter, counts)) = self.take_report() {
            reporter.finish(counts);
        }
    }

    fn workers(&self) -> usize {
        self.shared.control.wanted.load(Ordering::Relaxed).max(1) as usize
    }

    /// Reports whether another chunk may be sent out.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() <= AHEAD * self.workers()
            && self.options.prefetch.is_none_or(|most| self.ahead < most)
    }

    /// Reports whether so few chunks are in flight that more of the input should be read now.
    pub(super) fn runs_low(&self) -> bool {
        self.options.prefetch.is_some() || self.in_flight.len() <= (AHEAD * self.workers()).div_ceil(2)
    }

    /// Returns how many items the next chunk should have. `left` is the input's size hint.
    pub(super) fn size(&self, left: (usize, Option<usize>)) -> usize {
        let room = self.options.prefetch.map_or(usize::MAX, |most| most.saturating_sub(self.ahead)).max(1);
        let max_tasks = self.shared.control.max_tasks.load(Ordering::Relaxed);
        match self.options.chunk {
            Some(chunk) if max_tasks == 0 => return (chunk as usize).min(room),
            // No chunk has more items than a worker may finish before it has to leave.
            Some(chunk) => return (chunk.min(max_tasks) as usize).min(room),
            None if max_tasks != 0 => return 1,
            None => {}
        }
        // The last chunks are small, so that all workers finish at about the same time.
        let fair = (left.0.max(1) / (2 * self.workers())).max(1);
        let bytes = MOST_BYTES / self.result_bytes.max(self.item_bytes).max(1);
        let size = self.sizer.size().min(bytes.max(1)).min(room);
        if left.1.is_some() { size.min(fair) } else { size }
    }

    /// Sends a batch out as a chunk, and empties it.
    pub(super) fn send(&mut self, batch: &mut Batch) {
        let Batch { items, count } = std::mem::take(batch);
        if count > 0 {
            let options = self.options.task_options;
            let task = (self.submit)(&self.shared, count as u32, items.pack(), options);
            self.push(count, task.map_or_else(Content::Refused, Content::Submitted));
        }
    }

    /// Adds an item that cannot be sent out.
    pub(super) fn refuse(&mut self, error: TaskError) {
        self.push(1, Content::Refused(error));
    }

    /// Adds the place at which the input panicked.
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

    /// Takes out the chunk at this place. The chunk's items count as in flight until
    /// [`release_collected`](Window::release_collected).
    pub(super) fn take(&mut self, at: usize) -> Option<InFlight> {
        let chunk = self.in_flight.remove(at)?;
        self.collected += chunk.count;
        Some(chunk)
    }

    /// Notes that the results of the chunks that were taken out have been used.
    pub(super) fn release_collected(&mut self) {
        self.ahead -= std::mem::take(&mut self.collected);
    }

    /// Waits for a chunk, and calls `take` with each result and its position. If the input panicked at this
    /// place, resumes the panic.
    pub(super) fn collect<R: Message>(
        shared: &Shared,
        chunk: InFlight,
        take: &mut impl FnMut(usize, Result<R, TaskError>),
    ) -> Collected {
        let (mut at, end) = (chunk.first, chunk.first + chunk.count);
        let mut counts = Counts::refused(chunk.count);
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
                counts = ChunkCounts::of(cell).into();
                results::read(shared.arena, cell, &mut |result| {
                    if at < end {
                        take(at, result);
                        at += 1;
                    }
                });
                if cell.timeout_us.load(Ordering::Relaxed) == 0 {
                    let items = ChunkProgress::read(cell.progress.load(Ordering::Relaxed)).items;
                    measured = Measured(Some((items, cell.clock_ns.load(Ordering::Relaxed))));
                }
                task.error().unwrap_or(TaskError::Cancelled)
            }
        };
        (at..end).for_each(|at| take(at, Err(rest.clone())));
        Collected { measured, counts }
    }

    /// Adds the counts of a chunk that was collected, and adjusts the size of later chunks to its measured time.
    pub(super) fn learn(&mut self, Collected { measured, counts }: Collected) {
        self.collected_counts = self.collected_counts + counts;
        self.sizer.learn(measured);
    }

    /// Withdraws all chunks in flight, the last one first.
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
        self.finish_report();
        self.withdraw();
    }
}
