//! Words for putting polls together.

use bytes::Bytes;
use store::{
    AccountId, Counts, DeviceNid, DeviceUpdate, Error, Event, Ingested, LightPoll, Poll, Position,
    Receipt, RoomNid, RoomUpdate, Section, StateBlock, Store,
};

/// A message with this event ID.
pub(crate) fn message(event_id: &str) -> Event {
    Event {
        event_id: event_id.to_owned(),
        event_type: "m.room.message".to_owned(),
        state_key: None,
        body: Bytes::from(format!(r#"{{"event_id":"{event_id}"}}"#)),
        ..Event::default()
    }
}

/// A redaction of an event.
pub(crate) fn redaction(event_id: &str, redacts: &str) -> Event {
    Event {
        event_type: "m.room.redaction".to_owned(),
        body: Bytes::from(format!(r#"{{"event_id":"{event_id}","redacts":"{redacts}"}}"#)),
        ..message(event_id)
    }
}

/// A state event.
pub(crate) fn state(event_id: &str, event_type: &str, state_key: &str) -> Event {
    Event {
        event_type: event_type.to_owned(),
        state_key: Some(state_key.to_owned()),
        ..message(event_id)
    }
}

/// A member event.
pub(crate) fn member(event_id: &str, user_id: &str, membership: &str) -> Event {
    Event {
        membership: Some(membership.to_owned()),
        displayname: Some(format!("{user_id} in {event_id}")),
        ..state(event_id, "m.room.member", user_id)
    }
}

/// A room in section join of which the poll says nothing.
pub(crate) fn room(room_id: &str) -> RoomUpdate {
    RoomUpdate::empty(room_id.to_owned(), Section::Join)
}

/// A room in section join with a timeline.
pub(crate) fn room_with(room_id: &str, timeline: Vec<Event>) -> RoomUpdate {
    RoomUpdate { timeline, ..room(room_id) }
}

/// A room in section join with state before its timeline.
pub(crate) fn room_with_state(
    room_id: &str,
    state: Vec<Event>,
    timeline: Vec<Event>,
) -> RoomUpdate {
    RoomUpdate { state: StateBlock::BeforeTimeline(state), ..room_with(room_id, timeline) }
}

/// A receipt of a user.
pub(crate) fn receipt(user_id: &str, event_id: &str, thread_id: &str) -> Receipt {
    Receipt {
        user_id: user_id.to_owned(),
        receipt_type: "m.read".to_owned(),
        thread_id: thread_id.to_owned(),
        event_id: event_id.to_owned(),
        data: Bytes::from(format!(r#"{{"ts":1,"event":"{event_id}"}}"#)),
    }
}

/// Unread counts.
pub(crate) fn counts(notification_count: i64, highlight_count: i64) -> Counts {
    Counts { notification_count, highlight_count, threads: None }
}

/// To-device messages for a device, and nothing else.
pub(crate) fn to_device(device_nid: DeviceNid, messages: &[&str]) -> DeviceUpdate {
    DeviceUpdate {
        device_nid,
        to_device: messages.iter().map(|text| Bytes::from((*text).to_owned())).collect(),
        one_time_keys_count: None,
        unused_fallback_key_types: None,
    }
}

/// An account and where its polls stand: each poll is asked from where the last one ended.
pub(crate) struct Feed {
    pub(crate) store: Store,
    pub(crate) account_id: AccountId,
    /// When its polls are received.
    pub(crate) now: i64,
    since: Option<String>,
    polls: u32,
}

impl Feed {
    /// The feed of a new account.
    pub(crate) async fn of(store: &Store, user_id: &str) -> Self {
        let account = store.account(user_id).await.unwrap();
        let store = store.clone();
        Self {
            store,
            account_id: account.account_id,
            now: 0,
            since: account.upstream_since,
            polls: 0,
        }
    }

    /// The next poll, as yet empty.
    pub(crate) fn next(&self) -> Poll {
        Poll {
            asked_since: self.since.clone(),
            next_batch: format!("{}-{}", self.since.as_deref().unwrap_or("s"), self.polls + 1),
            received_at: self.now,
            ..Poll::default()
        }
    }

    /// Stores a poll that was made with [`Feed::next`].
    pub(crate) async fn store(&mut self, poll: &Poll) -> Result<Ingested, Error> {
        let ingested = self.store.ingest(self.account_id, poll).await?;
        self.since = Some(poll.next_batch.clone());
        self.polls += 1;
        Ok(ingested)
    }

    /// Stores a poll that brought these rooms, and gives its position.
    pub(crate) async fn rooms(&mut self, rooms: Vec<RoomUpdate>) -> Position {
        let poll = Poll { rooms, ..self.next() };
        self.store(&poll).await.unwrap().pos
    }

    /// The number of a room that a poll has brought.
    pub(crate) async fn room_nid(&self, room_id: &str) -> RoomNid {
        self.store.room_nid(room_id).await.unwrap().unwrap()
    }
}

/// A light poll with these messages.
pub(crate) fn light(
    asked_since: Option<&str>,
    next_batch: &str,
    device: DeviceUpdate,
) -> LightPoll {
    LightPoll {
        asked_since: asked_since.map(str::to_owned),
        next_batch: next_batch.to_owned(),
        received_at: 0,
        device,
    }
}
