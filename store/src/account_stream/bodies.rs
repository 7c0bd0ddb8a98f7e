//! Table `event_bodies`: each body once, whoever was told it.

use std::collections::{BTreeMap, HashMap};

use ring::digest::{SHA256, digest};
use tokio_postgres::Row;

use super::{Event, RoomUpdate, StateBlock};
use crate::{
    BodyId, Error, RoomNid,
    tx::{Flight, Statement, Tx, params},
};

/// How much of SHA-256 is kept. Collisions matter only within one event ID.
const HASH_BYTES: usize = 16;

/// The numbers of the bodies of events.
#[derive(Default)]
pub(crate) struct BodyIds {
    ids: HashMap<(String, Vec<u8>), BodyId>,
    /// Whether any of them was pruned before.
    pub(crate) any_pruned: bool,
}

impl BodyIds {
    fn of_rows(rows: &[Row]) -> Self {
        let ids = rows
            .iter()
            .map(|row| ((row.get("event_id"), row.get("body_hash")), BodyId(row.get("body_id"))));
        Self { ids: ids.collect(), any_pruned: rows.iter().any(|row| row.get("pruned")) }
    }

    /// The number of an event's body; it was among those that [`insert`] got.
    pub(crate) fn of(&self, event: &Event) -> Result<BodyId, Error> {
        self.ids.get(&(event.event_id.clone(), hash(event))).copied().ok_or_else(|| {
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
    let bodies = Bodies::of(events);
    let mut flight = Flight::default();
    flight.add(bodies.insert());
    let ids = flight.add(bodies.ids());
    let mut answers = tx.fly(&flight).await?;
    bodies.settle(tx, &answers.take(ids)).await
}

/// Bodies as the columns of a statement: each once, sorted, so that two ingests of the same events wait for each other in
/// one direction only.
pub(super) struct Bodies<'a> {
    event_ids: Vec<&'a str>,
    hashes: Vec<Vec<u8>>,
    memberships: Vec<Option<&'a str>>,
    displaynames: Vec<Option<&'a str>>,
    jsons: Vec<&'a [u8]>,
    nids: Vec<i64>,
}

impl<'a> Bodies<'a> {
    /// Those of these events, and of the redactions that come inside of them.
    pub(super) fn of(events: impl Iterator<Item = (RoomNid, &'a Event)>) -> Self {
        let bodies: BTreeMap<(&str, Vec<u8>), (RoomNid, &Event)> = events
            .flat_map(|(nid, event)| {
                let chain =
                    std::iter::successors(Some(event), |told| told.redacted_because.as_deref());
                chain.map(move |event| ((event.event_id.as_str(), hash(event)), (nid, event)))
            })
            .collect();
        Self {
            event_ids: bodies.keys().map(|(event_id, _)| *event_id).collect(),
            memberships: bodies.values().map(|(_, event)| event.membership.as_deref()).collect(),
            displaynames: bodies.values().map(|(_, event)| event.displayname.as_deref()).collect(),
            jsons: bodies.values().map(|(_, event)| &*event.body).collect(),
            nids: bodies.values().map(|(nid, _)| nid.0).collect(),
            hashes: bodies.into_keys().map(|(_, hash)| hash).collect(),
        }
    }

    /// Stores those that are not there.
    pub(super) fn insert(&self) -> Option<Statement<'_>> {
        if self.event_ids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- bodies::insert
            INSERT INTO event_bodies (event_id, body_hash, membership, displayname, body, room_nid)
            SELECT t.event_id, t.body_hash, t.membership, t.displayname, t.body, t.room_nid
            FROM UNNEST($1::TEXT[], $2::BYTEA[], $3::TEXT[], $4::TEXT[], $5::BYTEA[], $6::BIGINT[])
                AS t (event_id, body_hash, membership, displayname, body, room_nid)
            ON CONFLICT (event_id, body_hash) DO NOTHING",
            params![
                &self.event_ids,
                &self.hashes,
                &self.memberships,
                &self.displaynames,
                &self.jsons,
                &self.nids,
            ],
        ))
    }

    /// Gives the numbers of those that are stored, and whether they are marked as unused. A statement of its own, and not a
    /// part of [`Self::insert`]: it has to see what others stored while that waited for them. Each is looked up by itself
    /// (`OFFSET 0` keeps it so): Postgres must not come to think that so few bodies are better read all and hashed.
    pub(super) fn ids(&self) -> Option<Statement<'_>> {
        if self.event_ids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- bodies::ids
            SELECT b.body_id, b.event_id, b.body_hash, b.unused_since IS NOT NULL AS marked,
                b.redacted_by IS NOT NULL AS pruned
            FROM UNNEST($1::TEXT[], $2::BYTEA[]) AS t (event_id, body_hash)
            CROSS JOIN LATERAL (
                SELECT e.body_id, e.event_id, e.body_hash, e.unused_since, e.redacted_by
                FROM event_bodies e
                WHERE e.event_id = t.event_id AND e.body_hash = t.body_hash
                OFFSET 0
            ) b",
            params![&self.event_ids, &self.hashes],
        ))
    }

    /// Reads the answer to [`Self::ids`].
    ///
    /// A body that a sweep has marked may be deleted at any moment, and one that is not marked cannot be for hours: see
    /// `retention::bodies`. Once the mark is taken off, the row is this transaction's, and what was deleted before that is
    /// stored anew.
    pub(super) async fn settle(&self, tx: &Tx, rows: &[Row]) -> Result<BodyIds, Error> {
        let marked = rows.iter().any(|row| row.get("marked"));
        if !marked && rows.len() == self.event_ids.len() {
            return Ok(BodyIds::of_rows(rows));
        }
        let mut flight = Flight::default();
        flight.add(self.unmark());
        flight.add(self.insert());
        // A sweep beside this may have marked others meanwhile. Those marks are new, and stand for longer than this takes.
        let ids = flight.add(self.ids());
        let mut answers = tx.fly(&flight).await?;
        Ok(BodyIds::of_rows(&answers.take(ids)))
    }

    /// Takes the mark off those that have one and are still there.
    fn unmark(&self) -> Statement<'_> {
        Statement::new(
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
            params![&self.event_ids, &self.hashes],
        )
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
