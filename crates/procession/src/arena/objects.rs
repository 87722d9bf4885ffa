//! The table of objects: what a handle names.
//!
//! | phase     | meaning                                   | who moves it                            |
//! |-----------|-------------------------------------------|-----------------------------------------|
//! | `FREE`    | nothing                                   | a process → `NEW` by its slot           |
//! | `NEW`     | that process is filling it in             | it → `LIVE`; its death → `FREE`         |
//! | `LIVE`    | handles may name it                       | whoever lets the last go → `FREEING`    |
//! | `FREEING` | that process is taking it apart           | it → `FREE`; after its death recovery   |
//!
//! The word also carries a generation, which grows when the object is freed, so that a handle
//! that outlived its object is told from one to its successor; and the kind. An object whose generation cannot grow
//! any further stays `FREE` for good.
//!
//! INVARIANT 4: a thread that moves an object to `NEW` or `FREEING` has named it in its record's
//! `object_intent`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::blocks::Tag;
use super::records::Record;
use super::{Arena, blocks, storage, sweep, usage};
use crate::os::futex;
use crate::rules::Rule;
use crate::{Error, Result, rules};

pub(crate) use super::kind::Kind;

const FREE: u64 = 0;
const NEW: u64 = 1;
const LIVE: u64 = 2;
const FREEING: u64 = 3;

/// The last generation, of an object that is not used again.
const WORN_OUT: u64 = u32::MAX as u64;

/// The owner that the supervisor writes, which has no slot.
pub(crate) const SUPERVISOR: u32 = 0xffff;
/// The longest name of an object, in bytes.
pub(crate) const NAME: usize = 95;

/// One object: four cache lines, of which the second is the hot one.
#[repr(C, align(256))]
pub(crate) struct Object {
    state: AtomicU64,
    /// A handle to it was sent somewhere: only the collector can tell whether it is still used.
    embedded: AtomicU32,
    /// How often a handle to it has moved: see `collect.rs`.
    pub(super) touched: AtomicU32,
    /// The processes that may hold it as long as it is not embedded: slot + 1.
    creator: AtomicU32,
    partner: AtomicU32,
    name_len: AtomicU32,
    _pad: AtomicU32,
    /// Blocks that belong to the object.
    pub(crate) blocks: [AtomicU64; 3],
    _line: AtomicU64,
    body: [AtomicU64; 8],
    name: [AtomicU64; 12],
    /// Words in which [`GONE`] is set when the object is freed, as offsets: see [`Object::tell`].
    obituaries: [AtomicU64; 2],
    /// In which spans it may have blocks: one bit for every 128th span, set before the tag.
    spans: [AtomicU64; 2],
}

/// In a word that an object names in its obituaries: the object is no more.
pub(crate) const GONE: u32 = 2;

/// What an object's hot line holds.
///
/// # Safety
/// Made of atomics only, at most 64 bytes, valid when all zero.
pub(crate) unsafe trait Body: Sync + 'static {
    const KIND: Kind;
}

/// Index and generation: names an object for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) u64);

impl Id {
    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u64 {
        self.0 >> 32
    }
}

fn word(generation: u64, owner: u32, kind: u8, phase: u64) -> u64 {
    generation << 32 | u64::from(owner) << 16 | u64::from(kind) << 8 | phase
}

fn owner(word: u64) -> u32 {
    (word >> 16) as u32 & 0xffff
}

impl Object {
    /// The typed hot line.
    pub(crate) fn body<T: Body>(&self) -> &T {
        const { assert!(size_of::<T>() <= 64 && align_of::<T>() <= 64) };
        // SAFETY: promised by `Body`; the line is 64-byte aligned because `Object` is.
        unsafe { &*(&raw const self.body).cast::<T>() }
    }

    /// Where the hot line is.
    pub(crate) fn hot_line(&self) -> *const AtomicU64 {
        self.body.as_ptr()
    }

    /// Whether the handle `id` names this object as it is now, and the object is a `kind`.
    pub(crate) fn is(&self, id: Id, kind: Kind) -> bool {
        let state = self.state.load(Ordering::SeqCst);
        state & 0xff == LIVE && state >> 32 == id.generation() && (state >> 8) as u8 == kind as u8
    }

