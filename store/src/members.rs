//! The members of a room: completing them, listing them at a place, and their changes in order.
//!
//! Upstream's sync loads members lazily; the head then holds those it happened to tell. Completing a
//! room once makes the head hold all, and every poll after keeps it so.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::{
    AccountId, BodyId, Error, Event, Place, Position, RoomNid, Store,
    account_stream::insert_bodies, redactions, room_heads::bytes_of, state::Places,
};

/// One member of a room.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who.
    pub user_id: String,
    /// `join`, `invite`, `leave`, …
    pub membership: String,
    /// `content.displayname`.
    pub displayname: Option<String>,
    /// The member event.
    pub body_id: BodyId,
}

/// A change of a member.
#[derive(Clone, Debug)]
pub struct MemberChange {
    /// Where it stands in the stream.
    pub place: Place,
    /// Who.
    pub user_id: String,
    /// What the membership was before; `None` where there was none.
    pub old_membership: Option<String>,
    /// What it was after.
    pub membership: Option<String>,
    /// The member event.
    pub body: Bytes,
    /// `unsigned` as this account was told it.
    pub unsigned: Option<Bytes>,
    /// The redaction, if the event is redacted.
    pub redacted_because: Option<Bytes>,
}

impl Store {
    /// Adds the members that upstream listed at `at` to the head, those that it does not hold yet, and
    /// marks the room complete. What polls brought since `at` stands. A list from before the user came
    /// (back) into the room is thrown away: who left in between would be in it.
    pub async fn complete_members(
        &self,
        account_id: AccountId,
        room_nid: RoomNid,
        at: Position,
        members: &[Event],
    ) -> Result<(), Error> {
        // The account's row lock keeps polls out: the head must not move between look and mark.
        let tx = self.tx_on_account("members::complete_members", account_id).await?;
        let rejoined = tx
            .query_opt(
                "-- members::complete_members
                SELECT 1
                FROM room_updates
                WHERE account_id = $1 AND room_nid = $2 AND pos > $3 AND newly_joined
                LIMIT 1",
                &[&account_id.0, &room_nid.0, &at.0],
            )
            .await?;
        if rejoined.is_some() {
            return tx.commit().await;
        }
        let told: Vec<_> = members.iter().map(|event| (room_nid, event)).collect();
        let bodies = insert_bodies(&tx, told.iter().copied()).await?;
        let mut seen = HashSet::new();
        let (mut users, mut body_ids, mut unsigneds) = (Vec::new(), Vec::new(), Vec::new());
        for event in members {
            let Some(user_id) = &event.state_key else { continue };
            if seen.insert(user_id.as_str()) {
                users.push(user_id.as_str());
                body_ids.push(bodies.of(event)?.0);
                unsigneds.push(event.bare_unsigned.as_deref());
            }
        }
        // A member that first changed after `at` was recorded as coming from nothing: now we know.
        tx.execute(
            "-- members::complete_members
            UPDATE state_changes c
            SET old_body_id = t.body_id, old_unsigned = t.unsigned
            FROM UNNEST($4::TEXT[], $5::BIGINT[], $6::BYTEA[]) AS t (user_id, body_id, unsigned)
            WHERE c.account_id = $1
                AND c.room_nid = $2
                AND c.pos > $3
                AND c.event_type = 'm.room.member'
                AND c.state_key = t.user_id
                AND c.old_body_id IS NULL",
            &[&account_id.0, &room_nid.0, &at.0, &users, &body_ids, &unsigneds],
        )
        .await?;
        tx.execute(
            "-- members::complete_members
            INSERT INTO room_state (account_id, room_nid, event_type, state_key, body_id, unsigned)
            SELECT $1, $2, 'm.room.member', t.user_id, t.body_id, t.unsigned
            FROM UNNEST($3::TEXT[], $4::BIGINT[], $5::BYTEA[]) AS t (user_id, body_id, unsigned)
            ON CONFLICT (account_id, room_nid, event_type, state_key) DO NOTHING",
            &[&account_id.0, &room_nid.0, &users, &body_ids, &unsigneds],
        )
        .await?;
        tx.execute(
            "-- members::complete_members
            UPDATE account_rooms
            SET members_complete = TRUE
            WHERE account_id = $1 AND room_nid = $2 AND section = 0",
            &[&account_id.0, &room_nid.0],
        )
        .await?;
        let redacted =
            redactions::apply(&tx, self.redaction_rules, account_id, &told, &bodies).await?;
        let _counted = self.pruning(redacted);
        tx.commit().await?;
        Ok(())
    }

