//! Tables `sessions` and `session_params`: sync v3 sessions and the sets of sticky parameters that they had last.
//!
//! Locks are taken in one order: the device, its sessions, what belongs to a session.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    AccountId, DeviceNid, Error, InboxSeq, NewSet, SessionId, Store,
    device_inbox::{self, purge},
    session_sets::Sets,
    tx::{Flight, Statement, Tx, params},
};

/// A live session, with the parameters that a token named.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number.
    pub session_id: SessionId,
    /// The device it belongs to.
    pub device_nid: DeviceNid,
    /// The highest inbox number it has acknowledged.
    pub inbox_acked: InboxSeq,
    /// When it was last marked as used, in milliseconds.
    pub last_used_at: i64,
    /// No other session of the device was marked as used since.
    pub is_latest: bool,
    /// The parameters, as the proxy stored them.
    pub params: Bytes,
}

/// A session just made.
#[derive(Clone, Copy, Debug)]
pub struct NewSession {
    /// Its number.
    pub session_id: SessionId,
    /// The number of its first parameters.
    pub params_id: i32,
    /// Everything up to here was gone from the inbox before the session began.
    pub inbox_acked: InboxSeq,
}

/// How much of what older tokens name a session keeps. What its last two tokens name stays in any case: a client may have to
/// ask again with the one before the latest.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// How many changes, or tokens, back.
    pub turns: i32,
    /// How many bytes in all, the newest counted first.
    pub bytes: i64,
}

