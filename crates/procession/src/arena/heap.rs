//! Allocates blocks for this process. They come from the spans of a [`Heap`].
//!
#![allow(unsafe_code)] // The heap of the home thread takes no lock.

use std::cell::{Cell, UnsafeCell};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::heap_spans::Heap;
use super::layout::SPAN;
use super::{Arena, collect, member, thread, usage};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;
use crate::{Error, Result};

/// The heap of the thread that has the process's home record. It needs no lock, because no other thread uses it.
struct Home {
    heap: UnsafeCell<Option<Heap>>,
    /// Set while the thread uses the heap. A panic hook may run in the middle of an allocation.
    busy: Cell<bool>,
}

// SAFETY: only the thread with the home record uses the heap. The record passes to another thread by a swap
// that orders both (`thread.rs`).
unsafe impl Sync for Home {}

static HOME: Home = Home { heap: UnsafeCell::new(None), busy: Cell::new(false) };

/// The heap that all other threads share.
static OTHERS: Mutex<Option<Heap>> = Mutex::new(None);

/// Exists while the home thread uses its heap.
struct Busy;

impl Drop for Busy {
    #[inline]
    fn drop(&mut self) {
        HOME.busy.set(false);
    }
}

/// Calls `f` with the home thread's heap, if the calling thread is the home thread and does not use the heap
/// already.
#[inline]
fn with_home_heap<R>(f: impl FnOnce(&mut Heap) -> R) -> Option<R> {
    if !thread::is_home() || HOME.busy.replace(true) {
        return None;
    }
    let _busy = Busy;
    // SAFETY: this is the home thread and `busy` was not set, so there is no other reference.
    Some(f(unsafe { &mut *HOME.heap.get() }.get_or_insert_default()))
}

/// Forgets the heaps that this process inherited in a fork. A process that was just forked has one thread.
pub(crate) fn forget() {
    HOME.busy.set(false);
    // SAFETY: a process that was just forked has one thread, and `with_home_heap` does not call this.
    unsafe { *HOME.heap.get() = None };
    *OTHERS.lock().unwrap_or_else(|e| e.into_inner()) = None;
}

/// How long an allocation waits for memory when the arena is full. If a process has just died, its memory
/// becomes free when the supervisor has recovered the process.
const MAX_WAIT_NS: u64 = 1_000_000_000;

/// Allocates a block of process `slot`, with room for `bytes` bytes after its header. Waits up to a second
/// for memory, and not beyond `deadline`.
#[inline]
pub(crate) fn allocate_until(arena: &Arena, slot: u32, bytes: u64, deadline: Deadline) -> Result<u64> {
    match find(arena, slot, bytes) {
        Some(at) => Ok(at),
        None => allocate_waiting(arena, slot, bytes, deadline),
    }
}

#[cold]
fn allocate_waiting(arena: &Arena, slot: u32, bytes: u64, deadline: Deadline) -> Result<u64> {
    let cannot_fit = bytes > u64::from(arena.layout.spans) * SPAN;
    let until = deadline.min_ns(now_ns() + MAX_WAIT_NS);
    let mut collected = false;
    loop {
        let ended = arena.header().ended.load(Ordering::Acquire);
        if let Some(at) = find(arena, slot, bytes) {
            return Ok(at);
        }
        if !collected && collect::alone_if_wanted(arena) {
            collected = true;
            continue;
        }
        if cannot_fit || until.passed() || arena.header().supervisor_pid.load(Ordering::Relaxed) == 0 {
            return Err(full(arena, bytes));
        }
        member::wake_supervisor(arena);
        futex::wait(&arena.header().ended, ended, until);
    }
}

/// As [`allocate_until`], but does not wait for memory to become free.
pub(crate) fn allocate_now(arena: &Arena, slot: u32, bytes: u64) -> Result<u64> {
    find(arena, slot, bytes).ok_or_else(|| no_room(bytes))
}

/// As [`allocate_until`], but does not wait for memory, and waits only a moment for another thread. May return
/// `None` if the calling thread is in the middle of an allocation. A panic hook may be called in that state.
pub(crate) fn try_allocate(arena: &Arena, slot: u32, bytes: u64) -> Option<u64> {
    if let Some(done) = with_home_heap(|heap| heap.find(arena, slot, bytes)) {
        return done;
    }
    // Another thread may be allocating. If this thread itself is in the middle of an allocation, it never
    // gets the lock. So the loop has a limit.
    let until = Deadline::after(Duration::from_millis(10));
    loop {
        match OTHERS.try_lock() {
            Ok(mut heap) => return heap.get_or_insert_default().find(arena, slot, bytes),
            Err(_) if until.passed() => return None,
            Err(_) => std::thread::yield_now(),
        }
    }
}

// Returns no `Result`, because moving an error from one `Result` into another takes longer than finding a
// block.
#[inline(always)]
fn find(arena: &Arena, slot: u32, bytes: u64) -> Option<u64> {
    if let Some(found) = with_home_heap(|heap| heap.find(arena, slot, bytes)) {
        return found;
    }
    let mut others = OTHERS.lock().unwrap_or_else(|e| e.into_inner());
    others.get_or_insert_default().find(arena, slot, bytes)
}

/// Returns the error of [`allocate_now`]. The callers of `allocate_now` try something else, or call
/// [`allocate_until`], whose error names the holders.
fn no_room(bytes: u64) -> Error {
    Error::Full(format!("the family's shared memory has no room for {bytes} bytes"))
}

#[cold]
fn full(arena: &Arena, bytes: u64) -> Error {
    Error::Full(why_full(arena, &format!("{bytes} bytes")))
}

/// As [`why_full`], for the arena of this process.
#[cold]
pub(crate) fn why_no_room(what: &str) -> String {
    member::mapped().map_or_else(String::new, |arena| why_full(arena, what))
}

/// Returns the text of the error that the arena has no room for `what`. The text names the arena's size, and
/// how much each process or object uses.
#[cold]
fn why_full(arena: &Arena, what: &str) -> String {
    let limit = (u64::from(arena.layout.spans) * SPAN) >> 20;
    let holders = usage::of_memory(arena);
    format!(
        "no room for {what} in the family's shared memory of {limit} MiB; free some of it, or raise the limit, which is half of the memory of the machine or its control group, or what `ulimit -v` and `ulimit -f` allow; it is used by:{holders}"
    )
}

/// Returns free memory to the kernel: kept runs, and empty spans that are not in use.
pub(crate) fn trim(arena: &Arena, slot: u32) {
    if with_home_heap(|heap| heap.release(arena, slot)).is_none() {
        let mut others = OTHERS.lock().unwrap_or_else(|e| e.into_inner());
        others.get_or_insert_default().release(arena, slot);
    }
}
