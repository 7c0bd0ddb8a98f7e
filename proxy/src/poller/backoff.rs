//! How long to wait before the next try: longer each time, never all at once.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

const FIRST: Duration = Duration::from_secs(1);

/// The pace at which polls resume after a restart.
const RESUMES_PER_SECOND: u32 = 50;

/// Failed tries in a row.
pub(super) struct Backoff {
    tries: u32,
    random: SystemRandom,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { tries: 0, random: SystemRandom::new() }
    }

    /// How many tries in a row have failed.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The wait after one more failure: doubling from a second up to `at_most`, of which a random part
    /// is taken off; never less than upstream asked for.
    pub(super) fn next(&mut self, asked_for: Option<Duration>, at_most: Duration) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.tries.min(10)).min(at_most);
        self.tries = self.tries.saturating_add(1);
        let mut byte = [0];
        // Without randomness the wait is merely not spread.
        let _ = self.random.fill(&mut byte);
        let jittered = doubled.mul_f64(0.75 + f64::from(byte[0]) / 1024.0);
        jittered.max(asked_for.unwrap_or_default())
    }
}

/// The pause between two of `total` accounts that resume.
pub(super) fn spread(total: usize) -> Duration {
    if total <= 1 { Duration::ZERO } else { Duration::from_secs(1) / RESUMES_PER_SECOND }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_capped_and_obey_upstream() {
        let mut backoff = Backoff::new();
        let cap = Duration::from_secs(30);
        let mut expected = FIRST;
        for _ in 0..10 {
            let wait = backoff.next(None, cap);
            assert!(wait <= expected && wait >= expected.mul_f64(0.75), "{wait:?} {expected:?}");
            expected = (expected * 2).min(cap);
        }
        assert!(backoff.next(Some(Duration::from_mins(2)), cap) >= Duration::from_mins(2));
        backoff.reset();
        assert!(backoff.next(None, cap) <= FIRST);
    }
}
