//! [`Feed`]: a map whose input is read by a separate thread, so that an input that blocks delays no result.
//!
//! ```text
//!   input ──▶ feeder ──▶ batch ──▶ window: chunks in flight ──▶ next()
//!             (thread)                                           (the caller)
//! ```
//!
//! The feeder collects items into a batch. If the input blocks before the batch is full, the caller waits for
//! a moment and then sends the batch itself. So no item has to wait until the input yields the next one.
//!
//! A thread that needs both locks locks `reading` first. The feeder locks `reading` for each item, and
//! `state` twice for each chunk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::batch::Batch;
use super::cells::error::TaskError;
use super::raw_task::RawTask;
use super::shared::Shared;
use super::window::{InFlight, Window};
use super::worker;
use crate::codec::encoding::Message;
use crate::os::clock::{Deadline, now_ns};
use crate::os::threads;
use crate::queue::ring::Refusal;
use crate::queue::waiting;
use crate::sync::raw::event;
use crate::unwind;

/// How long a batch waits for more items. The first value applies while chunks are in flight, the second
/// while none are.
const LINGER_NS: [u64; 2] = [1_000_000, 100_000];
/// While a caller waits for a chunk, it checks at this interval whether a batch waits because the input has
/// blocked.
const LOOK_NS: u64 = 10_000_000;

/// The state that the feeder and the caller share.
pub(super) struct Feed {
    shared: Arc<Shared>,
    in_order: bool,
    reading: Mutex<Reading>,
    state: Mutex<State>,
    /// The feeder waits here for room.
    room: Condvar,
    /// The caller waits here while no chunk is in flight.
    news: Condvar,
}

struct Reading {
    batch: Batch,
    /// How many items the next chunk should have.
    size: usize,
    /// The feeder is inside the input's `next`, and may block there.
    pulling: bool,
    /// The results are no longer needed.
    stop: bool,
}

