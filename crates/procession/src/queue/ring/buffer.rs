//! [`Buffer`]: the bytes of a small message.

use std::mem::MaybeUninit;

use super::record::INLINE_MAX;
use crate::arena::bytes::copy_few;

/// The bytes of a small message that is being put or taken.
pub(crate) struct Buffer {
    bytes: [MaybeUninit<u8>; INLINE_MAX],
    len: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn new() -> Buffer {
        Buffer { bytes: [const { MaybeUninit::uninit() }; INLINE_MAX], len: 0 }
    }

    #[inline]
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(INLINE_MAX);
        // SAFETY: the buffer has at least `len` bytes, and does not overlap the ring.
        unsafe { copy_few(bytes.as_ptr(), self.bytes.as_mut_ptr().cast(), len) };
        self.len = len;
    }

    /// Returns `len` zeroed bytes to write to. `len` is at most `INLINE_MAX`.
    #[inline]
    pub(crate) fn zeros(&mut self, len: usize) -> &mut [u8] {
        // Zeroes whole cache lines, because the length is not a constant, and most messages are short.
        const LINE: usize = 64;
        for line in self.bytes.chunks_exact_mut(LINE).take(len.div_ceil(LINE)) {
            line.fill(MaybeUninit::new(0));
        }
        self.len = len.min(INLINE_MAX);
        // SAFETY: the loop has initialized these bytes, and a byte has no alignment.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().cast(), self.len) }
    }

    /// Returns the bytes that were copied last.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `fill` or `zeros` has initialized `len` bytes.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len) }
    }
}
