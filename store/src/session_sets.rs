//! Table `session_sets`: sets of rooms that the tokens of a session name because they are too large to be in them.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    AccountId, Error, Keep, SessionId, Store, sessions,
    tx::{Flight, Statement, params},
};

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
        let sets = Sets::of(sets);
        let others: BTreeSet<&[u8]> =
            named.iter().filter(|id| !sets.ids.contains(id)).copied().collect();
        let others: Vec<&[u8]> = others.into_iter().collect();
        let tx = self.tx("session_sets::put_session_sets").await?;
        let mut flight = Flight::default();
        let lock = flight.add(sessions::locking(account_id, session_id));
        let put = flight.add(put(account_id, session_id, &sets, &others));
        flight.add(Statement::new(
            "-- session_sets::put_session_sets (forgets)
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
            params![account_id.0, session_id.0, i64::from(keep.turns), keep.bytes],
        ));
        let mut answers = tx.fly_and_commit(&flight).await?;
        let is_there = !answers.take(lock).is_empty();
        let found = answers.take(put).first().map_or(0, |row| row.get::<_, i64>("found"));
        Ok(is_there && usize::try_from(found).is_ok_and(|found| found == others.len()))
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

/// Sets as the arrays of a statement.
pub(crate) struct Sets<'a> {
    pub(crate) ids: Vec<&'a [u8]>,
    pub(crate) purposes: Vec<i16>,
    pub(crate) contents: Vec<&'a [u8]>,
}

impl<'a> Sets<'a> {
    /// The arrays of these.
    pub(crate) fn of(sets: &[NewSet<'a>]) -> Self {
        Self {
            ids: sets.iter().map(|set| set.set_id).collect(),
            purposes: sets.iter().map(|set| set.purpose).collect(),
            contents: sets.iter().map(|set| set.content).collect(),
        }
    }
}

/// Writes the sets, and at which turn these and the `others` of the token were named. Gives how many of the others are there.
/// A session that is gone gets none.
fn put<'a>(
    account_id: AccountId,
    session_id: SessionId,
    sets: &'a Sets<'a>,
    others: &'a [&'a [u8]],
) -> Statement<'a> {
    // Turns are counted, and not timed: a clock may be set back, and what is new must not look old.
    Statement::new(
        "-- session_sets::put_session_sets
        WITH now AS (
            SELECT s.account_id, s.session_id, (
                SELECT COALESCE(MAX(k.last_named), 0) + 1
                FROM session_sets k
                WHERE k.account_id = $1 AND k.session_id = $2
            ) AS turn
            FROM sessions s
            WHERE s.account_id = $1 AND s.session_id = $2
        ),
        put AS (
            INSERT INTO session_sets (account_id, session_id, set_id, purpose, last_named, content)
            SELECT DISTINCT ON (t.set_id) n.account_id, n.session_id, t.set_id, t.purpose, n.turn, t.content
            FROM now n
            CROSS JOIN UNNEST($3::BYTEA[], $4::SMALLINT[], $5::BYTEA[]) AS t (set_id, purpose, content)
            ON CONFLICT (account_id, session_id, set_id) DO UPDATE
            SET last_named = EXCLUDED.last_named
        ),
        named AS (
            UPDATE session_sets o
            SET last_named = n.turn
            FROM now n
            WHERE o.account_id = $1 AND o.session_id = $2 AND o.set_id = ANY($6)
            RETURNING 1
        )
        SELECT COUNT(*) AS found FROM named",
        params![
            account_id.0,
            session_id.0,
            &sets.ids,
            &sets.purposes,
            &sets.contents,
            others,
        ],
    )
}
