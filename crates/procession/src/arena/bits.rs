//! A bitmap in two levels: the bits, and for each cache line of them one bit that says whether to
//! look there. Clearing what a dead process held touches only what it used.
//!
//! The upper level is a hint that errs to one side: a line with a bit set is always marked,
//! because it is marked first.

use std::sync::atomic::{AtomicU64, Ordering};

const WORDS_A_LINE: u32 = 8;
const BITS_A_LINE: u32 = 64 * WORDS_A_LINE;

/// Marks for the lines of one bitmap: enough for a million bits.
pub(crate) type Lines = [AtomicU64; 32];

/// One process's bitmap.
#[derive(Clone, Copy)]
pub(crate) struct Bits {
    words: *const AtomicU64,
    len: u32,
    lines: &'static Lines,
}

impl Bits {
    /// `words` starts a table of at least `len` bits that is never unmapped.
    pub(super) fn new(words: &'static AtomicU64, len: u32, lines: &'static Lines) -> Bits {
        Bits { words, len, lines }
    }

    fn word(&self, index: u32) -> &'static AtomicU64 {
        // SAFETY: callers pass indices below `len / 64` rounded up, and the table is that long.
        unsafe { &*self.words.add(index as usize) }
    }

    pub(crate) fn set(&self, bit: u32) {
        debug_assert!(bit < self.len);
        let line = bit / BITS_A_LINE;
        let (mark, mask) = (&self.lines[(line / 64) as usize], 1 << (line % 64));
        if mark.load(Ordering::SeqCst) & mask == 0 {
            // CRASH: a marked line without bits is only looked at for nothing.
            mark.fetch_or(mask, Ordering::SeqCst);
        }
        // ORDERING: SeqCst, because the collector's proof is about the order of this and its scan.
        self.word(bit / 64).fetch_or(1 << (bit % 64), Ordering::SeqCst);
    }

    /// As [`set`](Bits::set), for who does not care when a bit was set that is set already.
    pub(crate) fn see_to(&self, bit: u32) {
        if !self.has(bit) {
            self.set(bit);
        }
    }

    pub(crate) fn clear(&self, bit: u32) {
        debug_assert!(bit < self.len);
        self.word(bit / 64).fetch_and(!(1 << (bit % 64)), Ordering::SeqCst);
    }

    pub(crate) fn has(&self, bit: u32) -> bool {
        debug_assert!(bit < self.len);
        self.word(bit / 64).load(Ordering::SeqCst) >> (bit % 64) & 1 == 1
    }

    /// Calls `f` with every bit that is set.
    pub(crate) fn for_each(&self, mut f: impl FnMut(u32)) {
        for (i, mark) in self.lines.iter().enumerate() {
            let mut marks = mark.load(Ordering::SeqCst);
            while marks != 0 {
                let line = i as u32 * 64 + marks.trailing_zeros();
                marks &= marks - 1;
                for word in (line * WORDS_A_LINE..(line + 1) * WORDS_A_LINE).take_while(|w| w * 64 < self.len)
                {
                    let mut bits = self.word(word).load(Ordering::SeqCst);
                    while bits != 0 {
                        f(word * 64 + bits.trailing_zeros());
                        bits &= bits - 1;
                    }
                }
            }
        }
    }

    /// Forgets the marks of a bitmap of which every bit is clear and nobody sets one.
    pub(crate) fn forget_lines(&self) {
        for mark in self.lines.iter() {
            if mark.load(Ordering::Relaxed) != 0 {
                mark.store(0, Ordering::Release);
            }
        }
    }
}
