//! Random numbers that a seed can reproduce.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// Marsaglia's xorshift64*. Prints its seed when a test that uses it panics.
pub struct Rng {
    seed: u64,
    state: u64,
}

impl Rng {
    /// Returns a generator that produces the same numbers for the same seed.
    pub fn seeded(seed: u64) -> Rng {
        // Similar seeds must not produce similar numbers, and the state must not be 0.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Rng { seed, state: (mixed ^ mixed >> 31) | 1 }
    }

    /// Returns a generator. The seed is that in the variable `TESTKIT_SEED` if it is set, and otherwise one
    /// from the clock.
    pub fn fresh() -> Rng {
        let given = std::env::var("TESTKIT_SEED").ok().and_then(|text| text.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
        Rng::seeded(given.unwrap_or_else(clock))
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number from 0 up to, but not including, `end`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// Returns one of the elements, or `None` if there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize]) }
    }
}

impl Drop for Rng {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seed of the random numbers: TESTKIT_SEED={}", self.seed);
        }
    }
}
