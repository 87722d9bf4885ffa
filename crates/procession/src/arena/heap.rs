//! This process's way to blocks: which spans it takes them from.
//!
//! Everything here is private memory and only a hint; what counts are the tags. A process that
//! dies takes its heap with it, and its spans are adopted by others.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Arena;
use super::blocks::{self, CLASSES, HEADER, NOBODY, Tag, Use, blocks_in, class_for};
use super::layout::SPAN;
use super::{member, sweep};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;
use crate::rules::{self, Rule};
use crate::{Error, Result};

/// Where to look for the next free block of one class.
#[derive(Default)]
struct Shelf {
    /// Spans that this process owns, the one in use last.
    spans: Vec<u32>,
    cursor: u32,
    /// Which of the others is looked at next, when the one in use is full.
    next_look: usize,
}

/// How many of the other spans are looked at when the one in use is full: looking at all of them each time
/// would take longer the more there are. One is used again when a quarter of it is free, so no more than
/// that, and what the looks have not come to yet, lies idle.
const LOOKS: usize = 4;
/// How many spans are looked at for one whose owner has died.
const ORPHAN_LOOKS: u32 = 512;

/// The shelves of all classes.
#[derive(Default)]
pub(crate) struct Heap {
    shelves: [Shelf; CLASSES.len()],
    /// No span below this one is likely to be free.
    from: u32,
    /// Heads of runs that this process took lately: whoever frees them keeps them for it.
    runs: VecDeque<u32>,
    /// Where to look next for spans without an owner.
    orphans_from: u32,
}

/// Runs that are remembered.
const RUNS: usize = 64;

static HEAP: Mutex<Option<Heap>> = Mutex::new(None);

/// Forgets the heap of the process that this one was forked from.
pub(crate) fn forget() {
    *HEAP.lock().unwrap_or_else(|e| e.into_inner()) = None;
}

/// How long a full arena is waited for: what children held that have just ended comes back when the
/// supervisor has buried them.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Takes a block for `bytes` bytes behind its header, which belongs to process `slot`.
pub(crate) fn allocate(arena: &Arena, slot: u32, bytes: u64) -> Result<u64> {
    allocate_until(arena, slot, bytes, Deadline::NEVER)
}

/// As [`allocate`], but waits no longer than that for memory to come back.
pub(crate) fn allocate_until(arena: &Arena, slot: u32, bytes: u64, deadline: Deadline) -> Result<u64> {
    let mut until = None;
    loop {
        let ended = arena.header().ended.load(Ordering::Acquire);
        let mut heap = HEAP.lock().unwrap_or_else(|e| e.into_inner());
        let full = match allocate_from(heap.get_or_insert_default(), arena, slot, bytes) {
            Err(full) => full,
            found => return found,
        };
        drop(heap);
        let hopeless = bytes > u64::from(arena.layout.spans) * SPAN
            || arena.header().supervisor_pid.load(Ordering::Relaxed) == 0;
        let until = *until.get_or_insert_with(|| deadline.min_ns(now_ns() + PATIENCE_NS));
        if hopeless || until.passed() {
            return Err(full);
        }
        member::ring(arena);
        futex::wait(&arena.header().ended, ended, until);
    }
}

/// As [`allocate`], but does not wait for memory to come back.
pub(crate) fn allocate_now(arena: &Arena, slot: u32, bytes: u64) -> Result<u64> {
    let mut heap = HEAP.lock().unwrap_or_else(|e| e.into_inner());
    allocate_from(heap.get_or_insert_default(), arena, slot, bytes)
}

/// As [`allocate`], but gives up when this very thread may be in the middle of another one (a
/// panic hook cannot know).
pub(crate) fn try_allocate(arena: &Arena, slot: u32, bytes: u64) -> Option<u64> {
    // Another thread may be allocating just now; this one never comes to its end.
    let until = Deadline::after(Duration::from_millis(10));
    let mut heap = loop {
        match HEAP.try_lock() {
            Ok(heap) => break heap,
            Err(_) if until.passed() => return None,
            Err(_) => std::thread::yield_now(),
        }
    };
    allocate_from(heap.get_or_insert_default(), arena, slot, bytes).ok()
}

