//! A bitmap in two levels: the bits, and one mark for each cache line of bits. A mark says whether the line
//! may contain set bits. Clearing what a dead process held touches only the lines that the process used.
//!
//! A mark errs in one direction only. A line with a set bit is always marked, because the mark is set before
//! the bit. A marked line may be empty.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rules::{self, Rule};

const WORDS_A_LINE: u32 = 8;
const BITS_A_LINE: u32 = 64 * WORDS_A_LINE;

/// The marks of one bitmap: enough for a million bits.
pub(crate) type Lines = [AtomicU64; 32];

/// One process's bitmap.
#[derive(Clone, Copy)]
pub(crate) struct Bits {
    words: *const AtomicU64,
    len: u32,
    lines: &'static Lines,
}

impl Bits {
    /// Returns the bitmap whose bits begin at `words`, in a table of at least `len` bits that is never
    /// unmapped.
    pub(super) fn new(words: &'static AtomicU64, len: u32, lines: &'static Lines) -> Bits {
        Bits { words, len, lines }
    }

    fn word(&self, index: u32) -> &'static AtomicU64 {
        // SAFETY: callers pass indices below `len / 64`, rounded up, and the table has that many words.
        unsafe { &*self.words.add(index as usize) }
    }

    pub(crate) fn set(&self, bit: u32) {
        debug_assert!(bit < self.len);
        let line = bit / BITS_A_LINE;
        let (mark, mask) = (&self.lines[(line / 64) as usize], 1 << (line % 64));
        if mark.load(Ordering::SeqCst) & mask == 0 {
            // CRASH: a death here leaves a marked line without set bits. The next drain looks at the line and finds
            // nothing.
            mark.fetch_or(mask, Ordering::SeqCst);
        }
        // ORDERING: SeqCst, because the collector's proof needs an order between this operation and the
        // collector's scan.
        self.word(bit / 64).fetch_or(1 << (bit % 64), Ordering::SeqCst);
    }

    /// As [`set`](Bits::set), but does nothing if the bit is already set. For callers that need no order
    /// between this and other stores.
    pub(crate) fn ensure_set(&self, bit: u32) {
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
        for (i, mark) in (0..).zip(self.lines.iter()) {
            for line in ones(mark.load(Ordering::SeqCst)).map(|bit| i * 64 + bit) {
                self.words_of(line).for_each(|word| self.bits_of(word).for_each(&mut f));
            }
        }
    }

    /// Calls `f` with each set bit and then clears the bit, until no bit is left. That includes bits that `f`
    /// itself sets.
    ///
    /// INVARIANT: a set bit lies in a marked line. So a line loses its mark only after every bit in the line
    /// was found clear. During the drain, only `f` may set bits.
    pub(crate) fn drain(&self, mut f: impl FnMut(u32)) {
        let mut found = true;
        while found {
            found = false;
            for (i, mark) in (0..).zip(self.lines.iter()) {
                for bit in ones(mark.load(Ordering::SeqCst)) {
                    found = true;
                    self.drain_line(i * 64 + bit, &mut f);
                    // CRASH: after a death before this store, the next drain looks at the line again and
                    // finds nothing.
                    mark.fetch_and(!(1 << bit), Ordering::SeqCst);
                }
            }
        }
    }

    fn drain_line(&self, line: u32, f: &mut impl FnMut(u32)) {
        let mut found = true;
        while found {
            found = false;
            for bit in self.words_of(line).flat_map(|word| self.bits_of(word)) {
                found = rules::holds(Rule::LineDrained);
                f(bit);
                self.clear(bit);
            }
        }
    }

    fn words_of(&self, line: u32) -> impl Iterator<Item = u32> + use<> {
        let len = self.len;
        (line * WORDS_A_LINE..(line + 1) * WORDS_A_LINE).take_while(move |word| word * 64 < len)
    }

    /// Returns the bits of one word that are set when the word is read.
    fn bits_of(&self, word: u32) -> impl Iterator<Item = u32> + use<> {
        ones(self.word(word).load(Ordering::SeqCst)).map(move |bit| word * 64 + bit)
    }

    /// Calls `f` with each set bit and with whether the bit's line is marked. For audits that check the
    /// marks.
    #[cfg(feature = "internals")]
    pub(crate) fn for_each_of_all(&self, most: u32, mut f: impl FnMut(u32, bool)) {
        for word in 0..self.len.min(most).div_ceil(64) {
            let line = word / WORDS_A_LINE;
            let marked = self.lines[(line / 64) as usize].load(Ordering::SeqCst) >> (line % 64) & 1 == 1;
            self.bits_of(word).for_each(|bit| f(bit, marked));
        }
    }
}

/// Returns the positions of the set bits in a word.
fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u32 = 4 * BITS_A_LINE + 100;

    /// Returns a bitmap that is never freed.
    fn bits() -> Bits {
        let words: Vec<AtomicU64> = (0..LEN.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let lines: &'static Lines = Box::leak(Box::new([const { AtomicU64::new(0) }; 32]));
        Bits::new(&words.leak()[0], LEN, lines)
    }

    fn are_clear(bits: Bits) -> bool {
        let marked = bits.lines.iter().any(|mark| mark.load(Ordering::SeqCst) != 0);
        !marked && !(0..LEN).any(|bit| bits.has(bit))
    }

    #[test]
    fn a_drain_finds_what_it_sets_itself() {
        // The second bit lies in an earlier word, in the same word, in an earlier line, in a later line, and
        // in the last word.
        for (first, sets) in [(130, 3), (130, 129), (3 * BITS_A_LINE, 5), (7, 2 * BITS_A_LINE), (9, LEN - 1)]
        {
            let bits = bits();
            bits.set(first);
            let mut seen = Vec::new();
            bits.drain(|bit| {
                seen.push(bit);
                if bit == first {
                    bits.ensure_set(sets);
                }
            });
            assert_eq!(seen, [first, sets]);
            assert!(are_clear(bits));
            bits.ensure_set(sets);
            let mut again = Vec::new();
            bits.for_each(|bit| again.push(bit));
            assert_eq!(again, [sets], "its line is marked again");
        }
    }

    #[test]
    fn each_bit_is_drained_once() {
        let (bits, mut seen) = (bits(), Vec::new());
        let set: Vec<u32> = (0..LEN).filter(|bit| bit % 37 == 0 || bit % 512 == 511).collect();
        set.iter().for_each(|&bit| bits.set(bit));
        bits.drain(|bit| seen.push(bit));
        assert_eq!(seen, set);
        assert!(are_clear(bits));
    }
}
