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
    main::vary,
    outcome::{self, Outcome},
    standing::Stream,
};

/// After so many failures in a row upstream is not to hold the poll: what breaks replies may be what stands in between, and
/// cuts off what takes long.
const PATIENCE: u32 = 3;

const FILTER: &str = r#"{"room":{"rooms":[]},"presence":{"types":[]},"account_data":{"types":[]}}"#;

/// What a light poll brought, as far as the caller cares.
pub(super) enum LightOutcome {
    /// The reply is stored; whether it held to-device messages.
    Stored { messages: bool },
    /// It is not.
    Other(Outcome),
}

impl Poller {
    /// Polls once; takes the main poll over where it is vacant. `tries` counts the failures before this one.
    pub(super) async fn poll_light(&self, token: &AccessToken, tries: u32) -> Outcome {
        if self.main_poll_is_vacant() {
            return Box::pin(self.take_over(token, tries)).await;
        }
        let hold = if tries < PATIENCE { LONG_POLL } else { Duration::ZERO };
        match self.poll_light_once(token, hold, tries).await {
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
            _ = presence_wish.changed(), if Self::yields(query.timeout) => None,
        }
    }

    /// One light poll, held by upstream for `timeout` at most.
    pub(super) async fn poll_light_once(
        &self,
        token: &AccessToken,
        timeout: Duration,
        tries: u32,
    ) -> LightOutcome {
        let since = match self.standing.take(Stream::Light) {
            Some(since) => Some(since),
            None => match Box::pin(self.look_light_up()).await {
                Ok(since) => since,
                Err(outcome) => return LightOutcome::Other(outcome),
            },
        };
        // Before anything is looked at, so that no demand falls in between.
        let demand = self.account.watch_demand();
        let presence_wish = self.device.presence.watch();
        let writes = self.account.writes();
        let presence = self.device.presence.tell();
        let query = SyncQuery {
            since: since.clone(),
            filter: FILTER.to_owned(),
            timeout: vary(self.hold(timeout, presence), tries),
            set_presence: presence.as_str(),
            use_state_after: true,
            on_behalf_of: self.device.on_behalf_of(),
        };
        let answer = self.ask_light(token, &query, demand, presence_wish).await;
        if let Some(answer) = &answer {
            self.device.presence.answered(presence, answer);
        }
        let reply = match answer {
            Some(Ok(reply)) => {
                store::mark::reached("light", "after_reply");
                reply
            }
            Some(Err(error @ upstream::Error::BrokenBody)) => {
                return LightOutcome::Other(self.inbox_unreadable(tries, &error));
            }
            Some(Err(error)) => {
                return LightOutcome::Other(
                    Box::pin(self.light_failed(since.is_none(), &error)).await,
                );
            }
            None => {
                if let Some(since) = since {
                    self.standing.is(Stream::Light, since);
                }
                return LightOutcome::Other(Outcome::AskAgain);
            }
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
            Err(error) => return LightOutcome::Other(self.inbox_unreadable(tries, &error)),
        };
        self.device.unheard.begin();
        let ingest = self.state.store.ingest_light(self.account.account_id, &poll);
        let span = tracing::debug_span!("ingest", bytes = reply.len());
        match Box::pin(ingest.instrument(span)).await {
            Ok(inbox_seq) => {
                let took = received.elapsed();
                self.state.metrics.poll_stored(PollKind::Light, reply.len(), took);
                self.position_taken();
                self.advance_own(inbox_seq, &poll.device);
                self.device.unheard.heard();
                self.device.cover(writes);
                self.standing.is(Stream::Light, poll.next_batch);
                LightOutcome::Stored { messages: !poll.device.to_device.is_empty() }
            }
            Err(error) => LightOutcome::Other(outcome::of_store_failure(&error)),
        }
    }

    /// Where the device's own stream stands in the store; what to do instead, if the device is gone.
    async fn look_light_up(&self) -> Result<Option<String>, Outcome> {
        match self.state.store.device_by_nid(self.device.device_nid).await {
            Ok(Some(device)) => {
                // What is stored may be ahead of what this process heard of.
                self.hear_of_own(&device);
                Ok(device.upstream_since)
            }
            Ok(None) => Err(Outcome::Refused),
            Err(error) => Err(outcome::of_store_failure(&error)),
        }
    }

    /// A reply that is none, or no whole one. Nothing of it can be left out, as the main poll leaves rooms out: it has the
    /// inbox alone, and to go on behind it would lose messages. So it is asked for again, and the log says so, each time
    /// after twice as many failures.
    fn inbox_unreadable(&self, tries: u32, error: &(dyn std::error::Error + 'static)) -> Outcome {
        let failures = tries.saturating_add(1);
        if failures.is_power_of_two() {
            tracing::warn!(
                error = %causes(error),
                device_id = %self.device.device_id,
                failures,
                "the device's inbox cannot be read: its to-device messages wait at the homeserver"
            );
        }
        Outcome::Retry { after: None, at_most: outcome::RETRY }
    }

    async fn light_failed(&self, is_first: bool, error: &upstream::Error) -> Outcome {
        if !is_first && outcome::refuses_since(error) {
            if self.position_refused(error) {
                let device_nid = self.device.device_nid;
                if let Err(error) = self.state.store.forget_light_since(device_nid).await {
                    return outcome::of_store_failure(&error);
                }
                self.position_taken();
            }
            return Outcome::Retry { after: None, at_most: outcome::FIRST_POLL_RETRY };
        }
        outcome::of_failure(error, is_first)
    }
}
