//! A small seeded generator (splitmix64), so that a randomised test is the same test every time and needs no crate.

use std::ops::RangeInclusive;

/// The numbers of the stories to play: as many as an ordinary run plays, or `TEST_SEEDS` of them, or `TEST_SEED` alone.
pub fn seeds(ordinary: u64) -> RangeInclusive<u64> {
    let number = |name: &str| -> Option<u64> { std::env::var_os(name)?.to_str()?.parse().ok() };
    match number("TEST_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("TEST_SEEDS").unwrap_or(ordinary),
    }
}

/// A deterministic sequence of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number between `low` and `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True about half of the time.
    pub fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = u64::try_from(from.len()).unwrap().checked_sub(1).expect("there is one to pick");
        &from[usize::try_from(self.between(0, last)).unwrap()]
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
