//! One room of a sync reply: its parts as the store wants them, and what of them cannot be taken. Pure; what the room
//! was before is the store's to know.

use serde_json::value::RawValue;
use store::{Counts, Event, Receipt, RoomUpdate, Section, StateBlock, Summary};

use super::{Asked, account_data, bytes, event, is_key};
use crate::{
    json::{self, Object},
    sync_reply::events,
};

/// Pieces of a room that could not be taken, and why.
type Rejected<'a> = Vec<(event::Reason, &'a RawValue)>;

/// Reads a room; `None` when it is no object. What of it cannot be taken goes to `rejected`.
pub(super) fn parse<'a>(
    room_id: &str,
    section: Section,
    raw: &'a RawValue,
    asked: Asked<'_>,
    rejected: &mut Rejected<'a>,
) -> Option<RoomUpdate> {
    let room = Object::of(raw)?;
    let timeline = room.object("timeline");
    let timeline_events = events(room.get("timeline"));
    let (state_events, after) = state_events(&room);
    let own = OwnMember { user_id: asked.user_id };
    let limited = timeline
        .as_ref()
        .and_then(|timeline| timeline.get("limited"))
        .is_some_and(|raw| raw.get() == "true");
    // Before an unbroken timeline, state holds the membership of whoever speaks, as it was on the branch on which they
    // spoke: with it an old join of the user may be told again.
    let joins_anew = own
        .joins_anew(&timeline_events)
        .or_else(|| limited.then(|| own.joins_anew(&state_events)).flatten());
    let kicked = section == Section::Leave && own.is_kicked(&timeline_events, &state_events);

    let mut state = take_events(&state_events, asked.received_at, rejected);
    let shown = take_events(&timeline_events, asked.received_at, rejected);
    if after && section == Section::Leave {
        own.add_end(&shown, &mut state);
    }
    let mut update = RoomUpdate {
        room_id: room_id.to_owned(),
        section,
        limited,
        joins_anew,
        kicked,
        prev_batch: timeline
            .as_ref()
            .and_then(|timeline| timeline.get("prev_batch"))
            .and_then(json::text)
            .filter(|token| is_key(token))
            .map(std::borrow::Cow::into_owned),
        state: if after {
            StateBlock::AfterTimeline(state)
        } else {
            StateBlock::BeforeTimeline(state)
        },
        timeline: shown,
        typing: None,
        receipts: Vec::new(),
        account_data: Vec::new(),
        counts: (section == Section::Join).then(|| counts(&room)).flatten(),
        summary: room.object("summary").map(|raw| summary(&raw)).unwrap_or_default(),
        stripped_state: stripped_state(&room, section),
        recency: recency(section, &timeline_events, asked.received_at),
    };
    for raw in events(room.get("account_data")) {
        match account_data(raw) {
            Some(data) => update.account_data.push(data),
            None => rejected.push(("account data without a usable type", raw)),
        }
    }
    for raw in events(room.get("ephemeral")) {
        ephemeral(raw, &mut update, rejected);
    }
    Some(update)
}

/// The state that came with a room, and whether it is that after the timeline (MSC4222).
fn state_events<'a>(room: &Object<'a>) -> (Vec<&'a RawValue>, bool) {
    let after = room.get("state_after").or_else(|| room.get("org.matrix.msc4222.state_after"));
    match after {
        Some(after) => (events(Some(after)), true),
        None => (events(room.get("state")), false),
    }
}

fn take_events<'a>(
    raws: &[&'a RawValue],
    received_at: i64,
    rejected: &mut Rejected<'a>,
) -> Vec<Event> {
    let mut taken = Vec::with_capacity(raws.len());
    for raw in raws {
        match event::parse(raw, received_at) {
            Ok(event) => taken.push(event),
            Err(reason) => rejected.push((reason, raw)),
        }
    }
    taken
}

fn counts(room: &Object<'_>) -> Option<Counts> {
    let unread = room.object("unread_notifications")?;
    let count = |name| unread.get(name).and_then(json::integer).unwrap_or(0);
    let threads = room
        .get("unread_thread_notifications")
        .filter(|raw| Object::of(raw).is_some_and(|threads| !threads.0.is_empty()));
    Some(Counts {
        notification_count: count("notification_count"),
        highlight_count: count("highlight_count"),
        threads: threads.map(bytes),
    })
}

fn summary(raw: &Object<'_>) -> Summary {
    Summary {
        heroes: raw.get("m.heroes").filter(|heroes| heroes.get().starts_with('[')).map(bytes),
        joined_member_count: raw.get("m.joined_member_count").and_then(json::integer),
        invited_member_count: raw.get("m.invited_member_count").and_then(json::integer),
    }
}

