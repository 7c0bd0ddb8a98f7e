//! Rooms that are gone without a word.
//!
//! A room that an administrator deletes with its history, or that another client leaves and forgets while
//! nobody polls, is in no sync any more, not even as left. It would stay in the store for ever. Upstream's
//! [`GET /joined_rooms`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3joined_rooms) does
//! not have it.

use std::collections::HashSet;

use store::{RoomNid, RoomUpdate, Section};

use super::{Failure, MOST_OVERTAKEN, Poller};

impl Poller {
    /// Takes joined rooms that upstream does not list as left.
    ///
    /// Upstream's list is believed only of a room that no poll has mentioned since it was asked for, and only
    /// after a poll that began later: what came or went in the ordinary way is in that one. Of a room that such
    /// a poll mentions, and that is joined still, it is asked again.
    pub(super) async fn settle_vanished(&self) -> Result<(), Failure> {
        for _ in 0..MOST_OVERTAKEN {
            if self.take_vanished().await? {
                return Ok(());
            }
        }
        Err(Failure::Overtaken)
    }

    /// Asks once. `false` if polls came in between that mentioned one of the rooms.
    async fn take_vanished(&self) -> Result<bool, Failure> {
        let asked_at = self.account.pos();
        let listed = self.state.upstream.joined_rooms(&self.token()?).await?;
        let listed: HashSet<String> = listed.into_iter().collect();
        let missing: HashSet<RoomNid> = self
            .joined_rooms()
            .await?
            .into_iter()
            .filter(|(_, room_id)| !listed.contains(room_id))
            .map(|(nid, _)| nid)
            .collect();
        if missing.is_empty() {
            return Ok(true);
        }
        if !self.account.fresh_main_poll(&self.state, &self.device).await {
            return Err(Failure::Overtaken);
        }
        let token = self.upstream_token().await?;
        let (_, moved) = self.state.store.changed_rooms(self.account.account_id, asked_at).await?;
        let moved: HashSet<RoomNid> = moved.iter().map(|room| room.head.room_nid).collect();
        let mut gone = self.joined_rooms().await?;
        gone.retain(|(nid, _)| missing.contains(nid));
        if gone.iter().any(|(nid, _)| moved.contains(nid)) {
            return Ok(false);
        }
        if gone.is_empty() {
            return Ok(true);
        }
        let left = gone.into_iter().map(|(_, room_id)| {
            tracing::info!(%room_id, "the room is gone without a word: taken as left");
            RoomUpdate { limited: true, ..RoomUpdate::empty(room_id, Section::Leave) }
        });
        self.store_rooms(&token, left.collect()).await
    }

    pub(super) async fn joined_rooms(&self) -> Result<Vec<(RoomNid, String)>, Failure> {
        Ok(self.state.store.joined_rooms(self.account.account_id).await?)
    }
}
