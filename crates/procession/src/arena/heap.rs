//! This process's way to blocks: which spans it takes them from.
//!
//! Everything here is private memory and only a hint; what counts are the tags. A process that
//! dies takes its heap with it, and its spans are adopted by others.
#![allow(unsafe_code)] // The heap of the home thread takes no lock.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::blocks::{HEADER, NOBODY, Tag, Use};
use super::classes::{CLASSES, blocks_in, class_for};
use super::layout::SPAN;
use super::{Arena, blocks, collect, member, sweep, thread, usage};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;
use crate::rules::Rule;
use crate::{Error, Result, rules};

/// Where to look for the next free block of one class.
#[derive(Default)]
struct Shelf {
    /// The span in use, which this process owns. One that is full is given up: whoever needs a block of its
    /// size takes it over when enough of it is free again, and whoever empties it gives it to the kernel.
    span: Option<u32>,
    cursor: u32,
    /// Where to look next for a span without an owner: behind the last one, so that each of them has time to become
    /// emptier before it is looked at again.
    orphans_from: u32,
}

/// How many spans are looked at for one without an owner, and in how many of these blocks are counted: looking
/// at all of them each time would take longer the more there are. One is taken over when a quarter of it is
/// free, so no more than that, and what the looks have not come to yet, lies idle.
const SPANS_LOOKED_AT: u32 = 4096;
const SPANS_COUNTED: u32 = 8;

/// The shelves of all classes.
#[derive(Default)]
pub(crate) struct Heap {
    shelves: [Shelf; CLASSES.len()],
    /// No span below this one is likely to be free.
    from: u32,
    /// Heads of runs that this process took lately: whoever frees them keeps them for it.
    runs: VecDeque<u32>,
    /// Where to look next for a run that is kept and was not this process's lately.
    kept_from: u32,
}

/// Runs that are remembered.
const RUNS: usize = 64;
/// How many runs and spans are looked at for one that is kept: it takes less than to fill the pages of a new one.
const KEPT_LOOKED_AT: u32 = 1024;

/// The heap of the thread that has the process's home record. No lock: nobody else touches it.
struct Home {
    heap: UnsafeCell<Option<Heap>>,
    /// The thread is using it just now. (A panic hook runs in the middle of anything.)
    busy: Cell<bool>,
}

// SAFETY: used by the thread alone that has the home record, and handed to the next one with it, by a swap that
// orders both (`thread.rs`).
unsafe impl Sync for Home {}

static HOME: Home = Home { heap: UnsafeCell::new(None), busy: Cell::new(false) };

/// The heap of all the other threads.
static OTHERS: Mutex<Option<Heap>> = Mutex::new(None);

/// While this lives, the home thread uses its heap.
struct Busy;

impl Drop for Busy {
    #[inline]
    fn drop(&mut self) {
        HOME.busy.set(false);
    }
}

/// The heap of the calling thread, if it is the home thread and does not use it already.
#[inline]
fn at_home<R>(f: impl FnOnce(&mut Heap) -> R) -> Option<R> {
    if !thread::is_home() || HOME.busy.replace(true) {
        return None;
    }
    let _busy = Busy;
    // SAFETY: this is the home thread, and `busy` was not set: nobody else has a reference.
    Some(f(unsafe { &mut *HOME.heap.get() }.get_or_insert_default()))
}

/// Forgets the heaps of the process that this one was forked from, which has one thread.
pub(crate) fn forget() {
    HOME.busy.set(false);
    // SAFETY: a process that was just forked has one thread, and this is not called from within `at_home`.
    unsafe { *HOME.heap.get() = None };
    *OTHERS.lock().unwrap_or_else(|e| e.into_inner()) = None;
}

/// How long a full arena is waited for: what children held that have just ended comes back when the
/// supervisor has buried them.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Takes a block for `bytes` bytes behind its header, which belongs to process `slot`.
#[inline]
pub(crate) fn allocate(arena: &Arena, slot: u32, bytes: u64) -> Result<u64> {
    allocate_until(arena, slot, bytes, Deadline::NEVER)
}

/// As [`allocate`], but waits no longer than that for memory to come back.
#[inline]
pub(crate) fn allocate_until(arena: &Arena, slot: u32, bytes: u64, deadline: Deadline) -> Result<u64> {
    match find(arena, slot, bytes) {
        Some(at) => Ok(at),
        None => allocate_patiently(arena, slot, bytes, deadline),
    }
}

