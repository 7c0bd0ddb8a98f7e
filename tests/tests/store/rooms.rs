//! Where the rooms of an account stand, and which of them a stretch of the stream mentioned.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{AccountId, Position, RoomNid, RoomUpdate, Section, Summary};

use crate::database::{Fresh, fresh_store};
use crate::polls::{Feed, counts, member, message, room, room_with, room_with_state};

const ALL: [Section; 4] = [Section::Join, Section::Invite, Section::Knock, Section::Leave];

#[tokio::test]
async fn roundtrip_room_head() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let pos = feed
        .rooms(vec![RoomUpdate {
            limited: true,
            typing: Some(Bytes::from_static(b"{\"user_ids\":[\"@bob:x\"]}")),
            counts: Some(store::Counts {
                threads: Some(Bytes::from_static(b"{\"$t\":{}}")),
                ..counts(3, 1)
            }),
            summary: Summary {
                heroes: Some(Bytes::from_static(b"[\"@bob:x\"]")),
                joined_member_count: Some(2),
                invited_member_count: Some(1),
            },
            ..room("!r:x")
        }])
        .await;
    let nid = feed.room_nid("!r:x").await;
    let head = store.room_head(feed.account_id, nid).await.unwrap().unwrap();
    assert_eq!((head.room_nid, head.room_id.as_str()), (nid, "!r:x"));
    assert_eq!(head.section, Section::Join);
    assert_eq!((head.segment_pos, head.segment_limited), (pos, true));
    assert!(!head.members_complete && !head.kicked && !head.forgotten);
    assert_eq!((head.notification_count, head.highlight_count), (3, 1));
    assert_eq!(head.thread_counts.as_deref(), Some(&b"{\"$t\":{}}"[..]));
    assert_eq!(head.heroes.as_deref(), Some(&b"[\"@bob:x\"]"[..]));
    assert_eq!((head.joined_member_count, head.invited_member_count), (Some(2), Some(1)));
    assert_eq!((head.summary_pos, head.typing_pos), (pos, pos));
    assert_eq!(head.typing.as_deref(), Some(&b"{\"user_ids\":[\"@bob:x\"]}"[..]));
    assert_eq!(head.stripped_state, None);
}

#[tokio::test]
async fn room_not_found() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    assert_eq!(store.room_nid("!r:x").await.unwrap(), None);
    assert!(store.room_head(feed.account_id, RoomNid(42)).await.unwrap().is_none());
    assert!(store.rooms_in(feed.account_id, &ALL).await.unwrap().is_empty());
    feed.rooms(vec![room("!r:x")]).await;
    // That a room is known says nothing about who may see it.
    let bob = store.account("@bob:x").await.unwrap().account_id;
    let nid = feed.room_nid("!r:x").await;
    assert!(store.room_head(bob, nid).await.unwrap().is_none());
    let asked = [RoomNid(42), nid, nid];
    let heads = store.room_heads(feed.account_id, &asked).await.unwrap();
    assert_eq!(heads.iter().map(|head| head.room_nid).collect::<Vec<_>>(), [nid]);
    assert!(store.room_heads(bob, &asked).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_room_has_one_number_for_everybody() {
    let store = fresh_store().await;
    let mut alice = Feed::of(&store, "@alice:x").await;
    alice.rooms(vec![room("!a:x"), room("!b:x")]).await;
    let mut bob = Feed::of(&store, "@bob:x").await;
    bob.rooms(vec![room("!c:x"), room("!b:x")]).await;
    let numbers = [bob.room_nid("!a:x").await, bob.room_nid("!b:x").await];
    assert_eq!(numbers, [alice.room_nid("!a:x").await, alice.room_nid("!b:x").await]);
    assert_ne!(numbers[0], numbers[1]);
}

#[tokio::test]
async fn what_a_poll_does_not_mention_stays() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let summary = Summary { joined_member_count: Some(2), ..Summary::default() };
    let told = RoomUpdate {
        counts: Some(counts(3, 1)),
        summary,
        typing: Some(Bytes::from_static(b"{}")),
        ..room("!r:x")
    };
    let first = feed.rooms(vec![told]).await;
    feed.rooms(vec![room_with("!r:x", vec![message("$1")])]).await;
    let nid = feed.room_nid("!r:x").await;
    let head = store.room_head(feed.account_id, nid).await.unwrap().unwrap();
    assert_eq!((head.notification_count, head.joined_member_count), (3, Some(2)));
    assert_eq!((head.summary_pos, head.typing_pos, head.segment_pos), (first, first, first));

    let read = RoomUpdate { counts: Some(counts(0, 0)), ..room("!r:x") };
    feed.rooms(vec![read]).await;
    let head = store.room_head(feed.account_id, nid).await.unwrap().unwrap();
    assert_eq!((head.notification_count, head.highlight_count), (0, 0));
}

