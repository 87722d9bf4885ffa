//! An object: what a handle names.
//!
//! | phase     | meaning                                   | who moves it                            |
//! |-----------|-------------------------------------------|-----------------------------------------|
//! | `FREE`    | there is no object                        | a process → `NEW` by its slot           |
//! | `NEW`     | that process is creating the object       | that process → `LIVE`; recovery → `FREE` |
//! | `LIVE`    | handles may name it                       | the process that releases it last → `FREEING` |
//! | `FREEING` | that process is freeing the object        | that process or recovery → `FREE`       |
//!
//! The word also carries the object's kind and a generation. The generation grows when the object is freed,
//! so a stale handle does not name the next object at the same index. An object whose generation has reached
//! its maximum stays `FREE`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Arena;
use super::kind::Kind;
use crate::os::futex;
use crate::rules::Rule;
use crate::{Error, Result, rules};

pub(super) const FREE: u64 = 0;
pub(super) const NEW: u64 = 1;
pub(super) const LIVE: u64 = 2;
pub(super) const FREEING: u64 = 3;

/// The last generation. An object that has reached it is not used again.
pub(super) const LAST_GENERATION: u64 = u32::MAX as u64;

/// The owner that the supervisor writes into words. The supervisor has no slot.
pub(crate) const SUPERVISOR: u32 = 0xffff;
/// The length of the longest name, in bytes.
pub(crate) const NAME: usize = 95;

/// One object: four cache lines. The second line is the hot line, which holds the words that operations use.
#[repr(C, align(256))]
pub(crate) struct Object {
    pub(super) state: AtomicU64,
    /// Not 0 once a handle to the object was sent. From then on, only the collector can determine whether the
    /// object is still used.
    embedded: AtomicU32,
    /// How often a handle to the object has moved: see `collect.rs`.
    pub(super) touched: AtomicU32,
    /// The two processes that may hold the object while it is not embedded, as slot + 1, or 0.
    pub(super) creator: AtomicU32,
    pub(super) partner: AtomicU32,
    name_len: AtomicU32,
    _pad: AtomicU32,
    /// Offsets of blocks that belong to the object.
    pub(crate) blocks: [AtomicU64; 3],
    _line: AtomicU64,
    body: [AtomicU64; 8],
    name: [AtomicU64; 12],
    /// Offsets of words in which [`GONE`] is set when the object is freed: see [`Object::register_end_words`].
    end_words: [AtomicU64; 2],
    /// The spans in which the object may own blocks. There are 128 bits, and bit n stands for every 128th
    /// span, beginning with span n. The bit is set before the block's tag.
    spans: [AtomicU64; 2],
}

/// The bit that is set in each registered end word when the object is freed.
pub(crate) const GONE: u32 = 2;

/// The words of an object that its operations use.
///
/// # Safety
/// The type consists of atomics only, has at most 64 bytes, and is valid if all its bytes are zero.
pub(crate) unsafe trait Body: Sync + 'static {
    const KIND: Kind;
}

/// Index and generation. An id never names a second object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) u64);

impl Id {
    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> 32
    }
}

pub(super) fn word(generation: u64, owner: u32, kind: u8, phase: u64) -> u64 {
    generation << 32 | u64::from(owner) << 16 | u64::from(kind) << 8 | phase
}

pub(super) fn owner(word: u64) -> u32 {
    (word >> 16) as u32 & 0xffff
}

impl Object {
    /// Returns the object's body.
    pub(crate) fn body<T: Body>(&self) -> &T {
        const { assert!(size_of::<T>() <= 64 && align_of::<T>() <= 64) };
        // SAFETY: promised by `Body`. The body is aligned to 64 bytes, because `Object` is aligned to a
        // multiple of that.
        unsafe { &*(&raw const self.body).cast::<T>() }
    }

    /// Returns a pointer to the hot line.
    pub(crate) fn hot_line(&self) -> *const AtomicU64 {
        self.body.as_ptr()
    }

    /// Returns whether `id` names the object that is here now, and whether that object is of `kind`.
    pub(crate) fn is(&self, id: Id, kind: Kind) -> bool {
        let state = self.state.load(Ordering::SeqCst);
        state & 0xff == LIVE && state >> 32 == id.generation() && (state >> 8) as u8 == kind as u8
    }

