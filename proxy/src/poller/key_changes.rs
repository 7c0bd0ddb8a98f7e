//! Whose keys changed while the stream was broken off.
//!
//! A poll without a since says nothing of device lists, and a client that goes on from before it must hear of them.
//! The homeserver may still know its old position at
//! [`GET /keys/changes`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3keyschanges); where it does
//! not, everybody's may have changed: that is told too often rather than not at all.

use std::collections::BTreeSet;

use form_urlencoded::Serializer;
use serde::Deserialize;
use store::{RoomUpdate, StateBlock};

use crate::{error::causes, ingest::is_key, upstream::AccessToken};

use super::Poller;

#[derive(Deserialize)]
struct KeyChanges {
    #[serde(default)]
    changed: Vec<String>,
    #[serde(default)]
    left: Vec<String>,
}

/// Whose keys changed while the stream was broken off.
#[derive(Clone, Debug, Default)]
pub(super) struct Missed {
    /// Theirs did.
    pub(super) changed: BTreeSet<String>,
    /// They share no room any more.
    pub(super) left: Vec<String>,
    /// And so did those of everybody whom the poll tells of.
    everybody: bool,
}

impl Missed {
    /// What a poll tells of a room.
    pub(super) fn hear(&mut self, room: &RoomUpdate) {
        if !self.everybody {
            return;
        }
        let (StateBlock::BeforeTimeline(state) | StateBlock::AfterTimeline(state)) = &room.state;
        let members = state
            .iter()
            .chain(&room.timeline)
            .filter(|event| matches!(event.membership.as_deref(), Some("join" | "invite")));
        self.changed.extend(members.filter_map(|event| event.state_key.clone()));
    }
}

impl Poller {
    /// Whose keys changed since the last poll stored, up to the token that a poll without a since ends with.
    pub(super) async fn missed_key_changes(
        &self,
        token: &AccessToken,
        next_batch: &str,
    ) -> Result<Missed, store::Error> {
        let account_id = self.account.account_id;
        let before = self.state.store.next_batch_at(account_id, self.account.pos()).await?;
        let Some(before) = before else { return Ok(Missed::default()) };
        if let Some(told) = self.ask_key_changes(token, &before, next_batch).await {
            let changed = told.changed.into_iter().collect();
            return Ok(Missed { changed, left: told.left, everybody: false });
        }
        let sharers = self.state.store.sharers(account_id).await?.into_iter().collect();
        Ok(Missed { changed: sharers, left: Vec::new(), everybody: true })
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
            Ok(reply) => {
                let mut told: KeyChanges = serde_json::from_slice(&reply).ok()?;
                // What cannot be a key of the database is nobody's ID, and must not keep the poll from being stored.
                told.changed.retain(|user_id| is_key(user_id));
                told.left.retain(|user_id| is_key(user_id));
                Some(told)
            }
            Err(error) => {
                tracing::warn!(error = %causes(&error), "taking everybody's keys for changed");
                None
            }
        }
    }
}
