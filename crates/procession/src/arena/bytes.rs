//! Copying bytes that are likely to be few, and whose number is not known where this is compiled: to call
//! `memcpy` takes longer than to copy them.
use std::ptr::copy_nonoverlapping;

/// Copies `len` bytes.
///
/// # Safety
/// As [`copy_nonoverlapping`].
#[inline(always)]
pub(crate) unsafe fn copy_few(from: *const u8, to: *mut u8, len: usize) {
    /// Copies the first and the last bytes, which overlap unless they are all.
    macro_rules! both_ends {
        ($bytes:literal) => {
            // SAFETY: there are at least as many; the two places do not overlap.
            unsafe {
                copy_nonoverlapping(from, to, $bytes);
                copy_nonoverlapping(from.add(len - $bytes), to.add(len - $bytes), $bytes);
            }
        };
    }
    match len {
        0 => {}
        1 => both_ends!(1),
        2..=3 => both_ends!(2),
        4..=7 => both_ends!(4),
        8..=15 => both_ends!(8),
        16..=31 => both_ends!(16),
        32..=64 => both_ends!(32),
        // SAFETY: promised by the caller.
        _ => unsafe { copy_nonoverlapping(from, to, len) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_bytes_is_copied_and_no_more() {
        let from: Vec<u8> = (1..=100).collect();
        for len in 0..=100 {
            let mut to = [0; 101];
            // SAFETY: both have at least 100 bytes.
            unsafe { copy_few(from.as_ptr(), to.as_mut_ptr(), len) };
            assert!(to[..len] == from[..len] && to[len..].iter().all(|&byte| byte == 0), "{len} bytes");
        }
    }
}
