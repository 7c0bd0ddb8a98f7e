//! What `syncv3 admin` sees and does: accounts, devices and sessions as they stand, the end of a session, and an account's
//! beginning anew.
//!
//! Works beside a running proxy and holds no lock for longer than a row's change. Nothing here reads through an account's
//! log, and nothing here gives out a token.

use tokio_postgres::Row;

use crate::{
    AccountId, DeviceNid, Error, InboxSeq, Position, Section, SessionId, Store, device_inbox,
};

/// An account as an operator sees it. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountStatus {
    /// Its number.
    pub account_id: AccountId,
    /// The user.
    pub user_id: String,
    /// The position of the last poll that brought something.
    pub pos: Position,
    /// Whether the next main poll goes on from where the last one ended. `false` before the first, and after a resync.
    pub has_upstream_since: bool,
    /// The device that runs the main poll.
    pub main_device: Option<String>,
    /// When a client last synced, give or take an hour.
    pub used_at: Option<i64>,
    /// When the last poll that brought something was received.
    pub stored_at: Option<i64>,
    /// How many rooms the user is in.
    pub joined_rooms: i64,
    /// How many devices have synced.
    pub devices: i64,
}

/// A device as an operator sees it. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Its Matrix ID.
    pub device_id: String,
    /// Whether it runs the account's main poll.
    pub is_main: bool,
    /// When its access token was last used; `None` where there is no token to poll with.
    pub token_used_at: Option<i64>,
    /// How many v3 sessions it has, expired ones included.
    pub sessions: i64,
    /// Whether its v2 sync holds messages back, unless that has expired.
    pub v2: bool,
    /// The number of its last to-device message.
    pub inbox_seq: InboxSeq,
    /// How many to-device messages are kept for it.
    pub inbox: i64,
}

/// A v3 session, or a device's v2 sync, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The Matrix ID of its device.
    pub device_id: String,
    /// Its number; `None` for the device's v2 sync.
    pub session_id: Option<SessionId>,
    /// When it was last used, in milliseconds, give or take a minute.
    pub last_used_at: i64,
    /// The highest inbox number that it has acknowledged.
    pub inbox_acked: InboxSeq,
    /// How many to-device messages are kept that it has not acknowledged.
    pub lag: i64,
    /// How many bytes its parameters and sets of rooms take.
    pub bytes: i64,
}

const ACCOUNT_COLUMNS: &str = "
    a.account_id,
    a.user_id,
    a.pos,
    a.used_at,
    a.upstream_since IS NOT NULL AS has_upstream_since,
    d.device_id AS main_device,
    (
        SELECT p.stored_at
        FROM polls p
        WHERE p.account_id = a.account_id AND p.pos = a.pos
    ) AS stored_at,
    (
        SELECT COUNT(*)
        FROM account_rooms r
        WHERE r.account_id = a.account_id AND r.section = $1
    ) AS joined_rooms,
    (SELECT COUNT(*) FROM devices o WHERE o.account_id = a.account_id) AS devices";

impl Store {
    /// Up to `limit` accounts in the order of their users, those after the user `after`.
    pub async fn account_statuses(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<AccountStatus>, Error> {
        let sql = format!(
            "-- admin::account_statuses
            SELECT {ACCOUNT_COLUMNS}
            FROM accounts a
            LEFT JOIN devices d ON d.device_nid = a.main_device_nid
            WHERE a.user_id > $2
            ORDER BY a.user_id
            LIMIT $3"
        );
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&Section::Join.to_db(), &after, &limit];
        let rows = self.query("admin::account_statuses", &sql, &params).await?;
        Ok(rows.iter().map(account_status).collect())
    }

    /// The account of a user, if there is one.
    pub async fn account_status(&self, user_id: &str) -> Result<Option<AccountStatus>, Error> {
        let sql = format!(
            "-- admin::account_status
            SELECT {ACCOUNT_COLUMNS}
            FROM accounts a
            LEFT JOIN devices d ON d.device_nid = a.main_device_nid
            WHERE a.user_id = $2"
        );
        let rows =
            self.query("admin::account_status", &sql, &[&Section::Join.to_db(), &user_id]).await?;
        Ok(rows.first().map(account_status))
    }

