//! Ways to be notified that a task is done: callbacks and `Future`s.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::cells::error::TaskError;
use super::raw_task::RawTask;
use super::shared::Shared;
use super::task::Task;
use crate::arena::member;
use crate::arena::thread::with_me;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::os::threads;
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;
use crate::unwind;

/// A function to call when a task is done.
type Callback = Box<dyn FnOnce() + Send>;

/// The callbacks of this process for tasks of a pool, and whether the thread that calls them is running.
#[derive(Default)]
pub(super) struct Watched {
    list: Vec<(RawTask, Callback)>,
    running: bool,
}

/// Adds a callback. A thread of the library calls it when the task is done.
fn call_when_done(task: RawTask, callback: Callback) -> Result<(), TaskError> {
    let shared = task.shared.clone();
    if member::is_forked() {
        return Err(TaskError::unusable(&crate::Error::Forked));
    }
    task.watch();
    let mut watched = shared.watched.lock().unwrap_or_else(|e| e.into_inner());
    watched.list.push((task, callback));
    if watched.running {
        drop(watched);
        event::notify(&shared.control.completed.word, i32::MAX);
        return Ok(());
    }
    let for_thread = shared.clone();
    let started = threads::start("procession-tasks", move || watch(&for_thread));
    watched.running = started.is_ok();
    started.map(drop).map_err(|e| {
        watched.list.pop();
        TaskError::Unusable(format!("starting a thread for callbacks: {e}"))
    })
}

/// Calls the callback of each task when the task is done. Returns when no callbacks are left.
fn watch(shared: &Arc<Shared>) {
    let word = &shared.control.completed.word;
    loop {
        let due = with_me(|me| {
            let announced = Wait::announce_event(shared.arena, me.record(), word);
            let ticket = event::prepare(word);
            let due = take_due(shared);
            if due.as_ref().is_some_and(Vec::is_empty) {
                announced.sleep(word, ticket, Deadline::NEVER);
            }
            due
        });
        match due {
            Ok(None) => return,
            Ok(Some(due)) => due.into_iter().for_each(|(_task, callback)| {
                // If the callback panics, the panic hook reports it, and the other callbacks are still
                // called.
                let _ = unwind::catch(callback);
            }),
            // The arena has no free record for this thread: try again later.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
}

/// Removes the callbacks of tasks that are done, and returns them. Returns `None` if no callbacks are left.
/// The thread then ends.
fn take_due(shared: &Shared) -> Option<Vec<(RawTask, Callback)>> {
    let mut watched = shared.watched.lock().unwrap_or_else(|e| e.into_inner());
    if watched.list.is_empty() {
        watched.running = false;
        return None;
    }
    let all = std::mem::take(&mut watched.list);
    let (due, rest) = all.into_iter().partition(|(task, _)| task.is_done());
    watched.list = rest;
    Some(due)
}

impl<R: Message> Task<R> {
    /// Makes a thread of the library in this process call `f` with the task's result when the task is done.
    /// If the task is done already, the thread calls `f` immediately. The callbacks of one task are called in
    /// the order in which they were added. If one callback panics, the next one is still called.
    ///
    /// # Errors
    /// [`TaskError::Unusable`] if no thread can be started.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let (sender, results) = std::sync::mpsc::channel();
    /// pool.submit(|| 6 * 7, ())?.on_done(move |result| sender.send(result).unwrap())?;
    /// assert_eq!(results.recv().unwrap()?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn on_done(&self, f: impl FnOnce(Result<R, TaskError>) + Send + 'static) -> Result<(), TaskError> {
        let task = self.clone();
        call_when_done(self.raw.clone(), Box::new(move || f(task.try_get())))
    }
}

impl<R: Message> Future for Task<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R, TaskError>> {
        match self.try_get() {
            Err(TaskError::NotDone) => {}
            done => return Poll::Ready(done),
        }
        let me = self.get_mut();
        if me.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        let waker = context.waker().clone();
        me.waker = Some(waker.clone());
        match call_when_done(me.raw.clone(), Box::new(move || waker.wake())) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
