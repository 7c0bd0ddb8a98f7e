//! Storing a poll: everything it brought, and upstream's `next_batch`, in one transaction.
//!
//! That is what makes delivery exactly-once: a crash before the commit leaves the old position, and
//! the same poll comes again; a crash after it finds the new one. Positions are handed out under the
//! account's row lock, so they become visible in their order.

use std::collections::HashMap;

use bytes::Bytes;
use tokio_postgres::Row;

use super::{
    DeviceUpdate, LightPoll, Poll, bodies,
    bodies::Bodies,
    write_device::{DeviceColumns, ToldAgain},
    write_latest,
    write_rooms::{Rooms, Writes},
};
use crate::{
    AccountId, DeviceNid, Error, InboxSeq, Position, RoomHead, RoomNid, Section, Store,
    redactions::{self, Redacted},
    tx::{Flight, Statement, params},
};

/// How often a transaction that lost a deadlock is run again.
pub(super) const MOST_TRIES: u32 = 5;

/// Where the account and the device stand after a poll was stored.
#[derive(Clone, Debug)]
pub struct Ingested {
    /// The last position of the account stream.
    pub pos: Position,
    /// The number of the last to-device message of the polled device.
    pub inbox_seq: InboxSeq,
    /// What the rooms of the poll are with it; `None` of a poll that is too large to tell (one stored in batches is), or one of
    /// whose events is stored otherwise than it came, because it is redacted.
    pub rooms: Option<Vec<StoredRoom>>,
    /// [`Store::prunings`] before the poll was stored.
    pub prunings: u64,
}

/// A room of a poll that was stored.
#[derive(Clone, Debug)]
pub struct StoredRoom {
    /// As it stands after the poll.
    pub head: RoomHead,
    /// Where it was listed before the poll; `None` if it was unknown.
    pub section_before: Option<Section>,
    /// The account came (back) into it in the poll.
    pub newly_joined: bool,
    /// Whether the poll changed its state.
    pub state_changed: bool,
}

impl Store {
    /// Stores a main poll. A poll that brought nothing gets no position.
    ///
    /// [`Error::Fenced`] when the stream has moved on from the since it was asked with, or another process polls for the
    /// account by now.
    pub async fn ingest(&self, account_id: AccountId, poll: &Poll) -> Result<Ingested, Error> {
        let room_ids: Vec<&str> = poll.rooms.iter().map(|room| room.room_id.as_str()).collect();
        let room_nids = self.intern_rooms(&room_ids).await?;
        let prunings = self.prunings();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_ingest(account_id, poll, &room_nids).await {
                Err(error) if error.is_conflict() && tries < MOST_TRIES => {}
                outcome => return outcome.map(|stored| Ingested { prunings, ..stored }),
            }
        }
    }

    /// Two ways to Postgres and back: what has to be known, under the account's row lock, and what is to be written, with the
    /// commit. A poll that brought nothing takes one.
    async fn try_ingest(
        &self,
        account_id: AccountId,
        poll: &Poll,
        room_nids: &HashMap<String, RoomNid>,
    ) -> Result<Ingested, Error> {
        const NAME: &str = "ingest::ingest";
        let next = MoveOn::of(account_id, poll, self.fence());
        let device = poll.device.as_ref();
        let told_again = device
            .and_then(|update| ToldAgain::of(account_id, update, poll.asked_since.as_deref()));
        if poll.is_idle() && told_again.is_none() {
            let stored = self.write(NAME, next.statement(0)).await?;
            return next.outcome(&stored);
        }
        let rooms = Rooms { account_id, poll, room_nids };
        let told = bodies::events(&poll.rooms, room_nids);
        let bodies = Bodies::of(told.iter().copied());

        let mut reads = Flight::default();
        let lock = reads.add(next.lock());
        let last_messages = reads.add(told_again.as_ref().map(ToldAgain::last_messages));
        let still_there = reads.add(told_again.as_ref().map(ToldAgain::still_there));
        reads.add(bodies.insert());
        let ids = reads.add(bodies.ids());
        let before = reads.add(rooms.before());
        let heads = reads.add(rooms.heads()?);
        let redacted = reads.add(redactions::known(&told));
        let (tx, mut answers) = self.tx_with(NAME, &reads).await?;
        let pos = next.position(&answers.take(lock))?;
        let known = told_again.map_or(0, |told_again| {
            told_again.known(&answers.take(last_messages), &answers.take(still_there))
        });
        let bodies = bodies.settle(&tx, &answers.take(ids)).await?;
        let (before, heads) = (answers.take(before), answers.take(heads));
        let known_rooms = rooms.known(&tx, pos, (&before, &heads), &bodies).await?;
        let redacts = redactions::brings(&told) || !answers.take(redacted).is_empty();

        let planned = rooms.plan(pos, known_rooms, &bodies)?;
        let mut writes = Flight::default();
        let moved = writes.add(next.statement(known));
        let rooms = Writes { account_id, pos, poll, planned: &planned };
        let heads = rooms.add(&mut writes);
        write_latest::add(&mut writes, account_id, pos, poll, room_nids);
        let mut redacted = Redacted { any: bodies.any_pruned, pruned: false };
        let mut stored = if redacts {
            let stored = tx.fly(&writes).await?;
            redacted =
                redactions::apply(&tx, self.redaction_rules, account_id, &told, &bodies).await?;
            let _counted = self.pruning(redacted);
            tx.commit().await?;
            stored
        } else {
            tx.fly_and_commit(&writes).await?
        };
        let ingested = next.outcome(&stored.take(moved))?;
        let rooms = if redacted.any { None } else { rooms.stored(&stored.take(heads))? };
        Ok(Ingested { rooms, ..ingested })
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
        const NAME: &str = "ingest::ingest_light";
        let next = MoveOnLight { account_id, poll, replica: self.fence() };
        let Some(told_again) = ToldAgain::of(account_id, &poll.device, poll.asked_since.as_deref())
        else {
            return next.outcome(&self.write(NAME, next.statement(0)).await?);
        };
        let mut reads = Flight::default();
        let lock = reads.add(next.lock());
        let last_messages = reads.add(told_again.last_messages());
        let still_there = reads.add(told_again.still_there());
        let (tx, mut answers) = self.tx_with(NAME, &reads).await?;
        if answers.take(lock).is_empty() {
            // A device that was logged out while its poll was under way has no inbox any more.
            return Ok(InboxSeq(0));
        }
        let known = told_again.known(&answers.take(last_messages), &answers.take(still_there));
        let mut writes = Flight::default();
        let moved = writes.add(next.statement(known));
        let mut stored = tx.fly_and_commit(&writes).await?;
        next.outcome(&stored.take(moved))
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

/// The step of an account's stream that a poll is, if the stream stands where the poll was asked from, the polled device still
/// runs the main poll, and `replica` holds the account. Without the second, a reply that arrives during a handover would
/// store messages that the device's light poll then gets again.
pub(super) struct MoveOn<'a> {
    account_id: AccountId,
    poll: &'a Poll,
    replica: Option<i32>,
    /// How far the position moves.
    step: i64,
}

