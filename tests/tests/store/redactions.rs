//! Redactions: every stored body of an event, whoever was told of them in which order, and every copy.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::Value;
use store::{
    DeviceNid, Event, Place, Position, RedactionRules, RedactionScan, RoomUpdate, StateQuery,
    StateSelection, TimelineEvent, TimelineQuery,
};

use crate::database::Fresh;
use crate::polls::{Feed, member, message, redaction, room_with, room_with_state, state};

/// Rules of the tests' own: what JSON means is the caller's business.
pub(crate) const REDACTION_RULES: RedactionRules = RedactionRules {
    target: |_create, redaction| {
        let redaction: Value = serde_json::from_slice(redaction).ok()?;
        Some(redaction["redacts"].as_str()?.to_owned())
    },
    prune: |create, body| {
        let body: Value = serde_json::from_slice(body).ok()?;
        let version = create.map_or("unknown", |_| "known");
        Some(format!("pruned {} version {version}", body["event_id"]).into())
    },
    without_copies: |_unsigned, redacted: &HashSet<String>| {
        let mut redacted: Vec<&str> = redacted.iter().map(String::as_str).collect();
        redacted.sort_unstable();
        Some(format!("without {}", redacted.join(" ")).into())
    },
};

const ROOM: &str = "!r:x";

