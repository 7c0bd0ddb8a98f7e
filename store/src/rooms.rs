//! Table `rooms`: room IDs, interned.
//!
//! Shared by all accounts. That a room ID is known here says nothing about who may see the room.

use std::collections::HashMap;

use crate::{Error, Observation, RoomNid, Store, tx::Reserved};

impl Store {
    /// The number of a room ID; `None` if no account was ever told of the room.
    pub async fn room_nid(&self, room_id: &str) -> Result<Option<RoomNid>, Error> {
        Ok(self.room_nids(&[room_id]).await?.remove(room_id))
    }

    /// The numbers of those of these room IDs that any account was ever told of.
    pub async fn room_nids(&self, room_ids: &[&str]) -> Result<HashMap<String, RoomNid>, Error> {
        self.room_nids_on(None, room_ids).await
    }

    async fn room_nids_on(
        &self,
        reserved: Option<&Reserved>,
        room_ids: &[&str],
    ) -> Result<HashMap<String, RoomNid>, Error> {
        let (mut nids, missing) = self.remembered(room_ids);
        if missing.is_empty() {
            return Ok(nids);
        }
        let rows = self
            .query_on(
                reserved,
                "rooms::room_nids",
                "-- rooms::room_nids
                SELECT room_nid, room_id FROM rooms WHERE room_id = ANY($1)",
                &[&missing],
            )
            .await?;
        for row in rows {
            let (room_id, nid): (String, _) = (row.get("room_id"), RoomNid(row.get("room_nid")));
            self.room_nids.insert(room_id.clone(), nid);
            nids.insert(room_id, nid);
        }
        Ok(nids)
    }

    /// The numbers of room IDs, made where there is none. Runs outside the ingest's transaction: a
    /// number that is then not used does no harm, and one that is remembered here is surely durable.
    pub(crate) async fn intern_rooms(
        &self,
        room_ids: &[&str],
    ) -> Result<HashMap<String, RoomNid>, Error> {
        self.intern_rooms_on(None, room_ids).await
    }

    /// The same, on this connection if one is given.
    pub(crate) async fn intern_rooms_on(
        &self,
        reserved: Option<&Reserved>,
        room_ids: &[&str],
    ) -> Result<HashMap<String, RoomNid>, Error> {
        let (nids, mut missing) = self.remembered(room_ids);
        if missing.is_empty() {
            return Ok(nids);
        }
        // Sorted, so that two processes that insert the same rooms cannot wait for each other.
        missing.sort_unstable();
        missing.dedup();
        self.query_on(
            reserved,
            "rooms::intern_rooms",
            "-- rooms::intern_rooms
            INSERT INTO rooms (room_id)
            SELECT t.room_id FROM UNNEST($1::TEXT[]) AS t (room_id)
            ON CONFLICT (room_id) DO NOTHING",
            &[&missing],
        )
        .await?;
        // Those that were remembered are remembered still.
        self.room_nids_on(reserved, room_ids).await
    }

    /// The numbers that are at hand, and the room IDs whose numbers are not.
    fn remembered<'a>(&self, room_ids: &[&'a str]) -> (HashMap<String, RoomNid>, Vec<&'a str>) {
        let mut nids = HashMap::with_capacity(room_ids.len());
        let mut missing = Vec::new();
        for room_id in room_ids {
            match self.room_nids.get(*room_id) {
                Some(known) => {
                    nids.insert((*room_id).to_owned(), *known);
                }
                None => missing.push(*room_id),
            }
        }
        let (found, missed) = (nids.len(), missing.len());
        self.observer.tell(Observation::RoomIds { found, missing: missed });
        (nids, missing)
    }
}