    /// The devices of an account, in the order of their IDs.
    pub async fn device_statuses(&self, account_id: AccountId) -> Result<Vec<DeviceStatus>, Error> {
        let rows = self
            .query(
                "admin::device_statuses",
                "-- admin::device_statuses
                SELECT
                    d.device_id,
                    d.device_nid IS NOT DISTINCT FROM a.main_device_nid AS is_main,
                    (
                        SELECT MAX(t.last_used_at) FROM access_tokens t WHERE t.device_nid = d.device_nid
                    ) AS token_used_at,
                    (
                        SELECT COUNT(*)
                        FROM sessions s
                        WHERE s.account_id = $1 AND s.device_nid = d.device_nid
                    ) AS sessions,
                    d.v2_acked IS NOT NULL AS v2,
                    d.inbox_seq,
                    (
                        SELECT COUNT(*)
                        FROM device_inbox i
                        WHERE i.account_id = $1 AND i.device_nid = d.device_nid
                    ) AS inbox
                FROM devices d
                JOIN accounts a ON a.account_id = d.account_id
                WHERE d.account_id = $1
                ORDER BY d.device_id",
                &[&account_id.0],
            )
            .await?;
        Ok(rows.iter().map(device_status).collect())
    }

    /// The sessions of an account, or of one of its devices: device by device, v2 first.
    pub async fn session_statuses(
        &self,
        account_id: AccountId,
        device_id: Option<&str>,
    ) -> Result<Vec<SessionStatus>, Error> {
        let rows = self
            .query(
                "admin::session_statuses",
                "-- admin::session_statuses
                SELECT
                    d.device_id,
                    c.session_id,
                    c.last_used_at,
                    c.inbox_acked,
                    (
                        SELECT COUNT(*)
                        FROM device_inbox i
                        WHERE i.account_id = $1
                            AND i.device_nid = d.device_nid
                            AND i.seq > c.inbox_acked
                    ) AS lag,
                    COALESCE((
                        SELECT SUM(OCTET_LENGTH(p.params))
                        FROM session_params p
                        WHERE p.account_id = $1 AND p.session_id = c.session_id
                    ), 0)::BIGINT + COALESCE((
                        SELECT SUM(OCTET_LENGTH(e.content))
                        FROM session_sets e
                        WHERE e.account_id = $1 AND e.session_id = c.session_id
                    ), 0)::BIGINT AS bytes
                FROM devices d
                CROSS JOIN LATERAL (
                    SELECT s.session_id, s.last_used_at, s.inbox_acked
                    FROM sessions s
                    WHERE s.account_id = $1 AND s.device_nid = d.device_nid
                    UNION ALL
                    SELECT NULL, d.v2_used_at, d.v2_acked
                    WHERE d.v2_acked IS NOT NULL
                ) c
                WHERE d.account_id = $1 AND ($2::TEXT IS NULL OR d.device_id = $2)
                ORDER BY d.device_id, c.session_id NULLS FIRST",
                &[&account_id.0, &device_id],
            )
            .await?;
        Ok(rows.iter().map(session_status).collect())
    }

    /// Ends a v3 session, whose client is told that it is unknown, and purges what it alone held back. Sessions not used
    /// since `live_since` (milliseconds) hold nothing back. `false` when the account has no such session.
    pub async fn drop_session(
        &self,
        account_id: AccountId,
        session_id: SessionId,
        live_since: i64,
    ) -> Result<bool, Error> {
        let tx = self.tx("admin::drop_session").await?;
        let row = tx
            .query_opt(
                "-- admin::drop_session
                SELECT device_nid FROM sessions WHERE account_id = $1 AND session_id = $2",
                &[&account_id.0, &session_id.0],
            )
            .await?;
        let mut dropped = 0;
        if let Some(row) = row {
            let device = DeviceNid(row.get("device_nid"));
            device_inbox::lock(&tx, device).await?;
            dropped = tx
                .execute(
                    "-- admin::drop_session
                    DELETE FROM sessions WHERE account_id = $1 AND session_id = $2",
                    &[&account_id.0, &session_id.0],
                )
                .await?;
            device_inbox::purge(&tx, account_id, device, live_since).await?;
        }
        tx.commit().await?;
        Ok(dropped > 0)
    }