fn secret(event_id: &str) -> Event {
    Event {
        body: Bytes::from(format!(r#"{{"event_id":"{event_id}","body":"swordfish"}}"#)),
        ..message(event_id)
    }
}

/// The room's timeline as the account would be answered, oldest first.
async fn timeline(feed: &Feed) -> Vec<TimelineEvent> {
    let room_nid = feed.room_nid(ROOM).await;
    let before = Place::after(Position(1_000));
    let query = TimelineQuery { room_nid, after: Position(0), before };
    let mut found =
        feed.store.timelines(feed.account_id, DeviceNid(0), &[query], 99).await.unwrap();
    let mut events = found.remove(&room_nid).unwrap_or_default();
    events.reverse();
    events
}

#[track_caller]
fn is_pruned(event: &TimelineEvent, event_id: &str, by: &Event) {
    let body = String::from_utf8_lossy(&event.body);
    assert!(body.starts_with(&format!("pruned \"{event_id}\"")), "{body}");
    assert_eq!(event.redacted_because.as_deref(), Some(&*by.body));
}

async fn bodies_with_the_secret(fresh: &Fresh) -> i64 {
    let query = "SELECT COUNT(*) FROM event_bodies WHERE POSITION('swordfish'::BYTEA IN body) > 0";
    fresh.count(query).await
}

#[tokio::test]
async fn a76_a_redaction_prunes_what_is_stored_for_everybody() {
    let fresh = Fresh::database().await;
    let mut alice = Feed::of(&fresh.store, "@alice:x").await;
    let mut bob = Feed::of(&fresh.store, "@bob:x").await;
    let mut variant = secret("$1");
    variant.body = Bytes::from_static(br#"{"event_id":"$1","body":"swordfish","room_id":"!r:x"}"#);
    for (feed, told) in [(&mut alice, secret("$1")), (&mut bob, variant)] {
        feed.rooms(vec![room_with(ROOM, vec![told, message("$2")])]).await;
    }
    assert_eq!(bodies_with_the_secret(&fresh).await, 2);

    let why = redaction("$3", "$1");
    alice.rooms(vec![room_with(ROOM, vec![why.clone()])]).await;

    assert_eq!(bodies_with_the_secret(&fresh).await, 0);
    for feed in [&alice, &bob] {
        let events = timeline(feed).await;
        is_pruned(&events[0], "$1", &why);
        assert_eq!(events[1].body, message("$2").body, "nothing else is touched");
        assert!(events[1].redacted_because.is_none());
    }
    // Told again by the other's poll: nothing changes.
    bob.rooms(vec![room_with(ROOM, vec![why.clone()])]).await;
    is_pruned(&timeline(&bob).await[0], "$1", &why);
}

#[tokio::test]
async fn a76_a_poll_that_lags_behind_brings_nothing_back() {
    let fresh = Fresh::database().await;
    let mut alice = Feed::of(&fresh.store, "@alice:x").await;
    let mut bob = Feed::of(&fresh.store, "@bob:x").await;
    let why = redaction("$3", "$1");
    // The redaction comes first, for an event that nobody was told yet.
    alice.rooms(vec![room_with(ROOM, vec![why.clone()])]).await;
    let mut variant = secret("$1");
    variant.body = Bytes::from_static(br#"{"body":"swordfish","event_id":"$1"}"#);
    bob.rooms(vec![room_with(ROOM, vec![secret("$1")])]).await;
    alice.rooms(vec![room_with(ROOM, vec![variant, secret("$1")])]).await;

    assert_eq!(bodies_with_the_secret(&fresh).await, 0);
    is_pruned(&timeline(&bob).await[0], "$1", &why);
    is_pruned(&timeline(&alice).await[1], "$1", &why);
    is_pruned(&timeline(&alice).await[2], "$1", &why);
    // In one poll, in whichever order.
    bob.rooms(vec![room_with(ROOM, vec![secret("$7"), redaction("$8", "$7")])]).await;
    assert_eq!(bodies_with_the_secret(&fresh).await, 0);
}

#[tokio::test]
async fn a76_an_event_told_redacted_redacts_what_is_stored() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let create = state("$create", "m.room.create", "");
    feed.rooms(vec![room_with_state(ROOM, vec![create], vec![secret("$1")])]).await;

    let why = redaction("$3", "$1");
    let mut told = message("$1");
    told.redacted_because = Some(Box::new(why.clone()));
    feed.rooms(vec![room_with(ROOM, vec![told])]).await;

    assert_eq!(bodies_with_the_secret(&fresh).await, 0);
    for event in timeline(&feed).await {
        is_pruned(&event, "$1", &why);
        assert!(event.body.ends_with(b"version known"), "the room's create event is at hand");
    }
}

#[tokio::test]
async fn a76_a_redaction_that_is_redacted_loses_its_reason_everywhere() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let mut why = redaction("$3", "$1");
    why.body = Bytes::from_static(br#"{"event_id":"$3","redacts":"$1","reason":"swordfish"}"#);
    feed.rooms(vec![room_with(ROOM, vec![message("$1"), why])]).await;
    feed.rooms(vec![room_with(ROOM, vec![redaction("$4", "$3")])]).await;

    let events = timeline(&feed).await;
    let because = events[0].redacted_because.as_deref().unwrap();
    assert!(because.starts_with(b"pruned \"$3\""), "{}", String::from_utf8_lossy(because));
    assert_eq!(bodies_with_the_secret(&fresh).await, 0);
}

#[tokio::test]
async fn a76_a_redaction_reaches_no_other_room() {
    let fresh = Fresh::database().await;
    let mut alice = Feed::of(&fresh.store, "@alice:x").await;
    alice.rooms(vec![room_with(ROOM, vec![secret("$1")])]).await;
    alice.rooms(vec![room_with("!evil:x", vec![redaction("$3", "$1")])]).await;
    let events = timeline(&alice).await;
    assert_eq!((events[0].body.clone(), &events[0].redacted_because), (secret("$1").body, &None));
}

#[tokio::test]
async fn a76_state_is_pruned_in_the_head_and_in_its_undo() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let topic = Event { body: secret("$t1").body, ..state("$t1", "m.room.topic", "") };
    let bob = Event {
        body: secret("$bob").body,
        bare_unsigned: Some("{}".into()),
        unsigned: Some("with prev_content".into()),
        ..member("$bob", "@bob:x", "join")
    };
    let first = feed.rooms(vec![room_with_state(ROOM, vec![topic, bob], vec![])]).await;
    let later = state("$t2", "m.room.topic", "");
    let second = feed.rooms(vec![room_with(ROOM, vec![later])]).await;
    feed.rooms(vec![room_with(ROOM, vec![redaction("$r1", "$t1"), redaction("$r2", "$bob")])])
        .await;

    let room_nid = feed.room_nid(ROOM).await;
    let states = async |at: Position| {
        let query = StateQuery { room_nid, at: Place::after(at), since: None };
        let mut found =
            feed.store.states(feed.account_id, &[query], StateSelection::All).await.unwrap();
        found.remove(&room_nid).unwrap()
    };
    let state = states(first).await;
    assert_eq!(state.len(), 2);
    for event in state {
        assert!(event.body.starts_with(b"pruned"), "{event:?}");
        assert!(event.redacted_because.is_some());
        if event.event_type == "m.room.member" {
            assert_eq!(event.unsigned.as_deref(), Some(&b"{}"[..]), "the state carries no copies");
        }
    }
    let state = states(second).await;
    let topic = state.iter().find(|event| event.event_type == "m.room.topic").unwrap();
    assert!(topic.redacted_because.is_none(), "its successor is not redacted");

    let members = feed
        .store
        .members(feed.account_id, room_nid, Place::after(second), &["join"])
        .await
        .unwrap();
    assert_eq!((members[0].membership.as_str(), members[0].displayname.as_deref()), ("join", None));
    let bodies = feed.store.bodies(&[members[0].body_id]).await.unwrap();
    assert!(bodies[0].0.starts_with(b"pruned") && bodies[0].1.is_some());
    assert_eq!(bodies_with_the_secret(&fresh).await, 0);
}

#[tokio::test]
async fn a76_members_that_are_completed_are_pruned() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let pos = feed.rooms(vec![room_with(ROOM, vec![redaction("$r", "$bob")])]).await;
    let bob = Event { body: secret("$bob").body, ..member("$bob", "@bob:x", "join") };
    let room_nid = feed.room_nid(ROOM).await;
    feed.store.complete_members(feed.account_id, room_nid, pos, &[bob]).await.unwrap();
    assert_eq!(bodies_with_the_secret(&fresh).await, 0);
    let members =
        feed.store.members(feed.account_id, room_nid, Place::after(pos), &["join"]).await.unwrap();
    assert_eq!(members[0].displayname, None);
}

#[tokio::test]
async fn c6_copies_in_other_events_go() {
    let fresh = Fresh::database().await;
    let mut alice = Feed::of(&fresh.store, "@alice:x").await;
    let mut bob = Feed::of(&fresh.store, "@bob:x").await;
    let carrier = |event_id: &str| Event {
        unsigned: Some("swordfish".into()),
        copies: vec!["$1".to_owned(), "$2".to_owned()],
        ..message(event_id)
    };
    for feed in [&mut alice, &mut bob] {
        feed.rooms(vec![room_with(ROOM, vec![carrier("$5"), message("$6")])]).await;
    }
    alice.rooms(vec![room_with(ROOM, vec![redaction("$r", "$1"), carrier("$7")])]).await;

    let unsigneds = async |feed: &Feed| {
        timeline(feed).await.into_iter().map(|event| event.unsigned).collect::<Vec<_>>()
    };
    let gone = Some(Bytes::from_static(b"without $1"));
    assert_eq!(unsigneds(&alice).await, [gone.clone(), None, None, gone.clone()]);
    // What another account was told stays as it is, until it is told as well; what comes late does not.
    bob.rooms(vec![room_with(ROOM, vec![carrier("$8")])]).await;
    assert_eq!(unsigneds(&bob).await[2], gone);
    bob.rooms(vec![room_with(ROOM, vec![redaction("$r", "$1")])]).await;
    assert_eq!(unsigneds(&bob).await[0], gone);
}

#[tokio::test]
async fn c6_a_gap_is_looked_through_once() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let mut feed = Feed::of(store, "@alice:x").await;
    let topic = Event { body: secret("$t").body, ..state("$t", "m.room.topic", "") };
    let limited = |room_id: &str, events| RoomUpdate {
        limited: true,
        prev_batch: Some("p".to_owned()),
        ..room_with(room_id, events)
    };
    // What is told for the first time is told as it is.
    feed.rooms(vec![RoomUpdate {
        state: store::StateBlock::BeforeTimeline(vec![topic]),
        ..limited(ROOM, vec![])
    }])
    .await;
    assert!(store.redaction_scans(feed.account_id, 9).await.unwrap().is_empty());
    let until = feed.next().asked_since.unwrap();
    let pos = feed.rooms(vec![limited(ROOM, vec![message("$9")]), limited("!new:x", vec![])]).await;

    let room_nid = feed.room_nid(ROOM).await;
    let scan = RedactionScan { room_nid, room_id: ROOM.into(), pos, from: "p".into(), until };
    let pending = store.redaction_scans(feed.account_id, 9).await.unwrap();
    assert_eq!(pending, std::slice::from_ref(&scan));
    assert!(store.redaction_scans(feed.account_id, 0).await.unwrap().is_empty());

    for _ in 0..2 {
        let found = [redaction("$r", "$t")];
        store.finish_redaction_scan(feed.account_id, &scan, &found).await.unwrap();
        assert!(store.redaction_scans(feed.account_id, 9).await.unwrap().is_empty());
        assert_eq!(bodies_with_the_secret(&fresh).await, 0);
    }
    assert_eq!(timeline(&feed).await.len(), 1, "what is found in a gap is in no timeline");
}
