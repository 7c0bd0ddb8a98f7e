//! Table `upkeep`, and the merging of what upstream tells only a fresh initial sync into what polls have
//! brought.

use std::collections::BTreeSet;

use crate::{
    AccountId, Error, Position, RoomNid, RoomUpdate, Store,
    account_stream::{AccountDataColumns, ReceiptColumns},
    tx::Tx,
};

/// How far an account's upkeep has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// Rooms newly joined up to here hold what they held before the join.
    pub joins_settled: Position,
    /// Users who are ignored, or were since their events were last fetched.
    pub once_ignored: Vec<String>,
}

impl Store {
    /// How far the upkeep of an account has come.
    pub async fn upkeep(&self, account_id: AccountId) -> Result<Upkeep, Error> {
        let rows = self
            .query(
                "upkeep::upkeep",
                "-- upkeep::upkeep
                SELECT joins_settled_pos, once_ignored FROM upkeep WHERE account_id = $1",
                &[&account_id.0],
            )
            .await?;
        Ok(rows.first().map_or_else(
            || Upkeep { joins_settled: Position(1), once_ignored: Vec::new() },
            |row| Upkeep {
                joins_settled: Position(row.get("joins_settled_pos")),
                once_ignored: row.get("once_ignored"),
            },
        ))
    }

    /// Rooms newly joined up to `pos` need nothing more.
    pub async fn joins_are_settled(
        &self,
        account_id: AccountId,
        pos: Position,
    ) -> Result<(), Error> {
        self.query(
            "upkeep::joins_are_settled",
            "-- upkeep::joins_are_settled
            INSERT INTO upkeep (account_id, joins_settled_pos)
            VALUES ($1, $2)
            ON CONFLICT (account_id) DO UPDATE
            SET joins_settled_pos = GREATEST(upkeep.joins_settled_pos, EXCLUDED.joins_settled_pos)",
            &[&account_id.0, &pos.0],
        )
        .await?;
        Ok(())
    }

    /// Replaces the list of users whose events may be missing.
    pub async fn put_once_ignored(
        &self,
        account_id: AccountId,
        users: &[String],
    ) -> Result<(), Error> {
        self.query(
            "upkeep::put_once_ignored",
            "-- upkeep::put_once_ignored
            INSERT INTO upkeep (account_id, once_ignored)
            VALUES ($1, $2)
            ON CONFLICT (account_id) DO UPDATE SET once_ignored = EXCLUDED.once_ignored",
            &[&account_id.0, &users],
        )
        .await?;
        Ok(())
    }

    /// The rooms that the account came into after `since`, up to `until`, and is in still.
    pub async fn joins_between(
        &self,
        account_id: AccountId,
        since: Position,
        until: Position,
    ) -> Result<Vec<String>, Error> {
        let rows = self
            .query(
                "upkeep::joins_between",
                "-- upkeep::joins_between
                SELECT (SELECT r.room_id FROM rooms r WHERE r.room_nid = u.room_nid) AS room_id
                FROM (
                    SELECT DISTINCT room_nid
                    FROM room_updates
                    WHERE account_id = $1 AND pos > $2 AND pos <= $3 AND newly_joined
                ) u
                JOIN account_rooms h ON h.account_id = $1 AND h.room_nid = u.room_nid
                WHERE h.section = 0
                ORDER BY u.room_nid",
                &[&account_id.0, &since.0, &until.0],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("room_id")).collect())
    }

    /// Merges the receipts and the account data of joined rooms, as upstream told them after the stream
    /// stood at `asked_at`, into what is stored. What polls brought after `asked_at` stands: it may be
    /// newer, and what is newer still comes with the next poll.
    ///
    /// If anything is new it gets a position of its own, with the token of the poll before it; `None` if
    /// nothing is.
    pub async fn supplement(
        &self,
        account_id: AccountId,
        asked_at: Position,
        rooms: &[RoomUpdate],
    ) -> Result<Option<Position>, Error> {
        let room_ids: Vec<&str> = rooms.iter().map(|room| room.room_id.as_str()).collect();
        let interned = self.intern_rooms(&room_ids).await?;
        let tx = self.tx_on_account("upkeep::supplement", account_id).await?;
        let stands = tx
            .query_opt(
                "-- upkeep::supplement
                SELECT pos, upstream_since FROM accounts WHERE account_id = $1",
                &[&account_id.0],
            )
            .await?;
        // A stream that is about to begin anew gets everything with its next poll.
        let Some((stands, token)) = stands.and_then(|row| {
            Some((Position(row.get("pos")), row.get::<_, Option<String>>("upstream_since")?))
        }) else {
            tx.commit().await?;
            return Ok(None);
        };
        let joined = joined(&tx, account_id, interned.values().copied()).await?;
        let rooms: Vec<(RoomNid, &RoomUpdate)> = rooms
            .iter()
            .filter_map(|room| Some((*interned.get(&room.room_id)?, room)))
            .filter(|(nid, _)| joined.contains(nid))
            .collect();
        let merge = Merge { account_id, asked_at, pos: Position(stands.0 + 1), rooms: &rooms };
        let mut changed = merge.account_data(&tx).await?;
        changed.extend(merge.receipts(&tx).await?);
        if changed.is_empty() {
            tx.commit().await?;
            return Ok(None);
        }
        merge.advance(&tx, &changed, &token).await?;
        tx.commit().await?;
        Ok(Some(merge.pos))
    }
}

