//! [`Dice`]: random numbers that depend only on a seed.

use std::hash::{BuildHasher, RandomState};

/// Random numbers from a seed: Steele, Lea and Flood's SplitMix64.
pub struct Dice(u64);

impl Dice {
    pub fn seeded(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Returns a random seed of 32 bits, because many readers of JSON cannot represent integers of more than
    /// 53 bits.
    pub fn fresh_seed() -> u64 {
        RandomState::new().hash_one(0) >> 32
    }

    /// Returns a number from 0 up to but not including 1.
    pub fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