struct State {
    window: Window,
    /// When the first item of the batch was read; 0 while it is empty.
    since_ns: u64,
    /// Chunks have one item, so no item waits in the batch.
    single: bool,
    /// The input has ended.
    over: bool,
    /// The results are no longer needed.
    stop: bool,
    /// The feeder waits for room.
    full: bool,
    /// The caller waits for news.
    waits: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Feed {
    pub(super) fn new(shared: &Arc<Shared>, window: Window, in_order: bool) -> Arc<Feed> {
        let batch = Batch::default();
        let (over, stop, full, waits) = (false, false, false, false);
        Arc::new(Feed {
            shared: shared.clone(),
            in_order,
            reading: Mutex::new(Reading { batch, size: 1, pulling: false, stop }),
            state: Mutex::new(State { window, since_ns: 0, single: true, over, stop, full, waits }),
            room: Condvar::new(),
            news: Condvar::new(),
        })
    }

    pub(super) fn in_order(&self) -> bool {
        self.in_order
    }

    /// Starts the thread that reads the input.
    pub(super) fn start<T: Message, I>(self: &Arc<Self>, items: I) -> std::io::Result<JoinHandle<()>>
    where
        I: Iterator<Item = T> + Send + 'static,
    {
        self.report();
        let feed = self.clone();
        threads::start("procession-imap", move || feed.read(items))
    }

    fn read<T: Message, I: Iterator<Item = T>>(&self, mut items: I) {
        // The panic hook has reported the panic. The caller resumes the panic, and this thread continues with
        // the next item.
        while let Err(payload) = unwind::catch(|| self.read_on(&mut items)) {
            let mut reading = lock(&self.reading);
            reading.pulling = false;
            self.send(&mut reading, |window| window.panicked(payload.into_inner()));
        }
    }

    /// Reads the input to its end, or until the results are no longer needed. Panics if the input panics.
    fn read_on<T: Message, I: Iterator<Item = T>>(&self, items: &mut I) {
        let mut reading = lock(&self.reading);
        loop {
            if reading.batch.len() == 0 {
                drop(reading);
                let Some(size) = self.wait_for_room(items) else { return };
                reading = lock(&self.reading);
                reading.size = size;
            }
            if reading.stop {
                return;
            }
            reading.pulling = true;
            drop(reading);
            let item = items.next();
            reading = lock(&self.reading);
            reading.pulling = false;
            match item {
                _ if reading.stop => return,
                Some(item) => self.add(&mut reading, &item),
                None => {
                    self.send(&mut reading, |_| ());
                    return self.end();
                }
            }
        }
    }

    #[inline]
    fn add<T: Message>(&self, reading: &mut Reading, item: &T) {
        if let Err(error) = reading.batch.add(item) {
            return self.send(reading, |window| window.refuse(error));
        }
        if reading.batch.is_full(reading.size) {
            self.send(reading, |_| ());
        } else if reading.batch.len() == 1 {
            let mut state = lock(&self.state);
            state.since_ns = now_ns();
            if state.waits {
                self.news.notify_one();
            }
        }
    }

    /// Waits until an item may be read, and returns how many items the next chunk should have. Returns `None`
    /// if the results are no longer needed.
    fn wait_for_room(&self, items: &impl Iterator) -> Option<usize> {
        let mut state = lock(&self.state);
        while !state.stop && !state.window.has_room() {
            state.full = true;
            state = self.room.wait(state).unwrap_or_else(|e| e.into_inner());
            state.full = false;
        }
        let size = state.window.size(items.size_hint());
        state.single = size == 1;
        (!state.stop).then_some(size)
    }

    /// Sends the batch out, calls `more`, and wakes the caller.
    fn send(&self, reading: &mut Reading, more: impl FnOnce(&mut Window)) {
        let mut state = lock(&self.state);
        state.window.send(&mut reading.batch);
        state.since_ns = 0;
        more(&mut state.window);
        if state.waits {
            self.news.notify_one();
        }
        if self.in_order {
            return;
        }
        let Some(last) = state.window.last() else { return };
        if let Some(task) = last.task() {
            task.watch();
        }
        // The chunk may have been done before it was watched. In that case its worker notified nobody, so we
        // notify here.
        if last.is_done() {
            event::notify(&self.shared.control.completed.word, i32::MAX);
        }
    }

    fn end(&self) {
        let mut state = lock(&self.state);
        state.over = true;
        state.window.input_has_ended(0);
        self.news.notify_one();
    }

    /// Waits for the first chunk, or for any chunk if the order does not matter, and collects its results.
    /// Returns false when all results have been collected.
    pub(super) fn next<R: Message>(&self, take: &mut impl FnMut(usize, Result<R, TaskError>)) -> bool {
        let Some(chunk) = self.next_chunk() else { return false };
        let collected = Window::collect(&self.shared, chunk, take);
        lock(&self.state).window.learn(collected);
        true
    }

    /// Calls the progress hook, if there is one and a report is due. Holds no lock during the call.
    fn report(&self) {
        let report = lock(&self.state).window.take_due_report();
        if let Some((mut reporter, counts)) = report {
            reporter.report(counts);
            lock(&self.state).window.reporter = Some(reporter);
        }
    }

    /// Calls the progress hook for the last time.
    pub(super) fn finish_report(&self) {
        let report = lock(&self.state).window.take_report();
        if let Some((reporter, counts)) = report {
            reporter.finish(counts);
        }
    }

    fn next_chunk(&self) -> Option<InFlight> {
        let mut state = lock(&self.state);
        state.window.release_collected();
        let mut usable = true;
        loop {
            if state.window.is_report_due() {
                drop(state);
                self.report();
                state = lock(&self.state);
            }
            let done = if usable { self.done(&state) } else { Some(0) };
            let chunk = done.and_then(|at| state.window.take(at));
            if state.full && state.window.runs_low() {
                self.room.notify_one();
            }
            if chunk.is_some() {
                return chunk;
            }
            let until = self.send_deadline(&state);
            let wake = state.window.report_due_ns().map_or(until, |due_ns| until.min_ns(due_ns));
            if state.since_ns != 0 && until.passed() {
                drop(state);
                self.send(&mut lock(&self.reading), |_| ());
                state = lock(&self.state);
            } else if let Some(first) = state.window.first() {
                let first = first.task().cloned();
                drop(state);
                usable = self.wait(first, wake);
                state = lock(&self.state);
            } else if state.over {
                return None;
            } else {
                state.waits = true;
                let left = wake.as_ns().map_or(u64::MAX, |at| at.saturating_sub(now_ns()));
                let waited = self.news.wait_timeout(state, Duration::from_nanos(left));
                state = waited.unwrap_or_else(|e| e.into_inner()).0;
                state.waits = false;
            }
        }
    }

    /// Returns the place of the chunk whose results are next, if it is done.
    fn done(&self, state: &State) -> Option<usize> {
        let most = if self.in_order { 1 } else { usize::MAX };
        state.window.in_flight().take(most).position(InFlight::is_done)
    }

    /// Returns the time until which the caller waits before it sends the batch.
    fn send_deadline(&self, state: &State) -> Deadline {
        if state.since_ns != 0 {
            let linger = LINGER_NS[usize::from(state.window.is_empty())];
            Deadline::NEVER.min_ns(state.since_ns + linger)
        } else if state.single || state.over || state.window.is_empty() {
            // A caller that waits for news is notified when a batch begins, so it needs no deadline. A caller
            // that waits for a chunk is not notified, so it checks again after `LOOK_NS`.
            Deadline::NEVER
        } else {
            Deadline::NEVER.min_ns(now_ns() + LOOK_NS)
        }
    }

    /// Waits until the first chunk is done, or any chunk if the order does not matter, or until the deadline.
    /// Returns false if waiting is impossible. Collecting the chunk then returns the error.
    fn wait(&self, first: Option<RawTask>, until: Deadline) -> bool {
        let is_worker = worker::is_worker_of(&self.shared);
        if self.in_order || is_worker {
            // A worker of the pool may have to run the chunk itself. It does so only if it waits without a
            // deadline.
            let until = if is_worker { Deadline::NEVER } else { until };
            return first.is_none_or(|task| task.wait(until).is_ok());
        }
        let find = || self.done(&lock(&self.state)).map(drop).ok_or(Refusal::Empty);
        let word = &self.shared.control.completed.word;
        let found = waiting::wait(self.shared.arena, word, until, || 0, || find().is_ok(), find);
        matches!(found, Ok(()) | Err(Refusal::Empty | Refusal::TimedOut))
    }

    /// Stops the work. Returns true if the feeder ends immediately, and false if it ends only after the input
    /// has yielded another item.
    pub(super) fn stop(&self) -> bool {
        self.finish_report();
        let mut reading = lock(&self.reading);
        reading.stop = true;
        let mut state = lock(&self.state);
        state.stop = true;
        state.window.withdraw();
        self.room.notify_one();
        !reading.pulling
    }
}
