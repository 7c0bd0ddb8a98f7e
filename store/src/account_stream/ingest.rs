//! Storing a poll: everything it brought, and upstream's `next_batch`, in one transaction.
//!
//! That is what makes delivery exactly-once: a crash before the commit leaves the old position, and
//! the same poll comes again; a crash after it finds the new one. Positions are handed out under the
//! account's row lock, so they become visible in their order.

use bytes::Bytes;
use tokio::try_join;

use super::{LightPoll, Poll, bodies, write_device::write_device, write_latest, write_rooms};
use crate::{AccountId, DeviceNid, Error, InboxSeq, Position, Store, redactions, tx::Tx};

/// How often a transaction that lost a deadlock is run again.
const MOST_TRIES: u32 = 5;

/// Where the account and the device stand after a poll was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// The last position of the account stream.
    pub pos: Position,
    /// The number of the last to-device message of the polled device.
    pub inbox_seq: InboxSeq,
}

impl Store {
    /// Stores a main poll. A poll that brought nothing gets no position.
    ///
    /// [`Error::Fenced`] when the stream has moved on from the since it was asked with, or another process polls for the
    /// account by now.
    pub async fn ingest(&self, account_id: AccountId, poll: &Poll) -> Result<Ingested, Error> {
        let room_ids: Vec<&str> = poll.rooms.iter().map(|room| room.room_id.as_str()).collect();
        let room_nids = self.intern_rooms(&room_ids).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_ingest(account_id, poll, &room_nids).await {
                Err(error) if error.is_conflict() && tries < MOST_TRIES => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_ingest(
        &self,
        account_id: AccountId,
        poll: &Poll,
        room_nids: &std::collections::HashMap<String, crate::RoomNid>,
    ) -> Result<Ingested, Error> {
        let tx = self.tx("ingest::ingest").await?;
        let mut pos = lock(&tx, account_id, poll, self.fence()).await?;
        if !poll.is_idle() {
            pos = Position(pos.0 + 1);
        }
        let inbox_seq = match &poll.device {
            Some(device) => {
                let first = poll.asked_since.is_none();
                write_device(&tx, account_id, device, first, poll.received_at).await?
            }
            None => InboxSeq(0),
        };
        if !poll.is_idle() {
            let told = bodies::events(&poll.rooms, room_nids);
            let bodies = bodies::insert(&tx, told.iter().copied()).await?;
            let rooms = write_rooms::Rooms { account_id, pos, poll, room_nids, bodies: &bodies };
            rooms.write(&tx).await?;
            try_join!(
                write_latest::account_data(&tx, account_id, pos, poll, room_nids),
                write_latest::receipts(&tx, account_id, pos, poll, room_nids),
                write_latest::presence(&tx, account_id, pos, poll),
                write_latest::device_lists(&tx, account_id, pos, poll),
                write_latest::transaction_ids(&tx, account_id, poll),
                write_latest::quarantine(&tx, account_id, pos, poll),
                insert_poll(&tx, account_id, pos, poll),
            )?;
            redactions::apply(&tx, self.redaction_rules, account_id, &told, &bodies).await?;
        }
        tx.execute(
            "-- ingest::ingest
            UPDATE accounts SET pos = $2, upstream_since = $3 WHERE account_id = $1",
            &[&account_id.0, &pos.0, &poll.next_batch],
        )
        .await?;
        tx.commit().await?;
        Ok(Ingested { pos, inbox_seq })
    }

    /// Stores a light poll: one device's inbox and key counts. It moves no position of the account.
    ///
    /// [`Error::Fenced`] when the device has moved on from the since it was asked with, or another process polls for the
    /// account by now.
    pub async fn ingest_light(
        &self,
        account_id: AccountId,
        poll: &LightPoll,
    ) -> Result<InboxSeq, Error> {
        let tx = self.tx("ingest::ingest_light").await?;
        let device = poll.device.device_nid;
        let row = tx
            .query_opt(
                "-- ingest::ingest_light
                SELECT d.upstream_since, a.replica_id
                FROM devices d
                JOIN accounts a ON a.account_id = d.account_id
                WHERE d.device_nid = $1
                FOR UPDATE OF d",
                &[&device.0],
            )
            .await?;
        let replica = self.fence();
        let holder: Option<i32> = row.as_ref().and_then(|row| row.get("replica_id"));
        let since: Option<String> = row.and_then(|row| row.get("upstream_since"));
        if since != poll.asked_since || (replica.is_some() && holder != replica) {
            return Err(Error::Fenced { asked_since: poll.asked_since.clone() });
        }
        let inbox_seq = write_device(
            &tx,
            account_id,
            &poll.device,
            poll.asked_since.is_none(),
            poll.received_at,
        )
        .await?;
        tx.execute(
            "-- ingest::ingest_light
            UPDATE devices SET upstream_since = $2 WHERE device_nid = $1",
            &[&device.0, &poll.next_batch],
        )
        .await?;
        tx.commit().await?;
        Ok(inbox_seq)
    }

    /// Sets a device's key counts, learnt from an answer that its client just got.
    pub async fn put_key_counts(
        &self,
        device: DeviceNid,
        one_time_keys_count: &Bytes,
    ) -> Result<(), Error> {
        self.query(
            "ingest::put_key_counts",
            "-- ingest::put_key_counts
            UPDATE devices SET one_time_keys_count = $2 WHERE device_nid = $1",
            &[&device.0, &&one_time_keys_count[..]],
        )
        .await?;
        Ok(())
    }
}

/// Locks the account and gives its position, if its stream stands where the poll was asked from and
/// the polled device still runs the main poll. Without the second, a reply that arrives during a
/// handover would store messages that the device's light poll then gets again. `replica` is the process that has to hold
/// the account.
async fn lock(
    tx: &Tx,
    account_id: AccountId,
    poll: &Poll,
    replica: Option<i32>,
) -> Result<Position, Error> {
    let row = tx
        .query_opt(
            "-- ingest::lock
            SELECT pos, upstream_since, main_device_nid, replica_id
            FROM accounts
            WHERE account_id = $1
            FOR UPDATE",
            &[&account_id.0],
        )
        .await?;
    let fenced = || Error::Fenced { asked_since: poll.asked_since.clone() };
    let row = row.ok_or_else(fenced)?;
    if row.get::<_, Option<&str>>("upstream_since") != poll.asked_since.as_deref() {
        return Err(fenced());
    }
    if replica.is_some() && row.get::<_, Option<i32>>("replica_id") != replica {
        return Err(fenced());
    }
    let main_device: Option<i64> = row.get("main_device_nid");
    if poll.device.as_ref().is_some_and(|device| main_device != Some(device.device_nid.0)) {
        return Err(fenced());
    }
    Ok(Position(row.get("pos")))
}

async fn insert_poll(
    tx: &Tx,
    account_id: AccountId,
    pos: Position,
    poll: &Poll,
) -> Result<(), Error> {
    tx.execute(
        "-- ingest::insert_poll
        INSERT INTO polls (account_id, pos, next_batch, stored_at) VALUES ($1, $2, $3, $4)",
        &[&account_id.0, &pos.0, &poll.next_batch, &poll.received_at],
    )
    .await?;
    Ok(())
}