fn allocate_from(heap: &mut Heap, arena: &Arena, slot: u32, bytes: u64) -> Result<u64> {
    let whole = bytes.saturating_add(HEADER);
    let found = match class_for(whole) {
        Some(class) => heap.small(arena, slot, class),
        None => heap.run(arena, slot, whole.div_ceil(SPAN)),
    };
    found.ok_or_else(|| {
        let limit = (u64::from(arena.layout.spans) * SPAN) >> 20;
        Error::Full(format!(
            "no room for {bytes} bytes in the family's shared memory of {limit} MiB (half of the machine's memory, less where `ulimit -v` or `ulimit -f` say so)"
        ))
    })
}

impl Heap {
    fn small(&mut self, arena: &Arena, slot: u32, class: u8) -> Option<u64> {
        let shelf = &mut self.shelves[class as usize];
        if let Some(&span) = shelf.spans.last()
            && let Some(at) = take(arena, slot, span, class, &mut shelf.cursor)
        {
            return Some(at);
        }
        if let Some(at) = self.look_at_others(arena, slot, class, LOOKS, blocks_in(class).div_ceil(4)) {
            return Some(at);
        }
        let first = self.orphans_from;
        self.orphans_from = first.wrapping_add(ORPHAN_LOOKS);
        let span = adopt(arena, slot, class, first, ORPHAN_LOOKS)
            .or_else(|| self.open_span(arena, slot, class))
            .or_else(|| adopt(arena, slot, class, 0, u32::MAX));
        let Some(span) = span else {
            // Whatever is free anywhere will do.
            return self.look_at_others(arena, slot, class, usize::MAX, 1);
        };
        let shelf = &mut self.shelves[class as usize];
        shelf.spans.push(span);
        shelf.cursor = 0;
        take(arena, slot, span, class, &mut shelf.cursor)
    }

    /// Takes a block of another span of ours, which is the one in use then, if one has so many free.
    fn look_at_others(
        &mut self,
        arena: &Arena,
        slot: u32,
        class: u8,
        looks: usize,
        free: u32,
    ) -> Option<u64> {
        let shelf = &mut self.shelves[class as usize];
        let last = shelf.spans.len().checked_sub(1)?;
        for _ in 0..looks.min(last) {
            let i = shelf.next_look % last;
            shelf.next_look = i + 1;
            let span = shelf.spans[i];
            if free_in(arena, span, class) >= free {
                shelf.spans.swap(i, last);
                shelf.cursor = 0;
                return take(arena, slot, span, class, &mut shelf.cursor);
            }
        }
        None
    }

    fn open_span(&mut self, arena: &Arena, slot: u32, class: u8) -> Option<u32> {
        let span = self.claim(arena, slot, 1, |_| Use::Init { by: slot })?;
        for index in 0..blocks_in(class) {
            arena.tag(span, index).store(Tag::FREE.0, Ordering::Relaxed);
        }
        // CRASH: `INIT` by us goes back to `FREE`; from this store on the tags can be read.
        arena.span_word(span).store(Use::Small { by: slot, class }.word(), Ordering::Release);
        Some(span)
    }

    fn run(&mut self, arena: &Arena, slot: u32, spans: u64) -> Option<u64> {
        let spans = u32::try_from(spans).ok()?;
        let head = match self.kept_run(arena, slot, spans) {
            Some(head) => head,
            None => {
                let head = self.new_run(arena, slot, spans)?;
                self.runs.truncate(RUNS - 1);
                self.runs.push_front(head);
                head
            }
        };
        Some(arena.span_offset(head))
    }

