//! The parts of a room as both syncs write them: events, timeline, counts, summary, typing, receipts.
//!
//! It must not decide what is told, nor know either API: which parts a room has, and what they are called, is theirs.

use std::collections::BTreeMap;

use store::{AccountId, DeviceNid, InboxSeq, Position, RoomHead, StateEvent, StoredReceipt};

use crate::{
    account::MemoryId,
    auth::Requester,
    clock::now_ms,
    event_json::{Unsigned, write_event},
    federation::Pdus,
    filter::FieldPaths,
    json::{self, ObjectWriter, write_list},
    state::State,
    sync_token::SyncToken,
    token::Tokens,
    unread::Unread,
    views::TimelineView,
};

/// Writes the events of rooms for one device.
pub(crate) struct EventWriter<'a> {
    tokens: &'a Tokens,
    account_id: AccountId,
    device_nid: DeviceNid,
    /// The end of the stretch that the answer covers.
    pos: Position,
    /// The moment that relative times count from.
    now: i64,
    /// Events that are told in the format of federation.
    pdus: Option<&'a Pdus>,
    /// The fields of each event that are told; all of them without.
    fields: Option<&'a FieldPaths>,
}

impl<'a> EventWriter<'a> {
    /// For an answer that covers the stream up to `pos`.
    pub(crate) fn new(state: &'a State, requester: &Requester, pos: Position) -> Self {
        Self {
            tokens: &state.tokens,
            account_id: requester.account.account_id,
            device_nid: requester.device.device_nid,
            pos,
            now: now_ms(),
            pdus: None,
            fields: None,
        }
    }

    /// The same, with events in the format of federation.
    pub(crate) fn with_pdus(self, pdus: &'a Pdus) -> Self {
        Self { pdus: Some(pdus), ..self }
    }

    /// The same, with these fields of each event only.
    pub(crate) fn with_fields(self, fields: &'a FieldPaths) -> Self {
        Self { fields: (!fields.admit_everything()).then_some(fields), ..self }
    }

    /// The moment that relative times count from, in milliseconds.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Whose device it writes for.
    pub(crate) fn device_nid(&self) -> DeviceNid {
        self.device_nid
    }

    /// A token as the account's clients see it.
    pub(crate) fn mint(&self, token: SyncToken) -> String {
        token.mint(self.tokens, self.account_id)
    }

    /// Writes a timeline.
    pub(crate) fn timeline(&self, timeline: &TimelineView, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        self.timeline_events(timeline, object.key("events"));
        let limited: &[u8] = if timeline.limited { b"true" } else { b"false" };
        object.raw("limited", limited);
        json::write_string(&self.prev_batch(timeline), object.key("prev_batch"));
        object.end();
    }

    /// Writes the list of a timeline's events.
    pub(crate) fn timeline_events(&self, timeline: &TimelineView, out: &mut Vec<u8>) {
        write_list(&timeline.events, out, |(event, _), out| {
            let unsigned = Unsigned {
                stored: event.unsigned.as_deref(),
                age: event.age_ts.map(|age_ts| self.now.saturating_sub(age_ts).max(0)),
                transaction_id: event.transaction_id.as_deref(),
                redacted_because: event.redacted_because.as_deref(),
            };
            self.event(&event.body, unsigned, out);
        });
    }

    /// Writes the list of state events.
    pub(crate) fn state(&self, events: &[StateEvent], out: &mut Vec<u8>) {
        write_list(events, out, |event, out| {
            let unsigned = Unsigned {
                stored: event.unsigned.as_deref(),
                redacted_because: event.redacted_because.as_deref(),
                ..Unsigned::default()
            };
            self.event(&event.body, unsigned, out);
        });
    }

    /// The token from which `/messages` goes back from the start of a timeline.
    pub(crate) fn prev_batch(&self, timeline: &TimelineView) -> String {
        if let Some(theirs) = &timeline.upstream_start {
            return theirs.clone();
        }
        let token = match timeline.start {
            Some(place) => SyncToken::Before(place),
            // Nothing is shown: going back starts from the end.
            None => SyncToken::Batch {
                pos: self.pos,
                device: self.device_nid,
                inbox: InboxSeq(0),
                members: MemoryId::default(),
            },
        };
        self.mint(token)
    }

    fn event(&self, body: &[u8], unsigned: Unsigned<'_>, out: &mut Vec<u8>) {
        let write = |out: &mut Vec<u8>| match self.pdus.and_then(|pdus| pdus.event(body)) {
            Some(pdu) => out.extend_from_slice(pdu),
            None => write_event(body, unsigned, out),
        };
        let Some(fields) = self.fields else { return write(out) };
        let mut whole = Vec::with_capacity(body.len() + 128);
        write(&mut whole);
        fields.write(&whole, out);
    }
}

/// Writes `{"events": …}`.
pub(crate) fn events(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(br#"{"events":"#);
    write(out);
    out.push(b'}');
}

/// Writes `unread_notifications`, and with `apart` those of threads on their own, where there are any.
pub(crate) fn unread(head: &RoomHead, apart: bool, object: &mut ObjectWriter<'_>) {
    // Otherwise a client sees one number for the room and all of its threads.
    let counts = if apart { Unread::outside_threads(head) } else { Unread::with_threads(head) };
    let mut unread = ObjectWriter::new(object.key("unread_notifications"));
    unread.raw("notification_count", counts.notifications.to_string().as_bytes());
    unread.raw("highlight_count", counts.highlights.to_string().as_bytes());
    unread.end();
    if let (true, Some(raw)) = (apart, &head.thread_counts) {
        object.raw("unread_thread_notifications", raw);
    }
}

/// Writes what a room's summary says.
pub(crate) fn summary(head: &RoomHead, object: &mut ObjectWriter<'_>) {
    if let Some(heroes) = &head.heroes {
        object.raw("m.heroes", heroes);
    }
    if let Some(joined) = head.joined_member_count {
        object.raw("m.joined_member_count", joined.to_string().as_bytes());
    }
    if let Some(invited) = head.invited_member_count {
        object.raw("m.invited_member_count", invited.to_string().as_bytes());
    }
}

/// The `m.typing` with this content.
pub(crate) fn typing(content: &[u8]) -> Vec<u8> {
    let mut edu = br#"{"type":"m.typing","content":"#.to_vec();
    edu.extend_from_slice(content);
    edu.push(b'}');
    edu
}

/// One `m.receipt` for all receipts of a room. Of a threaded and an unthreaded one in the same place
/// the unthreaded wins (MSC4102): the store gives it last.
pub(crate) fn receipts(receipts: &[StoredReceipt]) -> Vec<u8> {
    type ByUser<'a> = BTreeMap<&'a str, &'a [u8]>;
    let mut by_event: BTreeMap<&str, BTreeMap<&str, ByUser<'_>>> = BTreeMap::new();
    for receipt in receipts {
        by_event
            .entry(&receipt.event_id)
            .or_default()
            .entry(&receipt.receipt_type)
            .or_default()
            .insert(&receipt.user_id, &receipt.data);
    }
    let mut edu = br#"{"type":"m.receipt","content":"#.to_vec();
    let mut events = ObjectWriter::new(&mut edu);
    for (event_id, by_type) in by_event {
        let mut types = ObjectWriter::new(events.key(event_id));
        for (receipt_type, by_user) in by_type {
            let mut users = ObjectWriter::new(types.key(receipt_type));
            for (user_id, data) in by_user {
                users.raw(user_id, data);
            }
            users.end();
        }
        types.end();
    }
    events.end();
    edu.push(b'}');
    edu
}

#[cfg(test)]
pub(crate) mod micro;
