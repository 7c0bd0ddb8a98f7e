//! Tokens that upstream refused a moment ago, with its own words.
//!
//! A client that goes on with a dead token costs upstream one question a minute, and hears the same each time. It must
//! not know what else is known of tokens.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{secret::TokenHash, upstream};

/// How long a refusal is taken for granted.
const REMEMBERED: Duration = Duration::from_mins(1);

/// How many are remembered. Past that the oldest are forgotten first, and asked about again if they come again.
const MOST: usize = 20_000;

/// The longest words that are remembered, in bytes: what is longer is no refusal that a homeserver writes.
const LONGEST: usize = 4096;

/// What is remembered.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    by_token: HashMap<TokenHash, (Instant, Arc<upstream::Error>)>,
    /// The same, oldest first. What was forgotten since may still stand here.
    by_age: VecDeque<(Instant, TokenHash)>,
    /// The words of the newest: they hardly ever differ, and are kept once.
    words: Option<Arc<upstream::Error>>,
}

impl Refusals {
    /// What upstream said when it refused the token, if that was within the last minute.
    pub(super) fn of(&self, token: &TokenHash) -> Option<Arc<upstream::Error>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, words) = remembered.by_token.get(token)?;
        (at.elapsed() < REMEMBERED).then(|| Arc::clone(words))
    }

    /// Upstream has refused the token. What may be undone (a lock), and what is no answer at all, is not for here.
    pub(super) fn remember(&self, token: &TokenHash, refusal: &Arc<upstream::Error>) {
        let upstream::Error::Matrix { body, .. } = &**refusal else { return };
        if body.len() > LONGEST {
            return;
        }
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.tidy();
        let words = remembered.words_of(refusal);
        let now = Instant::now();
        remembered.by_token.insert(token.clone(), (now, words));
        remembered.by_age.push_back((now, token.clone()));
    }

    /// Upstream has accepted the token after all.
    pub(super) fn forget(&self, token: &TokenHash) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_token.remove(token);
    }
}

impl Remembered {
    /// Makes room for one more.
    fn tidy(&mut self) {
        while let Some((at, token)) = self.by_age.front() {
            if at.elapsed() < REMEMBERED && self.by_age.len() < MOST {
                return;
            }
            if self.by_token.get(token).is_some_and(|(since, _)| since == at) {
                self.by_token.remove(token);
            }
            self.by_age.pop_front();
        }
    }

    fn words_of(&mut self, refusal: &Arc<upstream::Error>) -> Arc<upstream::Error> {
        let same = self.words.as_ref().filter(|words| words.body() == refusal.body());
        let words = Arc::clone(same.unwrap_or(refusal));
        self.words = Some(Arc::clone(&words));
        words
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn refusal(body: &'static str) -> Arc<upstream::Error> {
        Arc::new(upstream::Error::Matrix {
            status: 401,
            errcode: "M_UNKNOWN_TOKEN".to_owned(),
            error: String::new(),
            body: Bytes::from_static(body.as_bytes()),
            retry_after: None,
            soft_logout: false,
        })
    }

    fn token(number: usize) -> TokenHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        TokenHash(hash)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_a_minute() {
        let refusals = Refusals::default();
        refusals.remember(&token(1), &refusal("one"));
        let told = refusals.of(&token(1)).expect("it was just refused");
        assert_eq!(told.body().map(|body| &body[..]), Some(&b"one"[..]));
        assert!(refusals.of(&token(2)).is_none());
        tokio::time::advance(REMEMBERED).await;
        assert!(refusals.of(&token(1)).is_none());

        refusals.remember(&token(1), &refusal("two"));
        refusals.forget(&token(1));
        assert!(refusals.of(&token(1)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn their_number_is_bounded_and_their_words_are_kept_once() {
        let refusals = Refusals::default();
        for number in 0..MOST + 10 {
            refusals.remember(&token(number), &refusal("the same"));
        }
        assert!(refusals.of(&token(0)).is_none(), "the oldest goes first");
        let (one, other) = (refusals.of(&token(MOST)), refusals.of(&token(MOST + 9)));
        let (one, other) = (one.expect("it is new"), other.expect("it is the newest"));
        assert!(Arc::ptr_eq(&one, &other));
        let remembered = refusals.0.lock().expect("nobody panics with it");
        assert!(remembered.by_token.len() <= MOST && remembered.by_age.len() <= MOST);
    }
}