/// When the room last stirred: no later than now, whatever the event's sender claims.
fn recency(section: Section, timeline: &[&RawValue], received_at: i64) -> Option<i64> {
    if matches!(section, Section::Invite | Section::Knock) {
        return Some(received_at);
    }
    let last = Object::of(timeline.last()?)?;
    let told = last.get("origin_server_ts").and_then(json::integer)?;
    Some(told.clamp(1, received_at.max(1)))
}

fn stripped_state(room: &Object<'_>, section: Section) -> Option<bytes::Bytes> {
    let name = match section {
        Section::Invite => "invite_state",
        Section::Knock => "knock_state",
        Section::Join | Section::Leave => return None,
    };
    let stripped = room.get(name).filter(|raw| Object::of(raw).is_some()).map(bytes);
    Some(stripped.unwrap_or_else(|| bytes::Bytes::from_static(b"{\"events\":[]}")))
}

fn ephemeral<'a>(raw: &'a RawValue, update: &mut RoomUpdate, rejected: &mut Rejected<'a>) {
    let event = Object::of(raw);
    let event_type = event.as_ref().and_then(|event| event.get("type")).and_then(json::text);
    let content = event.as_ref().and_then(|event| event.get("content"));
    match (event_type.as_deref(), content) {
        (Some("m.typing"), Some(content)) if Object::of(content).is_some() => {
            update.typing = Some(bytes(content));
        }
        (Some("m.receipt"), Some(content)) => match receipts(content) {
            Some(receipts) => update.receipts.extend(receipts),
            None => rejected.push(("receipts of an unknown shape", raw)),
        },
        (event_type, _) => {
            tracing::debug!(?event_type, "dropped an ephemeral event of an unknown kind");
        }
    }
}

/// Receipts as they stand in an `m.receipt`: by event, by type, by user. `None` if it is no such thing
/// at all; single receipts that cannot be kept are left out.
fn receipts(content: &RawValue) -> Option<Vec<Receipt>> {
    let mut receipts = Vec::new();
    for (event_id, by_type) in Object::of(content)?.members() {
        for (receipt_type, by_user) in Object::of(by_type).iter().flat_map(Object::members) {
            for (user_id, data) in Object::of(by_user).iter().flat_map(Object::members) {
                receipts.extend(receipt(&event_id, &receipt_type, &user_id, data));
            }
        }
    }
    Some(receipts)
}

fn receipt(event_id: &str, receipt_type: &str, user_id: &str, data: &RawValue) -> Option<Receipt> {
    let thread_id = Object::of(data)?.get("thread_id").and_then(json::text).unwrap_or_default();
    let key = [event_id, receipt_type, user_id, &thread_id];
    // Together they are a key of the database.
    if key.iter().any(|part| !is_key(part)) || key.concat().len() > 2_000 {
        return None;
    }
    Some(Receipt {
        user_id: user_id.to_owned(),
        receipt_type: receipt_type.to_owned(),
        thread_id: thread_id.into_owned(),
        event_id: event_id.to_owned(),
        data: bytes(data),
    })
}

/// The user's own membership, as the events of a room tell it.
struct OwnMember<'a> {
    user_id: &'a str,
}

impl OwnMember<'_> {
    fn is_own(&self, event: &Object<'_>) -> bool {
        let is = |name, expected| {
            event.get(name).and_then(json::text).is_some_and(|text| text == expected)
        };
        is("type", "m.room.member") && is("state_key", self.user_id)
    }

    /// The ID of the last join whose previous membership was another one.
    fn joins_anew(&self, raws: &[&RawValue]) -> Option<String> {
        raws.iter().rev().find_map(|raw| {
            let event = Object::of(raw).filter(|event| self.is_own(event))?;
            let joins = event
                .get("content")
                .and_then(Object::of)
                .and_then(|content| content.get("membership"))
                .and_then(json::text)
                .is_some_and(|membership| membership == "join");
            let id = event.get("event_id").and_then(json::text)?;
            (joins && event::joins_anew(raw)).then(|| id.into_owned())
        })
    }

    /// Adds the end of the membership to the state after the timeline of a room that was left: Synapse's is the
    /// state before that event.
    fn add_end(&self, timeline: &[Event], state: &mut Vec<Event>) {
        let is_own = |event: &&Event| {
            event.event_type == "m.room.member" && event.state_key.as_deref() == Some(self.user_id)
        };
        if let Some(end) = timeline.iter().rev().find(is_own) {
            state.retain(|event| !is_own(&event));
            state.push(end.clone());
        }
    }

    /// Whether somebody else sent the last member event of the user.
    fn is_kicked(&self, timeline: &[&RawValue], state: &[&RawValue]) -> bool {
        let last = timeline.iter().rev().chain(state).find_map(|raw| {
            let event = Object::of(raw).filter(|event| self.is_own(event))?;
            event.get("sender").and_then(json::text)
        });
        last.is_some_and(|sender| sender != self.user_id)
    }
}
