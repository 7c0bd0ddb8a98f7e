//! Writing a reply, in the shape of `docs/v3-api.md`. All that it writes was gathered before.

use super::{entry::Entry, params::Params};
use crate::{
    json::{ObjectWriter, write_list, write_string},
    room_json::EventWriter,
    v3::view::View,
    views::{TimelineView, facts::Hero},
};

/// What a reply says.
pub(super) struct Reply {
    /// The token of the next page.
    pub(super) next: Option<String>,
    /// The length of the list.
    pub(super) count: usize,
    /// Rooms of the list.
    pub(super) rooms: Vec<Entry>,
    /// IDs of rooms that are followed no more.
    pub(super) removed: Vec<String>,
    /// Rooms in which something notifies.
    pub(super) notifications: Vec<Entry>,
}

impl Reply {
    /// As JSON.
    pub(super) fn write(&self, view: &View<'_>, params: &Params) -> Vec<u8> {
        let mut json = Vec::new();
        let mut object = ObjectWriter::new(&mut json);
        let mut p = ObjectWriter::new(object.key("p"));
        p.raw("limit", params.limit.to_string().as_bytes());
        write_list(params.sort.names(), p.key("sort"), write_string);
        if let Some(next) = &self.next {
            write_string(next, p.key("next"));
        }
        p.end();
        object.raw("count", self.count.to_string().as_bytes());
        let entry = |entry: &Entry, out: &mut Vec<u8>| write_entry(view, entry, out);
        write_list(&self.rooms, object.key("rooms"), entry);
        let room_id = |room_id: &String, out: &mut Vec<u8>| write_string(room_id, out);
        write_list(&self.removed, object.key("removed"), room_id);
        write_list(&self.notifications, object.key("notifications"), entry);
        object.end();
        json
    }
}

fn write_entry(view: &View<'_>, entry: &Entry, out: &mut Vec<u8>) {
    let events = EventWriter::new(view.state, view.requester, entry.at);
    let mut object = ObjectWriter::new(out);
    write_string(&entry.head.room_id, object.key("room_id"));
    if entry.initial {
        object.raw("initial", b"true");
    }
    if entry.names {
        names(entry, &mut object);
    }
    object.raw("timestamp", entry.timestamp.to_string().as_bytes());
    let counts = [
        ("joined_count", entry.head.joined_member_count),
        ("invited_count", entry.head.invited_member_count),
        ("notification_count", Some(entry.unread.notifications)),
        ("highlight_count", Some(entry.unread.highlights)),
    ];
    for (key, count) in counts {
        // Of an invite the homeserver tells nothing.
        if let Some(count) = count {
            object.raw(key, count.to_string().as_bytes());
        }
    }
    object.raw("is_dm", if entry.is_dm { b"true" } else { b"false" });
    object.raw("tags", entry.facts.tags.as_deref().unwrap_or(b"{}"));
    if !entry.state.is_empty() {
        events.state(&entry.state, object.key("state_events"));
    }
    if let Some(told) = &entry.timeline {
        timeline(entry, told, &events, &mut object);
    }
    object.end();
}

fn timeline(
    entry: &Entry,
    timeline: &TimelineView,
    events: &EventWriter<'_>,
    object: &mut ObjectWriter<'_>,
) {
    events.timeline_events(timeline, object.key("timeline"));
    if timeline.limited {
        object.raw("limited", b"true");
    }
    if entry.initial || timeline.limited {
        write_string(&events.prev_batch(timeline), object.key("prev_batch"));
    }
}

/// What a list calls a room, and the faces that it shows for it.
fn names(entry: &Entry, object: &mut ObjectWriter<'_>) {
    write_string(&entry.facts.name, object.key("name"));
    optional(entry.facts.avatar_url.as_deref(), object.key("avatar_url"));
    if entry.facts.heroes.is_empty() {
        return;
    }
    write_list(&entry.facts.heroes, object.key("heroes"), |hero: &Hero, out: &mut Vec<u8>| {
        let mut member = ObjectWriter::new(out);
        write_string(&hero.user_id, member.key("user_id"));
        optional(hero.displayname.as_deref(), member.key("displayname"));
        optional(hero.avatar_url.as_deref(), member.key("avatar_url"));
        member.end();
    });
}

fn optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}
