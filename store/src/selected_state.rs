//! Tables `room_state` and `state_changes`, read for what lists of rooms show: a few keys of the state of many rooms.

use std::collections::{BTreeSet, HashMap};

use crate::{
    AccountId, Error, Place, RoomNid, StateEvent, Store,
    state::{Places, collect},
};

/// A part of the state of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateKeys<'a> {
    /// The type.
    pub event_type: &'a str,
    /// The state key; `None` for any.
    pub state_key: Option<&'a str>,
}

impl Store {
    /// Certain keys of the state of rooms, each room at its own place. Of each room nothing else is read.
    pub async fn selected_states(
        &self,
        account_id: AccountId,
        rooms: &[(RoomNid, Place)],
        keys: &[StateKeys<'_>],
    ) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
        let whole: BTreeSet<&str> = keys
            .iter()
            .filter(|keys| keys.state_key.is_none())
            .map(|keys| keys.event_type)
            .collect();
        let single: BTreeSet<(&str, &str)> = keys
            .iter()
            .filter(|keys| !whole.contains(keys.event_type))
            .filter_map(|keys| Some((keys.event_type, keys.state_key?)))
            .collect();
        let whole: Vec<&str> = whole.into_iter().collect();
        let (types, state_keys): (Vec<&str>, Vec<&str>) = single.into_iter().unzip();
        let places = Places::of(rooms.iter().copied());
        let mut states = HashMap::new();
        if rooms.is_empty() || (whole.is_empty() && types.is_empty()) {
            return Ok(states);
        }
        let rows = self
            .query(
                "selected_state::selected_states",
                "-- selected_state::selected_states
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
                        -- Keeps the planner from reading all changes of the account.
                        OFFSET 0
                    ) c
                    WHERE c.event_type = ANY($5)
                        OR (c.event_type, c.state_key) IN (
                            SELECT k.event_type, k.state_key
                            FROM UNNEST($6::TEXT[], $7::TEXT[]) AS k (event_type, state_key)
                        )
                    ORDER BY c.room_nid, c.event_type, c.state_key, c.pos, c.ord
                ),
                head AS (
                    SELECT s.room_nid, s.event_type, s.state_key, s.body_id, s.unsigned
                    FROM UNNEST($2::BIGINT[]) AS t (room_nid)
                    CROSS JOIN UNNEST($5::TEXT[]) AS k (event_type)
                    CROSS JOIN LATERAL (
                        SELECT room_nid, event_type, state_key, body_id, unsigned
                        FROM room_state
                        WHERE account_id = $1 AND room_nid = t.room_nid AND event_type = k.event_type
                        -- Keeps the planner from reading the whole state of the rooms.
                        OFFSET 0
                    ) s
                    UNION ALL
                    SELECT s.room_nid, s.event_type, s.state_key, s.body_id, s.unsigned
                    FROM UNNEST($2::BIGINT[]) AS t (room_nid)
                    CROSS JOIN UNNEST($6::TEXT[], $7::TEXT[]) AS k (event_type, state_key)
                    CROSS JOIN LATERAL (
                        SELECT room_nid, event_type, state_key, body_id, unsigned
                        FROM room_state
                        WHERE account_id = $1
                            AND room_nid = t.room_nid
                            AND event_type = k.event_type
                            AND state_key = k.state_key
                        OFFSET 0
                    ) s
                ),
                state AS (
                    SELECT s.room_nid, s.event_type, s.state_key, s.body_id, s.unsigned
                    FROM head s
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
                ) b
                ORDER BY s.room_nid, s.event_type, s.state_key",
                &[
                    &account_id.0,
                    &places.nids,
                    &places.pos,
                    &places.ord,
                    &whole,
                    &types,
                    &state_keys,
                ],
            )
            .await?;
        collect(&mut states, &rows);
        Ok(states)
    }
}
