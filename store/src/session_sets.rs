//! Table `session_sets`: sets of rooms that the tokens of a session name because they are too large to be in them.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{AccountId, Error, Keep, SessionId, Store, sessions, tx::Tx};

/// A set to keep.
#[derive(Clone, Copy, Debug)]
pub struct NewSet<'a> {
    /// Its name: the same content has the same one.
    pub set_id: &'a [u8],
    /// Which kind of set it is.
    pub purpose: i16,
    /// What is in it, as the proxy wrote it.
    pub content: &'a [u8],
}

/// A set that a session has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSet {
    /// Its name.
    pub set_id: Vec<u8>,
    /// What is in it, as the proxy wrote it.
    pub content: Bytes,
}

impl Store {
    /// Keeps the sets that the next token of a session brings, and takes note of those that it names: of each kind
    /// stay the sets that the last such tokens named, as far as `keep` goes. So what a client's latest token names never goes, however
    /// often other sets change. `false` when the session is gone, or a set that the token would name.
    pub async fn put_session_sets(
        &self,
        account_id: AccountId,
        session_id: SessionId,
        sets: &[NewSet<'_>],
        named: &[&[u8]],
        keep: Keep,
    ) -> Result<bool, Error> {
        let tx = self.tx("session_sets::put_session_sets").await?;
        if !sessions::lock(&tx, account_id, session_id).await? {
            tx.commit().await?;
            return Ok(false);
        }
        // Counted, and not timed: a clock may be set back, and what is new must not look old.
        let row = tx
            .query_opt(
                "-- session_sets::put_session_sets
                SELECT COALESCE(MAX(last_named), 0) + 1 AS turn
                FROM session_sets
                WHERE account_id = $1 AND session_id = $2",
                &[&account_id.0, &session_id.0],
            )
            .await?;
        let turn: i64 = row.map_or(1, |row| row.get("turn"));
        let all_there = put(&tx, account_id, session_id, sets, named, turn).await?;
        tx.execute(
            "-- session_sets::put_session_sets
            DELETE FROM session_sets d
            USING (
                SELECT
                    set_id,
                    DENSE_RANK() OVER (PARTITION BY purpose ORDER BY last_named DESC) AS age,
                    SUM(OCTET_LENGTH(content)) OVER (ORDER BY last_named DESC, set_id) AS bytes
                FROM session_sets
                WHERE account_id = $1 AND session_id = $2
            ) r
            WHERE d.account_id = $1
                AND d.session_id = $2
                AND d.set_id = r.set_id
                AND (r.age > $3 OR (r.age > 2 AND r.bytes > $4))",
            &[&account_id.0, &session_id.0, &i64::from(keep.turns), &keep.bytes],
        )
        .await?;
        tx.commit().await?;
        Ok(all_there)
    }

    /// Those of these sets that the session still has; and those whose longer names begin with one of `beginnings`.
    pub async fn session_sets(
        &self,
        account_id: AccountId,
        session_id: SessionId,
        set_ids: &[&[u8]],
        beginnings: &[&[u8]],
    ) -> Result<Vec<StoredSet>, Error> {
        let rows = self
            .query(
                "session_sets::session_sets",
                "-- session_sets::session_sets
                SELECT set_id, content
                FROM session_sets
                WHERE account_id = $1 AND session_id = $2 AND set_id = ANY($3)
                UNION ALL
                SELECT s.set_id, s.content
                FROM UNNEST($4::BYTEA[]) AS b (beginning)
                CROSS JOIN LATERAL (
                    SELECT set_id, content
                    FROM session_sets
                    WHERE account_id = $1
                        AND session_id = $2
                        AND set_id > b.beginning
                        AND set_id <= b.beginning || '\\xffffffffffffffffffffffff'::BYTEA
                    -- Keeps the planner from reading all sets of the session.
                    OFFSET 0
                ) s",
                &[&account_id.0, &session_id.0, &set_ids, &beginnings],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| StoredSet {
                set_id: row.get("set_id"),
                content: Bytes::from(row.get::<_, Vec<u8>>("content")),
            })
            .collect())
    }
}

/// Writes the sets, and at which turn these and the others of the token were named. Gives whether all of them are there.
async fn put(
    tx: &Tx,
    account_id: AccountId,
    session_id: SessionId,
    sets: &[NewSet<'_>],
    named: &[&[u8]],
    turn: i64,
) -> Result<bool, Error> {
    let ids: Vec<&[u8]> = sets.iter().map(|set| set.set_id).collect();
    let purposes: Vec<i16> = sets.iter().map(|set| set.purpose).collect();
    let contents: Vec<&[u8]> = sets.iter().map(|set| set.content).collect();
    tx.execute(
        "-- session_sets::put_session_sets
        INSERT INTO session_sets (account_id, session_id, set_id, purpose, last_named, content)
        SELECT DISTINCT ON (t.set_id) $1::BIGINT, $2::BIGINT, t.set_id, t.purpose, $6::BIGINT, t.content
        FROM UNNEST($3::BYTEA[], $4::SMALLINT[], $5::BYTEA[]) AS t (set_id, purpose, content)
        ON CONFLICT (account_id, session_id, set_id) DO UPDATE
        SET last_named = EXCLUDED.last_named",
        &[&account_id.0, &session_id.0, &ids, &purposes, &contents, &turn],
    )
    .await?;
    let others: BTreeSet<&[u8]> = named.iter().filter(|id| !ids.contains(id)).copied().collect();
    let others: Vec<&[u8]> = others.into_iter().collect();
    let found = tx
        .execute(
            "-- session_sets::put_session_sets
            UPDATE session_sets
            SET last_named = $4
            WHERE account_id = $1 AND session_id = $2 AND set_id = ANY($3)",
            &[&account_id.0, &session_id.0, &others, &turn],
        )
        .await?;
    Ok(usize::try_from(found).is_ok_and(|found| found == others.len()))
}