    /// Has the object, which is free, be used once more before it is worn out.
    #[cfg(feature = "internals")]
    pub(crate) fn wear_out(&self) {
        assert!(self.is_free());
        self.state.store(word(WORN_OUT - 1, 0, 0, FREE), Ordering::SeqCst);
    }

    #[cfg(feature = "internals")]
    pub(crate) fn is_free(&self) -> bool {
        self.state.load(Ordering::SeqCst) & 0xff == FREE
    }

    /// What the object is, if there is one.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let state = self.state.load(Ordering::SeqCst);
        matches!(state & 0xff, LIVE | FREEING).then(|| Kind::read((state >> 8) as u8)).flatten()
    }

    /// Whether there is an object, and it is a `kind`.
    pub(crate) fn is_any(&self, kind: Kind) -> bool {
        self.kind() == Some(kind)
    }

    /// Has the end of the object told to who sleeps on these words, which lie in memory that the
    /// object keeps alive. Called while the object is filled in.
    pub(crate) fn tell(&self, words: [u64; 2]) {
        self.obituaries.iter().zip(words).for_each(|(to, word)| to.store(word, Ordering::Relaxed));
    }

    /// Tells of its end. Once nobody can reach it.
    pub(super) fn send_obituaries(&self, arena: &Arena) {
        for obituary in &self.obituaries {
            if let Some(word) = arena.futex_word(obituary.load(Ordering::Acquire)) {
                word.fetch_or(GONE, Ordering::SeqCst);
                futex::wake_all(word);
                // CRASH: sent again after a death before this store; what keeps the word alive is
                // freed only after it.
                obituary.store(0, Ordering::SeqCst);
            }
        }
    }

    /// The handle id of the object, if there is one, of any kind.
    pub(crate) fn live_id(&self, index: u32) -> Option<Id> {
        let state = self.state.load(Ordering::SeqCst);
        (state & 0xff == LIVE).then_some(Id(state >> 32 << 32 | u64::from(index)))
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.load(Ordering::SeqCst) != 0
    }

    /// Notes that the object is to have a block in a span.
    #[inline]
    pub(super) fn see_to_span(&self, span: u32) {
        let (word, mask) = self.bit_of_span(span);
        if word.load(Ordering::Relaxed) & mask == 0 {
            word.fetch_or(mask, Ordering::AcqRel);
        }
    }

    /// Whether the object may have blocks in a span.
    pub(crate) fn may_be_in(&self, span: u32) -> bool {
        let (word, mask) = self.bit_of_span(span);
        word.load(Ordering::Acquire) & mask != 0
    }

    #[inline]
    fn bit_of_span(&self, span: u32) -> (&AtomicU64, u64) {
        (&self.spans[(span / 64 % 2) as usize], 1 << (span % 64))
    }

    /// Notes that a handle moved: called after the destination holds it, before the source lets go.
    pub(crate) fn touch(&self) {
        // ORDERING: SeqCst, see the proof in `collect.rs`.
        self.embedded.store(1, Ordering::SeqCst);
        if rules::holds(Rule::Touch) {
            self.touched.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A second process holds the object although no handle to it was ever sent.
    pub(crate) fn set_partner(&self, slot: u32) {
        self.partner.store(slot + 1, Ordering::SeqCst);
    }

    /// Stores a name that was checked to be at most [`NAME`] bytes.
    pub(crate) fn set_name(&self, name: &str) {
        let mut bytes = [0u8; 96];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        for (to, from) in self.name.iter().zip(bytes.chunks_exact(8)) {
            to.store(u64::from_le_bytes(from.try_into().expect("INVARIANT: chunks of 8")), Ordering::Relaxed);
        }
        self.name_len.store(name.len() as u32, Ordering::Release);
    }

    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(self.name_bytes(&mut [0; NAME + 1])).into_owned()
    }

    /// As [`name`](Object::name), without taking memory.
    pub(crate) fn name_bytes<'a>(&self, buffer: &'a mut [u8; NAME + 1]) -> &'a [u8] {
        let len = (self.name_len.load(Ordering::Acquire) as usize).min(NAME);
        for (bytes, word) in buffer.chunks_exact_mut(8).zip(&self.name) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        &buffer[..len]
    }

    fn clear(&self) {
        let words = self.blocks.iter().chain(&self.body).chain(&self.name).chain(&self.obituaries);
        for word in words.chain(&self.spans) {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&self.embedded, &self.touched, &self.creator, &self.partner, &self.name_len] {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// A name that fits, or what to do about it.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.len() <= NAME {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("a name may have {NAME} bytes and this one has {}", name.len())))
}

/// Whether the next object may be one of the last that fit.
pub(crate) fn is_crowded(arena: &Arena) -> bool {
    let (header, all) = (arena.header(), arena.layout.objects);
    header.objects_used.load(Ordering::Relaxed) >= all
        && header.objects_from.load(Ordering::Relaxed) > all / 8 * 7
}

/// Makes an object that the process `slot` holds. `fill` sees it before anybody else can.
pub(crate) fn create<T: Body>(
    arena: &Arena,
    record: &Record,
    slot: u32,
    fill: impl FnOnce(&Object),
) -> Result<Id> {
    let (index, generation) = claim(arena, record, slot, T::KIND)?;
    let object = arena.object(index);
    object.creator.store(slot + 1, Ordering::Relaxed);
    fill(object);
    arena.held_objects(slot).set(index);
    // CRASH: until this store the object is `NEW` by us and recovery drops it; from it on we hold
    // it, and recovery lets it go with everything else we held.
    object.state.store(word(generation, 0, T::KIND as u8, LIVE), Ordering::Release);
    record.object_intent.store(0, Ordering::Release);
    Ok(Id(generation << 32 | u64::from(index)))
}

/// Names an object in the record: before it is moved.
fn note(record: &Record, index: u32) {
    if rules::holds(Rule::ObjectIntent) {
        record.object_intent.store(u64::from(index) + 1, Ordering::Release);
    }
}

fn claim(arena: &Arena, record: &Record, slot: u32, kind: Kind) -> Result<(u32, u64)> {
    let header = arena.header();
    let from = header.objects_from.load(Ordering::Relaxed).min(arena.layout.objects);
    for index in (from..arena.layout.objects).chain(0..from) {
        let object = arena.object(index);
        let state = object.state.load(Ordering::Acquire);
        if state & 0xff != FREE || state >> 32 == WORN_OUT {
            continue;
        }
        let generation = (state >> 32).max(1);
        // CRASH: an intent without the claim names an object that is not ours; it is ignored.
        note(record, index);
        header.objects_used.fetch_max(index + 1, Ordering::AcqRel);
        let new = word(generation, slot, kind as u8, NEW);
        if object.state.compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            header.objects_from.store(index + 1, Ordering::Relaxed);
            return Ok((index, generation));
        }
    }
    record.object_intent.store(0, Ordering::Release);
    Err(Error::Full(format!(
        "the family has {} objects, which is the most it can have:{}",
        arena.layout.objects,
        usage::of_objects(arena)
    )))
}

