//! Asking upstream whose a token is, as seldom as can be.
//!
//! Requests that come with one token at the same time share one question. A refusal is an answer for a minute
//! (`refusals`). Of tokens that neither this process nor the store has ever heard of only so many are asked about at
//! once, and only so many more wait for their turn: what is beyond is told to come again. Of tokens that are known as many
//! are asked about at once, because all may be in doubt at the same moment; they wait behind no stranger, and no longer
//! than upstream may take.
//!
//! Neighbours: `auth` decides what follows from an answer. Nothing here makes up a 401.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::timeout,
};

use super::{refusals::Refusals, remember};
use crate::{
    error::{Error, causes},
    secret::TokenHash,
    state::State,
    upstream::{self, AccessToken, Whoami},
};

/// How long upstream may take; of a known token, with the wait for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many tokens are looked up in the store at once: a flood leaves most of its connections to others.
const LOOK_UPS: usize = 4;

/// So many more wait for that. A store that answers has them done before long; one that hangs must not collect questions
/// of clients that are gone.
const MOST_LOOK_UPS_WAITING: usize = 4096;

/// For each stranger who is asked about, so many wait.
const QUEUE: usize = 4;

/// When a stranger who finds the queue full should come again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What upstream is being asked.
pub(crate) struct Questions {
    under_way: DashMap<TokenHash, watch::Receiver<Option<Answer>>>,
    refusals: Refusals,
    look_ups: Turnstile,
    strangers: Turnstile,
    known: Turnstile,
}

/// Why nobody can say whose a token is.
#[derive(Clone)]
pub(super) enum Failure {
    /// Upstream's own words, or why there are none.
    Upstream(Arc<upstream::Error>),
    /// The store does not say whether the token is known.
    Store(Arc<store::Error>),
    /// Too many tokens that nobody knows.
    Shed,
}

/// Why somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// To let a request in: the answer is to be remembered.
    OfARequest {
        /// The token is in memory, and upstream's last word on it too old.
        is_known: bool,
    },
    /// To know, and no more.
    Only,
}

type Answer = Result<Whoami, Failure>;

impl Questions {
    /// Nobody has asked anything; at most so many strangers are asked about at once, and as many known tokens.
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            under_way: DashMap::new(),
            refusals: Refusals::default(),
            look_ups: Turnstile::new(LOOK_UPS, MOST_LOOK_UPS_WAITING),
            strangers: Turnstile::new(at_once, at_once.saturating_mul(QUEUE)),
            // They are no more than the clients that somebody knows, and none of them is sent away.
            known: Turnstile::new(at_once, usize::MAX),
        }
    }

    /// Upstream has accepted the token in another way: with a poll.
    pub(super) fn accepted(&self, hash: &TokenHash) {
        self.refusals.forget(hash);
    }

    /// What the store knows of a token.
    pub(super) async fn look_up(
        &self,
        state: &State,
        hash: &TokenHash,
    ) -> Result<Option<store::StoredToken>, Failure> {
        let _turn = self.look_ups.pass().await.ok_or(Failure::Shed)?;
        Ok(state.store.token(&hash.0).await?)
    }
}

/// Whose a token is, by upstream's word of now or its refusal of a moment ago.
pub(super) async fn whoami(
    state: &Arc<State>,
    access_token: &AccessToken,
    hash: &TokenHash,
    because: Because,
) -> Answer {
    let questions = &state.questions;
    if let Some(refusal) = questions.refusals.of(hash) {
        return Err(Failure::Upstream(refusal));
    }
    let mut answer = match questions.under_way.entry(hash.clone()) {
        Entry::Occupied(asked) => asked.get().clone(),
        Entry::Vacant(unasked) => {
            let (said, answer) = watch::channel(None);
            unasked.insert(answer.clone());
            let question = Question { state: Arc::clone(state), hash: hash.clone() };
            let access_token = access_token.clone();
            tokio::spawn(async move {
                let answer = question.ask(&access_token, because).await;
                // Before anybody hears the answer: who asks after having heard it asks anew.
                drop(question);
                said.send_replace(Some(answer));
            });
            answer
        }
    };
    let said = answer.wait_for(Option::is_some).await;
    said.ok().and_then(|said| said.clone()).unwrap_or_else(unanswered)
}