#[cold]
fn allocate_patiently(arena: &Arena, slot: u32, bytes: u64, deadline: Deadline) -> Result<u64> {
    let hopeless = bytes > u64::from(arena.layout.spans) * SPAN;
    let until = deadline.min_ns(now_ns() + PATIENCE_NS);
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
        if hopeless || until.passed() || arena.header().supervisor_pid.load(Ordering::Relaxed) == 0 {
            return Err(full(arena, bytes));
        }
        member::ring(arena);
        futex::wait(&arena.header().ended, ended, until);
    }
}

/// As [`allocate`], but does not wait for memory to come back.
pub(crate) fn allocate_now(arena: &Arena, slot: u32, bytes: u64) -> Result<u64> {
    find(arena, slot, bytes).ok_or_else(|| no_room(bytes))
}

/// As [`allocate`], but gives up when this very thread may be in the middle of another one (a
/// panic hook cannot know).
pub(crate) fn try_allocate(arena: &Arena, slot: u32, bytes: u64) -> Option<u64> {
    if let Some(done) = at_home(|heap| heap.find(arena, slot, bytes)) {
        return done;
    }
    // Another thread may be allocating just now; this one never comes to its end.
    let until = Deadline::after(Duration::from_millis(10));
    loop {
        match OTHERS.try_lock() {
            Ok(mut heap) => return heap.get_or_insert_default().find(arena, slot, bytes),
            Err(_) if until.passed() => return None,
            Err(_) => std::thread::yield_now(),
        }
    }
}

// No `Result` on the way: to move an error's place from one into another takes longer than to find a block.
#[inline(always)]
fn find(arena: &Arena, slot: u32, bytes: u64) -> Option<u64> {
    if let Some(found) = at_home(|heap| heap.find(arena, slot, bytes)) {
        return found;
    }
    let mut others = OTHERS.lock().unwrap_or_else(|e| e.into_inner());
    others.get_or_insert_default().find(arena, slot, bytes)
}

/// What [`allocate_now`] says: whoever asks does something else then, or lets [`allocate`] say who holds what.
fn no_room(bytes: u64) -> Error {
    Error::Full(format!("no room for {bytes} bytes in the family's shared memory"))
}

#[cold]
fn full(arena: &Arena, bytes: u64) -> Error {
    Error::Full(why_full(arena, &format!("{bytes} bytes")))
}

/// As [`why_full`], of the arena that this process has mapped.
#[cold]
pub(crate) fn why_no_room(what: &str) -> String {
    member::mapped().map_or_else(String::new, |arena| why_full(arena, what))
}

/// Returns the text of the error that there is no room for `what`: how large the memory is, and who holds how much.
#[cold]
fn why_full(arena: &Arena, what: &str) -> String {
    let limit = (u64::from(arena.layout.spans) * SPAN) >> 20;
    let holders = usage::of_memory(arena);
    format!(
        "no room for {what} in the family's shared memory of {limit} MiB (half of the memory of the machine or its control group, less where `ulimit -v` or `ulimit -f` say so), of which there are{holders}"
    )
}

impl Heap {
    #[inline(always)]
    fn find(&mut self, arena: &Arena, slot: u32, bytes: u64) -> Option<u64> {
        let whole = bytes.saturating_add(HEADER);
        let Some(class) = class_for(whole) else { return self.run(arena, slot, whole.div_ceil(SPAN)) };
        let shelf = &mut self.shelves[class as usize];
        match shelf.span.and_then(|span| take(arena, slot, span, class, &mut shelf.cursor)) {
            None => self.small(arena, slot, class),
            found => found,
        }
    }

    /// A block of another span than the one in use, which is full if there is one.
    #[cold]
    fn small(&mut self, arena: &Arena, slot: u32, class: u8) -> Option<u64> {
        if let Some(span) = self.shelves[class as usize].span.take() {
            // CRASH: before this our death gives it up, after it it is nobody's.
            arena.move_span(span, Use::Small { by: slot, class }, Use::Small { by: NOBODY, class });
        }
        let from = self.shelves[class as usize].orphans_from;
        let quarter = blocks_in(class).div_ceil(4);
        let near = Orphans { from, looks: SPANS_LOOKED_AT, counts: SPANS_COUNTED, free: quarter };
        let any = Orphans { from: 0, looks: u32::MAX, counts: u32::MAX, free: 1 };
        let span = adopt(arena, slot, class, near)
            .or_else(|| self.open_span(arena, slot, class))
            .or_else(|| adopt(arena, slot, class, any))?;
        let shelf = &mut self.shelves[class as usize];
        *shelf = Shelf { span: Some(span), cursor: 0, orphans_from: span + 1 };
        take(arena, slot, span, class, &mut shelf.cursor)
    }

