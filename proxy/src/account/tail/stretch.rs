//! What a few polls brought, read as the store reads it.
//!
//! Each function here says the same as the one of the store that has its name, for the end of the stretch; where that is not
//! certain it says nothing, and the store is to be asked. Everything is read from the polls themselves: what a client that
//! stands at the beginning of the stretch is to be told of values that last changed in it cannot be anywhere else.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use store::{
    AccountData, ChangedRoom, DeviceListChanges, DeviceNid, Place, Position, RoomNid, RoomUpdate,
    StateQuery, StoredPresence, StoredReceipt, StoredRoom, TimelineEvent, TimelineQuery,
};

use super::KeptPoll;
use crate::views::EventFields;

/// A stretch of an account's stream that is in memory.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Everything after this position is in it.
    since: Position,
    polls: Vec<Arc<KeptPoll>>,
    /// Whether something had to be asked of the store all the same.
    incomplete: AtomicBool,
}

/// The device that asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// Whose it is.
    pub(crate) user_id: &'a str,
    /// Its number.
    pub(crate) device_nid: DeviceNid,
}

impl Stretch {
    pub(super) fn new(since: Position, polls: Vec<Arc<KeptPoll>>) -> Self {
        Self { since, polls, incomplete: AtomicBool::new(false) }
    }

    /// Everything up to this position is in it.
    pub(crate) fn until(&self) -> Position {
        self.polls.last().map_or(self.since, |last| last.pos)
    }

    /// The store is asked for something as well.
    pub(crate) fn asks_store(&self) {
        self.incomplete.store(true, Ordering::Relaxed);
    }

    /// Whether everything that was asked for was here.
    pub(crate) fn was_enough(&self) -> bool {
        !self.incomplete.load(Ordering::Relaxed)
    }

    /// The rooms that it mentions, in the order of their numbers.
    pub(crate) fn changed_rooms(&self) -> Vec<ChangedRoom> {
        let mut changed: BTreeMap<RoomNid, ChangedRoom> = BTreeMap::new();
        for poll in &self.polls {
            for (nid, kept) in &poll.rooms {
                let stored = &kept.stored;
                let cuts = stored.newly_joined
                    || poll.poll.rooms.get(kept.number).is_some_and(|update| update.limited);
                let room = changed.entry(*nid).or_insert_with(|| ChangedRoom {
                    head: stored.head.clone(),
                    section_before: stored.section_before,
                    newly_joined: false,
                    cut: None,
                });
                room.head = stored.head.clone();
                room.newly_joined |= stored.newly_joined;
                if cuts {
                    room.cut = Some(poll.pos);
                }
            }
        }
        changed.into_values().collect()
    }

    /// The newest `limit` events of a room, newest first.
    pub(crate) fn timeline(
        &self,
        query: &TimelineQuery,
        limit: usize,
        asker: Asker<'_>,
    ) -> Option<Vec<TimelineEvent>> {
        let mut events = Vec::new();
        for (poll, update, _) in self.of_room(query.room_nid, query.after)?.rev() {
            for (ord, event) in update.timeline.iter().enumerate().rev() {
                let place = Place { pos: poll.pos, ord: i32::try_from(ord).ok()? };
                if events.len() == limit {
                    return Some(events);
                }
                if place < query.before {
                    let transaction_id = transaction_id(poll, event, asker).ok()?;
                    events.push(TimelineEvent {
                        place,
                        body: event.body.clone(),
                        age_ts: event.age_ts,
                        unsigned: event.unsigned.clone(),
                        transaction_id,
                        // Nothing that is redacted is kept.
                        redacted_because: None,
                    });
                }
            }
        }
        Some(events)
    }

    /// Whether it is certain that nothing of the state of a room changed where the query asks.
    pub(crate) fn state_is_unchanged(&self, query: &StateQuery) -> bool {
        let Some(from) = query.since.filter(|from| *from >= Place::after(self.since)) else {
            return false;
        };
        let before = Position(from.pos.0.saturating_sub(1));
        let polls = self.of_room(query.room_nid, before);
        polls.is_some_and(|mut polls| !polls.any(|(_, _, stored)| stored.state_changed))
    }

    /// Account data of a room that last changed after `since`.
    pub(crate) fn room_account_data(
        &self,
        nid: RoomNid,
        since: Position,
    ) -> Option<Vec<(String, Bytes)>> {
        let polls = self.of_room(nid, since)?;
        Some(latest(polls.map(|(poll, update, _)| (poll.pos, &*update.account_data))))
    }

