//! [`Heap`]: the spans from which a process takes blocks.
//!
//! A heap lies in private memory and is only a hint. Only the tags decide which blocks are free. When a
//! process dies, its heap is gone, and other processes adopt its spans.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use super::blocks::HEADER;
use super::classes::{CLASSES, blocks_in, class_for};
use super::kept_runs::{self, kept_most};
use super::layout::SPAN;
use super::span_use::{NOBODY, Use};
use super::tag::Tag;
use super::{Arena, sweep};
use crate::Result;
use crate::rules::{self, Rule};

/// Where a heap looks for the next free block of one size class.
#[derive(Default)]
struct ClassSpan {
    /// The span in use, which this process owns. The heap gives up a full span. When enough blocks of such a
    /// span are free again, a process that needs a block of this size adopts it. A process that finds the
    /// span empty returns it to the kernel.
    span: Option<u32>,
    cursor: u32,
    /// Where the next search for a span without an owner begins. That is after the last such span, so each
    /// span has time to become emptier before it is examined again.
    orphans_from: u32,
}

/// How many spans a search for a span without an owner looks at, and in how many of these it counts the free
/// blocks. Without a limit, the search would take longer the more spans there are. A span is adopted if at
/// least a quarter of it is free. So memory stays unused if it lies in spans with fewer free blocks, or in
/// spans that were not searched yet.
const SPANS_LOOKED_AT: u32 = 4096;
const SPANS_COUNTED: u32 = 8;

/// The spans from which this process takes blocks and runs.
#[derive(Default)]
pub(crate) struct Heap {
    classes: [ClassSpan; CLASSES.len()],
    /// A hint: the spans below this one are probably all in use.
    from: u32,
    /// The heads of runs that this process took recently. When such a run is freed, it is kept and can be
    /// taken again.
    runs: VecDeque<u32>,
    /// Where to look next for a kept run that this process did not take recently.
    kept_from: u32,
}

/// How many heads of runs a heap remembers.
const RUNS: usize = 64;
/// How many runs and spans a search for a kept run looks at. The search takes less time than filling the
/// pages of a new run.
const KEPT_LOOKED_AT: u32 = 1024;

impl Heap {
    #[inline(always)]
    pub(super) fn find(&mut self, arena: &Arena, slot: u32, bytes: u64) -> Option<u64> {
        let whole = bytes.saturating_add(HEADER);
        let Some(class) = class_for(whole) else { return self.run(arena, slot, whole.div_ceil(SPAN)) };
        let spot = &mut self.classes[class as usize];
        match spot.span.and_then(|span| take(arena, slot, span, class, &mut spot.cursor)) {
            None => self.small(arena, slot, class),
            found => found,
        }
    }

    /// Allocates a block in another span than the current one. The current span, if there is one, is full.
    #[cold]
    fn small(&mut self, arena: &Arena, slot: u32, class: u8) -> Option<u64> {
        if let Some(span) = self.classes[class as usize].span.take() {
            // CRASH: if we die before this store, recovery gives the span up. After this store, no process
            // owns the span.
            arena.move_span(span, Use::Small { by: slot, class }, Use::Small { by: NOBODY, class });
        }
        let from = self.classes[class as usize].orphans_from;
        let quarter = blocks_in(class).div_ceil(4);
        let near = Orphans { from, looks: SPANS_LOOKED_AT, counts: SPANS_COUNTED, free: quarter };
        let any = Orphans { from: 0, looks: u32::MAX, counts: u32::MAX, free: 1 };
        let span = adopt(arena, slot, class, near)
            .or_else(|| self.open_span(arena, slot, class))
            .or_else(|| adopt(arena, slot, class, any))?;
        let spot = &mut self.classes[class as usize];
        *spot = ClassSpan { span: Some(span), cursor: 0, orphans_from: span + 1 };
        take(arena, slot, span, class, &mut spot.cursor)
    }

