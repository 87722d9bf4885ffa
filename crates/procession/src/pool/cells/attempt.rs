//! [`Attempt`]: how often the current item of a task was begun, and how the last worker died while it ran the
//! item.
//!
//! ```text
//!  63        48 47     40 39          24 23             0
//! ┌────────────┬─────────┬──────────────┬────────────────┐
//! │   number   │ ending  │    status    │      item      │
//! └────────────┴─────────┴──────────────┴────────────────┘
//! ```
//!
//! The ending is 0 unless a worker has died while it ran the item and no other worker has read the ending
//! yet. If the word contains the number of another item, the current item is at its first attempt. So for
//! most items a worker stores nothing here. The number of items in a chunk always fits into 24 bits.

/// The decoded word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// 1 for the first attempt.
    pub(crate) number: u32,
    pub(crate) ending: u64,
    /// The signal that ended the worker. If the worker exited: -1 minus its exit code.
    pub(crate) status: i32,
    /// The worker had run out of memory. The word stores this flag in a bit of the status that no signal number
    /// uses.
    pub(crate) no_memory: bool,
    /// The worker aborted because of a panic, and the cell's note is the text of the panic. Stored as
    /// `no_memory` is.
    pub(crate) panicked: bool,
}

const ITEM: u64 = 0xff_ffff;
const MOST_ATTEMPTS: u32 = 0xffff;
/// The most retries that the word can count. The number of attempts is one more than the number of retries.
pub(crate) const MOST_RETRIES: u32 = MOST_ATTEMPTS - 1;
const NO_MEMORY: u16 = 1 << 8;
const PANICKED: u16 = 1 << 9;

impl Attempt {
    pub(crate) fn word(self, item: u32) -> u64 {
        let flag = |is: bool, bit| if is && self.status > 0 { bit } else { 0 };
        let flags = flag(self.no_memory, NO_MEMORY) | flag(self.panicked, PANICKED);
        let status = u64::from(self.status as u16 | flags) << 24;
        let number = u64::from(self.number.min(MOST_ATTEMPTS));
        number << 48 | self.ending << 40 | status | u64::from(item) & ITEM
    }

    pub(crate) fn read(word: u64, item: u32) -> Attempt {
        if word & ITEM != u64::from(item) & ITEM {
            return Attempt { number: 1, ..Attempt::default() };
        }
        let (number, ending) = (((word >> 48) as u32).max(1), word >> 40 & 0xff);
        let status = (word >> 24) as u16;
        let is_signal = status.cast_signed() > 0;
        let has = |bit| is_signal && status & bit != 0;
        let (no_memory, panicked) = (has(NO_MEMORY), has(PANICKED));
        let status = if is_signal { status & !(NO_MEMORY | PANICKED) } else { status };
        Attempt { number, ending, status: i32::from(status.cast_signed()), no_memory, panicked }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::ending;
    use super::*;
    use crate::pool::cells::progress::ChunkProgress;

    #[test]
    fn an_attempt_is_of_one_item() {
        let attempt = Attempt { number: 2, ending: ending::DIED, status: 9, no_memory: true, panicked: true };
        for item in [0, 1, 0xffff, ChunkProgress::MOST_ITEMS] {
            assert_eq!(Attempt::read(attempt.word(item), item), attempt);
            let other = Attempt::read(attempt.word(item), item ^ 1);
            assert_eq!((other.number, other.ending), (1, 0));
        }
        let often = Attempt { number: u32::MAX, ..attempt };
        assert!(Attempt::read(often.word(3), 3).number > MOST_RETRIES, "no task is retried without end");
    }
}
