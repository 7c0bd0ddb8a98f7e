//! What planning the changes of a room costs.

use ::tests::micro::measure;
use divan::{Bencher, counter::ItemsCount};

use super::*;
use crate::Section;

fn member(number: i64) -> Event {
    Event {
        event_id: format!("${number}"),
        event_type: String::from(MEMBER),
        state_key: Some(format!("@user{number}:example.org")),
        body: Bytes::from_static(b"{}"),
        ..Event::default()
    }
}

fn head(members: i64) -> HashMap<StateKey, HeadEntry> {
    let entry = |number: i64| {
        let key = (String::from(MEMBER), format!("@user{number}:example.org"));
        (key, HeadEntry { body_id: BodyId(1_000_000 + number), unsigned: None })
    };
    (0..members).map(entry).collect()
}

/// So many members have changed.
#[divan::bench(args = [1, 1_000])]
fn changes_planned(bencher: Bencher<'_, '_>, members: i64) {
    let none = HashSet::new();
    let timeline: Vec<Event> = (0..members).map(member).collect();
    let room = RoomUpdate { timeline, ..RoomUpdate::empty(String::from("!r"), Section::Join) };
    let head = head(members);
    let expected = usize::try_from(members).expect("few");
    measure(bencher, ItemsCount::new(expected), expected, || {
        let mode = Mode::Delta { members_complete: true };
        let body_id = |event: &Event| event.event_id[1..].parse().map(BodyId);
        let plan = plan(&room, mode, head.clone(), &none, body_id).expect("numbers");
        plan.changes.len()
    });
}
