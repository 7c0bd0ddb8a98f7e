//! Whose keys changed while the stream was broken off.
//!
//! A poll without a since says nothing of device lists, and a client that goes on from before it must hear of them.
//! The homeserver may still know its old position at
//! [`GET /keys/changes`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3keyschanges); where it does
//! not, everybody's may have changed: that is told too often rather than not at all.

use form_urlencoded::Serializer;
use serde::Deserialize;
use store::StateBlock;

use crate::{error::causes, upstream::AccessToken};

use super::Poller;

#[derive(Deserialize)]
struct KeyChanges {
    #[serde(default)]
    changed: Vec<String>,
    #[serde(default)]
    left: Vec<String>,
}

impl Poller {
    /// Adds to a poll without a since whose keys changed since the last one stored.
    pub(super) async fn add_key_changes(
        &self,
        token: &AccessToken,
        poll: &mut store::Poll,
    ) -> Result<(), store::Error> {
        let account_id = self.account.account_id;
        let before = self.state.store.next_batch_at(account_id, self.account.pos()).await?;
        let Some(before) = before else { return Ok(()) };
        if let Some(told) = self.ask_key_changes(token, &before, &poll.next_batch).await {
            poll.device_lists_changed.extend(told.changed);
            poll.device_lists_left.extend(told.left);
            return Ok(());
        }
        poll.device_lists_changed.extend(self.state.store.sharers(account_id).await?);
        let told = poll.rooms.iter().flat_map(|room| {
            let (StateBlock::BeforeTimeline(state) | StateBlock::AfterTimeline(state)) =
                &room.state;
            state.iter().chain(&room.timeline)
        });
        let members: Vec<String> = told
            .filter(|event| matches!(event.membership.as_deref(), Some("join" | "invite")))
            .filter_map(|event| event.state_key.clone())
            .collect();
        poll.device_lists_changed.extend(members);
        Ok(())
    }

    async fn ask_key_changes(
        &self,
        token: &AccessToken,
        from: &str,
        to: &str,
    ) -> Option<KeyChanges> {
        let query =
            Serializer::new(String::new()).append_pair("from", from).append_pair("to", to).finish();
        let path = format!("/_matrix/client/v3/keys/changes?{query}");
        match self.state.upstream.get_json(token, &path).await {
            Ok(reply) => serde_json::from_slice(&reply).ok(),
            Err(error) => {
                tracing::warn!(error = %causes(&error), "taking everybody's keys for changed");
                None
            }
        }
    }
}