#[tokio::test]
async fn rooms_are_listed_by_section() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let in_section = |room_id, section| RoomUpdate { section, ..room(room_id) };
    feed.rooms(vec![
        in_section("!joined:x", Section::Join),
        in_section("!invited:x", Section::Invite),
        in_section("!knocked:x", Section::Knock),
        in_section("!left:x", Section::Leave),
    ])
    .await;
    for (sections, expected) in [
        (&[Section::Join][..], &["!joined:x"][..]),
        (&[Section::Invite, Section::Leave], &["!invited:x", "!left:x"]),
        (&ALL, &["!joined:x", "!invited:x", "!knocked:x", "!left:x"]),
        (&[], &[]),
    ] {
        let heads = store.rooms_in(feed.account_id, sections).await.unwrap();
        let mut listed: Vec<&str> = heads.iter().map(|head| head.room_id.as_str()).collect();
        let mut expected = expected.to_vec();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{sections:?}");
    }
    let joined = store.joined_rooms(feed.account_id).await.unwrap();
    assert_eq!(joined, [(feed.room_nid("!joined:x").await, "!joined:x".to_owned())]);
}

#[tokio::test]
async fn an_invite_is_kept_until_it_is_answered() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let stripped_state = Some(Bytes::from_static(b"{\"events\":[]}"));
    let invite = RoomUpdate {
        section: Section::Invite,
        stripped_state: stripped_state.clone(),
        ..room("!r:x")
    };
    feed.rooms(vec![invite]).await;
    let nid = feed.room_nid("!r:x").await;
    let head = store.room_head(feed.account_id, nid).await.unwrap().unwrap();
    assert_eq!((head.section, head.stripped_state), (Section::Invite, stripped_state));
    let pos = feed.rooms(vec![room("!r:x")]).await;
    let head = store.room_head(feed.account_id, nid).await.unwrap().unwrap();
    assert_eq!((head.section, head.stripped_state), (Section::Join, None));
    assert_eq!(head.segment_pos, pos);
}

#[tokio::test]
async fn a_kick_is_told_from_a_leave_and_nobody_types_afterwards() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let typing = Some(Bytes::from_static(b"{\"user_ids\":[\"@bob:x\"]}"));
    feed.rooms(vec![RoomUpdate { typing, ..room("!r:x") }]).await;
    let kick = RoomUpdate { section: Section::Leave, kicked: true, ..room("!r:x") };
    let pos = feed.rooms(vec![kick]).await;
    let nid = feed.room_nid("!r:x").await;
    let head = store.room_head(feed.account_id, nid).await.unwrap().unwrap();
    assert!(head.kicked);
    assert_eq!(head.typing.as_deref(), Some(&b"{\"user_ids\":[]}"[..]));
    assert_eq!(head.typing_pos, pos);
}

#[tokio::test]
async fn only_a_left_room_can_be_forgotten_and_joining_remembers_it() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![room("!r:x")]).await;
    let nid = feed.room_nid("!r:x").await;
    store.forget_room(feed.account_id, nid).await.unwrap();
    assert!(!store.room_head(feed.account_id, nid).await.unwrap().unwrap().forgotten);
    feed.rooms(vec![RoomUpdate { section: Section::Leave, ..room("!r:x") }]).await;
    for _ in 0..2 {
        store.forget_room(feed.account_id, nid).await.unwrap();
        assert!(store.room_head(feed.account_id, nid).await.unwrap().unwrap().forgotten);
    }
    feed.rooms(vec![room("!r:x")]).await;
    assert!(!store.room_head(feed.account_id, nid).await.unwrap().unwrap().forgotten);
}

#[tokio::test]
async fn changed_rooms_are_those_that_later_polls_mention() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    assert_eq!(store.changed_rooms(feed.account_id, Position(0)).await.unwrap().0, Position(0));
    let first = feed.rooms(vec![room("!a:x"), room("!b:x")]).await;
    let second = feed.rooms(vec![room("!b:x")]).await;
    let gap = RoomUpdate { limited: true, ..room("!b:x") };
    let third = feed.rooms(vec![gap, room("!c:x")]).await;

    let (now, changed) = store.changed_rooms(feed.account_id, first).await.unwrap();
    assert_eq!(now, third);
    let lines: Vec<_> = changed
        .iter()
        .map(|room| (room.head.room_id.as_str(), room.section_before, room.newly_joined, room.cut))
        .collect();
    let before = Some(Section::Join);
    assert_eq!(lines, [("!b:x", before, false, Some(third)), ("!c:x", None, true, Some(third))]);
    let (_, changed) = store.changed_rooms(feed.account_id, second).await.unwrap();
    assert_eq!(changed.len(), 2);
    let (now, changed) = store.changed_rooms(feed.account_id, third).await.unwrap();
    assert!(changed.is_empty() && now == third);
}

#[tokio::test]
async fn changed_rooms_of_an_unknown_account_is_an_error() {
    let store = fresh_store().await;
    assert!(store.changed_rooms(AccountId(42), Position(0)).await.is_err());
}

