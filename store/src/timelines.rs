//! Table `timeline_events`, read; and the way from places in a timeline to upstream's tokens.

use std::{cmp::Reverse, collections::HashMap};

use bytes::Bytes;

use crate::{AccountId, DeviceNid, Error, Place, Position, RoomNid, Store, room_heads::bytes_of};

/// An event of a timeline as this account was told it.
#[derive(Clone, Debug)]
pub struct TimelineEvent {
    /// Where it stands.
    pub place: Place,
    /// The event without `unsigned`.
    pub body: Bytes,
    /// When it happened by upstream's clock.
    pub age_ts: Option<i64>,
    /// `unsigned` without `age` and `transaction_id`.
    pub unsigned: Option<Bytes>,
    /// The redaction, if the event is redacted.
    pub redacted_because: Option<Bytes>,
    /// `unsigned.transaction_id`, where the asking device sent it.
    pub transaction_id: Option<String>,
}

/// Which stretch of a room's timeline is wanted.
#[derive(Clone, Copy, Debug)]
pub struct TimelineQuery {
    /// The room.
    pub room_nid: RoomNid,
    /// Events of polls after this position only.
    pub after: Position,
    /// Events before this place only.
    pub before: Place,
}

/// Where an event stands in a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPlace {
    /// The room.
    pub room_nid: RoomNid,
    /// The event.
    pub event_id: String,
    /// Where it stands.
    pub place: Place,
}

/// Upstream's tokens on both sides of a place in a room's timeline.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTokens {
    /// At or before the place.
    pub older: Option<String>,
    /// At or after the place.
    pub newer: Option<String>,
    /// Upstream left events out before the poll's timeline.
    pub limited: bool,
    /// Event IDs between `older` and the place.
    pub between_older: Vec<String>,
    /// Event IDs between the place and `newer`.
    pub between_newer: Vec<String>,
}

impl Store {
    /// The newest `limit` events of each stretch, newest first.
    pub async fn timelines(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        queries: &[TimelineQuery],
        limit: usize,
    ) -> Result<HashMap<RoomNid, Vec<TimelineEvent>>, Error> {
        let nids: Vec<i64> = queries.iter().map(|query| query.room_nid.0).collect();
        let after: Vec<i64> = queries.iter().map(|query| query.after.0).collect();
        let before_pos: Vec<i64> = queries.iter().map(|query| query.before.pos.0).collect();
        let before_ord: Vec<i32> = queries.iter().map(|query| query.before.ord).collect();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .query(
                "timelines::timelines",
                "-- timelines::timelines
                SELECT e.room_nid, e.pos, e.ord, e.age_ts, e.unsigned, b.body,
                    CASE WHEN b.redacted_by IS NOT NULL THEN (
                        SELECT y.body FROM event_bodies y WHERE y.body_id = b.redacted_by
                    ) END AS redacted_because,
                    -- Asked once, and for each event only of a device that has sent some.
                    CASE WHEN EXISTS (
                        SELECT 1 FROM transaction_ids s WHERE s.account_id = $1 AND s.device_nid = $2
                    ) THEN (
                        SELECT x.transaction_id
                        FROM transaction_ids x
                        WHERE x.account_id = $1 AND x.device_nid = $2 AND x.event_id = b.event_id
                    ) END AS transaction_id
                FROM UNNEST($3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::INTEGER[])
                    AS t (room_nid, after, before_pos, before_ord)
                CROSS JOIN LATERAL (
                    SELECT room_nid, pos, ord, body_id, age_ts, unsigned
                    FROM timeline_events
                    WHERE account_id = $1
                        AND room_nid = t.room_nid
                        AND pos > t.after
                        AND (pos, ord) < (t.before_pos, t.before_ord)
                    ORDER BY pos DESC, ord DESC
                    LIMIT $7
                ) e
                CROSS JOIN LATERAL (
                    SELECT event_id, body, redacted_by
                    FROM event_bodies
                    WHERE body_id = e.body_id
                    LIMIT 1
                ) b",
                &[&account_id.0, &device.0, &nids, &after, &before_pos, &before_ord, &limit],
            )
            .await?;
        let mut timelines: HashMap<RoomNid, Vec<TimelineEvent>> = HashMap::new();
        for row in rows {
            let event = TimelineEvent {
                place: Place { pos: Position(row.get("pos")), ord: row.get("ord") },
                body: Bytes::from(row.get::<_, Vec<u8>>("body")),
                age_ts: row.get("age_ts"),
                unsigned: bytes_of(&row, "unsigned"),
                redacted_because: bytes_of(&row, "redacted_because"),
                transaction_id: row.get("transaction_id"),
            };
            timelines.entry(RoomNid(row.get("room_nid"))).or_default().push(event);
        }
        // They come in order as it is; sorting them there would cost as much as finding them.
        for events in timelines.values_mut() {
            events.sort_unstable_by_key(|event| Reverse(event.place));
        }
        Ok(timelines)
    }