/// The task is gone without a word: it panicked, or the process ends.
fn unanswered() -> Answer {
    Err(Failure::Upstream(Arc::new(upstream::Error::Timeout)))
}

/// A question under way, in a task of its own: a client that hangs up and comes again finds it still asked. It ends
/// when this is dropped.
struct Question {
    state: Arc<State>,
    hash: TokenHash,
}

impl Question {
    async fn ask(&self, access_token: &AccessToken, because: Because) -> Answer {
        let answer = self.answer(access_token, because).await;
        if let (Ok(whoami), Because::OfARequest { .. }) = (&answer, because)
            // Before the question ends, so that nobody who comes now asks it again. Those who asked try it again themselves,
            // and are told of the error.
            && let Err(error) = remember(&self.state, access_token, &self.hash, whoami).await
        {
            tracing::debug!(error = %causes(&error), "could not remember whose a token is");
        }
        answer
    }

    async fn answer(&self, access_token: &AccessToken, because: Because) -> Answer {
        let questions = &self.state.questions;
        let is_known = because == (Because::OfARequest { is_known: true })
            || match questions.look_up(&self.state, &self.hash).await {
                // Nothing of the answer is kept, so it can be had without the store.
                Err(Failure::Store(_)) if because == Because::Only => false,
                found => found?.is_some(),
            };
        let asked = if is_known {
            // Whoever is not asked about in time is taken for who it was, as when upstream does not answer.
            timeout(PATIENCE, async {
                let _turn = questions.known.pass().await;
                self.state.upstream.whoami(access_token).await
            })
            .await
        } else {
            let _turn = questions.strangers.pass().await.ok_or(Failure::Shed)?;
            timeout(PATIENCE, self.state.upstream.whoami(access_token)).await
        };
        let refusal = match asked.unwrap_or(Err(upstream::Error::Timeout)) {
            Ok(whoami) => return Ok(whoami),
            Err(error) => Arc::new(error),
        };
        // A locked user may be unlocked again: the token is good for polling then.
        if refusal.is_unknown_token() && !refusal.is_user_locked() {
            questions.refusals.remember(&self.hash, &refusal);
            if is_known && let Err(error) = self.state.store.remove_token(&self.hash.0).await {
                tracing::warn!(error = %causes(&error), "could not remove a token that is refused");
            }
        }
        Err(Failure::Upstream(refusal))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.state.questions.under_way.remove(&self.hash);
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Upstream(error) => error.told_again().into(),
            Failure::Store(error) if error.is_unavailable() => {
                Self::Unavailable(causes(&*error).into())
            }
            Failure::Store(error) => Self::internal(causes(&*error)),
            Failure::Shed => Self::LimitExceeded { retry_after: RETRY_AFTER },
        }
    }
}

/// Lets so many through at once, and so many more wait.
struct Turnstile {
    through: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// Somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Turnstile {
    fn new(through: usize, most_waiting: usize) -> Self {
        let through = Semaphore::new(through.min(Semaphore::MAX_PERMITS));
        Self { through, waiting: AtomicUsize::new(0), most_waiting }
    }

    /// A turn, if need be after a wait; `None` if too many wait already.
    async fn pass(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.through.try_acquire() {
            return Some(turn);
        }
        let before_us = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if before_us >= self.most_waiting {
            return None;
        }
        self.through.acquire().await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_turnstile_lets_some_through_some_wait_and_sends_the_rest_away() {
        let turnstile = Turnstile::new(1, 1);
        let first = turnstile.pass().await.expect("nobody is there");
        let mut second = Box::pin(turnstile.pass());
        assert!(second.as_mut().now_or_never().is_none(), "the second waits");
        assert!(turnstile.pass().await.is_none(), "the third is sent away");
        drop(first);
        drop(second.await.expect("it is the second's turn"));
        drop(turnstile.pass().await.expect("nobody waits any more"));
    }
}