    fn open_span(&mut self, arena: &Arena, slot: u32, class: u8) -> Option<u32> {
        let span = self.claim(arena, slot, 1, |_| Use::Init { by: slot })?;
        for tag in arena.tags(span, class) {
            tag.store(Tag::FREE.0, Ordering::Relaxed);
        }
        // CRASH: `INIT` by us goes back to `FREE`; from this store on the tags can be read.
        arena.span_word(span).store(Use::Small { by: slot, class }.word(), Ordering::Release);
        Some(span)
    }

    fn run(&mut self, arena: &Arena, slot: u32, spans: u64) -> Option<u64> {
        let spans = u32::try_from(spans).ok()?;
        let mut runs = self.runs.iter().copied();
        if let Some(head) = runs.find(|&head| take_kept(arena, slot, head, spans)) {
            return Some(arena.span_offset(head));
        }
        let other = self.kept_run(arena, slot, spans);
        let head = other.or_else(|| self.new_run(arena, slot, spans))?;
        self.runs.truncate(RUNS - 1);
        self.runs.push_front(head);
        Some(arena.span_offset(head))
    }

    /// Any run that is kept and as long. What goes through a long queue comes back in the order in which it was taken.
    fn kept_run(&mut self, arena: &Arena, slot: u32, spans: u32) -> Option<u32> {
        if arena.header().kept_spans.load(Ordering::Relaxed) < spans {
            return None;
        }
        let end = arena.spans_in_use().end;
        for _ in 0..KEPT_LOOKED_AT {
            let at = if self.kept_from < end { self.kept_from } else { 0 };
            self.kept_from = at + 1;
            if let Use::Head { spans: its, .. } = arena.span_use(at) {
                self.kept_from = at.saturating_add(its.max(1));
                if take_kept(arena, slot, at, spans) {
                    return Some(at);
                }
            }
        }
        None
    }

    fn new_run(&mut self, arena: &Arena, slot: u32, spans: u32) -> Option<u32> {
        let head = self.claim(arena, slot, spans, |head| Use::Cont { by: slot, head })?;
        if spans <= blocks::kept_most(arena) {
            // Whoever needs so much writes to it soon; page by page that would take much longer.
            arena.populate(arena.span_offset(head), u64::from(spans) * SPAN);
        }
        // CRASH: until this store the run is `CONT` by us without a head, and is swept.
        let tag = Tag::process(slot);
        arena.span_word(head).store(Use::Head { tag, spans }.word(), Ordering::Release);
        Some(head)
    }

    /// Takes `count` neighbouring free spans; when there are none, those of runs that are kept, and those that
    /// are empty, too.
    fn claim(&mut self, arena: &Arena, slot: u32, count: u32, as_use: impl Fn(u32) -> Use) -> Option<u32> {
        let found = self.claim_free(arena, slot, count, &as_use);
        if found.is_some() || self.release(arena, slot) + self.release_shelves(arena, slot) == 0 {
            return found;
        }
        self.claim_free(arena, slot, count, &as_use)
    }

    /// Gives back runs that are kept, and empty spans without an owner; says how many spans.
    fn release(&mut self, arena: &Arena, slot: u32) -> u32 {
        self.from = 0;
        blocks::release_kept(arena, slot, u32::MAX) + sweep::empty_orphans(arena, slot)
    }

    /// Gives back the empty ones of the spans in use; says how many.
    fn release_shelves(&mut self, arena: &Arena, slot: u32) -> u32 {
        let mut released = 0;
        for (class, shelf) in (0..).zip(&mut self.shelves) {
            if shelf.span.is_some_and(|span| sweep::is_empty(arena, span, class)) {
                released +=
                    shelf.span.take().map_or(0, |span| u32::from(sweep::leave(arena, slot, span, class)));
            }
        }
        released
    }