    /// Exhausts the generations of a free object, so that it can be used only once more.
    #[cfg(feature = "internals")]
    pub(crate) fn exhaust_generations(&self) {
        assert!(self.is_free());
        self.state.store(word(LAST_GENERATION - 1, 0, 0, FREE), Ordering::SeqCst);
    }

    #[cfg(feature = "internals")]
    pub(crate) fn is_free(&self) -> bool {
        self.state.load(Ordering::SeqCst) & 0xff == FREE
    }

    /// Returns the object's kind, unless it is free or being created.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let state = self.state.load(Ordering::SeqCst);
        matches!(state & 0xff, LIVE | FREEING).then(|| Kind::read((state >> 8) as u8)).flatten()
    }

    /// Returns whether the object exists and is of `kind`.
    pub(crate) fn is_any(&self, kind: Kind) -> bool {
        self.kind() == Some(kind)
    }

    /// Registers two words whose waiters are notified when the object is freed. The words must lie in memory
    /// that the object keeps alive. Called while the object is being created.
    pub(crate) fn register_end_words(&self, words: [u64; 2]) {
        self.end_words.iter().zip(words).for_each(|(to, word)| to.store(word, Ordering::Relaxed));
    }

    /// Notifies the registered waiters that the object is gone. Called when no handle names it.
    pub(super) fn notify_end(&self, arena: &Arena) {
        for word_at in &self.end_words {
            if let Some(word) = arena.futex_word(word_at.load(Ordering::Acquire)) {
                word.fetch_or(GONE, Ordering::SeqCst);
                futex::wake_all(word);
                // CRASH: after a death before this store, recovery repeats the notification. The memory of
                // the word is freed only after this store.
                word_at.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Returns the object's handle id if it is live, whatever its kind.
    pub(crate) fn live_id(&self, index: u32) -> Option<Id> {
        let state = self.state.load(Ordering::SeqCst);
        (state & 0xff == LIVE).then_some(Id(state >> 32 << 32 | u64::from(index)))
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.load(Ordering::SeqCst) != 0
    }

    /// Marks a span as one in which the object may own blocks.
    #[inline]
    pub(super) fn mark_span(&self, span: u32) {
        let (word, mask) = self.bit_of_span(span);
        if word.load(Ordering::Relaxed) & mask == 0 {
            word.fetch_or(mask, Ordering::AcqRel);
        }
    }

    /// Returns whether the object may own blocks in a span.
    pub(crate) fn may_be_in(&self, span: u32) -> bool {
        let (word, mask) = self.bit_of_span(span);
        word.load(Ordering::Acquire) & mask != 0
    }

    #[inline]
    fn bit_of_span(&self, span: u32) -> (&AtomicU64, u64) {
        (&self.spans[(span / 64 % 2) as usize], 1 << (span % 64))
    }

    /// Counts one move of a handle. Called after the destination holds the object and before the source
    /// releases it.
    pub(crate) fn touch(&self) {
        // ORDERING: SeqCst, see the proof in `collect.rs`.
        self.embedded.store(1, Ordering::SeqCst);
        if rules::holds(Rule::Touch) {
            self.touched.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Registers a second process that holds the object, although no handle to the object was ever sent.
    pub(crate) fn set_partner(&self, slot: u32) {
        self.partner.store(slot + 1, Ordering::SeqCst);
    }

    /// Stores a name of at most [`NAME`] bytes.
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

    /// As [`name`](Object::name), but allocates no memory.
    pub(crate) fn name_bytes<'a>(&self, buffer: &'a mut [u8; NAME + 1]) -> &'a [u8] {
        let len = (self.name_len.load(Ordering::Acquire) as usize).min(NAME);
        for (bytes, word) in buffer.chunks_exact_mut(8).zip(&self.name) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        &buffer[..len]
    }

    pub(super) fn clear(&self) {
        let words = self.blocks.iter().chain(&self.body).chain(&self.name).chain(&self.end_words);
        for word in words.chain(&self.spans) {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&self.embedded, &self.touched, &self.creator, &self.partner, &self.name_len] {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// Checks that a name is not too long.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.len() <= NAME {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "a name may have at most {NAME} bytes, and this one has {}",
        name.len()
    )))
}

/// The value of a cell that no process has claimed.
pub(crate) const UNCLAIMED: u32 = 0;
