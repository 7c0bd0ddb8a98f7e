//! Writing an answer, in the shape of the specification; where it leaves a choice, in Synapse's.
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync_response-200>
//!
//! It must not decide what is told, nor ask anybody: all that it writes was gathered before.

use store::{Position, Section};

use crate::{
    account::MemoryId,
    auth::Requester,
    event_json::write_presence,
    federation::Pdus,
    json::{self, ObjectWriter, write_list},
    room_json::{self, EventWriter, events},
    state::State,
    sync_token::SyncToken,
    views::RoomView,
};

use super::answer::{Top, Wishes, shows_typing};

/// Who an answer is for, and how.
pub(super) struct Writer<'a> {
    wishes: &'a Wishes,
    events: EventWriter<'a>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        state: &'a State,
        requester: &'a Requester,
        wishes: &'a Wishes,
        pos: Position,
    ) -> Self {
        let events = EventWriter::new(state, requester, pos);
        let events = events.with_fields(&wishes.filter.event_fields);
        Self { wishes, events }
    }

    /// The same, with events in the format of federation.
    pub(super) fn with_pdus(self, pdus: &'a Pdus) -> Self {
        Self { events: self.events.with_pdus(pdus), ..self }
    }

    /// Writes the members of everything but the rooms. `members` names what the client will know of members
    /// when it has the answer.
    pub(super) fn top(&self, top: &Top, members: MemoryId, object: &mut ObjectWriter<'_>) {
        let next_batch = SyncToken::Batch {
            pos: top.pos,
            device: self.events.device_nid(),
            inbox: top.inbox_seq,
            members,
        };
        json::write_string(&self.events.mint(next_batch), object.key("next_batch"));
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
                    write_presence(
                        &presence.event,
                        presence.last_active_ts,
                        self.events.now(),
                        out,
                    );
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
                self.events.timeline(&view.timeline, object.key("timeline"));
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
        self.events.timeline(&view.timeline, object.key("timeline"));
        self.state(view, object.key(self.wishes.state_form.key()));
        self.account_data(view, object.key("account_data"));
        self.ephemeral(view, object.key("ephemeral"));
        let apart = self.wishes.filter.room.timeline.unread_thread_notifications;
        room_json::unread(&view.wanted.head, apart, &mut object);
        self.summary(view, object.key("summary"));
        object.end();
    }

    fn state(&self, view: &RoomView, out: &mut Vec<u8>) {
        events(out, |out| self.events.state(&view.state, out));
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
            edus.push(room_json::typing(typing));
        }
        let admits_room = self.wishes.filter.room.ephemeral.admits_room(&view.wanted.head.room_id);
        if admits_room && !view.receipts.is_empty() {
            edus.push(room_json::receipts(&view.receipts));
        }
        events(out, |out| write_list(edus, out, |edu, out| out.extend_from_slice(&edu)));
    }

    fn summary(&self, view: &RoomView, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        if self.wishes.filter.room.state.lazy_load_members && view.wanted.tells_summary() {
            room_json::summary(&view.wanted.head, &mut object);
        }
        object.end();
    }
}

#[cfg(test)]
mod micro;