    /// Forgets that a device syncs with v2, and purges what that alone held back. The next `since` of v2 makes it a session
    /// again. `false` when there is no such device, or v2 holds nothing back for it.
    pub async fn drop_v2(
        &self,
        account_id: AccountId,
        device_id: &str,
        live_since: i64,
    ) -> Result<bool, Error> {
        let Some(device) = self.find_device(account_id, device_id).await? else {
            return Ok(false);
        };
        let tx = self.tx("admin::drop_v2").await?;
        device_inbox::lock(&tx, device.device_nid).await?;
        let dropped = tx
            .execute(
                "-- admin::drop_v2
                UPDATE devices
                SET v2_acked = NULL, v2_used_at = 0
                WHERE device_nid = $1 AND v2_acked IS NOT NULL",
                &[&device.device_nid.0],
            )
            .await?;
        device_inbox::purge(&tx, account_id, device.device_nid, live_since).await?;
        tx.commit().await?;
        Ok(dropped > 0)
    }

    /// Has an account begin anew upstream: its next main poll has no since, and brings a gap in every room. A poll under way
    /// is fenced.
    ///
    /// Nobody runs the main poll until a device has claimed it, and before it does so it drains its inbox with light polls
    /// from where the main poll was. So everything stored is acknowledged upstream before a poll without a since, which
    /// would bring again what is not.
    pub async fn resync(&self, account_id: AccountId) -> Result<(), Error> {
        let tx = self.tx_on_account("admin::resync", account_id).await?;
        tx.execute(
            "-- admin::resync
            UPDATE devices
            SET upstream_since = a.upstream_since
            FROM accounts a
            WHERE a.account_id = $1
                AND devices.device_nid = a.main_device_nid
                AND a.upstream_since IS NOT NULL",
            &[&account_id.0],
        )
        .await?;
        tx.execute(
            "-- admin::resync
            UPDATE accounts
            SET upstream_since = NULL, main_device_nid = NULL
            WHERE account_id = $1",
            &[&account_id.0],
        )
        .await?;
        tx.commit().await
    }
}

fn account_status(row: &Row) -> AccountStatus {
    AccountStatus {
        account_id: AccountId(row.get("account_id")),
        user_id: row.get("user_id"),
        pos: Position(row.get("pos")),
        has_upstream_since: row.get("has_upstream_since"),
        main_device: row.get("main_device"),
        used_at: Some(row.get("used_at")).filter(|used_at| *used_at > 0),
        stored_at: row.get("stored_at"),
        joined_rooms: row.get("joined_rooms"),
        devices: row.get("devices"),
    }
}

fn device_status(row: &Row) -> DeviceStatus {
    DeviceStatus {
        device_id: row.get("device_id"),
        is_main: row.get("is_main"),
        token_used_at: row.get("token_used_at"),
        sessions: row.get("sessions"),
        v2: row.get("v2"),
        inbox_seq: InboxSeq(row.get("inbox_seq")),
        inbox: row.get("inbox"),
    }
}

fn session_status(row: &Row) -> SessionStatus {
    SessionStatus {
        device_id: row.get("device_id"),
        session_id: row.get::<_, Option<i64>>("session_id").map(SessionId),
        last_used_at: row.get("last_used_at"),
        inbox_acked: InboxSeq(row.get("inbox_acked")),
        lag: row.get("lag"),
        bytes: row.get("bytes"),
    }
}