    /// One of the runs that this process had, if it is free and as long.
    fn kept_run(&mut self, arena: &Arena, slot: u32, spans: u32) -> Option<u32> {
        let kept = Use::Head { tag: Tag::FREE, spans };
        self.runs.iter().copied().find(|&head| {
            arena.span_use(head) == kept && {
                touch(arena, slot, head);
                blocks::take_kept(arena, head, spans, slot)
            }
        })
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

    /// Takes `count` neighbouring free spans; when there are none, those of runs that are kept, and of this
    /// process's empty spans, too.
    fn claim(&mut self, arena: &Arena, slot: u32, count: u32, as_use: impl Fn(u32) -> Use) -> Option<u32> {
        let found = self.claim_free(arena, slot, count, &as_use);
        if found.is_some()
            || blocks::release_kept(arena, slot, u32::MAX) + self.release_empty(arena, slot) == 0
        {
            return found;
        }
        self.from = 0;
        self.claim_free(arena, slot, count, &as_use)
    }

    /// Gives back the spans of this process in which no block is taken; says how many.
    fn release_empty(&mut self, arena: &Arena, slot: u32) -> u32 {
        let mut released = 0;
        for (class, shelf) in self.shelves.iter_mut().enumerate() {
            shelf.spans.retain(|&span| {
                let empty = sweep::is_empty(arena, span, class as u8);
                if empty {
                    give_up(arena, slot, span, class as u8);
                    released += 1;
                }
                !empty
            });
            shelf.cursor = 0;
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

/// Takes a free block of a span that this process owns.
fn take(arena: &Arena, slot: u32, span: u32, class: u8, cursor: &mut u32) -> Option<u64> {
    let count = blocks_in(class);
    for i in 0..count {
        let index = (*cursor + i) % count;
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
    let is_free = |index: &u32| arena.tag(span, *index).load(Ordering::Relaxed) == Tag::FREE.0;
    (0..blocks_in(class)).filter(is_free).count() as u32
}

/// Gives spans of this process that are empty back to the kernel, but for the one of each size that is in use.
pub(crate) fn trim(arena: &'static Arena, slot: u32) {
    let mut guard = HEAP.lock().unwrap_or_else(|e| e.into_inner());
    let heap = guard.get_or_insert_default();
    for class in 0..CLASSES.len() as u8 {
        let shelf = &mut heap.shelves[class as usize];
        let Some(in_use) = shelf.spans.pop() else { continue };
        let mut lowest = u32::MAX;
        shelf.spans.retain(|&span| {
            let empty = sweep::is_empty(arena, span, class);
            if empty {
                lowest = lowest.min(span);
                give_up(arena, slot, span, class);
            }
            !empty
        });
        shelf.spans.push(in_use);
        heap.from = heap.from.min(lowest);
    }
    drop(guard);
    // Those whose owner has died are for the supervisor.
    let is_orphan = |span| matches!(arena.span_use(span), Use::Small { by: NOBODY, .. });
    if arena.spans_in_use().any(is_orphan) {
        super::collect::want(arena);
    }
}

/// Gives up an empty span of ours. Nobody else takes blocks from it, so it stays empty.
fn give_up(arena: &Arena, slot: u32, span: u32, class: u8) {
    // CRASH: `INIT` by us goes back to `FREE`.
    if arena.move_span(span, Use::Small { by: slot, class }, Use::Init { by: slot }) {
        arena.punch(arena.span_offset(span), SPAN);
        arena.move_span(span, Use::Init { by: slot }, Use::Free);
    }
}

/// Takes over a span of this class whose owner has died, if it is one of so many from `first` on.
fn adopt(arena: &Arena, slot: u32, class: u8, first: u32, looks: u32) -> Option<u32> {
    let orphan = Use::Small { by: NOBODY, class };
    let used = arena.spans_in_use().end;
    for i in 0..looks.min(used) {
        let span = first.wrapping_add(i) % used;
        if arena.span_use(span) == orphan {
            if free_in(arena, span, class) == 0 {
                continue;
            }
            touch(arena, slot, span);
            if arena.move_span(span, orphan, Use::Small { by: slot, class }) {
                return Some(span);
            }
        }
    }
    None
}

/// Marks a span as touched: before anything in it belongs to this process.
fn touch(arena: &Arena, slot: u32, span: u32) {
    if rules::holds(Rule::TouchedFirst) {
        arena.touched_spans(slot).set(span);
    }
}
