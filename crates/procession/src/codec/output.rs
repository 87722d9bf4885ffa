//! [`Output`]: a buffer for bytes that are written a few at a time. A small number of bytes stays on the
//! stack. A larger number goes into a heap buffer that the thread keeps for later outputs.
//!
//! An encoder holds the [`Cursor`] of its output by itself, so the compiler can keep the cursor in registers. The output
//! is touched only when it must grow.
#![allow(unsafe_code)] // Writes bytes at any place of an uninitialized buffer.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

use crate::arena::bytes::copy_few;

const WORD: usize = size_of::<u64>();

/// The size of the buffer on the stack, in words.
const SHORT: usize = 17;

/// The buffer of an [`Output`] that lies on the stack.
pub(super) struct Short([MaybeUninit<u64>; SHORT]);

/// A buffer on the heap. Its length is not kept up to date while an encoder writes to it.
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
    /// The buffer on the heap, or `None` while the bytes are on the stack.
    long: Option<Box<Long>>,
    /// A cursor that was lent was never given back, so the bytes are incomplete.
    is_broken: bool,
    short: PhantomData<&'a mut Short>,
}

/// The place of the next byte in an [`Output`].
///
/// INVARIANT: the bytes of the output's buffer before `at` are initialized. Or the cursor is lent, and then there is no
/// room at it.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    at: *mut u8,
    /// The last position at which there is still room for a word.
    last: *mut u8,
}

impl Cursor {
    /// Takes the place of a cursor that a compound value uses meanwhile.
    const LENT: Cursor = Cursor { at: ptr::without_provenance_mut(usize::MAX), last: ptr::null_mut() };

    /// Returns the cursor, and leaves [`Cursor::LENT`] in its place.
    #[inline]
    pub(super) fn lend(&mut self) -> Cursor {
        std::mem::replace(self, Cursor::LENT)
    }
}

impl<'a> Output<'a> {
    #[inline]
    pub(super) fn new(short: &'a mut Short) -> (Output<'a>, Cursor) {
        let begin: *mut u8 = short.0.as_mut_ptr().cast();
        let last = begin.wrapping_add((SHORT - 1) * WORD);
        let output = Output { begin, long: None, is_broken: false, short: PhantomData };
        (output, Cursor { at: begin, last })
    }

    /// Returns the bytes before a cursor of this output. Returns `None` if a cursor was lent and not given back.
    #[inline]
    pub(super) fn bytes(&self, cursor: Cursor) -> Option<&[u8]> {
        if self.is_broken || cursor.last.is_null() {
            return None;
        }
        // SAFETY: these bytes were written, beginning at `begin`.
        Some(unsafe { std::slice::from_raw_parts(self.begin, cursor.at.addr() - self.begin.addr()) })
    }

    /// Writes bytes of a known number, at most eight.
    #[inline(always)]
    pub(super) fn write_few<const N: usize>(&mut self, cursor: &mut Cursor, bytes: [u8; N]) {
        const { assert!(N <= WORD) };
        let mut at = cursor.at;
        if at > cursor.last {
            *cursor = self.grow(*cursor, WORD);
            at = cursor.at;
        }
        // SAFETY: there is room for a word. (`cursor.at` is not read again, because the compiler cannot know
        // that the written bytes do not overwrite it.)
        unsafe {
            at.cast::<[u8; N]>().write(bytes);
            cursor.at = at.add(N);
        }
    }

    /// Writes bytes.
    #[inline]
    pub(super) fn write(&mut self, cursor: &mut Cursor, bytes: &[u8]) {
        let Cursor { at, last } = *cursor;
        if at > last || bytes.len() > last.addr() - at.addr() {
            *cursor = self.grow(*cursor, bytes.len());
        }
        // SAFETY: there is room for the bytes, and nothing else uses this room.
        unsafe {
            copy_few(bytes.as_ptr(), cursor.at, bytes.len());
            cursor.at = cursor.at.add(bytes.len());
        }
    }

    /// Makes room for `bytes` more bytes, and for one word after them. Returns the cursor's new place.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, cursor: Cursor, bytes: usize) -> Cursor {
        let len = match cursor.last.is_null() {
            false => cursor.at.addr() - self.begin.addr(),
            // What follows is written to a buffer that nobody reads.
            true => {
                self.is_broken = true;
                0
            }
        };
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
        let cursor =
            unsafe { Cursor { at: self.begin.add(len), last: self.begin.add(long.capacity() - WORD) } };
        self.long = Some(long);
        cursor
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
            let (mut output, mut cursor) = Output::new(&mut short);
            output.write(&mut cursor, &expected);
            for round in 0..=WORD {
                output.write_few(&mut cursor, [7]);
                output.write_few(&mut cursor, [1, 2, 3, 4]);
                output.write_few(&mut cursor, [8; WORD]);
                expected.extend([7, 1, 2, 3, 4]);
                expected.extend([8; WORD]);
                output.write(&mut cursor, &[9; 50][..round * 6]);
                expected.extend(std::iter::repeat_n(9, round * 6));
                assert_eq!(output.bytes(cursor), Some(&expected[..]), "round {round} behind {first}");
            }
        }
    }

    #[test]
    fn what_is_written_meanwhile_lies_elsewhere() {
        let (mut short, mut other) = (Short::new(), Short::new());
        let (mut output, mut cursor) = Output::new(&mut short);
        output.write(&mut cursor, &[1; 1000]);
        let (mut inner, mut inner_cursor) = Output::new(&mut other);
        inner.write(&mut inner_cursor, &[2; 1000]);
        output.write(&mut cursor, &[1; 1000]);
        assert_eq!(output.bytes(cursor), Some(&[1; 2000][..]));
        assert_eq!(inner.bytes(inner_cursor), Some(&[2; 1000][..]));
    }

    /// A `Serialize` may forget the serializer of a compound value, and with it the cursor.
    #[test]
    fn bytes_behind_a_lost_cursor_are_refused() {
        for before in [3, 1000] {
            let mut short = Short::new();
            let (mut output, mut cursor) = Output::new(&mut short);
            output.write(&mut cursor, &vec![1; before]);
            let mut lost = cursor.lend();
            assert_eq!(output.bytes(cursor), None);
            output.write(&mut lost, &[2; 5000]);
            output.write(&mut cursor, &[]);
            output.write_few(&mut cursor, [3; 8]);
            output.write(&mut cursor, &[3; 9000]);
            assert_eq!(output.bytes(cursor), None);
        }
    }

    #[test]
    fn little_room_is_kept_and_much_is_not() {
        let kept = || {
            let room = KEPT.take();
            let bytes = room.as_ref().map(|room| room.capacity());
            KEPT.set(room);
            bytes
        };
        let write = |bytes| {
            let mut short = Short::new();
            let (mut output, mut cursor) = Output::new(&mut short);
            output.write(&mut cursor, &vec![1; bytes]);
        };
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
