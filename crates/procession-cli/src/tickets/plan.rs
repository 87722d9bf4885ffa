//! The plan of kills: which buyers, and when. It is chosen from a seed before the sale.

use std::time::Duration;

use super::board::Place;
use crate::dice::Dice;

/// When a buyer is to be killed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// The first duration after the buyer's start, no matter where it is then. If the buyer acquires the lock
    /// before that, the second duration after it was seen inside. Otherwise it would escape.
    Moment(Duration, Duration),
    /// This long after the buyer was seen in this place inside the lock.
    Inside(Place, Duration),
}

/// The expected course of the sale, for choosing moments.
pub struct Expected {
    pub buyers: u32,
    pub stock: u64,
    pub think_time: Duration,
    pub locked: bool,
}

impl Expected {
    /// Returns how long buyer `n` is expected to live: until the earlier buyers and the buyer itself have had
    /// their turns.
    fn life(&self, n: u32) -> Duration {
        let before = if self.locked { n } else { 1 };
        let served = before.min(self.stock.try_into().unwrap_or(u32::MAX));
        // A buyer that gets a ticket thinks twice, and any other buyer once.
        self.think_time.max(Duration::from_millis(1)) * (before.saturating_add(served))
    }
}

/// Returns when to kill each buyer, buyer 1 first. The same seed makes the same plan. The scheduler decides
/// where the kills of the plan hit.
///
/// Each buyer is a victim with probability `rate`. A coin decides whether the victim dies inside the lock or
/// at a random moment of its expected life. It spends most of that life waiting for the lock. Of the victims
/// inside the lock, half die while they read. A quarter die while they decide, and a quarter at about the
/// time when they write. A buyer that finds no ticket left neither decides nor writes, and so may escape.
pub fn plan(rate: f64, seed: u64, expected: &Expected) -> Vec<Option<Aim>> {
    let mut dice = Dice::seeded(seed);
    let think = expected.think_time;
    let aim = |n| {
        // All dice are thrown for every buyer, so that the buyers' fates are independent.
        let [victim, inside, place, moment] = [(); 4].map(|()| dice.throw());
        let aim = match place {
            _ if inside < 0.5 => Aim::Moment(expected.life(n).mul_f64(moment), think.mul_f64(place)),
            ..0.5 => Aim::Inside(Place::Reading, think.mul_f64(moment)),
            ..0.75 => Aim::Inside(Place::Deciding, think.mul_f64(moment)),
            // From half a millisecond before the write is due to one millisecond after that.
            _ => {
                let margin = Duration::from_micros(500).min(think);
                Aim::Inside(Place::Deciding, think - margin + Duration::from_micros(1500).mul_f64(moment))
            }
        };
        (victim < rate).then_some(aim)
    };
    (1..=expected.buyers).map(aim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(buyers: u32) -> Expected {
        Expected { buyers, stock: 5, think_time: Duration::from_millis(50), locked: true }
    }

    #[test]
    fn a_seed_makes_the_same_plan_again_and_another_seed_another() {
        assert_eq!(plan(0.5, 7, &sale(100)), plan(0.5, 7, &sale(100)));
        assert_ne!(plan(0.5, 7, &sale(100)), plan(0.5, 8, &sale(100)));
    }

    #[test]
    fn the_rate_is_the_share_of_victims_and_half_of_them_are_aimed_inside() {
        assert!(plan(0.0, 1, &sale(1000)).iter().all(Option::is_none));
        assert!(plan(1.0, 1, &sale(1000)).iter().all(Option::is_some));
        let aims: Vec<Aim> = plan(0.5, 1, &sale(10_000)).into_iter().flatten().collect();
        assert!((4500..5500).contains(&aims.len()), "{}", aims.len());
        let inside = aims.iter().filter(|aim| matches!(aim, Aim::Inside(..))).count();
        assert!((2000..3000).contains(&inside), "{inside}");
    }

    #[test]
    fn extreme_sales_can_be_planned() {
        let think_time = Duration::from_secs(60);
        for stock in [0, u64::MAX] {
            plan(1.0, 1, &Expected { buyers: 100_000, stock, think_time, locked: true });
            plan(1.0, 1, &Expected { buyers: 1, stock, think_time: Duration::ZERO, locked: false });
        }
    }
}