async fn joined(
    tx: &Tx,
    account_id: AccountId,
    nids: impl Iterator<Item = RoomNid>,
) -> Result<BTreeSet<RoomNid>, Error> {
    let nids: Vec<i64> = nids.map(|nid| nid.0).collect();
    let rows = tx
        .query(
            "-- upkeep::joined
            SELECT room_nid
            FROM account_rooms
            WHERE account_id = $1 AND room_nid = ANY($2) AND section = 0",
            &[&account_id.0, &nids],
        )
        .await?;
    Ok(rows.iter().map(|row| RoomNid(row.get("room_nid"))).collect())
}

/// What is merged, and where.
struct Merge<'a> {
    account_id: AccountId,
    asked_at: Position,
    pos: Position,
    rooms: &'a [(RoomNid, &'a RoomUpdate)],
}

impl Merge<'_> {
    async fn account_data(&self, tx: &Tx) -> Result<Vec<i64>, Error> {
        let told = self.rooms.iter();
        let columns = AccountDataColumns::of(
            told.flat_map(|(nid, room)| room.account_data.iter().map(|data| (*nid, data))),
        );
        let rows = tx
            .query(
                "-- upkeep::account_data
                INSERT INTO account_data AS d (account_id, room_nid, event_type, pos, event)
                SELECT $1, t.room_nid, t.event_type, $2, t.event
                FROM UNNEST($3::BIGINT[], $4::TEXT[], $5::BYTEA[]) AS t (room_nid, event_type, event)
                ON CONFLICT (account_id, room_nid, event_type) DO UPDATE
                SET pos = EXCLUDED.pos, event = EXCLUDED.event
                WHERE d.pos <= $6 AND d.event <> EXCLUDED.event
                RETURNING room_nid",
                &[
                    &self.account_id.0,
                    &self.pos.0,
                    &columns.nids,
                    &columns.types,
                    &columns.events,
                    &self.asked_at.0,
                ],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("room_nid")).collect())
    }

    async fn receipts(&self, tx: &Tx) -> Result<Vec<i64>, Error> {
        let told = self.rooms.iter();
        let columns = ReceiptColumns::of(
            told.flat_map(|(nid, room)| room.receipts.iter().map(|receipt| (*nid, receipt))),
        );
        let rows = tx
            .query(
                "-- upkeep::receipts
                INSERT INTO receipts AS r (
                    account_id, room_nid, user_id, receipt_type, thread_id, pos, event_id, data
                )
                SELECT $1, t.room_nid, t.user_id, t.receipt_type, t.thread_id, $2, t.event_id, t.data
                FROM UNNEST($3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::BYTEA[])
                    AS t (room_nid, user_id, receipt_type, thread_id, event_id, data)
                ON CONFLICT (account_id, room_nid, user_id, receipt_type, thread_id) DO UPDATE
                SET pos = EXCLUDED.pos, event_id = EXCLUDED.event_id, data = EXCLUDED.data
                WHERE r.pos <= $9
                    AND (r.event_id <> EXCLUDED.event_id OR r.data <> EXCLUDED.data)
                RETURNING room_nid",
                &[
                    &self.account_id.0,
                    &self.pos.0,
                    &columns.nids,
                    &columns.users,
                    &columns.types,
                    &columns.threads,
                    &columns.event_ids,
                    &columns.data,
                    &self.asked_at.0,
                ],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("room_nid")).collect())
    }

    /// Gives what was merged its position: the rooms are mentioned there, and nothing else.
    async fn advance(&self, tx: &Tx, changed: &[i64], token: &str) -> Result<(), Error> {
        let changed: BTreeSet<i64> = changed.iter().copied().collect();
        let changed: Vec<i64> = changed.into_iter().collect();
        tx.execute(
            "-- upkeep::advance
            INSERT INTO room_updates (
                account_id, pos, room_nid, section, limited, newly_joined, timeline_len, prev_batch
            )
            SELECT $1, $2, t.room_nid, 0, FALSE, FALSE, 0, NULL
            FROM UNNEST($3::BIGINT[]) AS t (room_nid)",
            &[&self.account_id.0, &self.pos.0, &changed],
        )
        .await?;
        tx.execute(
            "-- upkeep::advance
            INSERT INTO polls (account_id, pos, next_batch, stored_at)
            -- No older than what it comes after, and no younger either: it has no time of its own.
            VALUES ($1, $2, $3, COALESCE(
                (SELECT p.stored_at FROM polls p WHERE p.account_id = $1 AND p.pos = $2::BIGINT - 1), 0
            ))",
            &[&self.account_id.0, &self.pos.0, &token],
        )
        .await?;
        tx.execute(
            "-- upkeep::advance
            UPDATE accounts SET pos = $2 WHERE account_id = $1",
            &[&self.account_id.0, &self.pos.0],
        )
        .await?;
        Ok(())
    }
}
