//! Known devices that write with a token which has not come with a sync yet: after a refresh, or a new login.
//!
//! Upstream is asked whose the token is, after its client has used it, and only of writes of which something is kept; and
//! once a minute at most, for bots and bridges go on sending and never sync. Nothing is learnt from that but whose
//! the write is: nobody is polled for.
//!
//! Neighbours: `passthrough::write` asks. A token that has come with a sync is `known`'s.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::time::Instant;

use super::whoami;
use crate::{
    account::{Account, Device},
    error::Error,
    secret::TokenHash,
    state::State,
    upstream::AccessToken,
};

/// How long an answer is taken for granted.
const REMEMBERED: Duration = Duration::from_mins(1);

/// How many answers are remembered. Of tokens beyond that upstream is asked each time.
const MOST: usize = 10_000;

/// The account and the device, if both are known.
type Owner = Option<(Arc<Account>, Arc<Device>)>;

/// Whose tokens were that have written something lately, and when upstream said so.
#[derive(Default)]
pub(crate) struct Newcomers(DashMap<TokenHash, (Instant, Owner)>);

impl Newcomers {
    fn get(&self, token: &TokenHash) -> Option<Owner> {
        let answer = self.0.get(token)?;
        let (at, owner) = answer.value();
        (at.elapsed() < REMEMBERED).then(|| owner.clone())
    }

    fn remember(&self, token: TokenHash, owner: Owner) {
        if self.0.len() >= MOST {
            self.0.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if self.0.len() < MOST {
            self.0.insert(token, (Instant::now(), owner));
        }
    }
}

/// Whose a token is that upstream has just accepted, if that user's device is known.
pub(crate) async fn newcomer(
    state: &Arc<State>,
    access_token: &AccessToken,
) -> Result<Owner, Error> {
    let hash = state.sealer.hash(access_token);
    if let Some(owner) = state.newcomers.get(&hash) {
        return Ok(owner);
    }
    let owner = ask(state, access_token).await?;
    state.newcomers.remember(hash, owner.clone());
    Ok(owner)
}

async fn ask(state: &Arc<State>, access_token: &AccessToken) -> Result<Owner, Error> {
    let whoami = whoami(state, access_token).await?;
    let Some(device_id) = whoami.device_id else { return Ok(None) };
    let Some(account) = state.accounts.existing(&state.store, &whoami.user_id).await? else {
        return Ok(None);
    };
    let ids = [device_id];
    if state.store.device_nids_of(account.account_id, &ids).await?.is_empty() {
        return Ok(None);
    }
    let [device_id] = ids;
    Ok(Some(state.accounts.load(&state.store, &whoami.user_id, &device_id).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_remembered_for_a_minute_and_so_many_of_them() {
        let newcomers = Newcomers::default();
        let token = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            TokenHash(hash)
        };
        for number in 0..=MOST {
            newcomers.remember(token(number), None);
        }
        assert!(newcomers.get(&token(0)).is_some());
        assert!(newcomers.get(&token(MOST)).is_none(), "one too many");
        tokio::time::advance(REMEMBERED).await;
        assert!(newcomers.get(&token(0)).is_none(), "too old");
        newcomers.remember(token(MOST), None);
        assert_eq!(newcomers.0.len(), 1, "the old make room");
    }
}