    /// Receipts of a room that last changed after `since`.
    pub(crate) fn receipts(&self, nid: RoomNid, since: Position) -> Option<Vec<StoredReceipt>> {
        let mut latest = BTreeMap::new();
        for (_, update, _) in self.of_room(nid, since)? {
            for told in &update.receipts {
                latest.insert((&*told.user_id, &*told.receipt_type, &*told.thread_id), told);
            }
        }
        let mut receipts: Vec<StoredReceipt> = latest
            .into_values()
            .map(|told| StoredReceipt {
                user_id: told.user_id.clone(),
                receipt_type: told.receipt_type.clone(),
                thread_id: told.thread_id.clone(),
                event_id: told.event_id.clone(),
                data: told.data.clone(),
            })
            .collect();
        receipts.sort_by(|one, other| place(one).cmp(&place(other)));
        // Which of two threads comes last, and is told, is for the database's collation to say.
        let is_undecided = |pair: &[StoredReceipt]| match pair {
            [one, other] => !other.thread_id.is_empty() && place(one).0 == place(other).0,
            _ => false,
        };
        (!receipts.windows(2).any(is_undecided)).then_some(receipts)
    }

    /// Global account data that changed in it: the whole events by type.
    pub(crate) fn global_account_data(&self) -> Vec<(String, Bytes)> {
        latest(self.polls.iter().map(|poll| (poll.pos, &*poll.poll.account_data)))
    }

    /// Presence that changed in it.
    pub(crate) fn presence(&self) -> Vec<StoredPresence> {
        let mut latest = BTreeMap::new();
        for poll in &self.polls {
            for told in &poll.poll.presence {
                latest.insert(&*told.user_id, (poll.pos, told));
            }
        }
        let mut latest: Vec<_> = latest.into_values().collect();
        latest.sort_by_key(|(pos, _)| *pos);
        let presence = latest.into_iter().map(|(_, told)| StoredPresence {
            user_id: told.user_id.clone(),
            event: told.event.clone(),
            last_active_ts: told.last_active_ts,
        });
        presence.collect()
    }

    /// `device_lists` over it; for each user the last verdict.
    pub(crate) fn device_list_changes(&self) -> DeviceListChanges {
        let mut has_left: BTreeMap<&str, bool> = BTreeMap::new();
        for poll in &self.polls {
            has_left.extend(poll.poll.device_lists_left.iter().map(|user| (&**user, true)));
            // As in the store, who is in both lists has not left.
            has_left.extend(poll.poll.device_lists_changed.iter().map(|user| (&**user, false)));
        }
        let mut changes = DeviceListChanges::default();
        for (user_id, left) in has_left {
            let list = if left { &mut changes.left } else { &mut changes.changed };
            list.push(user_id.to_owned());
        }
        changes
    }

    /// The polls after `since` that mention a room, oldest first; `None` if some of them may not be here.
    fn of_room(
        &self,
        nid: RoomNid,
        since: Position,
    ) -> Option<impl DoubleEndedIterator<Item = (&KeptPoll, &RoomUpdate, &StoredRoom)>> {
        let polls = self.polls.iter().filter(move |poll| poll.pos > since);
        let mentions = polls.filter_map(move |poll| {
            let (update, stored) = poll.room(nid)?;
            Some((&**poll, update, stored))
        });
        (since >= self.since).then_some(mentions)
    }
}

/// Where only the store knows.
struct OnlyTheStoreKnows;

/// The transaction ID that the asking device is told of an event, if it is told one. Of what the user sent, polls tell the device
/// that they are made for, and it alone.
fn transaction_id(
    poll: &KeptPoll,
    event: &store::Event,
    asker: Asker<'_>,
) -> Result<Option<String>, OnlyTheStoreKnows> {
    let polled = poll.poll.device.as_ref().map(|device| device.device_nid);
    match &event.transaction_id {
        Some(id) if polled == Some(asker.device_nid) => Ok(Some(id.clone())),
        _ if EventFields::read(&event.body).sender == asker.user_id => Err(OnlyTheStoreKnows),
        _ => Ok(None),
    }
}

/// Of each type the last, in the order of positions and then of types.
fn latest<'a>(told: impl Iterator<Item = (Position, &'a [AccountData])>) -> Vec<(String, Bytes)> {
    let mut latest = BTreeMap::new();
    for (pos, some) in told {
        for data in some {
            latest.insert(&*data.event_type, (pos, &data.event));
        }
    }
    let mut latest: Vec<_> = latest.into_iter().collect();
    latest.sort_by_key(|(_, (pos, _))| *pos);
    latest
        .into_iter()
        .map(|(event_type, (_, event))| (event_type.to_owned(), event.clone()))
        .collect()
}

/// Where a receipt stands among those of its room: by what is told of it, and of those that are told as one the unthreaded
/// last.
fn place(receipt: &StoredReceipt) -> ((&str, &str, &str), Reverse<&str>) {
    ((&receipt.event_id, &receipt.receipt_type, &receipt.user_id), Reverse(&receipt.thread_id))
}
