//! The state of rooms at any place: a few cases by hand, and many random ones against a naive model.
//!
//! [`world`] plays a homeserver with rooms in which things happen; [`model`] keeps, the naive way, a full copy of the state
//! after every step that the account was told. What the store reads back must agree with it everywhere since the last join.

mod model;
mod world;

use store::{
    AccountId, Place, Poll, Position, RoomNid, RoomUpdate, StateEvent, StateQuery, StateSelection,
};
use tests::random::seeds;

pub(crate) use self::world::World;
use crate::database::fresh_store;
use crate::polls::{Feed, member, message, room_with, room_with_state, state};

/// How many stories an ordinary run plays; `TEST_SEEDS=500` plays so many, `TEST_SEED=17` that one.
const SEEDS: u64 = 8;
/// How many polls a story has, and after how many the store is compared with the model.
const POLLS: usize = 60;
const CHECK_EVERY: usize = 12;

#[tokio::test]
async fn what_is_read_is_what_was_told() {
    let store = fresh_store().await;
    for seed in seeds(SEEDS) {
        let mut feed = Feed::of(&store, &format!("@me-{seed}:x")).await;
        let mut world = World::new(seed, &feed);
        for poll in 1..=POLLS {
            world.poll(&mut feed).await;
            world.complete_members_sometimes(&feed).await;
            if poll % CHECK_EVERY == 0 {
                world.agrees(&feed).await;
            }
        }
    }
}

/// The event IDs of a state, sorted.
fn ids(state: &[StateEvent]) -> Vec<String> {
    let mut ids: Vec<String> =
        state.iter().map(|event| String::from_utf8_lossy(&event.body).into_owned()).collect();
    ids.sort();
    ids.iter().map(|body| body.split('"').nth(3).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn rooms_are_read_each_at_its_own_place() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let first = feed
        .rooms(vec![
            room_with_state("!a:x", vec![state("$a1", "t", "")], vec![]),
            room_with_state("!b:x", vec![state("$b1", "t", "")], vec![]),
        ])
        .await;
    let second = feed
        .rooms(vec![
            room_with("!a:x", vec![state("$a2", "t", ""), message("$m"), state("$a3", "u", "")]),
            room_with("!b:x", vec![state("$b2", "t", "")]),
        ])
        .await;
    let (a, b) = (feed.room_nid("!a:x").await, feed.room_nid("!b:x").await);
    let at = |room_nid, at, since| StateQuery { room_nid, at, since };
    let read = async |queries: &[StateQuery]| {
        store.states(feed.account_id, queries, StateSelection::All).await.unwrap()
    };
    let now = Place::after(second);

    let full = read(&[at(a, Place { pos: second, ord: 1 }, None), at(b, now, None)]).await;
    assert_eq!((ids(&full[&a]), ids(&full[&b])), (vec!["$a2".into()], vec!["$b2".into()]));
    // Full and delta in one call.
    let mixed =
        read(&[at(a, now, Some(Place::after(first))), at(b, Place::after(first), None)]).await;
    assert_eq!(ids(&mixed[&a]), ["$a2", "$a3"]);
    assert_eq!(ids(&mixed[&b]), ["$b1"]);
    let nothing = read(&[at(a, now, Some(now)), at(RoomNid(42), now, None)]).await;
    assert!(nothing.is_empty());
    assert!(read(&[]).await.is_empty());
    let stranger = store.states(AccountId(42), &[at(a, now, None)], StateSelection::All).await;
    assert!(stranger.unwrap().is_empty());
}

#[tokio::test]
async fn members_can_be_left_out() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let events = vec![state("$1", "t", ""), member("$2", "@alice:x", "join")];
    let pos = feed.rooms(vec![room_with("!r:x", events)]).await;
    let room_nid = feed.room_nid("!r:x").await;
    for since in [None, Some(Place { pos, ord: 0 })] {
        let query = StateQuery { room_nid, at: Place::after(pos), since };
        for (selection, expected) in
            [(StateSelection::All, &["$1", "$2"][..]), (StateSelection::WithoutMembers, &["$1"])]
        {
            let states = store.states(feed.account_id, &[query], selection).await.unwrap();
            assert_eq!(ids(&states[&room_nid]), expected);
        }
    }
}