    fn open_span(&mut self, arena: &Arena, slot: u32, class: u8) -> Option<u32> {
        let span = self.claim(arena, slot, 1, |_| Use::Init { by: slot })?;
        for tag in arena.tags(span, class) {
            tag.store(Tag::FREE.0, Ordering::Relaxed);
        }
        // CRASH: if we die before this store, recovery frees the span, because the span is `INIT` by us.
        // After this store, the tags can be read.
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

    /// Takes any kept run of this length. The list of recent runs is not enough: blocks that go through a
    /// long queue come back in the order in which they were taken.
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
        if spans <= kept_most(arena) {
            // A process that allocates this much memory writes to it soon. Faulting the pages in one by one
            // would take much longer.
            arena.populate(arena.span_offset(head), u64::from(spans) * SPAN);
        }
        // CRASH: until this store, the run consists of `CONT` spans by us and has no head. Recovery sweeps
        // such a run.
        let tag = Tag::process(slot);
        arena.span_word(head).store(Use::Head { tag, spans }.word(), Ordering::Release);
        Some(head)
    }

    /// Takes `count` neighbouring free spans. If there are none, first returns kept runs and empty spans to
    /// the kernel.
    fn claim(&mut self, arena: &Arena, slot: u32, count: u32, as_use: impl Fn(u32) -> Use) -> Option<u32> {
        let found = self.claim_free(arena, slot, count, &as_use);
        if found.is_some() || self.release(arena, slot) + self.release_class_spans(arena, slot) == 0 {
            return found;
        }
        self.claim_free(arena, slot, count, &as_use)
    }

    /// Releases kept runs and empty spans without an owner to the kernel. Returns the number of spans.
    pub(super) fn release(&mut self, arena: &Arena, slot: u32) -> u32 {
        self.from = 0;
        kept_runs::release_kept(arena, slot, u32::MAX) + sweep::empty_orphans(arena, slot)
    }

    /// Releases those spans in use that are empty to the kernel. Returns their number.
    fn release_class_spans(&mut self, arena: &Arena, slot: u32) -> u32 {
        let mut released = 0;
        for (class, spot) in (0..).zip(&mut self.classes) {
            if spot.span.is_some_and(|span| sweep::is_empty(arena, span, class)) {
                released +=
                    spot.span.take().map_or(0, |span| u32::from(sweep::leave(arena, slot, span, class)));
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

/// Takes `count` spans, one after the other, beginning with `first`. If one of them is in use, takes none and
/// returns that span as `Err`.
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

/// Takes the run at `head` if it is kept and has this length.
fn take_kept(arena: &Arena, slot: u32, head: u32, spans: u32) -> bool {
    arena.span_use(head) == Use::Head { tag: Tag::FREE, spans } && {
        touch(arena, slot, head);
        kept_runs::take_kept(arena, head, spans, slot)
    }
}

/// Allocates a free block of a span that this process owns.
#[inline(always)]
fn take(arena: &Arena, slot: u32, span: u32, class: u8, cursor: &mut u32) -> Option<u64> {
    let count = blocks_in(class);
    for index in (*cursor..count).chain(0..(*cursor).min(count)) {
        let tag = arena.tag(span, index);
        // ORDERING: Acquire pairs with the Release of the process that freed the block.
        if tag.load(Ordering::Acquire) == Tag::FREE.0 {
            // CRASH: from here on, the block is ours, and recovery sweeps it. We marked the span as touched
            // when we took the span.
            tag.store(Tag::process(slot).0, Ordering::Release);
            *cursor = index + 1;
            return Some(arena.block_offset(span, class, index));
        }
    }
    None
}

/// Returns how many blocks of a span are free.
fn free_in(arena: &Arena, span: u32, class: u8) -> u32 {
    let is_free = |tag: &&AtomicU32| tag.load(Ordering::Relaxed) == Tag::FREE.0;
    arena.tags(span, class).iter().filter(is_free).count() as u32
}

/// A search for a span without an owner. The fields say where the search begins, how many spans it looks at,
/// in how many of these it counts free blocks, and how many blocks must be free.
struct Orphans {
    from: u32,
    looks: u32,
    counts: u32,
    free: u32,
}

/// Adopts a span of this class that has no owner.
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

/// Marks a span as touched, before anything in it belongs to this process.
fn touch(arena: &Arena, slot: u32, span: u32) {
    if rules::holds(Rule::TouchedFirst) {
        arena.touched_spans(slot).ensure_set(span);
    }
}
