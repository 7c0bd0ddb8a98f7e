//! What is kept for devices: messages that nobody came for, transaction IDs, and the devices themselves.

use std::collections::HashSet;

use super::{Horizon, Pace};
use crate::{
    AccountId, DeviceNid, Error, Store, device_inbox,
    devices::{remove_belongings, vacate_main_poll},
};

impl Store {
    /// Lets go the to-device messages past the horizon of devices without a live session. Those of a device with one
    /// are its sessions' to acknowledge.
    pub(super) async fn expire_inboxes(
        &self,
        account_id: AccountId,
        horizon: Horizon,
        pace: Pace,
    ) -> Result<u64, Error> {
        let mut rows = 0;
        for device in self.device_nids(account_id).await? {
            loop {
                let gone = self.expire_inbox(account_id, device, horizon, pace).await?;
                rows += gone;
                if !pace.is_full(gone) {
                    break;
                }
                pace.rest().await;
            }
        }
        Ok(rows)
    }

    async fn expire_inbox(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        horizon: Horizon,
        pace: Pace,
    ) -> Result<u64, Error> {
        let tx = self.tx("retention::expire_inbox").await?;
        // A session that begins meanwhile holds what it finds.
        device_inbox::lock(&tx, device).await?;
        let gone = tx
            .execute(
                "-- retention::expire_inbox
                DELETE FROM device_inbox
                WHERE account_id = $1
                    AND device_nid = $2
                    AND seq = ANY(ARRAY(
                        SELECT o.seq
                        FROM (
                            SELECT seq, stored_at
                            FROM device_inbox
                            WHERE account_id = $1 AND device_nid = $2
                            ORDER BY seq
                            LIMIT $5
                        ) o
                        WHERE o.stored_at <= $3
                    ))
                    AND NOT EXISTS (
                        SELECT 1
                        FROM sessions
                        WHERE account_id = $1 AND device_nid = $2 AND last_used_at >= $4
                    )
                    AND NOT EXISTS (
                        SELECT 1
                        FROM devices
                        WHERE device_nid = $2 AND v2_acked IS NOT NULL AND v2_used_at >= $4
                    )",
                &[&account_id.0, &device.0, &horizon.oldest, &horizon.live_since, &pace.rows],
            )
            .await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// Lets go transaction IDs past the horizon: who sent an event has heard of it by then.
    pub(super) async fn expire_transaction_ids(
        &self,
        account_id: AccountId,
        horizon: Horizon,
        pace: Pace,
    ) -> Result<u64, Error> {
        let mut rows = 0;
        let (mut device_nid, mut event_id) = (0_i64, String::new());
        loop {
            let page = self
                .query(
                    "retention::expire_transaction_ids",
                    "-- retention::expire_transaction_ids
                    WITH page AS MATERIALIZED (
                        SELECT device_nid, event_id
                        FROM transaction_ids
                        WHERE account_id = $1 AND (device_nid, event_id) > ($2, $3)
                        ORDER BY device_nid, event_id
                        LIMIT $5
                    ),
                    gone AS (
                        DELETE FROM transaction_ids
                        WHERE account_id = $1
                            AND (device_nid, event_id) > ($2, $3)
                            AND (device_nid, event_id) <= (
                                SELECT device_nid, event_id FROM page ORDER BY device_nid DESC, event_id DESC LIMIT 1
                            )
                            AND stored_at <= $4
                        RETURNING 1
                    )
                    SELECT device_nid, event_id, (SELECT COUNT(*) FROM gone) AS gone
                    FROM page
                    ORDER BY device_nid DESC, event_id DESC
                    LIMIT 1",
                    &[&account_id.0, &device_nid, &event_id, &horizon.oldest, &pace.rows],
                )
                .await?;
            let Some(last) = page.first() else { return Ok(rows) };
            (device_nid, event_id) = (last.get("device_nid"), last.get("event_id"));
            rows += u64::try_from(last.get::<_, i64>("gone")).unwrap_or_default();
            pace.rest().await;
        }
    }

    /// Notes which devices of the account have no token, and removes those that have had none since the horizon and
    /// have no live session either. Gives them.
    pub(super) async fn remove_gone_devices(
        &self,
        account_id: AccountId,
        horizon: Horizon,
    ) -> Result<Vec<DeviceNid>, Error> {
        self.query(
                "retention::remove_gone_devices",
                "-- retention::remove_gone_devices
                UPDATE devices d
                SET gone_since = CASE WHEN d.gone_since IS NULL THEN $2::BIGINT END
                WHERE d.account_id = $1
                    AND (d.gone_since IS NULL)
                        = (NOT EXISTS (SELECT 1 FROM access_tokens t WHERE t.device_nid = d.device_nid))",
                &[&account_id.0, &horizon.now],
            )
            .await?;
        let rows = self
            .query(
                "retention::remove_gone_devices",
                "-- retention::remove_gone_devices
                SELECT device_nid
                FROM devices
                WHERE account_id = $1 AND gone_since <= $2
                ORDER BY device_nid",
                &[&account_id.0, &horizon.oldest],
            )
            .await?;
        let mut gone = Vec::new();
        for row in rows {
            let device = DeviceNid(row.get("device_nid"));
            if self.remove_gone_device(account_id, device, horizon).await? {
                gone.push(device);
            }
        }
        Ok(gone)
    }

    async fn remove_gone_device(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        horizon: Horizon,
    ) -> Result<bool, Error> {
        // In the order of a logout: the account, the device, what belongs to it.
        // Whoever stores a token of the device at this moment is waited for, and seen.
        let tx = self.tx_on_account("retention::remove_gone_device", account_id).await?;
        device_inbox::lock(&tx, device).await?;
        let row = tx
            .query_opt(
                "-- retention::remove_gone_device
                DELETE FROM devices d
                WHERE d.device_nid = $1
                    AND d.gone_since <= $2
                    AND d.v2_used_at < $3
                    AND NOT EXISTS (SELECT 1 FROM access_tokens WHERE device_nid = $1)
                    AND NOT EXISTS (
                        SELECT 1
                        FROM sessions
                        WHERE account_id = $4 AND device_nid = $1 AND last_used_at >= $3
                    )
                RETURNING d.device_nid",
                &[&device.0, &horizon.oldest, &horizon.live_since, &account_id.0],
            )
            .await?;
        if row.is_none() {
            tx.commit().await?;
            return Ok(false);
        }
        vacate_main_poll(&tx, account_id, &[device.0]).await?;
        remove_belongings(&tx, account_id, &[device.0]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Those of these devices that are there.
    pub async fn known_devices(&self, devices: &[DeviceNid]) -> Result<HashSet<DeviceNid>, Error> {
        let nids: Vec<i64> = devices.iter().map(|nid| nid.0).collect();
        let rows = self
            .query(
                "retention::known_devices",
                "-- retention::known_devices
                SELECT device_nid FROM devices WHERE device_nid = ANY($1)",
                &[&nids],
            )
            .await?;
        Ok(rows.iter().map(|row| DeviceNid(row.get("device_nid"))).collect())
    }
}
