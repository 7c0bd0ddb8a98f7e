//! Tables `room_state` and `state_changes`, read: the state of rooms at any retained place.
//!
//! The state at a place is the head with every change at or after the place undone. Both are read in
//! one snapshot, so a poll stored in between can do no harm. Where the place is after the last poll (`accounts.pos`), as it
//! mostly is, there is nothing to undo, and changes are not looked for.
//!
//! All is looked up row by row (`LATERAL` with `LIMIT 1` or `OFFSET 0`): joined, a list of rooms can make Postgres read its
//! way through the account, and through everybody's bodies.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{AccountId, Error, Place, RoomNid, Store, room_heads::bytes_of};

/// A state event at some place.
#[derive(Clone, Debug)]
pub struct StateEvent {
    /// Its type.
    pub event_type: String,
    /// Its state key.
    pub state_key: String,
    /// The event without `unsigned`.
    pub body: Bytes,
    /// `unsigned` as this account was told it.
    pub unsigned: Option<Bytes>,
    /// The redaction, if the event is redacted.
    pub redacted_because: Option<Bytes>,
}

/// Which state of a room is wanted.
#[derive(Clone, Copy, Debug)]
pub struct StateQuery {
    /// The room.
    pub room_nid: RoomNid,
    /// The state at this place.
    pub at: Place,
    /// Only what changed at or after this place, and before `at`; `None` for all of it.
    pub since: Option<Place>,
}

/// Which part of the state is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSelection {
    /// Everything.
    All,
    /// Everything but `m.room.member`.
    WithoutMembers,
}

