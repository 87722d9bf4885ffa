//! Runs: messages of one length in a row, such as numbers. Their records are written and read in tight loops.

use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::produce::Piece;
use super::record::{Header, INLINE_MAX, WORD};
use super::{Refusal, Ring};

/// Calls `$f::<N>` for a length `N` that many runs have, or else `$f::<0>`, which works for every length.
macro_rules! by_len {
    ($len:expr, $self:ident.$f:ident($($arg:expr),*)) => {
        match $len {
            1 => $self.$f::<1>($($arg),*),
            2 => $self.$f::<2>($($arg),*),
            4 => $self.$f::<4>($($arg),*),
            8 => $self.$f::<8>($($arg),*),
            16 => $self.$f::<16>($($arg),*),
            32 => $self.$f::<32>($($arg),*),
            64 => $self.$f::<64>($($arg),*),
            _ => $self.$f::<0>($($arg),*),
        }
    };
}

impl Batch<'_> {
    /// Writes a record for each `len` bytes, as long as there is room. Returns how many records it wrote, or the
    /// refusal if there was no room for one.
    pub(super) fn push_run(&mut self, bytes: &[u8], len: usize) -> Result<usize, Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // The first record finds room for itself, and usually for others.
            let (first, others) = rest.split_at(len);
            match self.push(Piece::Inline(first)) {
                Err(refusal) if rest.len() == bytes.len() => return Err(refusal),
                Err(_) => break,
                Ok(()) => {}
            }
            let count = self.room_for(len as u64).min((others.len() / len) as u64) as usize;
            let (now, later) = others.split_at(count * len);
            by_len!(len, self.write_records(now, len));
            rest = later;
        }
        Ok((bytes.len() - rest.len()) / len)
    }

    /// Writes records for which there is room, behind the first record of the batch.
    fn write_records<const LEN: usize>(&mut self, bytes: &[u8], len: usize) {
        let len = if LEN == 0 { len } else { LEN };
        let header = Header::Inline { len: len as u64 };
        let size = header.size() as usize;
        let count = bytes.len() / len;
        // SAFETY: this is room behind the cursor. Only the producer that holds the lock writes to it, and no
        // thread reads it before the batch is committed.
        let room = unsafe { self.ring.arena.bytes_mut(self.at, (count * size) as u64) };
        let mut at = self.at;
        for (record, item) in room.chunks_exact_mut(size).zip(bytes.chunks_exact(len)) {
            self.ring.prepare_lines(at, at + header.size());
            record[..WORD as usize].copy_from_slice(&header.word().to_le_bytes());
            record[WORD as usize..][..len].copy_from_slice(item);
            at += header.size();
        }
        self.advance(count as u64, header);
    }
}

impl Ring {
    /// Copies messages of `len` bytes from the record at `at` on, at most `max` of them. Returns their number. The
    /// caller holds the consumers' lock, and the first record has this length.
    pub(super) fn copy_run(&self, at: u64, len: usize, max: usize, to: &mut Vec<u8>) -> usize {
        by_len!(len, self.copy_records(at, len, max, to))
    }

    fn copy_records<const LEN: usize>(&self, mut at: u64, len: usize, max: usize, to: &mut Vec<u8>) -> usize {
        const { assert!(LEN <= INLINE_MAX) };
        let len = if LEN == 0 { len } else { LEN };
        let header = Header::Inline { len: len as u64 };
        let mut count = 0;
        // ORDERING: as in `header`.
        while count < max && self.word(at).load(Ordering::Acquire) == header.word() {
            to.extend_from_slice(&self.message(at, len as u64)[..len]);
            at += header.size();
            count += 1;
        }
        count
    }
}