    /// The members of a room at a place, in no order.
    pub async fn members(
        &self,
        account_id: AccountId,
        room_nid: RoomNid,
        at: Place,
        memberships: &[&str],
    ) -> Result<Vec<Member>, Error> {
        let rows = self
            .query(
                "members::members",
                "-- members::members
                WITH undone AS MATERIALIZED (
                    SELECT DISTINCT ON (state_key) state_key, old_body_id
                    FROM state_changes
                    WHERE account_id = $1
                        AND room_nid = $2
                        AND (pos, ord) >= ($3, $4)
                        AND event_type = 'm.room.member'
                    ORDER BY state_key, pos, ord
                ),
                member AS (
                    SELECT s.state_key, s.body_id
                    FROM room_state s
                    WHERE s.account_id = $1
                        AND s.room_nid = $2
                        AND s.event_type = 'm.room.member'
                        AND NOT EXISTS (SELECT 1 FROM undone u WHERE u.state_key = s.state_key)
                    UNION ALL
                    SELECT state_key, old_body_id FROM undone WHERE old_body_id IS NOT NULL
                )
                SELECT m.state_key, b.membership, b.displayname, b.body_id
                FROM member m
                JOIN event_bodies b ON b.body_id = m.body_id
                WHERE b.membership = ANY($5)",
                &[&account_id.0, &room_nid.0, &at.pos.0, &at.ord, &memberships],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| Member {
                user_id: row.get("state_key"),
                membership: row.get("membership"),
                displayname: row.get("displayname"),
                body_id: BodyId(row.get("body_id")),
            })
            .collect())
    }

    /// The first `limit` known members of each room at its place, but for one user: who is joined or invited first, then who
    /// has left or is banned; in the order in which their memberships were heard of. User ID and member event.
    pub async fn first_members(
        &self,
        account_id: AccountId,
        rooms: &[(RoomNid, Place)],
        but_for: &str,
        limit: usize,
    ) -> Result<HashMap<RoomNid, Vec<(String, Bytes)>>, Error> {
        let places = Places::of(rooms.iter().copied());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .query(
                "members::first_members",
                "-- members::first_members
                SELECT t.room_nid, m.state_key, m.body
                FROM UNNEST($2::BIGINT[], $3::BIGINT[], $4::INTEGER[]) AS t (room_nid, pos, ord)
                CROSS JOIN LATERAL (
                    SELECT k.state_key, b.body, b.body_id, b.membership IN ('join', 'invite') AS here
                    FROM (
                        SELECT s.state_key, s.body_id
                        FROM room_state s
                        WHERE s.account_id = $1
                            AND s.room_nid = t.room_nid
                            AND s.event_type = 'm.room.member'
                            AND NOT EXISTS (
                                SELECT 1
                                FROM state_changes c
                                WHERE c.account_id = $1
                                    AND c.room_nid = t.room_nid
                                    AND (c.pos, c.ord) >= (t.pos, t.ord)
                                    AND c.event_type = 'm.room.member'
                                    AND c.state_key = s.state_key
                            )
                        UNION ALL
                        SELECT o.state_key, o.old_body_id
                        FROM (
                            SELECT DISTINCT ON (c.state_key) c.state_key, c.old_body_id
                            FROM state_changes c
                            WHERE c.account_id = $1
                                AND c.room_nid = t.room_nid
                                AND (c.pos, c.ord) >= (t.pos, t.ord)
                                AND c.event_type = 'm.room.member'
                            ORDER BY c.state_key, c.pos, c.ord
                        ) o
                        WHERE o.old_body_id IS NOT NULL
                    ) k
                    JOIN event_bodies b ON b.body_id = k.body_id
                    WHERE k.state_key <> $5 AND b.membership IN ('join', 'invite', 'leave', 'ban')
                    ORDER BY here DESC, b.body_id
                    LIMIT $6
                ) m
                ORDER BY t.room_nid, m.here DESC, m.body_id",
                &[&account_id.0, &places.nids, &places.pos, &places.ord, &but_for, &limit],
            )
            .await?;
        let mut members: HashMap<RoomNid, Vec<(String, Bytes)>> = HashMap::new();
        for row in rows {
            members
                .entry(RoomNid(row.get("room_nid")))
                .or_default()
                .push((row.get("state_key"), Bytes::from(row.get::<_, Vec<u8>>("body"))));
        }
        Ok(members)
    }

    /// Bodies by number, in the order asked for, each with its redaction if it is redacted.
    pub async fn bodies(&self, body_ids: &[BodyId]) -> Result<Vec<(Bytes, Option<Bytes>)>, Error> {
        let ids: Vec<i64> = body_ids.iter().map(|id| id.0).collect();
        let rows = self
            .query(
                "members::bodies",
                "-- members::bodies
                SELECT
                    b.body,
                    CASE WHEN b.redacted_by IS NOT NULL THEN (
                        SELECT y.body FROM event_bodies y WHERE y.body_id = b.redacted_by
                    ) END AS redacted_because
                FROM UNNEST($1::BIGINT[]) WITH ORDINALITY AS t (body_id, number)
                JOIN event_bodies b ON b.body_id = t.body_id
                ORDER BY t.number",
                &[&ids],
            )
            .await?;
        let body = |row: &tokio_postgres::Row| Bytes::from(row.get::<_, Vec<u8>>("body"));
        Ok(rows.iter().map(|row| (body(row), bytes_of(row, "redacted_because"))).collect())
    }

    /// Changes of a room's members after a place, up to and with the poll `until`, in arrival order.
    pub async fn member_changes(
        &self,
        account_id: AccountId,
        room_nid: RoomNid,
        after: Place,
        until: Position,
        limit: usize,
    ) -> Result<Vec<MemberChange>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .query(
                "members::member_changes",
                "-- members::member_changes
                SELECT c.pos, c.ord, c.state_key, o.membership AS old_membership, b.membership, b.body,
                    CASE WHEN n.known THEN n.old_unsigned ELSE s.unsigned END AS unsigned,
                    CASE WHEN b.redacted_by IS NOT NULL THEN (
                        SELECT y.body FROM event_bodies y WHERE y.body_id = b.redacted_by
                    ) END AS redacted_because
                FROM (
                    SELECT pos, ord, state_key, old_body_id
                    FROM state_changes
                    WHERE account_id = $1
                        AND room_nid = $2
                        AND (pos, ord) > ($3, $4)
                        AND pos <= $5
                        AND event_type = 'm.room.member'
                    ORDER BY pos, ord, state_key
                    LIMIT $6
                ) c
                LEFT JOIN event_bodies o ON o.body_id = c.old_body_id
                LEFT JOIN LATERAL (
                    SELECT TRUE AS known, old_body_id, old_unsigned
                    FROM state_changes l
                    WHERE l.account_id = $1
                        AND l.room_nid = $2
                        AND (l.pos, l.ord) > (c.pos, c.ord)
                        AND l.event_type = 'm.room.member'
                        AND l.state_key = c.state_key
                    ORDER BY l.pos, l.ord
                    LIMIT 1
                ) n ON TRUE
                LEFT JOIN room_state s
                    ON s.account_id = $1
                    AND s.room_nid = $2
                    AND s.event_type = 'm.room.member'
                    AND s.state_key = c.state_key
                JOIN event_bodies b
                    ON b.body_id = CASE WHEN n.known THEN n.old_body_id ELSE s.body_id END
                ORDER BY c.pos, c.ord, c.state_key",
                &[&account_id.0, &room_nid.0, &after.pos.0, &after.ord, &until.0, &limit],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| MemberChange {
                place: Place { pos: Position(row.get("pos")), ord: row.get("ord") },
                user_id: row.get("state_key"),
                old_membership: row.get("old_membership"),
                membership: row.get("membership"),
                body: Bytes::from(row.get::<_, Vec<u8>>("body")),
                unsigned: bytes_of(row, "unsigned"),
                redacted_because: bytes_of(row, "redacted_because"),
            })
            .collect())
    }
}