impl Store {
    /// Makes a session, with the sets that its first token names. It holds to-device messages back from now on, beginning
    /// with the oldest still held. Of the device's other sessions the least recently used go, so that it has no more than
    /// `most`: expired ones count, and go first; one that is marked as used at this very moment may stay until the next is
    /// made. What they alone held back is the new one's to acknowledge, so nothing is purged here. `now` is in milliseconds.
    pub async fn create_session(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        params: &[u8],
        sets: &[NewSet<'_>],
        now: i64,
        most: i64,
    ) -> Result<NewSession, Error> {
        let others = most.saturating_sub(1).max(0);
        let sets = Sets::of(sets);
        let tx = self.tx("sessions::create_session").await?;
        // The lock keeps a purge from running between the look at the inbox and the birth of the session. Both go to
        // Postgres together, which runs them one after the other.
        let mut flight = Flight::default();
        flight.add(device_inbox::locking(device));
        let made = flight.add(Statement::new(
            "-- sessions::create_session
            WITH superfluous AS (
                DELETE FROM sessions
                WHERE account_id = $1
                    AND device_nid = $2
                    AND (last_used_at, session_id) <= (
                        SELECT last_used_at, session_id
                        FROM sessions
                        WHERE account_id = $1 AND device_nid = $2
                        ORDER BY last_used_at DESC, session_id DESC
                        OFFSET $4
                        LIMIT 1
                    )
            ),
            made AS (
                INSERT INTO sessions (account_id, device_nid, last_used_at, inbox_acked)
                SELECT
                    $1,
                    $2,
                    $3,
                    COALESCE(
                        (SELECT MIN(seq) - 1 FROM device_inbox WHERE account_id = $1 AND device_nid = $2),
                        (SELECT inbox_seq FROM devices WHERE device_nid = $2),
                        0
                    )
                RETURNING session_id, inbox_acked
            ),
            params AS (
                INSERT INTO session_params (account_id, session_id, params_id, last_chosen, params)
                SELECT $1, m.session_id, 1, 1, $5
                FROM made m
            ),
            sets AS (
                INSERT INTO session_sets (account_id, session_id, set_id, purpose, last_named, content)
                SELECT DISTINCT ON (t.set_id) $1::BIGINT, m.session_id, t.set_id, t.purpose, 1, t.content
                FROM made m
                CROSS JOIN UNNEST($6::BYTEA[], $7::SMALLINT[], $8::BYTEA[])
                    AS t (set_id, purpose, content)
            )
            SELECT session_id, inbox_acked FROM made",
            params![
                account_id.0,
                device.0,
                now,
                others,
                params,
                sets.ids,
                sets.purposes,
                sets.contents,
            ],
        ));
        let made = tx.fly_and_commit(&flight).await?.take(made);
        let row = made.first().ok_or(Error::Inconsistent {
            table: "sessions",
            column: "session_id",
            key: device.to_string(),
        })?;
        Ok(NewSession {
            session_id: SessionId(row.get("session_id")),
            params_id: 1,
            inbox_acked: InboxSeq(row.get("inbox_acked")),
        })
    }

    /// A session of this device that was used at or after `live_since` (milliseconds), with the
    /// parameters `params_id`. `None` when it is unknown, another device's, or expired.
    pub async fn session(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        session_id: SessionId,
        params_id: i32,
        live_since: i64,
    ) -> Result<Option<Session>, Error> {
        let rows = self
            .query(
                "sessions::session",
                "-- sessions::session
                SELECT
                    s.inbox_acked,
                    s.last_used_at,
                    s.session_id = (
                        SELECT o.session_id
                        FROM sessions o
                        WHERE o.account_id = $1 AND o.device_nid = $2
                        ORDER BY o.last_used_at DESC, o.session_id DESC
                        LIMIT 1
                    ) AS is_latest,
                    p.params
                FROM sessions s
                JOIN session_params p
                    ON p.account_id = s.account_id AND p.session_id = s.session_id AND p.params_id = $4
                WHERE s.account_id = $1
                    AND s.session_id = $3
                    AND s.device_nid = $2
                    AND s.last_used_at >= $5",
                &[&account_id.0, &device.0, &session_id.0, &params_id, &live_since],
            )
            .await?;
        Ok(rows.first().map(|row| Session {
            session_id,
            device_nid: device,
            inbox_acked: InboxSeq(row.get("inbox_acked")),
            last_used_at: row.get("last_used_at"),
            is_latest: row.get("is_latest"),
            params: Bytes::from(row.get::<_, Vec<u8>>("params")),
        }))
    }

    /// Keeps the parameters that a request changed the set `from` to, and gives their number. The same parameters keep
    /// their number, and no number is given twice. The sets stay that the last changes led to or started from, as far as `keep` goes.
    /// `None` when the session is gone, or the set `from`.
    pub async fn put_session_params(
        &self,
        account_id: AccountId,
        session_id: SessionId,
        from: i32,
        params: &[u8],
        keep: Keep,
    ) -> Result<Option<i32>, Error> {
        let tx = self.tx("sessions::put_session_params").await?;
        if !lock(&tx, account_id, session_id).await? {
            tx.commit().await?;
            return Ok(None);
        }
        let row = tx
            .query_opt(
                "-- sessions::put_session_params
                UPDATE session_params
                SET last_chosen = (
                    SELECT MAX(last_chosen) + 1
                    FROM session_params
                    WHERE account_id = $1 AND session_id = $2
                )
                WHERE account_id = $1 AND session_id = $2 AND params_id = $3
                RETURNING last_chosen",
                &[&account_id.0, &session_id.0, &from],
            )
            .await?;
        let Some(row) = row else {
            tx.commit().await?;
            return Ok(None);
        };
        // As high as any number that was ever given, since the set chosen last never goes.
        let turn: i32 = row.get("last_chosen");
        let row = tx
            .query_opt(
                "-- sessions::put_session_params
                WITH known AS (
                    UPDATE session_params
                    SET last_chosen = $4
                    WHERE account_id = $1 AND session_id = $2 AND params = $3
                    RETURNING params_id
                ),
                added AS (
                    INSERT INTO session_params (account_id, session_id, params_id, last_chosen, params)
                    SELECT $1, $2, $4, $4, $3
                    WHERE NOT EXISTS (SELECT 1 FROM known)
                    RETURNING params_id
                )
                SELECT params_id FROM known
                UNION ALL
                SELECT params_id FROM added",
                &[&account_id.0, &session_id.0, &params, &turn],
            )
            .await?;
        tx.execute(
            "-- sessions::put_session_params
            DELETE FROM session_params d
            USING (
                SELECT
                    params_id,
                    SUM(OCTET_LENGTH(params)) OVER (ORDER BY last_chosen DESC, params_id DESC) AS bytes
                FROM session_params
                WHERE account_id = $1 AND session_id = $2
            ) r
            WHERE d.account_id = $1
                AND d.session_id = $2
                AND d.params_id = r.params_id
                AND d.last_chosen < $3
                AND (d.last_chosen <= $4 OR r.bytes > $5)",
            &[
                &account_id.0,
                &session_id.0,
                &turn,
                &turn.saturating_sub(keep.turns),
                &keep.bytes,
            ],
        )
        .await?;
        tx.commit().await?;
        Ok(row.map(|row| row.get("params_id")))
    }

    /// Marks a session as used at `now` (milliseconds).
    pub async fn touch_session(
        &self,
        account_id: AccountId,
        session_id: SessionId,
        now: i64,
    ) -> Result<(), Error> {
        self.query(
            "sessions::touch_session",
            "-- sessions::touch_session
            UPDATE sessions
            SET last_used_at = GREATEST(last_used_at, $3)
            WHERE account_id = $1 AND session_id = $2",
            &[&account_id.0, &session_id.0, &now],
        )
        .await?;
        Ok(())
    }

    /// Deletes sessions that were not used since `live_since` (milliseconds), those of up to `most` at once, and
    /// purges what they alone held back. Gives how many there were.
    pub async fn remove_expired_sessions(
        &self,
        live_since: i64,
        most: i64,
    ) -> Result<usize, Error> {
        let rows = self
            .query(
                "sessions::remove_expired_sessions",
                "-- sessions::remove_expired_sessions
                SELECT account_id, device_nid
                FROM sessions
                WHERE last_used_at < $1
                ORDER BY last_used_at
                LIMIT $2",
                &[&live_since, &most],
            )
            .await?;
        let devices: BTreeSet<(i64, i64)> =
            rows.iter().map(|row| (row.get("account_id"), row.get("device_nid"))).collect();
        let mut removed = 0;
        for (account_id, device_nid) in devices {
            let (account_id, device) = (AccountId(account_id), DeviceNid(device_nid));
            removed += self.remove_expired_sessions_of(account_id, device, live_since).await?;
        }
        Ok(removed)
    }

    /// In one transaction, so that whatever happens in between the messages go with the sessions.
    async fn remove_expired_sessions_of(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        live_since: i64,
    ) -> Result<usize, Error> {
        let tx = self.tx("sessions::remove_expired_sessions").await?;
        device_inbox::lock(&tx, device).await?;
        let removed = tx
            .execute(
                "-- sessions::remove_expired_sessions_of
                DELETE FROM sessions
                WHERE account_id = $3 AND device_nid = $1 AND last_used_at < $2",
                &[&device.0, &live_since, &account_id.0],
            )
            .await?;
        purge(&tx, account_id, device, live_since).await?;
        tx.commit().await?;
        Ok(usize::try_from(removed).unwrap_or(usize::MAX))
    }

    /// Records that a session has everything up to `seq`, and purges what every live session of the
    /// device has now acknowledged. Sessions not used since `live_since` (milliseconds) are dead.
    pub async fn acknowledge_session(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        session_id: SessionId,
        seq: InboxSeq,
        live_since: i64,
    ) -> Result<(), Error> {
        let tx = self.tx("sessions::acknowledge_session").await?;
        device_inbox::lock(&tx, device).await?;
        tx.execute(
            "-- sessions::acknowledge_session
            UPDATE sessions
            SET inbox_acked = GREATEST(inbox_acked, $3)
            WHERE account_id = $1 AND session_id = $2",
            &[&account_id.0, &session_id.0, &seq.0],
        )
        .await?;
        purge(&tx, account_id, device, live_since).await?;
        tx.commit().await
    }
}

/// Takes a session's row lock, which whoever changes what belongs to the session takes first. `false` when it is gone.
async fn lock(tx: &Tx, account_id: AccountId, session_id: SessionId) -> Result<bool, Error> {
    Ok(tx.query_opt(LOCK, &[&account_id.0, &session_id.0]).await?.is_some())
}

/// [`lock`], for a flight: it gives no row when the session is gone.
pub(crate) fn locking(account_id: AccountId, session_id: SessionId) -> Statement<'static> {
    Statement::new(LOCK, params![account_id.0, session_id.0])
}

const LOCK: &str = "-- sessions::lock
    SELECT session_id
    FROM sessions
    WHERE account_id = $1 AND session_id = $2
    FOR UPDATE";
