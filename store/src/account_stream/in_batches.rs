//! Storing a large poll in batches: memory holds three of them at most, whatever the poll has brought.
//!
//! It is one transaction still, so nobody sees half of it, and it is fenced like any other: see [`ingest`](super::ingest).
//! Only event bodies are stored before it, each batch in a transaction of its own, while the batch before is written.
//! They are named by their content and are the same for everybody, so a poll that is not stored in the end has done no
//! harm by them; and no other account's poll waits for this one's end because both brought the same events. Until all
//! batches are written, the transaction locks nothing that is not the account's own: whoever stores bodies here waits for nobody who waits for
//! them. What redactions concern is kept until then, and pruned at the end. A body that nothing
//! refers to yet is safe from the sweep for longer than any transaction takes (`retention::bodies`).

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::sleep, try_join};
use tokio_postgres::Row;

use super::{
    DeviceUpdate, Event, Ingested, Poll, RoomUpdate,
    bodies::{self, Bodies, BodyIds},
    ingest::{MOST_TRIES, MoveOn},
    write_device::ToldAgain,
    write_latest,
    write_rooms::{Rooms, Writes},
};
use crate::{
    AccountId, Error, Position, RoomNid, Store, mark,
    redactions::{self, Redacted},
    tx::{Flight, Reserved, Statement, Tx, params},
};

const NAME: &str = "in_batches::ingest";

/// How many large polls are stored at once: Postgres has other things to do.
const AT_ONCE: usize = 2;

/// Each takes two connections, and together they never have more than half of all, or leave none.
const SHARE: usize = 4;
const FEWEST: usize = 3;

/// How often the server hears of a transaction that waits for its next batch: in less time than it would take the
/// process for one that stands still.
const STILL_HERE: Duration = Duration::from_secs(5);

/// What a large poll brought of its rooms, batch after batch.
pub trait Batches: Send {
    /// Why they cannot be had.
    type Error: Send;

    /// The next ones; `None` when that was all. No room comes twice.
    fn next(&mut self) -> impl Future<Output = Result<Option<Batch>, Self::Error>> + Send;

    /// Begins with the first one again.
    fn rewind(&mut self);
}

/// A part of what a large poll brought.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rooms.
    pub rooms: Vec<RoomUpdate>,
    /// Whose keys changed. All of them come in one batch.
    pub device_lists_changed: Vec<String>,
    /// Who shares no room any more. Comes with those whose keys changed.
    pub device_lists_left: Vec<String>,
    /// Pieces that could not be understood: why, and their JSON.
    pub quarantined: Vec<(String, Bytes)>,
}

/// Why a large poll is not stored. Nothing of it is, then.
#[derive(Debug)]
pub enum Stopped<E> {
    /// The store failed.
    Store(Error),
    /// The batches ended before their end.
    Batches(E),
}

impl<E> From<Error> for Stopped<E> {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// A batch that only has to be written.
struct Ready {
    /// The batch, as a poll that brought nothing else.
    part: Poll,
    room_nids: HashMap<String, RoomNid>,
    bodies: BodyIds,
}

impl Store {
    /// How many large polls may be stored at once with so many connections.
    pub(crate) fn large_at_once(max_connections: usize) -> usize {
        (max_connections / SHARE).clamp(1, AT_ONCE)
    }

    /// Stores a main poll that brought rooms: `head` is what it brought apart from them. It always gets a position.
    ///
    /// [`Error::Fenced`] as in [`Store::ingest`].
    pub async fn ingest_in_batches<B: Batches>(
        &self,
        account_id: AccountId,
        head: &Poll,
        batches: &mut B,
    ) -> Result<Ingested, Stopped<B::Error>> {
        if self.pool.status().max_size < FEWEST {
            return self.ingest_whole(account_id, head, batches).await;
        }
        // Closed never: the semaphore lives as long as the store.
        let _one_of_few = self.large_polls.acquire().await;
        let prunings = self.prunings();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_in_batches(account_id, head, batches).await {
                Err(Stopped::Store(error)) if error.is_conflict() && tries < MOST_TRIES => {
                    batches.rewind();
                }
                outcome => return outcome.map(|stored| Ingested { prunings, ..stored }),
            }
        }
    }

    /// Stores it as if it were small.
    async fn ingest_whole<B: Batches>(
        &self,
        account_id: AccountId,
        head: &Poll,
        batches: &mut B,
    ) -> Result<Ingested, Stopped<B::Error>> {
        let mut poll = head.clone();
        while let Some(batch) = batches.next().await.map_err(Stopped::Batches)? {
            poll.rooms.extend(batch.rooms);
            poll.device_lists_changed.extend(batch.device_lists_changed);
            poll.device_lists_left.extend(batch.device_lists_left);
            poll.quarantined.extend(batch.quarantined);
        }
        let stored = self.ingest(account_id, &poll).await?;
        Ok(Ingested { rooms: None, ..stored })
    }