#[tokio::test]
async fn a_join_that_is_told_again_joins_nothing_anew() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let own = member("$join", "@alice:x", "join");
    let joins = RoomUpdate {
        joins_anew: Some("$join".to_owned()),
        ..room_with_state("!r:x", vec![own.clone()], vec![])
    };
    let first = feed.rooms(vec![joins.clone()]).await;
    feed.rooms(vec![joins]).await;
    let (_, changed) = store.changed_rooms(feed.account_id, first).await.unwrap();
    assert!(!changed[0].newly_joined && changed[0].cut.is_none());

    // Left and joined again within one poll: only the new join is seen.
    let rejoins = RoomUpdate {
        joins_anew: Some("$rejoin".to_owned()),
        ..room_with("!r:x", vec![member("$rejoin", "@alice:x", "join")])
    };
    let third = feed.rooms(vec![rejoins]).await;
    let (_, changed) = store.changed_rooms(feed.account_id, first).await.unwrap();
    assert!(changed[0].newly_joined && changed[0].cut == Some(third));
}

#[tokio::test]
async fn the_server_and_the_database_say_who_they_are() {
    let (store, other) = tokio::join!(fresh_store(), fresh_store());
    assert!(!store.ping().await.unwrap().version.is_empty());
    let key = store.token_key().await.unwrap();
    assert_eq!(key.len(), 32);
    assert_eq!(key, store.token_key().await.unwrap());
    // A clone is the same database as far as its tokens go.
    assert_eq!(key, other.token_key().await.unwrap());
}

#[tokio::test]
async fn rooms_left_after_a_position_and_those_of_which_nobody_knows_when() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let mut feed = Feed::of(store, "@alice:x").await;
    let left = |room_id| RoomUpdate { section: Section::Leave, ..room(room_id) };
    let pos = feed.rooms(vec![left("!before:x"), left("!unknown:x")]).await;
    feed.rooms(vec![left("!after:x"), room("!joined:x")]).await;
    fresh
        .sql()
        .await
        .batch_execute(
            "DELETE FROM room_updates u USING rooms r
             WHERE r.room_nid = u.room_nid AND r.room_id = '!unknown:x'",
        )
        .await
        .unwrap();
    let outlines = store.rooms_left_after(feed.account_id, pos).await.unwrap();
    let heads = store.rooms_of(feed.account_id, &outlines).await.unwrap();
    let mut ids: Vec<&str> = heads.iter().map(|head| head.room_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["!after:x", "!unknown:x"]);
}

#[tokio::test]
async fn outlines_are_of_one_moment_and_the_rooms_are_told_by_them() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let in_section = |room_id, section| RoomUpdate { section, ..room(room_id) };
    let stripped = Some(Bytes::from_static(br#"{"events":[1]}"#));
    let invite = |room_id| RoomUpdate {
        stripped_state: stripped.clone(),
        ..in_section(room_id, Section::Invite)
    };
    let first = feed
        .rooms(vec![
            room("!left:x"),
            room("!gap:x"),
            invite("!answered:x"),
            invite("!open:x"),
            in_section("!gone:x", Section::Leave),
        ])
        .await;
    let outlines = store.room_outlines(feed.account_id, &ALL).await.unwrap();
    assert!(outlines.is_sorted_by_key(|room| room.room_nid));
    let joined = store.room_outlines(feed.account_id, &[Section::Join]).await.unwrap();
    assert_eq!(joined.len(), 2);
    assert!(joined.iter().all(|room| room.section == Section::Join && room.segment_pos == first));
    assert_eq!(store.room_outlines(feed.account_id, &[Section::Knock]).await.unwrap(), []);

    let gap = RoomUpdate { limited: true, ..room_with("!gap:x", vec![message("$1")]) };
    feed.rooms(vec![in_section("!left:x", Section::Leave), gap, room("!answered:x")]).await;
    let heads = store.rooms_of(feed.account_id, &outlines).await.unwrap();
    assert!(heads.is_sorted_by_key(|head| head.room_nid));
    let told: BTreeMap<&str, _> = heads
        .iter()
        .map(|head| (head.room_id.as_str(), (head.section, head.segment_pos)))
        .collect();
    let expected = [
        ("!gap:x", (Section::Join, first)),
        ("!gone:x", (Section::Leave, first)),
        ("!left:x", (Section::Join, first)),
        // What the answered one said is not known any more.
        ("!open:x", (Section::Invite, first)),
    ];
    assert_eq!(told, BTreeMap::from(expected));
    let open = heads.iter().find(|head| head.room_id == "!open:x").unwrap();
    assert_eq!(open.stripped_state, stripped);
    let now = store.room_outlines(feed.account_id, &[Section::Join]).await.unwrap();
    assert!(now.iter().any(|room| room.segment_pos > first), "the gap is a cut by now");
}