/// Upstream refused its own position: the full state comes again, members as far as they are not loaded lazily.
#[tokio::test]
async fn a_stream_that_begins_anew_replaces_the_head_and_keeps_its_past() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let alice = member("$alice", "@alice:x", "join");
    let before = vec![state("$1", "t", ""), state("$2", "u", ""), alice.clone()];
    let first = feed.rooms(vec![room_with_state("!r:x", before, vec![])]).await;
    let room_nid = feed.room_nid("!r:x").await;
    let bob = member("$bob", "@bob:x", "join");
    let all = [alice.clone(), bob];
    store.complete_members(feed.account_id, room_nid, first, &all).await.unwrap();

    store.forget_upstream_since(feed.account_id).await.unwrap();
    let now = vec![state("$3", "t", ""), state("$2", "u", ""), alice];
    let anew = Poll {
        asked_since: None,
        rooms: vec![RoomUpdate { limited: true, ..room_with_state("!r:x", now, vec![]) }],
        ..feed.next()
    };
    let second = feed.store(&anew).await.unwrap().pos;

    for (pos, expected) in
        [(first, &["$1", "$2", "$alice", "$bob"][..]), (second, &["$2", "$3", "$alice"])]
    {
        let query = StateQuery { room_nid, at: Place::after(pos), since: None };
        let states = store.states(feed.account_id, &[query], StateSelection::All).await.unwrap();
        assert_eq!(ids(&states[&room_nid]), expected);
    }
    let head = store.room_head(feed.account_id, room_nid).await.unwrap().unwrap();
    assert!(!head.members_complete);
    let (_, changed) = store.changed_rooms(feed.account_id, first).await.unwrap();
    assert!(changed[0].newly_joined && changed[0].cut == Some(second));
}

/// Upstream's state of another branch, before an unbroken timeline, does not set the head back.
#[tokio::test]
async fn what_was_superseded_is_not_set_again() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![room_with("!r:x", vec![state("$1", "t", "")])]).await;
    feed.rooms(vec![room_with("!r:x", vec![state("$2", "t", "")])]).await;
    let room_nid = feed.room_nid("!r:x").await;
    for (limited, expected) in [(false, "$2"), (true, "$1")] {
        let fork = room_with_state("!r:x", vec![state("$1", "t", "")], vec![message("$m")]);
        let pos = feed.rooms(vec![RoomUpdate { limited, ..fork }]).await;
        let query = StateQuery { room_nid, at: Place::after(pos), since: None };
        let states = store.states(feed.account_id, &[query], StateSelection::All).await.unwrap();
        assert_eq!(ids(&states[&room_nid]), [expected], "limited: {limited}");
    }
}

#[tokio::test]
async fn unsigned_is_read_as_it_was_told_at_the_place() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let told = |event_id: &str, unsigned: &'static str| {
        let mut event = state(event_id, "t", "");
        event.bare_unsigned = Some(unsigned.into());
        room_with("!r:x", vec![event])
    };
    feed.rooms(vec![told("$1", "one")]).await;
    feed.rooms(vec![told("$2", "two")]).await;
    let room_nid = feed.room_nid("!r:x").await;
    for (pos, expected) in [(1, "one"), (2, "two")] {
        let query = StateQuery { room_nid, at: Place::after(Position(pos)), since: None };
        let states = store.states(feed.account_id, &[query], StateSelection::All).await.unwrap();
        assert_eq!(states[&room_nid][0].unsigned.as_deref(), Some(expected.as_bytes()));
    }
}