impl Store {
    /// The state of rooms, each at its own place; with `since`, what changed on the way there.
    pub async fn states(
        &self,
        account_id: AccountId,
        queries: &[StateQuery],
        selection: StateSelection,
    ) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
        let (full, deltas): (Vec<StateQuery>, Vec<StateQuery>) =
            queries.iter().copied().partition(|query| query.since.is_none());
        let mut states = HashMap::new();
        if !full.is_empty() {
            let places = Places::of(full.iter().map(|query| (query.room_nid, query.at)));
            let rows = self
                .query(
                    "state::states",
                    "-- state::states (full)
                    WITH undone AS MATERIALIZED (
                        SELECT DISTINCT ON (c.room_nid, c.event_type, c.state_key)
                            c.room_nid, c.event_type, c.state_key, c.old_body_id, c.old_unsigned
                        FROM UNNEST($2::BIGINT[], $3::BIGINT[], $4::INTEGER[]) AS t (room_nid, pos, ord)
                        CROSS JOIN LATERAL (
                            SELECT room_nid, pos, ord, event_type, state_key, old_body_id, old_unsigned
                            FROM state_changes
                            WHERE account_id = $1
                                AND room_nid = t.room_nid
                                AND (pos, ord) >= (t.pos, t.ord)
                                AND t.pos <= (SELECT a.pos FROM accounts a WHERE a.account_id = $1)
                                AND ($5 OR event_type <> 'm.room.member')
                            OFFSET 0
                        ) c
                        ORDER BY c.room_nid, c.event_type, c.state_key, c.pos, c.ord
                    ),
                    state AS (
                        SELECT s.room_nid, s.event_type, s.state_key, s.body_id, s.unsigned
                        FROM UNNEST($2::BIGINT[]) AS t (room_nid)
                        CROSS JOIN LATERAL (
                            SELECT room_nid, event_type, state_key, body_id, unsigned
                            FROM room_state
                            WHERE account_id = $1
                                AND room_nid = t.room_nid
                                AND ($5 OR event_type <> 'm.room.member')
                            OFFSET 0
                        ) s
                        WHERE NOT EXISTS (
                            SELECT 1
                            FROM undone u
                            WHERE u.room_nid = s.room_nid
                                AND u.event_type = s.event_type
                                AND u.state_key = s.state_key
                        )
                        UNION ALL
                        SELECT room_nid, event_type, state_key, old_body_id, old_unsigned
                        FROM undone
                        WHERE old_body_id IS NOT NULL
                    )
                    SELECT s.room_nid, s.event_type, s.state_key, s.unsigned, b.body,
                        CASE WHEN b.redacted_by IS NOT NULL THEN (
                            SELECT y.body FROM event_bodies y WHERE y.body_id = b.redacted_by
                        ) END AS redacted_because
                    FROM state s
                    CROSS JOIN LATERAL (
                        SELECT body, redacted_by
                        FROM event_bodies
                        WHERE body_id = s.body_id
                        LIMIT 1
                    ) b",
                    &[
                        &account_id.0,
                        &places.nids,
                        &places.pos,
                        &places.ord,
                        &(selection == StateSelection::All),
                    ],
                )
                .await?;
            collect(&mut states, &rows);
        }
        if !deltas.is_empty() {
            let at = Places::of(deltas.iter().map(|query| (query.room_nid, query.at)));
            let since =
                Places::of(deltas.iter().filter_map(|query| Some((query.room_nid, query.since?))));
            let rows = self
                .query(
                    "state::states",
                    "-- state::states (delta)
                    SELECT k.room_nid, k.event_type, k.state_key, b.body,
                        CASE WHEN u.known THEN u.old_unsigned ELSE s.unsigned END AS unsigned,
                        CASE WHEN b.redacted_by IS NOT NULL THEN (
                            SELECT y.body FROM event_bodies y WHERE y.body_id = b.redacted_by
                        ) END AS redacted_because
                    FROM (
                        SELECT DISTINCT t.room_nid, t.at_pos, t.at_ord, c.event_type, c.state_key
                        FROM UNNEST($2::BIGINT[], $3::BIGINT[], $4::INTEGER[], $5::BIGINT[], $6::INTEGER[])
                            AS t (room_nid, at_pos, at_ord, since_pos, since_ord)
                        CROSS JOIN LATERAL (
                            SELECT event_type, state_key
                            FROM state_changes
                            WHERE account_id = $1
                                AND room_nid = t.room_nid
                                AND (pos, ord) >= (t.since_pos, t.since_ord)
                                AND (pos, ord) < (t.at_pos, t.at_ord)
                            OFFSET 0
                        ) c
                    ) k
                    LEFT JOIN LATERAL (
                        SELECT TRUE AS known, old_body_id, old_unsigned
                        FROM state_changes c
                        WHERE c.account_id = $1
                            AND c.room_nid = k.room_nid
                            AND (c.pos, c.ord) >= (k.at_pos, k.at_ord)
                            AND c.event_type = k.event_type
                            AND c.state_key = k.state_key
                            AND k.at_pos <= (SELECT a.pos FROM accounts a WHERE a.account_id = $1)
                        ORDER BY c.pos, c.ord
                        LIMIT 1
                    ) u ON TRUE
                    LEFT JOIN LATERAL (
                        SELECT h.body_id, h.unsigned
                        FROM room_state h
                        WHERE h.account_id = $1
                            AND h.room_nid = k.room_nid
                            AND h.event_type = k.event_type
                            AND h.state_key = k.state_key
                        LIMIT 1
                    ) s ON TRUE
                    CROSS JOIN LATERAL (
                        SELECT e.body, e.redacted_by
                        FROM event_bodies e
                        WHERE e.body_id = CASE WHEN u.known THEN u.old_body_id ELSE s.body_id END
                        LIMIT 1
                    ) b
                    WHERE $7 OR k.event_type <> 'm.room.member'",
                    &[
                        &account_id.0,
                        &at.nids,
                        &at.pos,
                        &at.ord,
                        &since.pos,
                        &since.ord,
                        &(selection == StateSelection::All),
                    ],
                )
                .await?;
            collect(&mut states, &rows);
        }
        Ok(states)
    }

    /// The member events of certain users, each room at its own place: what lazy loading wants.
    pub async fn members_at(
        &self,
        account_id: AccountId,
        wanted: &[(RoomNid, Place, String)],
    ) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
        let places = Places::of(wanted.iter().map(|(nid, place, _)| (*nid, *place)));
        let users: Vec<&str> = wanted.iter().map(|(_, _, user_id)| user_id.as_str()).collect();
        let rows = self
            .query(
                "state::members_at",
                "-- state::members_at
                SELECT t.room_nid, 'm.room.member' AS event_type, t.user_id AS state_key, b.body,
                    CASE WHEN u.known THEN u.old_unsigned ELSE s.unsigned END AS unsigned,
                    CASE WHEN b.redacted_by IS NOT NULL THEN (
                        SELECT y.body FROM event_bodies y WHERE y.body_id = b.redacted_by
                    ) END AS redacted_because
                FROM UNNEST($2::BIGINT[], $3::BIGINT[], $4::INTEGER[], $5::TEXT[])
                    AS t (room_nid, pos, ord, user_id)
                LEFT JOIN LATERAL (
                    SELECT TRUE AS known, old_body_id, old_unsigned
                    FROM state_changes c
                    WHERE c.account_id = $1
                        AND c.room_nid = t.room_nid
                        AND (c.pos, c.ord) >= (t.pos, t.ord)
                        AND c.event_type = 'm.room.member'
                        AND c.state_key = t.user_id
                        AND t.pos <= (SELECT a.pos FROM accounts a WHERE a.account_id = $1)
                    ORDER BY c.pos, c.ord
                    LIMIT 1
                ) u ON TRUE
                LEFT JOIN LATERAL (
                    SELECT h.body_id, h.unsigned
                    FROM room_state h
                    WHERE h.account_id = $1
                        AND h.room_nid = t.room_nid
                        AND h.event_type = 'm.room.member'
                        AND h.state_key = t.user_id
                    LIMIT 1
                ) s ON TRUE
                CROSS JOIN LATERAL (
                    SELECT e.body, e.redacted_by
                    FROM event_bodies e
                    WHERE e.body_id = CASE WHEN u.known THEN u.old_body_id ELSE s.body_id END
                    LIMIT 1
                ) b",
                &[&account_id.0, &places.nids, &places.pos, &places.ord, &users],
            )
            .await?;
        let mut states = HashMap::new();
        collect(&mut states, &rows);
        Ok(states)
    }
}

/// Rooms and places as the arrays of a statement.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) nids: Vec<i64>,
    pub(crate) pos: Vec<i64>,
    pub(crate) ord: Vec<i32>,
}

impl Places {
    /// The arrays of these.
    pub(crate) fn of(places: impl Iterator<Item = (RoomNid, Place)>) -> Self {
        let mut columns = Self::default();
        for (nid, place) in places {
            columns.nids.push(nid.0);
            columns.pos.push(place.pos.0);
            columns.ord.push(place.ord);
        }
        columns
    }
}

/// The state events in rows, by room.
pub(crate) fn collect(
    states: &mut HashMap<RoomNid, Vec<StateEvent>>,
    rows: &[tokio_postgres::Row],
) {
    for row in rows {
        let event = StateEvent {
            event_type: row.get("event_type"),
            state_key: row.get("state_key"),
            body: Bytes::from(row.get::<_, Vec<u8>>("body")),
            unsigned: bytes_of(row, "unsigned"),
            redacted_because: bytes_of(row, "redacted_because"),
        };
        states.entry(RoomNid(row.get("room_nid"))).or_default().push(event);
    }
}
