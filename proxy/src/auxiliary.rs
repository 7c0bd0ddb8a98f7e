//! Auxiliary syncs: asking upstream's `GET /sync` without a `since`, beside the polls, for what polls do not
//! tell.
//!
//! Such a sync acknowledges nothing. Its to-device messages, key counts and `next_batch` belong to the polls
//! and are ignored here: all messages that are not acknowledged come again, and storing them twice would
//! double them. It does not touch presence. Who asks, and what for, is the callers' business: `upkeep`, and
//! `v2` for what clients seldom want.

use bytes::Bytes;

use crate::{
    state::State,
    upstream::{self, AccessToken, OnBehalfOf, SyncQuery, unlike_any_other},
};

/// Asks upstream's sync once, without a `since`, with an inline filter. Of each room it tells the state after the
/// timeline where upstream can.
pub(crate) async fn sync(
    state: &State,
    token: &AccessToken,
    filter: &str,
) -> Result<Bytes, upstream::Error> {
    ask(state, token, filter, true).await
}

/// [`sync`] that always tells the state before each timeline, as the specification had it first.
pub(crate) async fn sync_with_state(
    state: &State,
    token: &AccessToken,
    filter: &str,
) -> Result<Bytes, upstream::Error> {
    ask(state, token, filter, false).await
}

async fn ask(
    state: &State,
    token: &AccessToken,
    filter: &str,
    use_state_after: bool,
) -> Result<Bytes, upstream::Error> {
    // Closed never: the semaphores live as long as the process. The order is that of the main poll.
    let accounts = &state.accounts;
    let _first = accounts.first_polls.acquire().await;
    let _permit = accounts.polls.acquire().await;
    let query = SyncQuery {
        since: None,
        filter: filter.to_owned(),
        timeout: unlike_any_other(),
        set_presence: "offline",
        use_state_after,
        on_behalf_of: OnBehalfOf::default(),
    };
    state.upstream.sync(token, &query).await
}
