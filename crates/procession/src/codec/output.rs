//! [`Output`]: a buffer for bytes that are written a few at a time. A small number of bytes stays on the
//! stack. A larger number goes into a heap buffer that the thread keeps for later outputs.
#![allow(unsafe_code)] // Writes words at any place of an uninitialized buffer.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::arena::bytes::copy_few;

const WORD: usize = size_of::<u64>();

/// The size of the buffer on the stack, in words.
const SHORT: usize = 17;

/// The buffer of an [`Output`] that lies on the stack.
pub(super) struct Short([MaybeUninit<u64>; SHORT]);

/// A buffer on the heap. Its length is not kept up to date while an [`Output`] writes to it.
type Long = Vec<MaybeUninit<u8>>;

/// The capacity of the largest buffer that a thread keeps, in bytes.
const KEPT_MAX: usize = 64 << 10;

thread_local! {
    /// The kept buffer. An output takes it out of this cell while using it, because encoding a value may send
    /// another value. The buffer is boxed, so the cell takes one word.
    static KEPT: Cell<Option<Box<Long>>> = const { Cell::new(None) };
}

impl Short {
    #[inline]
    pub(super) fn new() -> Short {
        Short([const { MaybeUninit::uninit() }; SHORT])
    }
}

pub(super) struct Output<'a> {
    begin: *mut u8,
    /// Where the next byte goes. All bytes of the buffer before this position are initialized.
    at: *mut u8,
    /// The last position at which there is still room for a word.
    last: *mut u8,
    /// The buffer on the heap, or `None` while the three pointers point into the buffer on the stack.
    long: Option<Box<Long>>,
    short: PhantomData<&'a mut Short>,
}

impl<'a> Output<'a> {
    #[inline]
    pub(super) fn new(short: &'a mut Short) -> Output<'a> {
        let begin = short.0.as_mut_ptr();
        let last = begin.wrapping_add(SHORT - 1).cast();
        Output { begin: begin.cast(), at: begin.cast(), last, long: None, short: PhantomData }
    }

    #[inline]
    fn len(&self) -> usize {
        self.at.addr() - self.begin.addr()
    }

    /// Returns the written bytes.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: this many bytes were written, beginning at `begin`.
        unsafe { std::slice::from_raw_parts(self.begin, self.len()) }
    }

    /// Writes bytes.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let room = self.last.addr() + WORD - self.at.addr();
        if bytes.len() > room {
            self.grow(bytes.len());
        }
        // SAFETY: there is room for the bytes, and nothing else uses this room.
        unsafe {
            copy_few(bytes.as_ptr(), self.at, bytes.len());
            self.at = self.at.add(bytes.len());
        }
    }

    /// Writes the first `bytes` bytes of a word.
    #[inline]
    pub(super) fn write_word(&mut self, word: u64, bytes: usize) {
        debug_assert!(bytes <= WORD);
        let mut at = self.at;
        if at > self.last {
            at = self.grow(WORD);
        }
        // SAFETY: there is room for a whole word. (`self.at` is not read again, because the compiler cannot
        // know that the written word does not overwrite it.)
        unsafe {
            at.cast::<[u8; WORD]>().write(word.to_le_bytes());
            self.at = at.add(bytes);
        }
    }

    /// Makes room for `bytes` more bytes, and for one word after them. Returns where the next byte goes.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, bytes: usize) -> *mut u8 {
        let len = self.len();
        let mut long = self.long.take().unwrap_or_else(|| {
            // A thread that is ending may no longer have a kept buffer.
            let mut kept = KEPT.try_with(Cell::take).ok().flatten().unwrap_or_default();
            kept.clear();
            // SAFETY: these bytes were written to the buffer on the stack.
            kept.extend_from_slice(unsafe { std::slice::from_raw_parts(self.begin.cast(), len) });
            kept
        });
        // SAFETY: the elements need not be initialized, and the buffer has room for the `len` bytes that were
        // written.
        unsafe { long.set_len(len) };
        long.reserve(bytes + WORD);
        self.begin = long.as_mut_ptr().cast();
        // SAFETY: both positions lie within the buffer, which is at least one word larger than `len`.
        (self.at, self.last) = unsafe { (self.begin.add(len), self.begin.add(long.capacity() - WORD)) };
        self.long = Some(long);
        self.at
    }
}

impl Drop for Output<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(long) = self.long.take() {
            keep(long);
        }
    }
}

/// Keeps a buffer for later outputs of this thread, unless it is too large.
#[cold]
fn keep(long: Box<Long>) {
    if long.capacity() <= KEPT_MAX {
        // If the thread is ending, the buffer is freed instead.
        let _ = KEPT.try_with(|kept| kept.set(Some(long)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_wherever_it_grows() {
        for first in 0..300_usize {
            let (mut short, mut expected) = (Short::new(), vec![1; first]);
            let mut output = Output::new(&mut short);
            output.write(&expected);
            for bytes in 0..=WORD {
                output.write_word(0x0706_0504_0302_0100, bytes);
                expected.extend(0..bytes as u8);
                output.write(&[9; 50][..bytes * 6]);
                expected.extend(std::iter::repeat_n(9, bytes * 6));
                assert_eq!(output.bytes(), expected, "{bytes} bytes a time behind {first}");
            }
        }
    }

    #[test]
    fn what_is_written_meanwhile_lies_elsewhere() {
        let (mut short, mut other) = (Short::new(), Short::new());
        let mut output = Output::new(&mut short);
        output.write(&[1; 1000]);
        let mut inner = Output::new(&mut other);
        inner.write(&[2; 1000]);
        output.write(&[1; 1000]);
        assert!(output.bytes() == [1; 2000] && inner.bytes() == [2; 1000]);
    }

    #[test]
    fn little_room_is_kept_and_much_is_not() {
        let kept = || {
            let room = KEPT.take();
            let bytes = room.as_ref().map(|room| room.capacity());
            KEPT.set(room);
            bytes
        };
        let write = |bytes| Output::new(&mut Short::new()).write(&vec![1; bytes]);
        write(100);
        assert_eq!(kept(), None);
        write(1000);
        let room = kept().expect("it was longer than the room on the stack");
        write(room / 2);
        assert_eq!(kept(), Some(room));
        write(KEPT_MAX + 1);
        assert_eq!(kept(), None);
    }
}
