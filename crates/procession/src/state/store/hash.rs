//! The hash of a key, which no process outside the family can predict.
//!
//! Each word is mixed in by a multiplication of 64 by 64 bits. The two halves of the product are folded
//! together, as in wyhash and related functions. Each family has a random seed, so an attacker cannot choose
//! keys that collide.

const ODD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0xa076_1d64_78bd_642f];

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Returns the hash of a key's bytes.
#[inline]
pub(super) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(ODD[0]);
    let (words, rest) = bytes.as_chunks::<8>();
    for chunk in words {
        state = fold(state ^ u64::from_le_bytes(*chunk), ODD[1]);
    }
    if !rest.is_empty() {
        state = fold(state ^ word(rest), ODD[1]);
    }
    fold(state ^ ODD[2], seed | 1)
}

#[cfg(test)]
mod tests {
    use super::hash;

    /// The hashes of neighbouring keys must be spread, both in the upper bits and in the lower bits.
    #[test]
    fn keys_are_spread() {
        for seed in [0, 1, 0x1234_5678_9abc_def0] {
            let (mut upper, mut lower) = ([0u32; 32], [0u32; 32]);
            for key in 0..32_000u64 {
                let hash = hash(&key.to_le_bytes(), seed ^ 0x5555_0000_aaaa_1111);
                upper[(hash >> 59) as usize] += 1;
                lower[(hash & 31) as usize] += 1;
            }
            let even = |counts: [u32; 32]| counts.iter().all(|count| (800..1200).contains(count));
            assert!(even(upper) && even(lower), "{upper:?} {lower:?}");
        }
    }

    #[test]
    fn length_and_seed_matter() {
        assert_ne!(hash(b"", 7), hash(b"\0", 7));
        assert_ne!(hash(b"\0", 7), hash(b"\0\0", 7));
        assert_ne!(hash(b"key", 7), hash(b"key", 8));
    }
}
