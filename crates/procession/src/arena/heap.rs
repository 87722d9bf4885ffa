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
use super::member;
use super::sweep;
use crate::os::clock::Deadline;
use crate::os::futex;
use crate::rules::{self, Rule};
use crate::{Error, Result};

/// Where to look for the next free block of one class.
#[derive(Default)]
struct Shelf {
    /// Spans that this process owns, the one in use last.
    spans: Vec<u32>,
    cursor: u32,
}

/// The shelves of all classes.
#[derive(Default)]
pub(crate) struct Heap {
    shelves: [Shelf; CLASSES.len()],
    /// No span below this one is likely to be free.
    from: u32,
    /// Heads of runs that this process took lately: whoever frees them keeps them for it.
    runs: VecDeque<u32>,
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
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes a block for `bytes` bytes behind its header, which belongs to process `slot`.
pub(crate) fn allocate(arena: &Arena, slot: u32, bytes: u64) -> Result<u64> {
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
        let until = *until.get_or_insert_with(|| Deadline::after(PATIENCE));
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
        // The span in use is full: look at the others, in which others may have freed blocks.
        for i in (0..shelf.spans.len().saturating_sub(1)).rev() {
            let mut cursor = 0;
            if let Some(at) = take(arena, slot, shelf.spans[i], class, &mut cursor) {
                let last = shelf.spans.len() - 1;
                shelf.spans.swap(i, last);
                shelf.cursor = cursor;
                return Some(at);
            }
        }
        loop {
            let span = adopt(arena, slot, class).or_else(|| self.open_span(arena, slot, class))?;
            let shelf = &mut self.shelves[class as usize];
            shelf.spans.push(span);
            shelf.cursor = 0;
            if let Some(at) = take(arena, slot, span, class, &mut shelf.cursor) {
                return Some(at);
            }
        }
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
        if found.is_some() || blocks::release_kept(arena, slot, u32::MAX) + self.release_empty(arena) == 0 {
            return found;
        }
        self.from = 0;
        self.claim_free(arena, slot, count, &as_use)
    }

    /// Gives back the spans of this process in which no block is taken; says how many.
    fn release_empty(&mut self, arena: &Arena) -> u32 {
        let mut released = 0;
        for (class, shelf) in self.shelves.iter_mut().enumerate() {
            shelf.spans.retain(|&span| {
                // Only its owner takes blocks from a span, and that is busy here: empty stays empty.
                let empty = sweep::is_empty(arena, span, class as u8);
                if empty {
                    arena.punch(arena.span_offset(span), SPAN);
                    // CRASH: until this store the span is ours, and swept.
                    arena.span_word(span).store(Use::Free.word(), Ordering::Release);
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

/// Takes over a span of this class whose owner has died.
fn adopt(arena: &Arena, slot: u32, class: u8) -> Option<u32> {
    let orphan = Use::Small { by: NOBODY, class };
    for span in arena.spans_in_use() {
        if arena.span_use(span) == orphan {
            let full = (0..blocks_in(class)).all(|i| arena.tag(span, i).load(Ordering::Relaxed) != 0);
            if full {
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