/// Process `slot` lets an object go. Says whether the collector should look.
#[must_use]
pub(crate) fn let_go(arena: &Arena, record: &Record, slot: u32, index: u32) -> bool {
    // CRASH: from here on recovery asks again whether anybody holds the object.
    note(record, index);
    let collect = let_go_noted(arena, record, slot, index);
    record.object_intent.store(0, Ordering::Release);
    collect
}

fn let_go_noted(arena: &Arena, record: &Record, slot: u32, index: u32) -> bool {
    arena.held_objects(slot).clear(index);
    let object = arena.object(index);
    let Some(id) = object.live_id(index) else { return false };
    // At most two processes hold what was never sent. Each clears its bit before it looks at the
    // other's, so the last one sees that it is the last; both may, and the compare-exchange in
    // `free` chooses one.
    let held_by = |who: &AtomicU32| match who.load(Ordering::SeqCst) {
        0 => false,
        other => arena.held_objects(other - 1).has(index),
    };
    let held = held_by(&object.creator) || held_by(&object.partner);
    // Read last: who sees that the other has let go also sees whether it had sent the object.
    if object.is_embedded() {
        return true;
    }
    if held {
        return false;
    }
    if arena.is_sweeping() && rules::holds(Rule::FreedAfterSweep) {
        // Whoever sweeps may be about to write to it, so it is the collector's now.
        object.touch();
        return true;
    }
    free(arena, record, slot, id)
}

