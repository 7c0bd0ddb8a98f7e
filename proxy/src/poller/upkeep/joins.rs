//! What a newly joined room held before the join.
//!
//! When a room comes into an incremental sync by a join, Synapse tells its state and its tags, but neither the
//! receipts that were there nor other account data of the room (which may be left from an earlier stay). An
//! initial sync does, and so must ours.

use tokio::time::Instant;

use crate::json;

use super::{Failure, Poller, REST, Rest, short_lists};

impl Poller {
    /// Fetches and merges that for the rooms joined since this was last done.
    pub(super) async fn settle_joins(&self, rest: &mut Rest) -> Result<(), Failure> {
        let (store, account_id) = (&self.state.store, self.account.account_id);
        let settled = store.upkeep(account_id).await?.joins_settled;
        // What is stored up to here upstream knows at least as well when it is asked below.
        let asked_at = self.account.pos();
        if asked_at <= settled {
            return Ok(());
        }
        let joined = store.joins_between(account_id, settled, asked_at).await?;
        rest.interrupts = !joined.is_empty() && Instant::now() < rest.until;
        if rest.interrupts {
            return Ok(());
        }
        for room_ids in short_lists(&joined) {
            let asked = Instant::now();
            let mut rooms = self.ask_rooms(&filter(room_ids)).await?;
            rest.until = Instant::now() + asked.elapsed() * REST;
            rooms.retain(|room| room_ids.contains(&room.room_id));
            if let Some(pos) = store.supplement(account_id, asked_at, &rooms).await? {
                tracing::debug!(%pos, rooms = rooms.len(), "learnt what new rooms held before");
                self.advance(pos, false);
            }
        }
        Ok(store.joins_are_settled(account_id, asked_at).await?)
    }
}

/// Only receipts of these rooms, and account data of all: Synapse, when asked for certain rooms, leaves out what does
/// not name its room itself.
fn filter(room_ids: &[String]) -> String {
    format!(
        r#"{{"presence":{{"types":[]}},"account_data":{{"types":[]}},"room":{{"timeline":{{"types":[]}},"state":{{"types":[]}},"ephemeral":{{"types":["m.receipt"],"rooms":{}}}}}}}"#,
        json::strings(room_ids)
    )
}