    async fn try_in_batches<B: Batches>(
        &self,
        account_id: AccountId,
        head: &Poll,
        batches: &mut B,
    ) -> Result<Ingested, Stopped<B::Error>> {
        // Before the account's row is locked: who has the other connections may wait for that.
        let second = self.reserve(NAME).await?;
        // Nobody waits for the row while the first batch is looked through.
        let (mut next, mut second) = self.next_batch(head, batches, second).await?;
        let move_on = MoveOn::with_rooms(account_id, head, self.fence());
        let mut reads = Flight::default();
        let lock = reads.add(move_on.lock());
        let (tx, mut answers) = self.tx_with(NAME, &reads).await?;
        let pos = move_on.position(&answers.take(lock))?;
        let mut concerned = Vec::new();
        while let Some(ready) = next {
            let over = Notify::new();
            let coming = async {
                let coming = self.next_batch(head, batches, second).await;
                over.notify_one();
                coming
            };
            let written = async {
                concerned.extend(write_batch(&tx, account_id, pos, &ready).await?);
                mark::reached(NAME, "between_batches");
                Ok(stay(&tx, over.notified()).await?)
            };
            ((next, second), ()) = try_join!(coming, written)?;
        }
        second.release();
        let redacted = self.redact(&tx, account_id, &concerned).await?;
        let _counted = self.pruning(redacted);
        Ok(finish(tx, account_id, pos, head, &move_on).await?)
    }

    /// Applies what redactions mean for these events. Comes at the end, because it takes locks that others may wait for who
    /// store the same bodies: a transaction that holds them must not wait for another one of ours, whose wait the server
    /// cannot see.
    async fn redact(
        &self,
        tx: &Tx,
        account_id: AccountId,
        concerned: &[(RoomNid, Event)],
    ) -> Result<Redacted, Error> {
        if concerned.is_empty() {
            return Ok(Redacted::default());
        }
        let told: Vec<_> = concerned.iter().map(|(nid, event)| (*nid, event)).collect();
        let bodies = bodies::insert(tx, told.iter().copied()).await?;
        redactions::apply(tx, self.redaction_rules, account_id, &told, &bodies).await
    }

    /// Gets the next batch, and stores its bodies on this connection, which it gives back.
    async fn next_batch<B: Batches>(
        &self,
        head: &Poll,
        batches: &mut B,
        reserved: Reserved,
    ) -> Result<(Option<Ready>, Reserved), Stopped<B::Error>> {
        let Some(batch) = batches.next().await.map_err(Stopped::Batches)? else {
            return Ok((None, reserved));
        };
        let part = part_of(head, batch);
        let room_ids: Vec<&str> = part.rooms.iter().map(|room| room.room_id.as_str()).collect();
        let room_nids = self.intern_rooms_on(Some(&reserved), &room_ids).await?;
        let told = bodies::events(&part.rooms, &room_nids);
        let (bodies, reserved) = self.store_bodies(&told, reserved).await?;
        Ok((Some(Ready { part, room_nids, bodies }), reserved))
    }

    /// Stores the bodies of events in a transaction of their own, on this connection, which it gives back.
    async fn store_bodies(
        &self,
        told: &[(RoomNid, &Event)],
        reserved: Reserved,
    ) -> Result<(BodyIds, Reserved), Error> {
        if told.is_empty() {
            return Ok((BodyIds::default(), reserved));
        }
        let bodies = Bodies::of(told.iter().copied());
        let mut flight = Flight::default();
        flight.add(bodies.insert());
        let ids = flight.add(bodies.ids());
        let (tx, mut answers) = self.tx_on("in_batches::bodies", reserved, &flight).await?;
        let ids = bodies.settle(&tx, &answers.take(ids)).await?;
        Ok((ids, tx.commit_and_keep().await?))
    }
}

