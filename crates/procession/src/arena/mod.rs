//! The arena: one piece of shared memory that every process of a family maps.
//!
//! ```text
//! ┌────────┬────────────┬─────────┬─────────┬─────────────┬────────────┬──────────────────┐
//! │ header │ slot pages │ records │ objects │ object bits │ span bits  │ spans of 64 KiB  │
//! └────────┴────────────┴─────────┴─────────┴─────────────┴────────────┴──────────────────┘
//!            one a process  one a   handles   who holds     who has a    blocks of any size
//!                           thread  name them  what         block where
//! ```
//!
//! | file          | what it holds                                                      |
//! |---------------|--------------------------------------------------------------------|
//! | `layout.rs`   | how large each table is and where it starts                        |
//! | `header.rs`   | what there is once a family                                        |
//! | `slots.rs`    | a page for each process: its life, its request                     |
//! | `awake.rs`    | the time in which processes could run                              |
//! | `records.rs`  | a record for each thread: locks held, wait, intent                 |
//! | `bytes.rs`    | copying bytes that other processes may see                         |
//! | `bits.rs`     | two-level bitmaps                                                  |
//! | `kind.rs`     | the kinds of objects; `recover.rs` what recovery asks of each         |
//! | `objects.rs`  | the table that handles point into                                  |
//! | `blocks.rs`   | memory of any size, tagged with its owner; `heap.rs` allocates     |
//! | `classes.rs`  | the sizes that small blocks come in                                |
//! | `usage.rs`  | who holds what, for the errors that say that there is no more         |
//! | `owned_block.rs` | a block that belongs to this process, freed when dropped          |
//! | `storage.rs`  | blocks of plain data and of cells, that an object keeps for good    |
//! | `sweep.rs`    | what a dead process held goes back                                 |
//! | `handle.rs`   | counted handles of this process, and how they travel; `tally.rs` counts |
//! | `collect.rs`  | finds shared objects that nobody holds any more; `mark.rs` its marks |
//! | `payload.rs`  | those bytes in a block, with the handles among them                |
//! | `process_body.rs` | a process as an object: how it ended, how far its start is  |
//! | `member.rs`   | which process of the family this one is                            |
//! | `thread.rs`   | which record the calling thread has                                |
//!
//! INVARIANT 1: nothing here is an address; everything is an offset or an index.
//! INVARIANT 2: ownership stands in the word that grants it, so a death can always be attributed.
//! INVARIANT 3: counts and hints are never trusted; they only say where to look first.
#![allow(unsafe_code)] // References into shared memory are made here, from checked offsets.

pub(crate) mod awake;
pub(crate) mod bits;
pub(crate) mod blocks;
pub(crate) mod bytes;
pub(crate) mod classes;
pub(crate) mod collect;
pub(crate) mod handle;
pub(crate) mod header;
pub(crate) mod heap;
mod kind;
pub(crate) mod layout;
mod mark;
pub(crate) mod member;
pub(crate) mod objects;
pub(crate) mod owned_block;
pub(crate) mod payload;
pub(crate) mod process_body;
pub(crate) mod records;
pub(crate) mod recover;
pub(crate) mod slots;
pub(crate) mod storage;
pub(crate) mod sweep;
pub(crate) mod tally;
pub(crate) mod thread;
mod usage;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::os::{limits, memory};
use crate::{Error, Result};
use bits::Bits;
use header::Header;
use layout::{Layout, SPAN};
use objects::Object;
use records::Record;
use slots::Slot;

/// The name of the memfd, as `/proc/PID/maps` shows it.
pub(crate) const MEMFD_NAME: &str = "procession";

/// A mapped arena. Mappings live as long as the process, hence the copies and `'static`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    pub(crate) layout: Layout,
}

// SAFETY: everything behind the pointer is atomics, or bytes that the owner tags guard.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// No arena is larger.
pub(crate) const LARGEST: u64 = 64 << 30;

impl Arena {
    /// Makes an arena as large as the user's limits sensibly allow.
    pub(crate) fn create() -> Result<(Arena, OwnedFd)> {
        let budget = limits::memory() / 2;
        let limit = LARGEST.min(limits::address_space() / 4).min(limits::file_size()).min(budget);
        let mut bytes = limit & !(SPAN - 1);
        loop {
            let Some(layout) = Layout::fitting(bytes) else {
                return Err(Error::Full(format!(
                    "no shared memory: the limits on address space, file size and memory leave {limit} bytes, and {} are needed (see `ulimit -v` and `ulimit -f`)",
                    layout::SMALLEST
                )));
            };
            match Arena::try_create(layout) {
                Ok(made) => return Ok(made),
                Err(e) if bytes / 2 < layout::SMALLEST => {
                    return Err(Error::unstarted(
                        "creating shared memory (memfd_create, ftruncate, mmap)",
                        &e,
                    ));
                }
                Err(_) => bytes = (bytes / 2) & !(SPAN - 1),
            }
        }
    }

