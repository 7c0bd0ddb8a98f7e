//! The size model of docs/operations.md, held against a database that was filled through the store.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{Event, Poll};
use tests::size_model::{BODY, documented, documented_growth};

use crate::database::Fresh;
use crate::polls::{Feed, member, message, receipt, room_with_state, state, to_device};

/// How far a documented number may be from what is measured, in percent.
const MARGIN: i64 = 25;

/// What a table has of itself, beside its empty indexes: the maps of its free space and of what is visible.
const MAPS: i64 = 4 * 8192;

const ACCOUNTS: i64 = 12;
const ROOMS: i64 = 40;
const MEMBERS: i64 = 12;
const POLLS: i64 = 30;

#[tokio::test]
async fn the_documented_sizes_are_those_of_a_database() {
    // What other tests' transactions on the same server still see could not be tidied away.
    let fresh = Fresh::on_a_server_of_its_own(&["autovacuum=off"]).await;
    let empty = measured(&fresh).await;
    for account in 0..ACCOUNTS {
        lives(&fresh, account).await;
    }
    fresh.sql().await.batch_execute("VACUUM ANALYZE").await.unwrap();
    let documented = documented();
    assert!(documented.len() >= 8, "{documented:?}");
    let measured = measured(&fresh).await;
    let mut faults = Vec::new();
    for (table, said) in &documented {
        let (bytes, rows) = measured[table];
        assert!(rows > 200, "{table} has {rows} rows: too few to measure");
        let row = (bytes - empty[table].0 - MAPS) / rows;
        if (row - said).abs() * 100 > said * MARGIN {
            faults.push(format!("{table}: {row} bytes a row, and the page says {said}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// One after the other, many more of each: what the whole database grows by, but for the bodies of the events, which are
/// there once for everybody.
#[tokio::test]
async fn the_documented_growth_is_that_of_the_whole_database() {
    const MORE: i64 = 500;
    const MORE_ROOMS: i64 = 200;
    const EVENTS: i64 = 50;
    let fresh = Fresh::on_a_server_of_its_own(&["autovacuum=off"]).await;
    // So that no table or index is so small that its first pages count.
    for account in 0..2 {
        lives(&fresh, account).await;
    }
    let mut grown: BTreeMap<&str, i64> = BTreeMap::new();
    let mut before = total(&fresh).await;
    for number in 0..MORE {
        let (store, user_id) = (&fresh.store, format!("@more-{number}:example.org"));
        let account = store.account(&user_id).await.unwrap().account_id;
        let device = store.device(account, "ABCDEFGHIJ").await.unwrap().device_nid;
        let hash: Vec<u8> = number.to_be_bytes().repeat(4);
        store.put_token(account, device, &hash, &[7; 70], 1).await.unwrap();
    }
    let after = total(&fresh).await;
    grown.insert("account", (after - before) / MORE);
    before = after;

    let mut feed = Feed::of(&fresh.store, "@more-0:example.org").await;
    for number in 0..EVENTS {
        let rooms = (0..MORE_ROOMS).map(|room| {
            let before = if number == 0 { room_state(room) } else { Vec::new() };
            told(room, number, before)
        });
        let rooms: Vec<_> = rooms.collect();
        feed.store(&Poll { next_batch: token(number), rooms, ..feed.next() }).await.unwrap();
    }
    let after = total(&fresh).await;
    grown.insert("room", (after - before) / MORE_ROOMS);
    before = after;

    for number in EVENTS..EVENTS + MORE {
        let rooms = vec![told(number % MORE_ROOMS, number, Vec::new())];
        feed.store(&Poll { next_batch: token(number), rooms, ..feed.next() }).await.unwrap();
    }
    grown.insert("event", (total(&fresh).await - before) / MORE);

    let documented = documented_growth();
    let known: Vec<&str> = documented.keys().map(String::as_str).collect();
    assert_eq!(known, ["account", "event", "room"]);
    for (what, said) in &documented {
        let bytes = grown[what.as_str()];
        let is_near = (bytes - said).abs() * 100 <= said * MARGIN;
        assert!(is_near, "one more {what}: {bytes} bytes, and the page says {said}: {grown:?}");
    }
}

/// What all tables take but for the bodies of events.
async fn total(fresh: &Fresh) -> i64 {
    fresh.sql().await.batch_execute("VACUUM ANALYZE").await.unwrap();
    let sizes = measured(fresh).await.into_iter();
    sizes.filter(|(table, _)| table != "event_bodies").map(|(_, (bytes, _))| bytes).sum()
}

/// A message in one of the rooms.
fn told(room: i64, number: i64, before: Vec<Event>) -> store::RoomUpdate {
    let timeline = vec![sized(message(&id("message", room, number)), BODY)];
    store::RoomUpdate {
        prev_batch: Some(format!("t{number}-123456789_757269739_3_23_1_1_1_1_0_1")),
        ..room_with_state(&format!("!abcdefghijklmnopqr{room}:example.org"), before, timeline)
    }
}

/// As long as the homeserver's tokens are.
fn token(number: i64) -> String {
    format!("s{number}_757269739_3_23_1_1_1_1_0_1")
}

/// Bytes and rows of each table.
async fn measured(fresh: &Fresh) -> BTreeMap<String, (i64, i64)> {
    let sizes = fresh.store.table_sizes().await.unwrap();
    sizes.into_iter().map(|size| (size.table, (size.bytes, size.rows))).collect()
}

/// An account whose rooms are everybody's, in which something happens with each poll.
async fn lives(fresh: &Fresh, account: i64) {
    let mut feed = Feed::of(&fresh.store, &format!("@user-{account}:example.org")).await;
    let phone = fresh.store.device(feed.account_id, "ABCDEFGHIJ").await.unwrap().device_nid;
    fresh.store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
    for number in 0..=POLLS {
        let rooms = (0..ROOMS).filter(|room| number == 0 || room % 4 == number % 4);
        let rooms = rooms.map(|room| {
            let before = if number == 0 { room_state(room) } else { Vec::new() };
            store::RoomUpdate {
                receipts: vec![receipt(
                    &format!("@member-{}:example.org", number % MEMBERS),
                    &id("message", room, number),
                    "",
                )],
                ..told(room, number, before)
            }
        });
        let key = format!("{{\"content\":\"{}\"}}", "k".repeat(1100));
        let poll = Poll {
            next_batch: token(number),
            rooms: rooms.collect(),
            device: Some(to_device(phone, &[&key])),
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
    }
}

fn room_state(room: i64) -> Vec<Event> {
    let types = ["m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.name"];
    let mut events: Vec<Event> = types
        .iter()
        .map(|event_type| sized(state(&id(event_type, room, 0), event_type, ""), BODY))
        .collect();
    for number in 0..MEMBERS {
        let user_id = format!("@member-{number}:example.org");
        events.push(sized(member(&id("member", room, number), &user_id, "join"), BODY));
    }
    events
}

/// As long as event IDs are.
fn id(what: &str, room: i64, number: i64) -> String {
    format!("${:x<43}", format!("{what}-{room}-{number}-"))
}

/// The event with a body of so many bytes, of text that cannot be squeezed.
fn sized(event: Event, bytes: i64) -> Event {
    let mut body = String::from_utf8(event.body.to_vec()).unwrap();
    body.truncate(body.len() - 1);
    body.push_str(",\"content\":\"");
    let mut random = tests::random::Random::seeded(body.len() as u64);
    while body.len() < usize::try_from(bytes).unwrap() - 2 {
        let letter = u32::try_from(random.between(97, 122)).unwrap();
        body.push(char::from_u32(letter).unwrap());
    }
    body.push_str("\"}");
    Event { body: Bytes::from(body), ..event }
}