impl<'a> MoveOn<'a> {
    /// A poll that is all here.
    fn of(account_id: AccountId, poll: &'a Poll, replica: Option<i32>) -> Self {
        Self { account_id, poll, replica, step: i64::from(!poll.is_idle()) }
    }

    /// A poll that brought rooms, which are not with it.
    pub(super) fn with_rooms(account_id: AccountId, poll: &'a Poll, replica: Option<i32>) -> Self {
        Self { account_id, poll, replica, step: 1 }
    }

    /// Locks the account against other polls, and gives where it stands. Devices and tokens may be added to it meanwhile: a
    /// large poll takes minutes.
    pub(super) fn lock(&self) -> Statement<'a> {
        Statement::new(
            "-- ingest::lock
            SELECT pos
            FROM accounts
            WHERE account_id = $1
                AND upstream_since IS NOT DISTINCT FROM $2
                AND ($3::INTEGER IS NULL OR replica_id = $3)
                AND ($4::BIGINT IS NULL OR main_device_nid = $4)
            FOR NO KEY UPDATE",
            params![self.account_id.0, &self.poll.asked_since, self.replica, self.device_nid()],
        )
    }

    /// The position of the poll, by the answer to [`Self::lock`].
    pub(super) fn position(&self, locked: &[Row]) -> Result<Position, Error> {
        let stands: i64 = locked.first().ok_or_else(|| self.fenced())?.get("pos");
        Ok(Position(stands + self.step))
    }

    /// Moves the account and its device on, with the device's messages but for those at the beginning that are known: all
    /// that a poll stores that brought nothing else. It checks for itself what [`Self::lock`] does, so that it can stand
    /// alone. What is as it was is not written again.
    pub(super) fn statement(&self, known: usize) -> Statement<'a> {
        let device = self.poll.device.as_ref().map(|update| DeviceColumns::of(update, known));
        let device = device.unwrap_or_default();
        Statement::new(
            "-- ingest::move_on
            WITH account AS (
                UPDATE accounts
                SET pos = pos + $5, upstream_since = $6
                WHERE account_id = $1
                    AND upstream_since IS NOT DISTINCT FROM $2
                    AND ($3::INTEGER IS NULL OR replica_id = $3)
                    AND ($4::BIGINT IS NULL OR main_device_nid = $4)
                RETURNING pos
            ), poll AS (
                INSERT INTO polls (account_id, pos, next_batch, stored_at)
                SELECT $1, account.pos, $6, $7
                FROM account
                WHERE $5::BIGINT > 0
            ), device AS (
                UPDATE devices d
                SET inbox_seq = d.inbox_seq + $8,
                    one_time_keys_count = COALESCE($9, d.one_time_keys_count),
                    unused_fallback_key_types = COALESCE($10, d.unused_fallback_key_types),
                    last_messages = $11
                FROM account
                WHERE d.device_nid = $4
                    AND (
                        $8::BIGINT > 0
                        OR d.last_messages <> $11
                        OR d.one_time_keys_count <> $9
                        OR d.unused_fallback_key_types <> $10
                    )
                RETURNING d.inbox_seq
            ), inbox AS (
                INSERT INTO device_inbox (account_id, device_nid, seq, message, stored_at)
                SELECT $1, $4, device.inbox_seq - $8::BIGINT + t.number, t.message, $7
                FROM device
                CROSS JOIN UNNEST($12::BYTEA[]) WITH ORDINALITY AS t (message, number)
            )
            SELECT account.pos, COALESCE(
                (SELECT device.inbox_seq FROM device),
                (SELECT d.inbox_seq FROM devices d WHERE d.device_nid = $4),
                -- A device that was logged out while its poll was under way has no inbox any more.
                0
            ) AS inbox_seq
            FROM account",
            params![
                self.account_id.0,
                &self.poll.asked_since,
                self.replica,
                self.device_nid(),
                self.step,
                &self.poll.next_batch,
                self.poll.received_at,
                device.arrived,
                device.one_time_keys_count,
                device.unused_fallback_key_types,
                device.hashes,
                device.messages,
            ],
        )
    }

    /// Where the account and the device stand, by the answer to [`Self::statement`].
    pub(super) fn outcome(&self, moved: &[Row]) -> Result<Ingested, Error> {
        let row = moved.first().ok_or_else(|| self.fenced())?;
        Ok(Ingested {
            pos: Position(row.get("pos")),
            inbox_seq: InboxSeq(row.get("inbox_seq")),
            rooms: Some(Vec::new()),
            prunings: 0,
        })
    }

    fn device_nid(&self) -> Option<i64> {
        self.poll.device.as_ref().map(|update| update.device_nid.0)
    }

    fn fenced(&self) -> Error {
        Error::Fenced { asked_since: self.poll.asked_since.clone() }
    }
}

