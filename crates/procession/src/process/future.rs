//! [`Process`] as a [`Future`]: one thread of this process waits for the ends of all awaited processes.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::failure::{Failure, ProcessError};
use super::process::Process;
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::process_body::ProcessBody;
use crate::arena::thread::with_me;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::os::{process, threads};
use crate::sync::raw::park::Wait;
use crate::unwind;

/// The processes that futures of this process wait for.
struct Awaited {
    list: Vec<Entry>,
    /// The process id of the process in which the thread runs; 0 if there is no thread. A fork of this
    /// process inherits the list, but not the thread.
    thread_of: i32,
}

/// A process, and the waker of the future that waits for it.
struct Entry {
    registration: Registration,
    handle: Handle,
    waker: Waker,
}

/// Identifies one entry of the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Registration(u64);

static AWAITED: Mutex<Awaited> = Mutex::new(Awaited { list: Vec::new(), thread_of: 0 });

fn awaited() -> MutexGuard<'static, Awaited> {
    AWAITED.lock().unwrap_or_else(|e| e.into_inner())
}

impl<R: Message> Future for Process<R> {
    type Output = Result<R, ProcessError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R, ProcessError>> {
        let me = self.get_mut();
        if let Some(ended) = me.try_join().transpose() {
            return Poll::Ready(ended);
        }
        if let Err(error) = register(&mut me.registration, &me.handle, context.waker()) {
            let failure = Failure::Unknown { why: format!("starting a thread that waits for it: {error}") };
            return Poll::Ready(Err(ProcessError::new(me.name(), me.pid(), failure)));
        }
        // The process may have ended before it was listed.
        me.try_join().transpose().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Lists the process with the waker. If the future is already listed, replaces its waker. Starts the thread
/// if there is none.
fn register(registration: &mut Option<Registration>, handle: &Handle, waker: &Waker) -> std::io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut awaited = awaited();
    match awaited.list.iter_mut().find(|entry| Some(entry.registration) == *registration) {
        Some(entry) => entry.waker.clone_from(waker),
        None => {
            let new = Registration(NEXT.fetch_add(1, Ordering::Relaxed));
            *registration = Some(new);
            awaited.list.push(Entry { registration: new, handle: handle.clone(), waker: waker.clone() });
        }
    }
    if awaited.thread_of != process::pid() {
        threads::start("procession-await", watch)?;
        awaited.thread_of = process::pid();
    }
    Ok(())
}

/// Removes the entry of a future that is being dropped.
pub(super) fn unregister(registration: Registration) {
    let removed = {
        let mut awaited = awaited();
        let at = awaited.list.iter().position(|entry| entry.registration == registration);
        at.map(|at| awaited.list.swap_remove(at))
    };
    drop(removed);
}

/// Wakes the futures of processes that have ended. Returns when no process is listed.
fn watch() {
    while let Ok(arena) = member::arena() {
        match with_me(|me| {
            let ended = &arena.header().ended;
            // Recovery increments this word after it has marked a process as done.
            // ORDERING: SeqCst, before the look at the processes. If a process ends after the look, the sleep
            // is refused.
            let seen = ended.load(Ordering::SeqCst);
            let wait = Wait::announce(arena, me.record(), ended);
            let due = take_due();
            if due.as_ref().is_some_and(Vec::is_empty) {
                wait.sleep(ended, seen, Deadline::NEVER);
            }
            due
        }) {
            Ok(None) => return,
            Ok(Some(due)) => due.into_iter().for_each(|Entry { handle, waker, .. }| {
                drop(handle);
                // If one waker panics, the other futures are still woken.
                let _ = unwind::catch(|| waker.wake());
            }),
            // The table of threads is full: try again later.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
}

/// Removes and returns the entries whose processes have ended. Returns `None` if the list was empty. The
/// thread then ends.
fn take_due() -> Option<Vec<Entry>> {
    let mut awaited = awaited();
    if awaited.list.is_empty() {
        awaited.thread_of = 0;
        return None;
    }
    let has_ended = |entry: &Entry| entry.handle.body::<ProcessBody>().is_done();
    let (due, rest) = std::mem::take(&mut awaited.list).into_iter().partition(has_ended);
    awaited.list = rest;
    Some(due)
}
