//! Syncs beside the polls: questions about an account whose answers move no position.
//!
//! Synapse gives an answer of the last two minutes again to whoever asks the same. A time to wait that was not asked
//! for lately makes it another question. It must not know what is asked: that is `auxiliary`'s, `migration`'s and
//! `poison`'s business.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use form_urlencoded::Serializer;

use crate::clock::now_ms;

/// The query of a sync that no other was like lately. It touches nobody's presence, and is answered at once, or as
/// good as at once.
pub(crate) fn aside<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    Serializer::new(String::new())
        .extend_pairs(parameters)
        .append_pair("set_presence", "offline")
        .append_pair("timeout", &unlike_any_other().as_millis().to_string())
        .finish()
}

/// A time to wait: short, because a sync with a `since` may really take as long.
pub(crate) fn unlike_any_other() -> Duration {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    // Where the count begins depends on when it does: a restart must not repeat it.
    let begin = now_ms().unsigned_abs() / 1_000;
    let number = begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed));
    Duration::from_millis(number % 250 + 1)
}

#[cfg(test)]
mod tests {
    use super::aside;

    #[test]
    fn no_question_is_like_the_one_before() {
        let ask = || aside([("since", "s1&2")].into_iter());
        assert!(ask().starts_with("since=s1%262&set_presence=offline&timeout="));
        assert_ne!(ask(), ask());
    }
}