/// Writes a batch. Gives what of it redactions concern.
async fn write_batch(
    tx: &Tx,
    account_id: AccountId,
    pos: Position,
    ready: &Ready,
) -> Result<Vec<(RoomNid, Event)>, Error> {
    let Ready { part, room_nids, bodies } = ready;
    let rooms = Rooms { account_id, poll: part, room_nids };
    let told = bodies::events(&part.rooms, room_nids);
    let mut reads = Flight::default();
    let before = reads.add(rooms.before());
    let heads = reads.add(rooms.heads()?);
    let redacted = reads.add(redacted_among(&told));
    let mut answers = tx.fly(&reads).await?;
    let (before, heads) = (answers.take(before), answers.take(heads));
    let known = rooms.known(tx, pos, (&before, &heads), bodies).await?;
    let planned = rooms.plan(pos, known, bodies)?;
    let mut writes = Flight::default();
    Writes { account_id, pos, poll: part, planned: &planned }.add(&mut writes);
    write_latest::add(&mut writes, account_id, pos, part, room_nids);
    tx.fly(&writes).await?;
    Ok(concerned(&told, &answers.take(redacted)))
}

/// Asks which of the events, and of those whose content they hold, are redacted.
fn redacted_among<'a>(told: &[(RoomNid, &'a Event)]) -> Option<Statement<'a>> {
    if told.is_empty() {
        return None;
    }
    let (mut event_ids, mut nids) = (Vec::new(), Vec::new());
    for (nid, event) in told {
        for event_id in event.copies.iter().chain([&event.event_id]) {
            event_ids.push(event_id.as_str());
            nids.push(nid.0);
        }
    }
    Some(Statement::new(
        "-- in_batches::redacted_among
        SELECT r.event_id, r.room_nid
        FROM UNNEST($1::TEXT[], $2::BIGINT[]) AS t (event_id, room_nid)
        JOIN redactions r ON r.event_id = t.event_id AND r.room_nid = t.room_nid",
        params![event_ids, nids],
    ))
}

/// Those of the events that are redactions, that are redacted, or that hold content of redacted ones, by the answer to
/// [`redacted_among`].
fn concerned(told: &[(RoomNid, &Event)], redacted: &[Row]) -> Vec<(RoomNid, Event)> {
    let known: HashSet<(&str, i64)> =
        redacted.iter().map(|row| (row.get("event_id"), row.get("room_nid"))).collect();
    let concerned = told.iter().filter(|(nid, event)| {
        let mut named = event.copies.iter().chain([&event.event_id]);
        redactions::brings(&[(*nid, *event)])
            || named.any(|event_id| known.contains(&(event_id.as_str(), nid.0)))
    });
    concerned.map(|(nid, event)| (*nid, (*event).clone())).collect()
}

/// Stores what the poll brought apart from its rooms, moves the account on, and commits.
async fn finish(
    tx: Tx,
    account_id: AccountId,
    pos: Position,
    head: &Poll,
    move_on: &MoveOn<'_>,
) -> Result<Ingested, Error> {
    let device = head.device.as_ref();
    let told_again =
        device.and_then(|update| ToldAgain::of(account_id, update, head.asked_since.as_deref()));
    let mut known = 0;
    if let Some(told_again) = told_again {
        let mut reads = Flight::default();
        let last_messages = reads.add(told_again.last_messages());
        let still_there = reads.add(told_again.still_there());
        let mut answers = tx.fly(&reads).await?;
        known = told_again.known(&answers.take(last_messages), &answers.take(still_there));
    }
    let no_rooms = HashMap::new();
    let mut writes = Flight::default();
    let moved = writes.add(move_on.statement(known));
    write_latest::add(&mut writes, account_id, pos, head, &no_rooms);
    let mut stored = tx.fly_and_commit(&writes).await?;
    Ok(Ingested { rooms: None, ..move_on.outcome(&stored.take(moved))? })
}

/// Keeps a transaction that waits from being taken for one of a process that stands still.
async fn stay(tx: &Tx, until: impl Future<Output = ()>) -> Result<(), Error> {
    let mut until = pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return Ok(()),
            () = sleep(STILL_HERE) => {
                tx.execute(
                    "-- in_batches::stay
                    SELECT 1",
                    &[],
                )
                .await?;
            }
        }
    }
}

/// A batch as a poll of its own: asked as the whole was, by the same device, for which it brought nothing.
fn part_of(head: &Poll, batch: Batch) -> Poll {
    let device = head.device.as_ref().map(|device| DeviceUpdate {
        device_nid: device.device_nid,
        to_device: Vec::new(),
        one_time_keys_count: None,
        unused_fallback_key_types: None,
    });
    Poll {
        asked_since: head.asked_since.clone(),
        next_batch: head.next_batch.clone(),
        received_at: head.received_at,
        rooms: batch.rooms,
        device_lists_changed: batch.device_lists_changed,
        device_lists_left: batch.device_lists_left,
        device,
        quarantined: batch.quarantined,
        ..Poll::default()
    }
}
