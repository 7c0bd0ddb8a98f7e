//! Table `transaction_ids`, where it is not a poll that writes it: what a device's own request told.

use crate::{AccountId, DeviceNid, Error, Store};

impl Store {
    /// Keeps the transaction ID under which a device sent an event. `now` is in milliseconds.
    pub async fn put_transaction_id(
        &self,
        account_id: AccountId,
        device: DeviceNid,
        event_id: &str,
        transaction_id: &str,
        now: i64,
    ) -> Result<(), Error> {
        self.query(
            "transaction_ids::put_transaction_id",
            "-- transaction_ids::put_transaction_id
            INSERT INTO transaction_ids (account_id, device_nid, event_id, transaction_id, stored_at)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (account_id, device_nid, event_id) DO NOTHING",
            &[&account_id.0, &device.0, &event_id, &transaction_id, &now],
        )
        .await?;
        Ok(())
    }
}
