//! Table `devices`: the devices of an account, their key counts and their light polls.

use bytes::Bytes;
use tokio_postgres::Row;

use crate::{AccountId, DeviceNid, Error, InboxSeq, Store, tx::Tx};

/// A device as it stands.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its number.
    pub device_nid: DeviceNid,
    /// Whose it is.
    pub account_id: AccountId,
    /// Its Matrix ID.
    pub device_id: String,
    /// The since of its next light poll; `None` before the first.
    pub upstream_since: Option<String>,
    /// The number of the last to-device message stored.
    pub inbox_seq: InboxSeq,
    /// `device_one_time_keys_count`, a JSON object.
    pub one_time_keys_count: Bytes,
    /// `device_unused_fallback_key_types`, a JSON list.
    pub unused_fallback_key_types: Bytes,
}

const COLUMNS: &str = "device_nid, account_id, device_id, upstream_since, inbox_seq, \
                       one_time_keys_count, unused_fallback_key_types";

impl Store {
    /// The device of an account; made if there is none.
    pub async fn device(&self, account_id: AccountId, device_id: &str) -> Result<Device, Error> {
        if let Some(known) = self.find_device(account_id, device_id).await? {
            return Ok(known);
        }
        self.query(
            "devices::insert",
            "-- devices::insert
            INSERT INTO devices (account_id, device_id)
            VALUES ($1, $2)
            ON CONFLICT (account_id, device_id) DO NOTHING",
            &[&account_id.0, &device_id],
        )
        .await?;
        self.find_device(account_id, device_id).await?.ok_or_else(|| Error::Inconsistent {
            table: "devices",
            column: "device_id",
            key: device_id.to_owned(),
        })
    }

    /// The device with this number, as it stands now.
    pub async fn device_by_nid(&self, device_nid: DeviceNid) -> Result<Option<Device>, Error> {
        let sql = format!(
            "-- devices::device_by_nid
            SELECT {COLUMNS} FROM devices WHERE device_nid = $1"
        );
        let rows = self.query("devices::device_by_nid", &sql, &[&device_nid.0]).await?;
        Ok(rows.first().map(device_of))
    }

    /// The devices of an account.
    pub async fn device_nids(&self, account_id: AccountId) -> Result<Vec<DeviceNid>, Error> {
        let rows = self
            .query(
                "devices::device_nids",
                "-- devices::device_nids
                SELECT device_nid FROM devices WHERE account_id = $1 ORDER BY device_nid",
                &[&account_id.0],
            )
            .await?;
        Ok(rows.iter().map(|row| DeviceNid(row.get("device_nid"))).collect())
    }

    /// Those devices of an account that have one of these Matrix IDs.
    pub async fn device_nids_of(
        &self,
        account_id: AccountId,
        device_ids: &[String],
    ) -> Result<Vec<DeviceNid>, Error> {
        let rows = self
            .query(
                "devices::device_nids_of",
                "-- devices::device_nids_of
                SELECT device_nid
                FROM devices
                WHERE account_id = $1 AND device_id = ANY($2)
                ORDER BY device_nid",
                &[&account_id.0, &device_ids],
            )
            .await?;
        Ok(rows.iter().map(|row| DeviceNid(row.get("device_nid"))).collect())
    }

    /// Forgets devices that are logged out: their tokens, inboxes and sessions go with them.
    pub async fn remove_devices(
        &self,
        account_id: AccountId,
        devices: &[DeviceNid],
    ) -> Result<(), Error> {
        let nids: Vec<i64> = devices.iter().map(|nid| nid.0).collect();
        let tx = self.tx("devices::remove_devices").await?;
        vacate_main_poll(&tx, account_id, &nids).await?;
        // The device goes first: that waits for a poll that is just storing messages for it, and keeps
        // the next one from it, so that nothing is left behind.
        tx.execute(
            "-- devices::remove_devices
            DELETE FROM devices WHERE account_id = $1 AND device_nid = ANY($2)",
            &[&account_id.0, &nids],
        )
        .await?;
        remove_belongings(&tx, account_id, &nids).await?;
        tx.commit().await
    }

    /// Forgets the position of a device's light poll, which upstream refused. Does nothing if another process polls for the
    /// account by now.
    pub async fn forget_light_since(&self, device: DeviceNid) -> Result<(), Error> {
        self.query(
            "devices::forget_light_since",
            "-- devices::forget_light_since
            UPDATE devices
            SET upstream_since = NULL
            FROM accounts a
            WHERE devices.device_nid = $1
                AND a.account_id = devices.account_id
                AND ($2::INTEGER IS NULL OR a.replica_id = $2)",
            &[&device.0, &self.fence()],
        )
        .await?;
        Ok(())
    }

    /// The device of an account with this Matrix ID, if there is one.
    pub(crate) async fn find_device(
        &self,
        account_id: AccountId,
        device_id: &str,
    ) -> Result<Option<Device>, Error> {
        let sql = format!(
            "-- devices::find_device
            SELECT {COLUMNS} FROM devices WHERE account_id = $1 AND device_id = $2"
        );
        let rows = self.query("devices::find_device", &sql, &[&account_id.0, &device_id]).await?;
        Ok(rows.first().map(device_of))
    }
}

/// None of these devices runs the account's main poll any more.
pub(crate) async fn vacate_main_poll(
    tx: &Tx,
    account_id: AccountId,
    nids: &[i64],
) -> Result<(), Error> {
    tx.execute(
        "-- devices::vacate_main_poll
        UPDATE accounts
        SET main_device_nid = NULL
        WHERE account_id = $1 AND main_device_nid = ANY($2)",
        &[&account_id.0, &nids],
    )
    .await?;
    Ok(())
}

/// Removes what is kept for devices that are gone already, and does not go with their rows.
pub(crate) async fn remove_belongings(
    tx: &Tx,
    account_id: AccountId,
    nids: &[i64],
) -> Result<(), Error> {
    for sql in [
        "-- devices::remove_belongings
        DELETE FROM device_inbox WHERE account_id = $1 AND device_nid = ANY($2)",
        "-- devices::remove_belongings
        DELETE FROM transaction_ids WHERE account_id = $1 AND device_nid = ANY($2)",
    ] {
        tx.execute(sql, &[&account_id.0, &nids]).await?;
    }
    Ok(())
}

fn device_of(row: &Row) -> Device {
    Device {
        device_nid: DeviceNid(row.get("device_nid")),
        account_id: AccountId(row.get("account_id")),
        device_id: row.get("device_id"),
        upstream_since: row.get("upstream_since"),
        inbox_seq: InboxSeq(row.get("inbox_seq")),
        one_time_keys_count: Bytes::from(row.get::<_, Vec<u8>>("one_time_keys_count")),
        unused_fallback_key_types: Bytes::from(row.get::<_, Vec<u8>>("unused_fallback_key_types")),
    }
}
