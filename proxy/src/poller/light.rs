//! The light poll of a device that does not run the main poll: its inbox and its key counts.
//!
//! Device lists are taken from the main poll alone: what a light poll's reply says of them follows
//! from rooms that its filter leaves out.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tracing::Instrument;

use crate::{
    clock::now_ms,
    error::causes,
    ingest::{self, Asked},
    metrics::labels::PollKind,
    upstream::{self, AccessToken, SyncQuery},
};

use super::{
    LONG_POLL, Poller,
    outcome::{self, Outcome},
};

const FILTER: &str = r#"{"room":{"rooms":[]},"presence":{"types":[]},"account_data":{"types":[]}}"#;

/// What a light poll brought, as far as the caller cares.
pub(super) enum LightOutcome {
    /// The reply is stored; whether it held to-device messages.
    Stored { messages: bool },
    /// It is not.
    Other(Outcome),
}

impl Poller {
    /// Polls once; takes the main poll over where it is vacant.
    pub(super) async fn poll_light(&self, token: &AccessToken) -> Outcome {
        if self.main_poll_is_vacant() {
            return self.take_over(token).await;
        }
        match self.poll_light_once(token, LONG_POLL).await {
            LightOutcome::Stored { .. } => Outcome::Stored,
            LightOutcome::Other(outcome) => outcome,
        }
    }

    /// Asks upstream; `None` when the question changed before the answer came. Only the question is
    /// given up, never the storing of an answer.
    async fn ask_light(
        &self,
        token: &AccessToken,
        query: &SyncQuery,
        mut demand: watch::Receiver<u64>,
        mut presence_wish: watch::Receiver<u64>,
    ) -> Option<Result<bytes::Bytes, upstream::Error>> {
        let mut main_device = self.account.watch_main_device();
        let mut candidates = self.account.watch_candidates();
        let mut current_token = self.device.watch_token();
        // Closed never: the semaphore lives as long as the process.
        let _permit = self.state.accounts.polls.acquire().await;
        tokio::select! {
            biased;
            answer = self.state.upstream.sync(token, query) => Some(answer),
            _ = main_device.changed() => None,
            _ = candidates.changed() => None,
            _ = current_token.changed() => None,
            _ = demand.changed(), if Self::yields(query.timeout) => None,
            _ = presence_wish.changed() => None,
        }
    }

    /// One light poll, held by upstream for `timeout` at most.
    pub(super) async fn poll_light_once(
        &self,
        token: &AccessToken,
        timeout: Duration,
    ) -> LightOutcome {
        let since = match self.state.store.device_by_nid(self.device.device_nid).await {
            Ok(Some(device)) => {
                // What is stored may be ahead of what this process heard of.
                self.device.catch_up(device.inbox_seq);
                device.upstream_since
            }
            Ok(None) => return LightOutcome::Other(Outcome::Refused),
            Err(error) => return LightOutcome::Other(outcome::of_store_failure(&error)),
        };
        // Before anything is looked at, so that no demand falls in between.
        let demand = self.account.watch_demand();
        let presence_wish = self.device.presence.watch();
        let writes = self.account.writes();
        let query = SyncQuery {
            since: since.clone(),
            filter: FILTER.to_owned(),
            timeout: self.hold(timeout),
            set_presence: self.device.presence.tell().as_str(),
            use_state_after: true,
            on_behalf_of: self.device.on_behalf_of(),
        };
        let reply = match self.ask_light(token, &query, demand, presence_wish).await {
            Some(Ok(reply)) => reply,
            Some(Err(error)) => {
                return LightOutcome::Other(self.light_failed(since.is_none(), &error).await);
            }
            None => return LightOutcome::Other(Outcome::AskAgain),
        };
        let asked = Asked {
            user_id: &self.account.user_id,
            device_nid: self.device.device_nid,
            since: since.as_deref(),
            received_at: now_ms(),
        };
        let received = Instant::now();
        let poll = match ingest::light_poll(&reply, asked) {
            Ok(poll) => poll,
            Err(error) => {
                tracing::warn!(error = %causes(&error), bytes = reply.len(), "not a sync reply");
                let retry = Outcome::Retry { after: None, at_most: outcome::RETRY };
                return LightOutcome::Other(retry);
            }
        };
        let ingest = self.state.store.ingest_light(self.account.account_id, &poll);
        let span = tracing::debug_span!("ingest", bytes = reply.len());
        match ingest.instrument(span).await {
            Ok(inbox_seq) => {
                let took = received.elapsed();
                self.state.metrics.poll_stored(PollKind::Light, reply.len(), took);
                self.device.advance(inbox_seq, &poll.device);
                self.device.cover(writes);
                LightOutcome::Stored { messages: !poll.device.to_device.is_empty() }
            }
            Err(error) => LightOutcome::Other(outcome::of_store_failure(&error)),
        }
    }

    async fn light_failed(&self, is_first: bool, error: &upstream::Error) -> Outcome {
        if !is_first && outcome::refuses_since(error) {
            tracing::warn!(error = %causes(error), "upstream refused its own position: starting anew");
            return match self.state.store.forget_light_since(self.device.device_nid).await {
                Ok(()) => Outcome::Retry { after: None, at_most: outcome::RETRY },
                Err(error) => outcome::of_store_failure(&error),
            };
        }
        outcome::of_failure(error, is_first)
    }
}
