//! Table `device_inbox`: to-device messages, kept until every live session has acknowledged them.

use bytes::Bytes;

use crate::{
    AccountId, DeviceNid, Error, InboxSeq, Store,
    tx::{Statement, Tx, params},
};

/// A to-device message, verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// Its number.
    pub seq: InboxSeq,
    /// The JSON event as upstream sent it.
    pub message: Bytes,
}

/// Messages of an inbox in order, oldest first.
#[derive(Clone, Debug, Default)]
pub struct InboxPage {
    /// The messages.
    pub messages: Vec<InboxMessage>,
    /// Whether more were waiting behind them.
    pub more: bool,
}

impl Store {
    /// Up to `limit` messages after `after`, oldest first.
    pub async fn inbox(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        after: InboxSeq,
        limit: usize,
    ) -> Result<InboxPage, Error> {
        let probe = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self
            .query(
                "device_inbox::inbox",
                "-- device_inbox::inbox
                SELECT seq, message
                FROM device_inbox
                WHERE account_id = $1 AND device_nid = $2 AND seq > $3
                ORDER BY seq
                LIMIT $4",
                &[&account_id.0, &device.0, &after.0, &probe],
            )
            .await?;
        let more = rows.len() > limit;
        let messages = rows
            .iter()
            .take(limit)
            .map(|row| InboxMessage {
                seq: InboxSeq(row.get("seq")),
                message: Bytes::from(row.get::<_, Vec<u8>>("message")),
            })
            .collect();
        Ok(InboxPage { messages, more })
    }

    /// The highest number that a `since` of `GET /sync` has acknowledged; `None` before the first.
    pub async fn v2_acked(&self, device: DeviceNid) -> Result<Option<InboxSeq>, Error> {
        let rows = self
            .query(
                "device_inbox::v2_acked",
                "-- device_inbox::v2_acked
                SELECT v2_acked FROM devices WHERE device_nid = $1",
                &[&device.0],
            )
            .await?;
        Ok(rows.first().and_then(|row| row.get::<_, Option<i64>>("v2_acked")).map(InboxSeq))
    }

    /// Records that a `since` of `GET /sync` covers everything up to `seq`, and purges what every
    /// live session has now acknowledged. Sessions not used since `live_since` (milliseconds) are dead.
    /// Gives what v2 has acknowledged in all; it never moves backwards. `now` is when it did, in
    /// milliseconds: v2 is a session like the others, and dies like them.
    pub async fn acknowledge_v2(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        seq: InboxSeq,
        now: i64,
        live_since: i64,
    ) -> Result<InboxSeq, Error> {
        let tx = self.tx("device_inbox::acknowledge_v2").await?;
        let row = tx
            .query_opt(
                "-- device_inbox::acknowledge_v2
                UPDATE devices
                SET v2_acked = GREATEST(v2_acked, $2), v2_used_at = GREATEST(v2_used_at, $3)
                WHERE device_nid = $1
                RETURNING v2_acked",
                &[&device.0, &seq.0, &now],
            )
            .await?;
        purge(&tx, account_id, device, live_since).await?;
        tx.commit().await?;
        // A device that was just logged out has acknowledged what it says.
        Ok(row.map_or(seq, |row| InboxSeq(row.get("v2_acked"))))
    }
}

/// Takes the device's row lock. Every transaction that acknowledges, or begins a session, takes it before
/// it touches anything else of the device: two acknowledgements at once must not each miss the other, and
/// a logout, which deletes the device and with it the sessions, must not meet them in the opposite order.
pub(crate) async fn lock(tx: &Tx, device: DeviceNid) -> Result<(), Error> {
    tx.execute(LOCK, &[&device.0]).await?;
    Ok(())
}

/// [`lock`], for a flight.
pub(crate) fn locking(device: DeviceNid) -> Statement<'static> {
    Statement::new(LOCK, params![device.0])
}

const LOCK: &str = "-- device_inbox::lock
    SELECT 1 FROM devices WHERE device_nid = $1 FOR UPDATE";

/// Deletes the messages that every live session of the device has acknowledged. With no live session
/// nothing goes. The caller holds the device's row lock.
pub(crate) async fn purge(
    tx: &Tx,
    account_id: AccountId,
    device: DeviceNid,
    live_since: i64,
) -> Result<(), Error> {
    tx.execute(
        "-- device_inbox::purge
        DELETE FROM device_inbox
        WHERE account_id = $1
            AND device_nid = $2
            AND seq <= (
                SELECT MIN(acked)
                FROM (
                    SELECT inbox_acked AS acked
                    FROM sessions
                    WHERE account_id = $1 AND device_nid = $2 AND last_used_at >= $3
                    UNION ALL
                    SELECT v2_acked
                    FROM devices
                    WHERE device_nid = $2 AND v2_acked IS NOT NULL AND v2_used_at >= $3
                ) AS sessions_and_v2
            )",
        &[&account_id.0, &device.0, &live_since],
    )
    .await?;
    Ok(())
}