    fn try_create(layout: Layout) -> io::Result<(Arena, OwnedFd)> {
        let fd = memory::sealed_memfd(c"procession", layout.bytes)?;
        let arena = Arena::map(fd.as_fd(), layout)?;
        arena.header().initialise(&layout);
        Ok((arena, fd))
    }

    /// Maps an arena that another process made.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> io::Result<Arena> {
        let bytes = memory::file_len(fd)?;
        let layout = Layout::fitting(bytes)
            .filter(|l| l.bytes == bytes)
            .ok_or_else(|| io::Error::other("the shared memory has a length that no layout has"))?;
        let arena = Arena::map(fd, layout)?;
        arena.header().check(&layout)?;
        Ok(arena)
    }

    fn map(fd: BorrowedFd<'_>, layout: Layout) -> io::Result<Arena> {
        let base = memory::map_shared(fd, layout.bytes as usize)?;
        memory::dont_dump(base, layout.bytes as usize)?;
        Ok(Arena { base, layout })
    }

    /// Keeps this process's stray forks away from the arena.
    pub(crate) fn hide_from_forks(&self) -> io::Result<()> {
        memory::dont_fork(self.base, self.layout.bytes as usize)
    }

    /// In a stray fork, which did not get the arena: zeros in its place, so that what handles read
    /// is nothing instead of a fault.
    pub(crate) fn blank(&self) {
        // SAFETY: in this process the range holds nothing since the fork.
        unsafe { memory::blank(self.base, self.layout.bytes as usize) };
    }

    #[cfg(feature = "internals")]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// A reference to what lies at `offset`.
    ///
    /// # Safety
    /// `offset` is aligned for `T`, `T` lies within the arena, and consists of atomics only.
    #[inline]
    pub(crate) unsafe fn at<T>(&self, offset: u64) -> &'static T {
        debug_assert!(offset + size_of::<T>() as u64 <= self.layout.bytes);
        // SAFETY: promised by the caller; the mapping is never undone.
        unsafe { &*self.base.as_ptr().add(offset as usize).cast::<T>() }
    }

    /// The offset of something that lies in the arena.
    #[inline]
    pub(crate) fn offset_of<T>(&self, at: *const T) -> u64 {
        at as u64 - self.base.as_ptr() as u64
    }

    pub(crate) fn header(&self) -> &'static Header {
        // SAFETY: the header is the first page.
        unsafe { self.at(0) }
    }

    pub(crate) fn slot(&self, index: u32) -> &'static Slot {
        assert!(index < self.layout.slots, "INVARIANT: slot {index} is within the table");
        // SAFETY: within the table, which is page-aligned.
        unsafe { self.at(self.layout.slots_at + u64::from(index) * size_of::<Slot>() as u64) }
    }

    /// The record with this id.
    pub(crate) fn record(&self, id: u32) -> &'static Record {
        if id < self.layout.slots {
            return &self.slot(id).home;
        }
        let index = id - self.layout.slots;
        assert!(index < self.layout.extra_records, "INVARIANT: record {id} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.records_at + u64::from(index) * size_of::<Record>() as u64) }
    }

    /// The word that says which process an extra record belongs to: its slot + 1, or 0.
    pub(crate) fn record_owner(&self, extra: u32) -> &'static AtomicU32 {
        assert!(extra < self.layout.extra_records, "INVARIANT: record {extra} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.record_owners_at + u64::from(extra) * 4) }
    }

    pub(crate) fn object(&self, index: u32) -> &'static Object {
        assert!(index < self.layout.objects, "INVARIANT: object {index} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.objects_at + u64::from(index) * size_of::<Object>() as u64) }
    }

    /// Which objects a process holds.
    pub(crate) fn held_objects(&self, slot: u32) -> Bits {
        let at = self.layout.object_bits_at + u64::from(slot) * self.layout.object_bits_stride;
        // SAFETY: within the table; the words are atomics.
        let words = unsafe { self.at::<AtomicU64>(at) };
        Bits::new(words, self.layout.objects, &self.slot(slot).object_lines)
    }

    /// In which spans a process may have blocks.
    pub(crate) fn touched_spans(&self, slot: u32) -> Bits {
        let at = self.layout.span_bits_at + u64::from(slot) * self.layout.span_bits_stride;
        // SAFETY: within the table; the words are atomics.
        let words = unsafe { self.at::<AtomicU64>(at) };
        Bits::new(words, self.layout.spans, &self.slot(slot).span_lines)
    }

    /// The word that tells what a span is used for.
    #[inline]
    pub(crate) fn span_word(&self, span: u32) -> &'static AtomicU64 {
        assert!(span < self.layout.spans, "INVARIANT: span {span} is within the table");
        // SAFETY: within the table.
        unsafe { self.at(self.layout.span_words_at + u64::from(span) * 8) }
    }

    #[inline]
    pub(crate) fn span_offset(&self, span: u32) -> u64 {
        self.layout.spans_at + u64::from(span) * SPAN
    }

    /// The slot of the process that a record belongs to, if it belongs to one.
    pub(crate) fn slot_of_record(&self, id: u32) -> Option<u32> {
        if id < self.layout.slots {
            return Some(id);
        }
        let extra = id - self.layout.slots;
        if extra >= self.layout.extra_records {
            return None;
        }
        self.record_owner(extra).load(Ordering::Acquire).checked_sub(1).filter(|&s| s < self.layout.slots)
    }

    /// The records of one process: its home record and those of its further threads.
    pub(crate) fn records_of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let arena = *self;
        let extras = arena.header().records_used.load(Ordering::Acquire).min(arena.layout.extra_records);
        let further = (0..extras)
            .filter(move |&extra| arena.record_owner(extra).load(Ordering::Acquire) == slot + 1)
            .map(move |extra| arena.layout.slots + extra);
        std::iter::once(slot).chain(further)
    }

    /// Every record that a thread may be using.
    pub(crate) fn records_in_use(&self) -> impl Iterator<Item = u32> {
        let arena = *self;
        let extras = arena.header().records_used.load(Ordering::Acquire).min(arena.layout.extra_records);
        let slots = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
        let further = (0..extras)
            .filter(move |&extra| arena.record_owner(extra).load(Ordering::Acquire) != 0)
            .map(move |extra| arena.layout.slots + extra);
        (0..slots).chain(further)
    }

    /// Whether somebody repairs after a death and may be about to write to words that sleepers have announced,
    /// so that nothing is freed in which such a word may lie: see `sync/raw/park.rs`.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.header().sweeping.load(Ordering::SeqCst) != 0
    }

    /// The futex word at `offset`, if there can be one: what a record says it waits for.
    pub(crate) fn futex_word(&self, offset: u64) -> Option<&'static AtomicU32> {
        let sound = offset != 0 && offset.is_multiple_of(4) && offset + 4 <= self.layout.bytes;
        // SAFETY: checked just now; any four aligned bytes of the arena can be read as an atomic.
        sound.then(|| unsafe { self.at(offset) })
    }

    /// The object in whose hot line, or in one of whose blocks, `offset` lies; with its index.
    pub(crate) fn object_around(&self, offset: u64) -> Option<(u32, &'static Object)> {
        let place = offset.checked_sub(self.layout.objects_at)? / size_of::<Object>() as u64;
        let index = match u32::try_from(place).ok().filter(|&index| index < self.layout.objects) {
            Some(index) => index,
            None => blocks::owner(self, blocks::around(self, offset)?.0).object_index()?,
        };
        (index < self.layout.objects).then(|| (index, self.object(index)))
    }

    /// Gives whole pages back to the kernel; where pages are larger than the range, nothing happens.
    /// Failure only costs memory. Says whether the range reads as zero now.
    pub(crate) fn punch(&self, offset: u64, bytes: u64) -> bool {
        let page = memory::page_size();
        if !offset.is_multiple_of(page) || !bytes.is_multiple_of(page) {
            return false;
        }
        // SAFETY: the range lies within the mapping.
        let at = unsafe { self.base.add(offset as usize) };
        memory::punch(at, bytes as usize).is_ok()
    }

    /// Has the kernel put pages in a range that will be written to. Failure only costs time.
    pub(crate) fn populate(&self, offset: u64, bytes: u64) {
        // SAFETY: the range lies within the mapping.
        let at = unsafe { self.base.add(offset as usize) };
        let _ = memory::populate(at, bytes as usize);
    }
}
