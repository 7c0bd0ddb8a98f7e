//! Writing an answer, in the shape of the specification; where it leaves a choice, in Synapse's.
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync_response-200>
//!
//! It must not decide what is told, nor ask anybody: all that it writes was gathered before.

use std::collections::BTreeMap;

use store::{InboxSeq, Position, RoomHead, Section, StoredReceipt};

use crate::{
    account::MemoryId,
    auth::Requester,
    clock::now_ms,
    event_json::{Unsigned, write_event, write_presence},
    json::{self, ObjectWriter, write_list},
    state::State,
    sync_token::SyncToken,
    views::RoomView,
};

use super::{
    answer::{Top, Wishes, shows_typing},
    federation::Pdus,
};

/// Who an answer is for, and how.
pub(super) struct Writer<'a> {
    state: &'a State,
    requester: &'a Requester,
    wishes: &'a Wishes,
    /// The end of the stretch that the answer covers.
    pos: Position,
    /// The moment that relative times count from.
    now: i64,
    /// Events that are told in the format of federation.
    pdus: Option<&'a Pdus>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        state: &'a State,
        requester: &'a Requester,
        wishes: &'a Wishes,
        pos: Position,
    ) -> Self {
        Self { state, requester, wishes, pos, now: now_ms(), pdus: None }
    }

    /// The same, with events in the format of federation.
    pub(super) fn with_pdus(self, pdus: &'a Pdus) -> Self {
        Self { pdus: Some(pdus), ..self }
    }

    /// Writes the members of everything but the rooms. `members` names what the client will know of members
    /// when it has the answer.
    pub(super) fn top(&self, top: &Top, members: MemoryId, object: &mut ObjectWriter<'_>) {
        let next_batch = SyncToken::Batch {
            pos: top.pos,
            device: self.requester.device.device_nid,
            inbox: top.inbox_seq,
            members,
        };
        let tokens = &self.state.tokens;
        let next_batch = next_batch.mint(tokens, self.requester.account.account_id);
        json::write_string(&next_batch, object.key("next_batch"));
        if !top.account_data.is_empty() {
            let out = object.key("account_data");
            events(out, |out| {
                write_list(&top.account_data, out, |event, out| out.extend_from_slice(event));
            });
        }
        if !top.presence.is_empty() {
            let out = object.key("presence");
            events(out, |out| {
                write_list(&top.presence, out, |presence, out| {
                    write_presence(&presence.event, presence.last_active_ts, self.now, out);
                });
            });
        }
        if !top.inbox.messages.is_empty() {
            let out = object.key("to_device");
            events(out, |out| {
                write_list(&top.inbox.messages, out, |message, out| {
                    out.extend_from_slice(&message.message);
                });
            });
        }
        if let Some(lists) = &top.device_lists
            && !(lists.changed.is_empty() && lists.left.is_empty())
        {
            let mut object = ObjectWriter::new(object.key("device_lists"));
            let user = |user: &String, out: &mut Vec<u8>| json::write_string(user, out);
            write_list(&lists.changed, object.key("changed"), user);
            write_list(&lists.left, object.key("left"), user);
            object.end();
        }
        object.raw("device_one_time_keys_count", &top.key_counts.one_time_keys_count);
        object.raw("device_unused_fallback_key_types", &top.key_counts.unused_fallback_key_types);
    }

    /// Writes one room, without its key.
    pub(super) fn room(&self, view: &RoomView, out: &mut Vec<u8>) {
        match view.wanted.head.section {
            Section::Join => self.joined(view, out),
            Section::Leave => {
                let mut object = ObjectWriter::new(out);
                self.timeline(view, object.key("timeline"));
                self.state(view, object.key(self.wishes.state_form.key()));
                self.account_data(view, object.key("account_data"));
                object.end();
            }
            section @ (Section::Invite | Section::Knock) => {
                let name = if section == Section::Invite { "invite_state" } else { "knock_state" };
                let stripped = view.wanted.head.stripped_state.as_deref();
                let mut object = ObjectWriter::new(out);
                object.raw(name, stripped.unwrap_or(br#"{"events":[]}"#));
                object.end();
            }
        }
    }

    fn joined(&self, view: &RoomView, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        self.timeline(view, object.key("timeline"));
        self.state(view, object.key(self.wishes.state_form.key()));
        self.account_data(view, object.key("account_data"));
        self.ephemeral(view, object.key("ephemeral"));
        self.counts(&view.wanted.head, &mut object);
        self.summary(view, object.key("summary"));
        object.end();
    }

    fn timeline(&self, view: &RoomView, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        write_list(&view.timeline.events, object.key("events"), |(event, _), out| {
            let unsigned = Unsigned {
                stored: event.unsigned.as_deref(),
                age: event.age_ts.map(|age_ts| self.now.saturating_sub(age_ts).max(0)),
                transaction_id: event.transaction_id.as_deref(),
                redacted_because: event.redacted_because.as_deref(),
            };
            self.event(&event.body, unsigned, out);
        });
        let limited: &[u8] = if view.timeline.limited { b"true" } else { b"false" };
        object.raw("limited", limited);
        let account_id = self.requester.account.account_id;
        let ours = || {
            match view.timeline.start {
                Some(place) => SyncToken::Before(place),
                // Nothing is shown: going back starts from the end.
                None => SyncToken::Batch {
                    pos: self.pos,
                    device: self.requester.device.device_nid,
                    inbox: InboxSeq(0),
                    members: MemoryId::default(),
                },
            }
            .mint(&self.state.tokens, account_id)
        };
        let prev_batch = view.timeline.upstream_start.clone().unwrap_or_else(ours);
        json::write_string(&prev_batch, object.key("prev_batch"));
        object.end();
    }

    fn state(&self, view: &RoomView, out: &mut Vec<u8>) {
        events(out, |out| {
            write_list(&view.state, out, |event, out| {
                let unsigned = Unsigned {
                    stored: event.unsigned.as_deref(),
                    redacted_because: event.redacted_because.as_deref(),
                    ..Unsigned::default()
                };
                self.event(&event.body, unsigned, out);
            });
        });
    }

    /// Writes an event of a room in the format that the filter asks for, or those fields of it.
    fn event(&self, body: &[u8], unsigned: Unsigned<'_>, out: &mut Vec<u8>) {
        let fields = &self.wishes.filter.event_fields;
        let write = |out: &mut Vec<u8>| match self.pdus.and_then(|pdus| pdus.event(body)) {
            Some(pdu) => out.extend_from_slice(pdu),
            None => write_event(body, unsigned, out),
        };
        if fields.admit_everything() {
            return write(out);
        }
        let mut whole = Vec::with_capacity(body.len() + 128);
        write(&mut whole);
        fields.write(&whole, out);
    }

    fn account_data(&self, view: &RoomView, out: &mut Vec<u8>) {
        let filter = &self.wishes.filter.room.account_data;
        let admits_room = filter.admits_room(&view.wanted.head.room_id);
        let wanted = view
            .account_data
            .iter()
            .filter(|(event_type, _)| admits_room && filter.admits_without_sender(event_type));
        events(out, |out| write_list(wanted, out, |(_, event), out| out.extend_from_slice(event)));
    }

    fn ephemeral(&self, view: &RoomView, out: &mut Vec<u8>) {
        let mut edus = Vec::new();
        if let (true, Some(typing)) =
            (shows_typing(view, &self.wishes.filter), &view.wanted.head.typing)
        {
            let mut edu = br#"{"type":"m.typing","content":"#.to_vec();
            edu.extend_from_slice(typing);
            edu.push(b'}');
            edus.push(edu);
        }
        let admits_room = self.wishes.filter.room.ephemeral.admits_room(&view.wanted.head.room_id);
        if admits_room && !view.receipts.is_empty() {
            edus.push(receipts(&view.receipts));
        }
        events(out, |out| write_list(edus, out, |edu, out| out.extend_from_slice(&edu)));
    }

    fn counts(&self, head: &RoomHead, object: &mut ObjectWriter<'_>) {
        let threads = thread_counts(head);
        let apart = self.wishes.filter.room.timeline.unread_thread_notifications;
        // Without the flag a client sees one number for the room and all of its threads.
        let (mut notifications, mut highlights) = (head.notification_count, head.highlight_count);
        if !apart {
            notifications += threads.values().map(|counts| counts.notification_count).sum::<i64>();
            highlights += threads.values().map(|counts| counts.highlight_count).sum::<i64>();
        }
        let mut unread = ObjectWriter::new(object.key("unread_notifications"));
        unread.raw("notification_count", notifications.to_string().as_bytes());
        unread.raw("highlight_count", highlights.to_string().as_bytes());
        unread.end();
        if let (true, Some(raw)) = (apart, &head.thread_counts) {
            object.raw("unread_thread_notifications", raw);
        }
    }

    fn summary(&self, view: &RoomView, out: &mut Vec<u8>) {
        let head = &view.wanted.head;
        let mut object = ObjectWriter::new(out);
        if self.wishes.filter.room.state.lazy_load_members && view.wanted.tells_summary() {
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
        object.end();
    }
}

/// Writes `{"events": …}`.
fn events(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(br#"{"events":"#);
    write(out);
    out.push(b'}');
}

#[derive(serde::Deserialize)]
struct ThreadCounts {
    #[serde(default)]
    notification_count: i64,
    #[serde(default)]
    highlight_count: i64,
}

fn thread_counts(head: &RoomHead) -> BTreeMap<String, ThreadCounts> {
    let raw = head.thread_counts.as_deref();
    raw.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default()
}

/// One `m.receipt` for all receipts of a room. Of a threaded and an unthreaded one in the same place
/// the unthreaded wins (MSC4102): the store gives it last.
fn receipts(receipts: &[StoredReceipt]) -> Vec<u8> {
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
