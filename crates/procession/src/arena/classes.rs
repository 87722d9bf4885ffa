//! The size classes of small blocks, and the numbers that follow from each size.

use super::layout::SPAN;

/// Sizes of small blocks, header included. Larger blocks are runs of spans.
pub(crate) const CLASSES: [u32; 20] = [
    32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10880, 16352,
    32736,
];

/// The facts of each class, computed at compile time. Allocating or freeing a block takes little longer than
/// a division, so a division at run time would matter.
pub(super) const ALL: [Class; CLASSES.len()] = {
    let mut all = [Class { size: 0, count: 0, first: 0, reciprocal: 0 }; CLASSES.len()];
    let mut class = 0;
    while class < CLASSES.len() {
        all[class] = Class::of_size(CLASSES[class]);
        class += 1;
    }
    all
};

/// A size class.
#[derive(Clone, Copy)]
pub(super) struct Class {
    pub(super) size: u32,
    /// The number of blocks in a span: as many as fit after their tags.
    pub(super) count: u32,
    /// The offset of the first block in its span.
    pub(super) first: u32,
    /// 2^32 divided by the size, rounded up.
    pub(super) reciprocal: u64,
}

impl Class {
    const fn of_size(size: u32) -> Class {
        const SPAN_BYTES: u32 = SPAN as u32;
        let most = SPAN_BYTES / (size + 4);
        let fits = first_block(most) + most * size <= SPAN_BYTES;
        let count = if fits { most } else { most - 1 };
        Class { size, count, first: first_block(count), reciprocal: (1u64 << 32).div_ceil(size as u64) }
    }
}

/// Returns where the first block begins. It begins at a cache line, so short blocks do not straddle lines
/// needlessly.
const fn first_block(count: u32) -> u32 {
    (count * 4).next_multiple_of(64)
}

/// For each multiple of 16 bytes up to 1,024, the smallest class with enough room.
const SMALLEST: [u8; 65] = {
    let (mut smallest, mut step, mut class) = ([0; 65], 0, 0);
    while step < 65 {
        while (CLASSES[class] as usize) < 16 * step {
            class += 1;
        }
        smallest[step] = class as u8;
        step += 1;
    }
    smallest
};

/// Returns the smallest class with room for `bytes` bytes, or `None` if a block of this size takes whole
/// spans.
#[inline]
pub(crate) fn class_for(bytes: u64) -> Option<u8> {
    if bytes <= 1024 {
        return Some(SMALLEST[bytes.div_ceil(16) as usize]);
    }
    CLASSES.iter().position(|&size| u64::from(size) >= bytes).map(|class| class as u8)
}

/// Returns how many blocks a span of this class has.
#[inline]
pub(crate) fn blocks_in(class: u8) -> u32 {
    ALL[class as usize].count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_fit_their_spans() {
        for (class, &size) in (0..).zip(&CLASSES) {
            let last = ALL[class as usize].first + (blocks_in(class) - 1) * size;
            assert!(u64::from(last + size) <= SPAN && blocks_in(class) * 4 <= ALL[class as usize].first);
            assert!(size.is_multiple_of(16), "blocks of {size} bytes are aligned");
        }
    }

    #[test]
    fn the_smallest_class_with_room_is_found() {
        for bytes in 1..40_000u64 {
            let expected = CLASSES.iter().position(|&size| u64::from(size) >= bytes);
            assert_eq!(class_for(bytes).map(usize::from), expected, "{bytes}");
        }
    }

    #[test]
    fn a_reciprocal_divides() {
        for class in ALL {
            for offset in 0..=SPAN {
                assert_eq!((offset * class.reciprocal) >> 32, offset / u64::from(class.size), "{offset}");
            }
        }
    }
}