    fn claim_free(
        &mut self,
        arena: &Arena,
        slot: u32,
        count: u32,
        as_use: &impl Fn(u32) -> Use,
    ) -> Option<u32> {
        let total = arena.layout.spans;
        let mut first = if count == 1 { self.from.min(total) } else { 0 };
        let mut wrapped = first == 0;
        loop {
            if first.checked_add(count).is_none_or(|end| end > total) {
                if wrapped {
                    return None;
                }
                (wrapped, first) = (true, 0);
                continue;
            }
            match claim_at(arena, slot, first, count, as_use(first)) {
                Ok(()) => {
                    self.from = if count == 1 { first + 1 } else { self.from };
                    return Some(first);
                }
                Err(taken) => first = taken + 1,
            }
        }
    }
}

/// Takes `count` spans from `first` on, from the first to the last; or says which one is taken.
fn claim_at(arena: &Arena, slot: u32, first: u32, count: u32, used: Use) -> Result<(), u32> {
    let spans = first..first + count;
    if let Some(taken) = spans.clone().find(|&span| arena.span_use(span) != Use::Free) {
        return Err(taken);
    }
    touch(arena, slot, first);
    arena.header().spans_used.fetch_max(spans.end, Ordering::AcqRel);
    for span in spans {
        if !arena.move_span(span, Use::Free, used) {
            for mine in (first..span).rev() {
                arena.move_span(mine, used, Use::Free);
            }
            return Err(span);
        }
    }
    Ok(())
}

/// Takes a run, if it is kept and as long.
fn take_kept(arena: &Arena, slot: u32, head: u32, spans: u32) -> bool {
    arena.span_use(head) == Use::Head { tag: Tag::FREE, spans } && {
        touch(arena, slot, head);
        blocks::take_kept(arena, head, spans, slot)
    }
}

/// Takes a free block of a span that this process owns.
#[inline(always)]
fn take(arena: &Arena, slot: u32, span: u32, class: u8, cursor: &mut u32) -> Option<u64> {
    let count = blocks_in(class);
    for index in (*cursor..count).chain(0..(*cursor).min(count)) {
        let tag = arena.tag(span, index);
        // ORDERING: Acquire pairs with the Release of whoever gave the block back.
        if tag.load(Ordering::Acquire) == Tag::FREE.0 {
            // CRASH: the block is ours from here on, and swept with everything else of ours
            // (the span was marked as touched when we got it).
            tag.store(Tag::process(slot).0, Ordering::Release);
            *cursor = index + 1;
            return Some(arena.block_offset(span, class, index));
        }
    }
    None
}

/// How many blocks of a span are free.
fn free_in(arena: &Arena, span: u32, class: u8) -> u32 {
    let is_free = |tag: &&AtomicU32| tag.load(Ordering::Relaxed) == Tag::FREE.0;
    arena.tags(span, class).iter().filter(is_free).count() as u32
}

/// Gives the kernel what is free: runs that are kept, and empty spans, but for those that are in use.
pub(crate) fn trim(arena: &Arena, slot: u32) {
    if at_home(|heap| heap.release(arena, slot)).is_none() {
        let mut others = OTHERS.lock().unwrap_or_else(|e| e.into_inner());
        others.get_or_insert_default().release(arena, slot);
    }
}

/// Which of the spans without an owner are looked at, in how many of these blocks are counted, and how many
/// must be free.
struct Orphans {
    from: u32,
    looks: u32,
    counts: u32,
    free: u32,
}

/// Takes over a span of this class that has no owner.
fn adopt(arena: &Arena, slot: u32, class: u8, which: Orphans) -> Option<u32> {
    let orphan = Use::Small { by: NOBODY, class };
    let used = arena.spans_in_use().end;
    let spans = (0..which.looks.min(used)).map(|i| which.from.wrapping_add(i) % used);
    let of_class = spans.filter(|&span| arena.span_use(span) == orphan).take(which.counts as usize);
    of_class.filter(|&span| free_in(arena, span, class) >= which.free).find(|&span| {
        touch(arena, slot, span);
        arena.move_span(span, orphan, Use::Small { by: slot, class })
    })
}

/// Marks a span as touched: before anything in it belongs to this process.
fn touch(arena: &Arena, slot: u32, span: u32) {
    if rules::holds(Rule::TouchedFirst) {
        arena.touched_spans(slot).see_to(span);
    }
}