/// The step of a device's light poll, if it stands where the poll was asked from, and `replica` holds its account.
struct MoveOnLight<'a> {
    account_id: AccountId,
    poll: &'a LightPoll,
    replica: Option<i32>,
}

impl<'a> MoveOnLight<'a> {
    /// Locks the device.
    fn lock(&self) -> Statement<'a> {
        Statement::new(
            "-- ingest::lock_device
            SELECT device_nid FROM devices WHERE device_nid = $1 FOR UPDATE",
            params![self.device().device_nid.0],
        )
    }

    /// Moves the device on, with its messages but for those at the beginning that are known. It checks for itself whether it
    /// may, so that it can stand alone.
    fn statement(&self, known: usize) -> Statement<'a> {
        let device = DeviceColumns::of(self.device(), known);
        Statement::new(
            "-- ingest::ingest_light
            WITH device AS (
                UPDATE devices d
                SET upstream_since = $5,
                    inbox_seq = d.inbox_seq + $7,
                    one_time_keys_count = COALESCE($8, d.one_time_keys_count),
                    unused_fallback_key_types = COALESCE($9, d.unused_fallback_key_types),
                    last_messages = $10
                WHERE d.device_nid = $1
                    AND d.upstream_since IS NOT DISTINCT FROM $3
                    AND EXISTS (
                        SELECT 1
                        FROM accounts a
                        WHERE a.account_id = d.account_id AND ($4::INTEGER IS NULL OR a.replica_id = $4)
                    )
                RETURNING d.inbox_seq
            ), inbox AS (
                INSERT INTO device_inbox (account_id, device_nid, seq, message, stored_at)
                SELECT $2, $1, device.inbox_seq - $7::BIGINT + t.number, t.message, $6
                FROM device
                CROSS JOIN UNNEST($11::BYTEA[]) WITH ORDINALITY AS t (message, number)
            )
            SELECT device.inbox_seq FROM device",
            params![
                self.device().device_nid.0,
                self.account_id.0,
                &self.poll.asked_since,
                self.replica,
                &self.poll.next_batch,
                self.poll.received_at,
                device.arrived,
                device.one_time_keys_count,
                device.unused_fallback_key_types,
                device.hashes,
                device.messages,
            ],
        )
    }

    /// The number of the device's last message, by the answer to [`Self::statement`].
    fn outcome(&self, moved: &[Row]) -> Result<InboxSeq, Error> {
        let fenced = || Error::Fenced { asked_since: self.poll.asked_since.clone() };
        Ok(InboxSeq(moved.first().ok_or_else(fenced)?.get("inbox_seq")))
    }

    fn device(&self) -> &'a DeviceUpdate {
        &self.poll.device
    }
}
