//! Tables `accounts` and `devices` together: where devices stand whose polls another process stores.

use bytes::Bytes;
use tokio_postgres::Row;

use crate::{AccountId, DeviceNid, Error, InboxSeq, Position, ReplicaId, Store};

/// What polls and clients have brought a device and its account to.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The device.
    pub device_nid: DeviceNid,
    /// Whose it is.
    pub account_id: AccountId,
    /// The position of the account's last poll stored.
    pub pos: Position,
    /// A since below this position is answered as a gap.
    pub retained_from: Position,
    /// The device whose token runs the main poll.
    pub main_device: Option<DeviceNid>,
    /// The process that polls for the account, if one does; it may be dead.
    pub replica: Option<ReplicaId>,
    /// The number of the device's last to-device message stored.
    pub inbox_seq: InboxSeq,
    /// What v2 has acknowledged of them; `None` before its first `since`.
    pub v2_acked: Option<InboxSeq>,
    /// `device_one_time_keys_count`, a JSON object.
    pub one_time_keys_count: Bytes,
    /// `device_unused_fallback_key_types`, a JSON list.
    pub unused_fallback_key_types: Bytes,
}

impl Store {
    /// Where devices stand, in no order. Those that are missing are gone.
    pub async fn standings(&self, devices: &[DeviceNid]) -> Result<Vec<Standing>, Error> {
        let nids: Vec<i64> = devices.iter().map(|nid| nid.0).collect();
        let rows = self
            .query(
                "standings::standings",
                "-- standings::standings
                SELECT
                    d.device_nid,
                    d.account_id,
                    a.pos,
                    a.retained_from,
                    a.main_device_nid,
                    a.replica_id,
                    d.inbox_seq,
                    d.v2_acked,
                    d.one_time_keys_count,
                    d.unused_fallback_key_types
                FROM devices d
                JOIN accounts a ON a.account_id = d.account_id
                WHERE d.device_nid = ANY($1)",
                &[&nids],
            )
            .await?;
        Ok(rows.iter().map(standing_of).collect())
    }
}

fn standing_of(row: &Row) -> Standing {
    Standing {
        device_nid: DeviceNid(row.get("device_nid")),
        account_id: AccountId(row.get("account_id")),
        pos: Position(row.get("pos")),
        retained_from: Position(row.get("retained_from")),
        main_device: row.get::<_, Option<i64>>("main_device_nid").map(DeviceNid),
        replica: row.get::<_, Option<i32>>("replica_id").map(ReplicaId),
        inbox_seq: InboxSeq(row.get("inbox_seq")),
        v2_acked: row.get::<_, Option<i64>>("v2_acked").map(InboxSeq),
        one_time_keys_count: Bytes::from(row.get::<_, Vec<u8>>("one_time_keys_count")),
        unused_fallback_key_types: Bytes::from(row.get::<_, Vec<u8>>("unused_fallback_key_types")),
    }
}
