//! Known devices that write with a token which has not come with a sync yet: after a refresh, or a new login.
//!
//! Upstream is asked whose the token is, after its client has used it, and only of writes of which something is kept; and
//! once a minute, or ten seconds after a question that was not answered, for bots and bridges go on sending and never sync. Nothing is learnt from that but whose
//! the write is: nobody is polled for.
//!
//! Neighbours: `passthrough::write` asks. A token that has come with a sync is `known`'s.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use store::{AccountId, DeviceNid};
use tokio::time::{Instant, timeout};

use super::{gone::known_device, known_here, whoami};
use crate::{
    account::{Account, Device},
    error::{Error, causes},
    secret::TokenHash,
    state::State,
    upstream::AccessToken,
};

/// How long the answer to a write may be held back to find out whose it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer is taken for granted.
const REMEMBERED: Duration = Duration::from_mins(1);

/// How long the token is nobody's where there was no answer: upstream is slow with these questions, or refuses them, and
/// each further write would be held back for another.
const UNANSWERED: Duration = Duration::from_secs(10);

/// How many answers are remembered. Of tokens beyond that upstream is asked each time.
const MOST: usize = 10_000;

/// The account and the device, if both are known. By their numbers: what is remembered must not keep what is gone.
type Owner = Option<(AccountId, DeviceNid)>;

/// Whose tokens were that have written something lately, and until when that is taken for granted.
#[derive(Default)]
pub(crate) struct Newcomers(DashMap<TokenHash, (Instant, Owner)>);

impl Newcomers {
    fn get(&self, token: &TokenHash) -> Option<Owner> {
        let answer = self.0.get(token)?;
        let (until, owner) = *answer;
        (Instant::now() < until).then_some(owner)
    }

    fn remember(&self, token: TokenHash, owner: Owner, lasts: Duration) {
        let now = Instant::now();
        if self.0.len() >= MOST {
            self.0.retain(|_, (until, _)| now < *until);
        }
        if self.0.len() < MOST {
            self.0.insert(token, (now + lasts, owner));
        }
    }
}

/// Whose a token is that upstream has just accepted, if that user's device is known, and if that is to be found out in a
/// moment.
pub(crate) async fn newcomer(
    state: &Arc<State>,
    access_token: &AccessToken,
) -> Option<(Arc<Account>, Arc<Device>)> {
    // It may have come with a sync while upstream was about to answer.
    if let Some(known) = known_here(state, access_token) {
        return Some(known);
    }
    let hash = state.sealer.hash(access_token);
    let owner = match state.newcomers.get(&hash) {
        Some(owner) => owner,
        None => {
            let asked = timeout(PATIENCE, ask(state, access_token)).await;
            let (owner, lasts) = match asked.unwrap_or(Err(Error::UpstreamTimeout)) {
                Ok(owner) => (owner, REMEMBERED),
                Err(error) => {
                    tracing::debug!(error = %causes(&error), "could not find whose a write is");
                    (None, UNANSWERED)
                }
            };
            state.newcomers.remember(hash, owner, lasts);
            owner
        }
    };
    let (account, device) = owner?;
    let account = state.accounts.by_id(account)?;
    let device = account.device(device)?;
    Some((account, device))
}

async fn ask(state: &Arc<State>, access_token: &AccessToken) -> Result<Owner, Error> {
    let whoami = whoami(state, access_token).await?;
    let Some(device_id) = whoami.device_id else { return Ok(None) };
    let Some(account) = state.accounts.existing(&state.store, &whoami.user_id).await? else {
        return Ok(None);
    };
    let known = known_device(state, &account, &device_id).await?;
    Ok(known.map(|(account, device)| (account.account_id, device.device_nid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> TokenHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        TokenHash(hash)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_remembered_for_a_minute_and_so_many_of_them() {
        let newcomers = Newcomers::default();
        for number in 0..=MOST {
            newcomers.remember(token(number), None, REMEMBERED);
        }
        assert!(newcomers.get(&token(0)).is_some());
        assert!(newcomers.get(&token(MOST)).is_none(), "one too many");
        tokio::time::advance(REMEMBERED).await;
        assert!(newcomers.get(&token(0)).is_none(), "too old");
        newcomers.remember(token(MOST), None, REMEMBERED);
        assert_eq!(newcomers.0.len(), 1, "the old make room");
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_was_no_answer_it_is_asked_for_again_before_long() {
        let newcomers = Newcomers::default();
        newcomers.remember(token(1), None, UNANSWERED);
        assert_eq!(newcomers.get(&token(1)), Some(None));
        tokio::time::advance(UNANSWERED).await;
        assert!(newcomers.get(&token(1)).is_none());
    }
}
