//! The records in a segment, one after the other.
//!
//! ```text
//! ┌──────────────┬───────────────────────┐ ┌──────────────┬──────────┐ ┌──────────────┐ ┌───
//! │ INLINE, len  │ len bytes, padded to 8 │ │ BLOCK, len   │ block    │ │ GO, offset   │ │ 0
//! └──────────────┴───────────────────────┘ └──────────────┴──────────┘ └──────────────┘ └───
//! ```
//!
//! | header   | meaning                                                                        |
//! |----------|--------------------------------------------------------------------------------|
//! | `0`      | no record yet: the next one begins here                                         |
//! | `INLINE` | a message whose bytes follow                                                    |
//! | `BLOCK`  | a message in its own block, which belongs to the queue; the block's offset follows |
//! | `GO`     | the next record is elsewhere; with `LEAVE` it is in another segment, and this segment is no longer used |
//! | `CLOSED` | there will be no more records                                                   |

/// The maximum length of a message that lies in the ring itself.
pub(crate) const INLINE_MAX: usize = 512;

/// The bytes of a header, and the alignment of a record.
pub(super) const WORD: u64 = 8;
/// The bytes of a record that names a block.
pub(super) const BLOCK_RECORD: u64 = 2 * WORD;

const INLINE: u64 = 1;
const BLOCK: u64 = 2;
const GO: u64 = 3;
const GO_AND_LEAVE: u64 = 4;
const CLOSED: u64 = 5;
const KIND: u64 = 0xff;

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Nothing,
    Inline { len: u64 },
    Block { len: u64 },
    Go { to: u64, leave: bool },
    Closed,
}

impl Header {
    #[inline]
    pub(super) fn word(self) -> u64 {
        let (kind, value) = match self {
            Header::Nothing => (0, 0),
            Header::Inline { len } => (INLINE, len),
            Header::Block { len } => (BLOCK, len),
            Header::Go { to, leave: false } => (GO, to),
            Header::Go { to, leave: true } => (GO_AND_LEAVE, to),
            Header::Closed => (CLOSED, 0),
        };
        value << 8 | kind
    }

    #[inline]
    pub(super) fn read(word: u64) -> Header {
        let value = word >> 8;
        match word & KIND {
            INLINE if value <= INLINE_MAX as u64 => Header::Inline { len: value },
            BLOCK => Header::Block { len: value },
            GO => Header::Go { to: value, leave: false },
            GO_AND_LEAVE => Header::Go { to: value, leave: true },
            CLOSED => Header::Closed,
            _ => Header::Nothing,
        }
    }

    /// Returns the message's length if this word is the header of a small message.
    #[inline]
    pub(super) fn inline_len(word: u64) -> Option<u64> {
        let len = word >> 8;
        (word & KIND == INLINE && len <= INLINE_MAX as u64).then_some(len)
    }

    /// Returns the number of bytes from this record's header to the next header, if the next record follows
    /// directly.
    #[inline]
    pub(super) fn size(self) -> u64 {
        match self {
            Header::Inline { len } => WORD + len.next_multiple_of(WORD),
            Header::Block { .. } => BLOCK_RECORD,
            _ => WORD,
        }
    }
}