/// Frees an object that nobody can reach any more. Says whether the collector should look, because
/// the object had blocks with handles in them.
pub(crate) fn free(arena: &Arena, record: &Record, owner: u32, id: Id) -> bool {
    note(record, id.index());
    let object = arena.object(id.index());
    let state = object.state.load(Ordering::Acquire);
    let claimed = state & 0xff == LIVE && state >> 32 == id.generation() && {
        let new = word(id.generation(), owner, (state >> 8) as u8, FREEING);
        object.state.compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let collect = claimed && finish_free(arena, owner, id.index());
    record.object_intent.store(0, Ordering::Release);
    collect
}

/// Takes an object apart that is `FREEING` by `owner`. Can be begun anew after a death.
fn finish_free(arena: &Arena, owner: u32, index: u32) -> bool {
    let object = arena.object(index);
    let mut collect = false;
    object.send_obituaries(arena);
    if object.kind().is_some_and(Kind::owns_many) {
        // CRASH: begun anew it finds what is left; until `FREE` below nobody can own as this object.
        collect |= sweep::belongings(arena, owner, index);
    }
    for block in &object.blocks {
        let at = block.load(Ordering::Acquire);
        if at != 0 {
            // CRASH: the tag is checked, so that a second attempt does not free what others got.
            collect |= blocks::free(arena, owner, at, Tag::object(index));
        }
    }
    let generation = (object.state.load(Ordering::Relaxed) >> 32) + 1;
    object.clear();
    object.state.store(word(generation.min(WORN_OUT), 0, 0, FREE), Ordering::Release);
    arena.header().objects_from.fetch_min(index, Ordering::Relaxed);
    collect
}

/// A cell that names nobody.
pub(crate) const UNCLAIMED: u32 = 0;

/// Whether an object has cells in its blocks that name the process of `slot`.
pub(super) fn has_cells_of(arena: &Arena, index: u32, slot: u32) -> bool {
    let object = arena.object(index);
    object.is_any(Kind::Semaphore)
        && object.blocks.iter().any(|block| {
            let cells = storage::find_cells(arena, index, block.load(Ordering::Acquire));
            cells.unwrap_or_default().iter().any(|cell| cell.load(Ordering::SeqCst) == slot + 1)
        })
}

/// Ends what a dead thread was in the middle of. Says whether the collector should look.
pub(crate) fn recover_intent(arena: &Arena, record: &Record, slot: u32) -> bool {
    let intent = record.object_intent.load(Ordering::Acquire);
    let index = intent.wrapping_sub(1);
    if intent == 0 || index >= u64::from(arena.layout.objects) {
        return false;
    }
    let index = index as u32;
    let collect = match arena.object(index).state.load(Ordering::Acquire) {
        // It was letting the object go, or had just made it, or had lost a race for it.
        state if state & 0xff == LIVE => let_go_noted(arena, record, slot, index),
        _ => recover_object(arena, index, slot),
    };
    record.object_intent.store(0, Ordering::Release);
    collect
}

/// Ends what the dead process `slot` was doing to an object. Says whether the collector should
/// look.
pub(crate) fn recover_object(arena: &Arena, index: u32, slot: u32) -> bool {
    let object = arena.object(index);
    let state = object.state.load(Ordering::Acquire);
    if owner(state) != slot {
        return false;
    }
    match state & 0xff {
        NEW => {
            arena.held_objects(slot).clear(index);
            object.clear();
            object.state.store(word(state >> 32, 0, 0, FREE), Ordering::Release);
            arena.header().objects_from.fetch_min(index, Ordering::Relaxed);
            false
        }
        FREEING => finish_free(arena, slot, index),
        _ => false,
    }
}
