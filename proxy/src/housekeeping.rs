//! What is done now and then, away from requests and polls: expired sessions go, and with them the
//! to-device messages that they alone held back; tokens that were rotated away go, and what was kept for
//! clients that stay away: what they know, and their rooms in order. What goes by age is `retention`'s.

use std::{sync::Arc, time::Duration};

use crate::{clock::now_ms, error::causes, state::State};

/// How often.
const EVERY: Duration = Duration::from_mins(10);

/// How long a token that its device has replaced is kept, in milliseconds.
const SUPERSEDED_MS: i64 = 24 * 60 * 60 * 1000;

/// How many sessions go at once: no transaction is long.
const BATCH: i64 = 500;

/// Keeps house until the process ends. What is under way then is finished by another round.
pub(crate) async fn run(state: Arc<State>) {
    let mut shutting_down = state.shutting_down.clone();
    tokio::select! {
        () = rounds(&state) => {}
        _ = shutting_down.wait_for(|down| *down) => {}
    }
}

async fn rounds(state: &State) {
    loop {
        if let Err(error) = remove_expired_sessions(state).await {
            tracing::warn!(error = %causes(&error), "could not remove expired sessions");
        }
        if let Err(error) = state.accounts.follow_retention(&state.store).await {
            tracing::warn!(error = %causes(&error), "could not learn what is retained");
        }
        state.accounts.sweep_known_members();
        state.accounts.sweep_room_indexes();
        state.accounts.sweep_tails();
        let before = now_ms().saturating_sub(SUPERSEDED_MS);
        if let Err(error) = state.store.remove_superseded_tokens(before).await {
            tracing::warn!(error = %causes(&error), "could not remove superseded tokens");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn remove_expired_sessions(state: &State) -> Result<(), store::Error> {
    let expiry = i64::try_from(state.config.session_expiry.as_millis()).unwrap_or(i64::MAX);
    let live_since = now_ms().saturating_sub(expiry);
    let most = usize::try_from(BATCH).unwrap_or(usize::MAX);
    loop {
        let removed = state.store.remove_expired_sessions(live_since, BATCH).await?;
        if removed > 0 {
            tracing::info!(removed, "removed expired sessions");
        }
        if removed < most {
            return Ok(());
        }
    }
}
