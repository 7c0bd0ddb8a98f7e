//! Table `event_bodies`: each body once, whoever was told it.

use std::collections::{BTreeMap, HashMap};

use ring::digest::{SHA256, digest};

use super::{Event, RoomUpdate, StateBlock};
use crate::{BodyId, Error, RoomNid, tx::Tx};

/// How much of SHA-256 is kept. Collisions matter only within one event ID.
const HASH_BYTES: usize = 16;

/// The numbers of the bodies of events.
#[derive(Default)]
pub(crate) struct BodyIds(HashMap<(String, Vec<u8>), BodyId>);

impl BodyIds {
    /// The number of an event's body; it was among those that [`insert`] got.
    pub(crate) fn of(&self, event: &Event) -> Result<BodyId, Error> {
        self.0.get(&(event.event_id.clone(), hash(event))).copied().ok_or_else(|| {
            Error::Inconsistent {
                table: "event_bodies",
                column: "event_id",
                key: event.event_id.clone(),
            }
        })
    }
}

/// Stores the bodies of events, those not yet known, and gives the numbers of all; with them go the
/// redactions that come inside of redacted events.
pub(crate) async fn insert<'a>(
    tx: &Tx,
    events: impl Iterator<Item = (RoomNid, &'a Event)>,
) -> Result<BodyIds, Error> {
    // Sorted, so that two ingests of the same events wait for each other in one direction only.
    let bodies: BTreeMap<(&str, Vec<u8>), (RoomNid, &Event)> = events
        .flat_map(|(nid, event)| {
            let chain = std::iter::successors(Some(event), |told| told.redacted_because.as_deref());
            chain.map(move |event| ((event.event_id.as_str(), hash(event)), (nid, event)))
        })
        .collect();
    if bodies.is_empty() {
        return Ok(BodyIds::default());
    }
    let event_ids: Vec<&str> = bodies.keys().map(|(event_id, _)| *event_id).collect();
    let hashes: Vec<&[u8]> = bodies.keys().map(|(_, hash)| hash.as_slice()).collect();
    let memberships: Vec<Option<&str>> =
        bodies.values().map(|(_, event)| event.membership.as_deref()).collect();
    let displaynames: Vec<Option<&str>> =
        bodies.values().map(|(_, event)| event.displayname.as_deref()).collect();
    let jsons: Vec<&[u8]> = bodies.values().map(|(_, event)| &*event.body).collect();
    let nids: Vec<i64> = bodies.values().map(|(nid, _)| nid.0).collect();
    let columns = Columns { event_ids, hashes, memberships, displaynames, jsons, nids };
    columns.insert(tx).await?;
    let (mut ids, marked) = columns.ids(tx).await?;
    // A body that a sweep has marked may be deleted at any moment, and one that is not marked cannot be for hours: see
    // `retention::bodies`. Once the mark is taken off, the row is this transaction's, and what was deleted before that is
    // stored anew.
    if marked || ids.0.len() < bodies.len() {
        columns.unmark(tx).await?;
        columns.insert(tx).await?;
        // A sweep beside this may have marked others meanwhile. Those marks are new, and stand for longer than this takes.
        (ids, _) = columns.ids(tx).await?;
    }
    Ok(ids)
}

/// Bodies as the columns of a statement.
struct Columns<'a> {
    event_ids: Vec<&'a str>,
    hashes: Vec<&'a [u8]>,
    memberships: Vec<Option<&'a str>>,
    displaynames: Vec<Option<&'a str>>,
    jsons: Vec<&'a [u8]>,
    nids: Vec<i64>,
}

impl Columns<'_> {
    async fn insert(&self, tx: &Tx) -> Result<(), Error> {
        tx.execute(
            "-- bodies::insert
            INSERT INTO event_bodies (event_id, body_hash, membership, displayname, body, room_nid)
            SELECT t.event_id, t.body_hash, t.membership, t.displayname, t.body, t.room_nid
            FROM UNNEST($1::TEXT[], $2::BYTEA[], $3::TEXT[], $4::TEXT[], $5::BYTEA[], $6::BIGINT[])
                AS t (event_id, body_hash, membership, displayname, body, room_nid)
            ON CONFLICT (event_id, body_hash) DO NOTHING",
            &[
                &self.event_ids,
                &self.hashes,
                &self.memberships,
                &self.displaynames,
                &self.jsons,
                &self.nids,
            ],
        )
        .await?;
        Ok(())
    }

    /// The numbers of those that are stored, and whether any of them is marked as unused.
    async fn ids(&self, tx: &Tx) -> Result<(BodyIds, bool), Error> {
        let rows = tx
            .query(
                "-- bodies::ids
                SELECT b.body_id, b.event_id, b.body_hash, b.unused_since IS NOT NULL AS marked
                FROM UNNEST($1::TEXT[], $2::BYTEA[]) AS t (event_id, body_hash)
                JOIN event_bodies b ON b.event_id = t.event_id AND b.body_hash = t.body_hash",
                &[&self.event_ids, &self.hashes],
            )
            .await?;
        let marked = rows.iter().any(|row| row.get("marked"));
        let ids = rows
            .iter()
            .map(|row| ((row.get("event_id"), row.get("body_hash")), BodyId(row.get("body_id"))))
            .collect();
        Ok((BodyIds(ids), marked))
    }

    /// Takes the mark off those that have one and are still there.
    async fn unmark(&self, tx: &Tx) -> Result<(), Error> {
        tx.execute(
            "-- bodies::unmark
            UPDATE event_bodies b
            SET unused_since = NULL
            FROM (
                SELECT e.body_id
                FROM UNNEST($1::TEXT[], $2::BYTEA[]) AS t (event_id, body_hash)
                JOIN event_bodies e ON e.event_id = t.event_id AND e.body_hash = t.body_hash
                WHERE e.unused_since IS NOT NULL
                ORDER BY e.event_id, e.body_hash
                FOR NO KEY UPDATE OF e
            ) marked
            WHERE b.body_id = marked.body_id",
            &[&self.event_ids, &self.hashes],
        )
        .await?;
        Ok(())
    }
}

/// All events of the rooms of a poll.
pub(super) fn events<'a>(
    rooms: &'a [RoomUpdate],
    room_nids: &HashMap<String, RoomNid>,
) -> Vec<(RoomNid, &'a Event)> {
    let mut all = Vec::new();
    for room in rooms {
        let Some(nid) = room_nids.get(&room.room_id) else { continue };
        let (StateBlock::BeforeTimeline(state) | StateBlock::AfterTimeline(state)) = &room.state;
        all.extend(state.iter().chain(&room.timeline).map(|event| (*nid, event)));
    }
    all
}

fn hash(event: &Event) -> Vec<u8> {
    digest(&SHA256, &event.body).as_ref()[..HASH_BYTES].to_vec()
}
