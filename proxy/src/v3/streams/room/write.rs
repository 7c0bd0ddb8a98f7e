//! What is told of one room: whether there is any news, and how it is written. Pure.

use store::Section;

use super::plan::Planned;
use crate::{
    filter::EventFilter,
    json::{ObjectWriter, write_list, write_string},
    room_json::{self, EventWriter, events},
    views::{Extent, RoomView},
};

/// What is told of a room beside the room itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    /// It comes anew.
    pub(super) initial: bool,
    /// The event from which on the client holds it.
    pub(super) state_before: Option<String>,
}

impl Planned {
    /// Whether there is anything to say of a room that does not come anew.
    pub(super) fn has_news(&self, room: &RoomView, filter: &EventFilter) -> bool {
        // Something is missing that the client may have wanted.
        let gap = room.timeline.limited && filter.timeline_limit() > 0 && filter.admits_anything();
        let left = self.wanted.head.section != Section::Join;
        left || gap
            || self.counted
            || self.wanted.tells_summary()
            || !room.timeline.events.is_empty()
            || !room.state.is_empty()
            || !room.account_data.is_empty()
            || !room.receipts.is_empty()
            || typing(room).is_some()
    }
}

/// Writes a room, without its key.
pub(super) fn room(writer: &EventWriter<'_>, about: &About, room: &RoomView, out: &mut Vec<u8>) {
    let head = &room.wanted.head;
    let mut object = ObjectWriter::new(out);
    if about.initial {
        object.raw("initial", b"true");
    }
    if about.initial || !room.state.is_empty() {
        let mut state = ObjectWriter::new(object.key("state"));
        writer.state(&room.state, state.key("events"));
        if let Some(event_id) = &about.state_before {
            write_string(event_id, state.key("state_before"));
        }
        state.end();
    }
    writer.timeline(&room.timeline, object.key("timeline"));
    if !room.account_data.is_empty() {
        events(object.key("account_data"), |out| {
            write_list(&room.account_data, out, |(_, event), out| out.extend_from_slice(event));
        });
    }
    if head.section == Section::Join {
        ephemeral(room, &mut object);
        room_json::unread(head, true, &mut object);
        if room.wanted.tells_summary() {
            let mut summary = ObjectWriter::new(object.key("summary"));
            room_json::summary(head, &mut summary);
            summary.end();
        }
    }
    object.end();
}

fn ephemeral(room: &RoomView, object: &mut ObjectWriter<'_>) {
    let typing = typing(room).map(room_json::typing);
    let receipts = (!room.receipts.is_empty()).then(|| room_json::receipts(&room.receipts));
    let edus: Vec<Vec<u8>> = typing.into_iter().chain(receipts).collect();
    if !edus.is_empty() {
        events(object.key("ephemeral"), |out| {
            write_list(&edus, out, |edu, out| out.extend_from_slice(edu));
        });
    }
}

/// Who types, if that is news: when it changed, or to a client that knows nothing when somebody does.
fn typing(room: &RoomView) -> Option<&[u8]> {
    let head = &room.wanted.head;
    let typing = head.typing.as_deref().filter(|_| head.section == Section::Join)?;
    let news = match room.wanted.extent {
        Extent::Since { since, .. } => head.typing_pos > since,
        Extent::Whole { .. } => typing.contains(&b'@'),
    };
    news.then_some(typing)
}

#[cfg(test)]
mod micro;
