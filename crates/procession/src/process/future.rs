//! [`Process`] as a [`Future`]: a thread of this process waits for the end of each process that is awaited.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
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

/// The processes that futures of this process wait for.
struct Awaited {
    list: Vec<Entry>,
    /// The process id of the process in which the thread runs; 0 if there is none. A fork of this process has the
    /// list and not the thread.
    thread_of: i32,
}

/// A process, and the future that is woken when it has ended.
struct Entry {
    registration: Registration,
    handle: Handle,
    waker: Waker,
}

/// Names one entry of the list.
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
        // It may have ended before the list had it.
        me.try_join().transpose().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Lists the process with the waker, in the place of the future's earlier waker, and starts the thread if there is
/// none.
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

/// Removes the entry of a future that is dropped.
pub(super) fn unregister(registration: Registration) {
    let removed = {
        let mut awaited = awaited();
        let at = awaited.list.iter().position(|entry| entry.registration == registration);
        at.map(|at| awaited.list.swap_remove(at))
    };
    drop(removed);
}

/// Wakes the futures of processes that have ended, until none is listed.
fn watch() {
    while let Ok(arena) = member::arena() {
        match with_me(|me| {
            let ended = &arena.header().ended;
            // Recovery counts here after it has said that a process is done.
            // ORDERING: SeqCst, before the look: if a process ends after it, the sleep is refused.
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
                // A panic of one waker keeps no other future from being woken.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }),
            // The table of threads is full.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
}

/// Removes and returns the entries whose processes have ended; `None` if the list was empty, and then the thread ends.
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
