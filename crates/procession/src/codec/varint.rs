//! Numbers of variable length, with seven bits in each byte and the lowest bits first. All bytes except the
//! last have their highest bit set.

use super::encoder::Encoder;

impl Encoder<'_> {
    /// Appends a number, with seven bits in each byte and the lowest bits first. All bytes except the last
    /// have their highest bit set.
    #[inline]
    pub(super) fn append_varint(&mut self, value: u64) {
        // Most numbers are small. With a branch for each length, the processor predicts the length instead of
        // waiting for it.
        match value {
            ..0x80 => self.0.write_word(value, 1),
            0x80..0x4000 => self.0.write_word(spread_few_sevens(value) | 0x80, 2),
            0x4000..0x20_0000 => self.0.write_word(spread_few_sevens(value) | 0x8080, 3),
            0x20_0000..0x1000_0000 => self.0.write_word(spread_few_sevens(value) | 0x80_8080, 4),
            _ => self.append_long_varint(value),
        }
    }

    fn append_long_varint(&mut self, value: u64) {
        if value >= 1 << 56 {
            return self.append_huge_varint(value.into());
        }
        let bytes = (70 - value.leading_zeros() as usize) / 7;
        let follow = 0x8080_8080_8080_8080 & ((1 << (8 * (bytes - 1))) - 1);
        self.0.write_word(spread_sevens(value) | follow, bytes);
    }

    #[cold]
    pub(super) fn append_huge_varint(&mut self, mut value: u128) {
        while value >= 1 << 7 {
            self.0.write_word(value as u64 & 0x7f | 0x80, 1);
            value >>= 7;
        }
        self.0.write_word(value as u64, 1);
    }

    #[inline]
    pub(super) fn append_len(&mut self, len: usize) {
        self.append_varint(len as u64);
    }
}

/// Spreads the lowest 56 bits over eight bytes, seven bits in each. First splits them into halves, then into
/// quarters, then into eighths.
fn spread_sevens(bits: u64) -> u64 {
    let bits = apart(bits, 0x0fff_ffff, 4);
    let bits = apart(bits, 0x0000_3fff_0000_3fff, 2);
    apart(bits, 0x007f_007f_007f_007f, 1)
}

/// Spreads the lowest 28 bits over four bytes. No higher bit may be set.
#[inline]
fn spread_few_sevens(bits: u64) -> u64 {
    apart(apart(bits, 0x3fff, 2), 0x007f_007f, 1)
}

/// Shifts the bits that are not in `low` up by `by` bits.
#[inline]
fn apart(bits: u64, low: u64, by: u32) -> u64 {
    bits & low | (bits & !low) << by
}

/// Maps signed numbers to unsigned ones, so that numbers with a small absolute value become small numbers.
#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}
