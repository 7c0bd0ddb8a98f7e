//! What writing the events of an answer costs.

use ::tests::micro::measure;
use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use store::{Place, RoomNid, Section, TimelineEvent};

use super::*;
use crate::{
    ingest,
    views::{EventFields, Extent, RoomView, Wanted},
};

/// The events of a timeline, as ingest stores them.
fn stored(count: usize) -> Vec<store::Event> {
    let reply = ingest::micro::reply(1, count, 0);
    let asked = ingest::Asked {
        user_id: "@alice:example.org",
        device_nid: DeviceNid(1),
        since: None,
        received_at: 1_700_000_000_000,
    };
    let poll = ingest::main_poll(reply.as_bytes(), asked).expect("a reply");
    poll.rooms.into_iter().flat_map(|room| room.timeline).collect()
}

fn told(event: store::Event) -> (TimelineEvent, EventFields) {
    let event = TimelineEvent {
        place: Place { pos: Position(1), ord: 0 },
        body: event.body,
        age_ts: event.age_ts,
        unsigned: event.unsigned,
        redacted_because: None,
        transaction_id: None,
    };
    (event, EventFields::default())
}

fn state(event: store::Event) -> StateEvent {
    StateEvent {
        event_type: event.event_type,
        state_key: String::new(),
        body: event.body,
        unsigned: event.bare_unsigned,
        redacted_because: None,
    }
}

/// A timeline of so many events.
fn timeline(count: usize) -> TimelineView {
    TimelineView {
        events: stored(count).into_iter().map(told).collect(),
        limited: false,
        start: Some(Place { pos: Position(1), ord: 0 }),
        upstream_start: None,
    }
}

/// A joined room, whole, with 20 events and as many of its state.
pub(crate) fn room() -> RoomView {
    let head = RoomHead {
        room_nid: RoomNid(1),
        room_id: "!room:example.org".to_owned(),
        section: Section::Join,
        segment_pos: Position(1),
        segment_limited: false,
        members_complete: false,
        kicked: false,
        forgotten: false,
        notification_count: 3,
        highlight_count: 1,
        thread_counts: None,
        heroes: Some(Bytes::from_static(br#"["@bob1:example.org"]"#)),
        joined_member_count: Some(20),
        invited_member_count: Some(0),
        summary_pos: Position(1),
        stripped_state: None,
        typing: None,
        typing_pos: Position(0),
        recency: 1_699_999_999_000,
    };
    RoomView {
        wanted: Wanted { head, extent: Extent::Whole { since: None } },
        timeline: timeline(20),
        state: stored(20).into_iter().map(state).collect(),
        account_data: Vec::new(),
        receipts: Vec::new(),
    }
}

/// Writes for a device of no database.
pub(crate) fn writer(tokens: &Tokens) -> EventWriter<'_> {
    EventWriter {
        tokens,
        account_id: AccountId(1),
        device_nid: DeviceNid(1),
        pos: Position(1),
        now: 1_700_000_060_000,
        pdus: None,
        fields: None,
    }
}

/// Measures something that writes at least so much.
pub(crate) fn writes(bencher: Bencher<'_, '_>, at_least: usize, write: impl Fn(&mut Vec<u8>)) {
    let written = || {
        let mut out = Vec::with_capacity(64 * 1_024);
        write(&mut out);
        out.len()
    };
    let length = written();
    assert!(length > at_least, "{length}");
    measure(bencher, BytesCount::new(length), length, written);
}

#[divan::bench]
fn a_timeline_of_20_events(bencher: Bencher<'_, '_>) {
    let (tokens, timeline) = (Tokens::new(&[1; 32]), timeline(20));
    writes(bencher, 20 * 600, |out| writer(&tokens).timeline(&timeline, out));
}

#[divan::bench]
fn state_of_20_events(bencher: Bencher<'_, '_>) {
    let tokens = Tokens::new(&[1; 32]);
    let state: Vec<StateEvent> = stored(20).into_iter().map(state).collect();
    writes(bencher, 20 * 600, |out| writer(&tokens).state(&state, out));
}