    /// Where events with these IDs stand in timelines of these rooms, in polls after each room's position and up to
    /// `until`. An event that stands in several places is given with each of them.
    pub async fn places_of(
        &self,
        account_id: AccountId,
        rooms: &[(RoomNid, Position)],
        until: Position,
        event_ids: &[String],
    ) -> Result<Vec<EventPlace>, Error> {
        let rows = self
            .query(
                "timelines::places_of",
                "-- timelines::places_of (bodies)
                SELECT body_id, event_id, room_nid
                FROM event_bodies
                WHERE event_id = ANY($1)",
                &[&event_ids],
            )
            .await?;
        let mut ids: HashMap<i64, String> = HashMap::new();
        let mut rooms_of: Vec<Option<i64>> = Vec::new();
        for row in &rows {
            ids.insert(row.get("body_id"), row.get("event_id"));
            rooms_of.push(row.get("room_nid"));
        }
        // Bodies from before rooms were noted with them may be of any room.
        let any_room = rooms_of.contains(&None);
        let (nids, after): (Vec<i64>, Vec<i64>) = rooms
            .iter()
            .filter(|(nid, _)| any_room || rooms_of.contains(&Some(nid.0)))
            .map(|(nid, after)| (nid.0, after.0))
            .unzip();
        if nids.is_empty() || ids.is_empty() {
            return Ok(Vec::new());
        }
        let body_ids: Vec<i64> = ids.keys().copied().collect();
        let rows = self
            .query(
                "timelines::places_of",
                "-- timelines::places_of
                SELECT e.room_nid, e.pos, e.ord, e.body_id
                FROM UNNEST($2::BIGINT[], $3::BIGINT[]) AS t (room_nid, after)
                CROSS JOIN LATERAL (
                    SELECT room_nid, pos, ord, body_id
                    FROM timeline_events
                    WHERE account_id = $1 AND room_nid = t.room_nid AND pos > t.after AND pos <= $4
                        AND body_id = ANY($5)
                    -- Keeps the planner from reading the account's timelines through.
                    OFFSET 0
                ) e
                ORDER BY e.room_nid, e.pos, e.ord",
                &[&account_id.0, &nids, &after, &until.0, &body_ids],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| EventPlace {
                room_nid: RoomNid(row.get("room_nid")),
                event_id: ids.get(&row.get("body_id")).cloned().unwrap_or_default(),
                place: Place { pos: Position(row.get("pos")), ord: row.get("ord") },
            })
            .collect())
    }

    /// The IDs of all events that polls after `since` brought in timelines.
    pub async fn event_ids_after(
        &self,
        account_id: AccountId,
        since: Position,
    ) -> Result<Vec<String>, Error> {
        let rows = self
            .query(
                "timelines::event_ids_after",
                "-- timelines::event_ids_after
                SELECT b.event_id
                FROM room_updates u
                CROSS JOIN LATERAL (
                    SELECT body_id
                    FROM timeline_events
                    WHERE account_id = $1 AND room_nid = u.room_nid AND pos = u.pos
                    -- Keeps the planner from reading the account's timelines through.
                    OFFSET 0
                ) e
                JOIN event_bodies b ON b.body_id = e.body_id
                WHERE u.account_id = $1 AND u.pos > $2",
                &[&account_id.0, &since.0],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("event_id")).collect())
    }

    /// Upstream's `next_batch` of the first poll after `pos` that is still known.
    pub async fn next_batch_after(
        &self,
        account_id: AccountId,
        pos: Position,
    ) -> Result<Option<String>, Error> {
        let rows = self
            .query(
                "timelines::next_batch_after",
                "-- timelines::next_batch_after
                SELECT next_batch
                FROM polls
                WHERE account_id = $1 AND pos > $2
                ORDER BY pos
                LIMIT 1",
                &[&account_id.0, &pos.0],
            )
            .await?;
        Ok(rows.first().map(|row| row.get("next_batch")))
    }

    /// Upstream's `next_batch` of the last poll at or before `pos`.
    pub async fn next_batch_at(
        &self,
        account_id: AccountId,
        pos: Position,
    ) -> Result<Option<String>, Error> {
        let rows = self
            .query(
                "timelines::next_batch_at",
                "-- timelines::next_batch_at
                SELECT next_batch
                FROM polls
                WHERE account_id = $1 AND pos <= $2
                ORDER BY pos DESC
                LIMIT 1",
                &[&account_id.0, &pos.0],
            )
            .await?;
        Ok(rows.first().map(|row| row.get("next_batch")))
    }

    /// Upstream's tokens around a place in the timeline that the poll at `place.pos` brought. Where that poll is no longer
    /// known, `newer` is of the first one after it that is.
    pub async fn upstream_tokens(
        &self,
        account_id: AccountId,
        room_nid: RoomNid,
        place: Place,
    ) -> Result<UpstreamTokens, Error> {
        let rows = self
            .query(
                "timelines::upstream_tokens",
                "-- timelines::upstream_tokens
                SELECT
                    p.pos,
                    p.next_batch,
                    COALESCE(u.limited, FALSE) AS limited,
                    COALESCE(u.prev_batch, (
                        SELECT q.next_batch
                        FROM polls q
                        WHERE q.account_id = $1 AND q.pos < $3
                        ORDER BY q.pos DESC
                        LIMIT 1
                    )) AS prev_batch
                FROM (
                    SELECT pos, next_batch
                    FROM polls
                    WHERE account_id = $1 AND pos >= $3
                    ORDER BY pos
                    LIMIT 1
                ) p
                LEFT JOIN room_updates u
                    ON u.account_id = $1 AND u.pos = $3 AND u.room_nid = $2",
                &[&account_id.0, &room_nid.0, &place.pos.0],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(UpstreamTokens::default()) };
        let mut tokens = UpstreamTokens {
            older: row.get("prev_batch"),
            newer: row.get("next_batch"),
            limited: row.get("limited"),
            ..UpstreamTokens::default()
        };
        let newer_pos: i64 = row.get("pos");
        let events = self
            .query(
                "timelines::upstream_tokens",
                "-- timelines::upstream_tokens
                SELECT e.pos, e.ord, b.event_id
                FROM timeline_events e
                JOIN event_bodies b ON b.body_id = e.body_id
                WHERE e.account_id = $1 AND e.room_nid = $2 AND e.pos >= $3 AND e.pos <= $4
                ORDER BY e.pos, e.ord",
                &[&account_id.0, &room_nid.0, &place.pos.0, &newer_pos],
            )
            .await?;
        for event in events {
            let at = Place { pos: Position(event.get("pos")), ord: event.get("ord") };
            let side =
                if at < place { &mut tokens.between_older } else { &mut tokens.between_newer };
            side.push(event.get("event_id"));
        }
        Ok(tokens)
    }
}
