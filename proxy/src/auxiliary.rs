//! Auxiliary syncs: asking upstream's `GET /sync` without a `since`, beside the polls, for what polls do not
//! tell.
//!
//! Such a sync acknowledges nothing. Its to-device messages, key counts and `next_batch` belong to the polls
//! and are ignored here: all messages that are not acknowledged come again, and storing them twice would
//! double them. It does not touch presence. Who asks, and what for, is the callers' business: `upkeep`, and
//! `v2` for what clients seldom want.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    clock::now_ms,
    state::State,
    upstream::{self, AccessToken, SyncQuery},
};

/// A timeout is what makes a question new: Synapse answers one that it has answered within two minutes from
/// its cache. No server waits in answering a sync without a `since`, however long it may.
const TIMEOUTS: u64 = 1000;

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
    static ASKED: AtomicU64 = AtomicU64::new(0);
    // Where the count begins depends on when it does: a restart must not repeat it.
    let number = ASKED.fetch_add(1, Ordering::Relaxed).wrapping_add(now_ms().unsigned_abs());
    // Closed never: the semaphores live as long as the process. The order is that of the main poll.
    let accounts = &state.accounts;
    let _first = accounts.first_polls.acquire().await;
    let _permit = accounts.polls.acquire().await;
    let query = SyncQuery {
        since: None,
        filter: filter.to_owned(),
        timeout: Duration::from_millis(1 + number % TIMEOUTS),
        set_presence: "offline",
        use_state_after,
    };
    state.upstream.sync(token, &query).await
}
