//! Writing a reply, in the shape of `docs/v3-api.md`. All that it writes was gathered before.

use store::{InboxSeq, StateEvent, TimelineEvent};

use super::{entry::Entry, params::Params};
use crate::{
    account::MemoryId,
    clock::now_ms,
    event_json::{Unsigned, write_event},
    json::{ObjectWriter, write_list, write_string},
    sync_token::SyncToken,
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
        let writer = Writer { view, now: now_ms() };
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
        let entry = |entry: &Entry, out: &mut Vec<u8>| writer.entry(entry, out);
        write_list(&self.rooms, object.key("rooms"), entry);
        let room_id = |room_id: &String, out: &mut Vec<u8>| write_string(room_id, out);
        write_list(&self.removed, object.key("removed"), room_id);
        write_list(&self.notifications, object.key("notifications"), entry);
        object.end();
        json
    }
}

struct Writer<'a> {
    view: &'a View<'a>,
    /// The moment that relative times count from.
    now: i64,
}

impl Writer<'_> {
    fn entry(&self, entry: &Entry, out: &mut Vec<u8>) {
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
            write_list(&entry.state, object.key("state_events"), state_event);
        }
        if let Some(timeline) = &entry.timeline {
            self.timeline(entry, timeline, &mut object);
        }
        object.end();
    }

    fn timeline(&self, entry: &Entry, timeline: &TimelineView, object: &mut ObjectWriter<'_>) {
        write_list(&timeline.events, object.key("timeline"), |(event, _), out| {
            self.event(event, out);
        });
        if timeline.limited {
            object.raw("limited", b"true");
        }
        if !(entry.initial || timeline.limited) {
            return;
        }
        let requester = self.view.requester;
        let token = match timeline.start {
            Some(place) => SyncToken::Before(place),
            // Nothing is shown: going back starts from the end.
            None => SyncToken::Batch {
                pos: entry.at,
                device: requester.device.device_nid,
                inbox: InboxSeq(0),
                members: MemoryId::default(),
            },
        };
        let prev_batch = token.mint(&self.view.state.tokens, requester.account.account_id);
        write_string(&prev_batch, object.key("prev_batch"));
    }

    fn event(&self, event: &TimelineEvent, out: &mut Vec<u8>) {
        let unsigned = Unsigned {
            stored: event.unsigned.as_deref(),
            age: event.age_ts.map(|age_ts| self.now.saturating_sub(age_ts).max(0)),
            transaction_id: event.transaction_id.as_deref(),
            redacted_because: event.redacted_because.as_deref(),
        };
        write_event(&event.body, unsigned, out);
    }
}

fn state_event(event: &StateEvent, out: &mut Vec<u8>) {
    let unsigned = Unsigned {
        stored: event.unsigned.as_deref(),
        redacted_because: event.redacted_because.as_deref(),
        ..Unsigned::default()
    };
    write_event(&event.body, unsigned, out);
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
