//! Members: completing a room once, listing it at a place, and the changes in order.

use store::{BodyId, Event, Member, Place, Position, RoomNid, RoomUpdate, Section, Store};

use crate::database::fresh_store;
use crate::polls::{Feed, member, message, room_with, room_with_state};

const ANY: &[&str] = &["join", "leave", "invite", "ban", "knock"];

async fn at(store: &Store, feed: &Feed, place: Place, memberships: &[&str]) -> Vec<String> {
    let nid = feed.room_nid("!r:x").await;
    let members = store.members(feed.account_id, nid, place, memberships).await.unwrap();
    let mut lines: Vec<String> = members.iter().map(line).collect();
    lines.sort();
    lines
}

fn line(member: &Member) -> String {
    format!("{} {}", member.user_id, member.membership)
}

/// Alice in a room of which she was told Bob alone; Carol and Dave are there too.
async fn lazily_joined(store: &Store) -> (Feed, Position) {
    let mut feed = Feed::of(store, "@alice:x").await;
    let state = vec![member("$alice", "@alice:x", "join"), member("$bob", "@bob:x", "join")];
    let pos = feed.rooms(vec![room_with_state("!r:x", state, vec![])]).await;
    (feed, pos)
}

fn everybody() -> Vec<Event> {
    vec![
        member("$alice", "@alice:x", "join"),
        member("$bob", "@bob:x", "join"),
        member("$carol", "@carol:x", "join"),
        member("$dave", "@dave:x", "invite"),
    ]
}

#[tokio::test]
async fn roundtrip_members() {
    let store = fresh_store().await;
    let (feed, pos) = lazily_joined(&store).await;
    let nid = feed.room_nid("!r:x").await;
    for _ in 0..2 {
        store.complete_members(feed.account_id, nid, pos, &everybody()).await.unwrap();
        assert!(store.room_head(feed.account_id, nid).await.unwrap().unwrap().members_complete);
    }
    let now = Place::after(pos);
    assert_eq!(
        at(&store, &feed, now, &["join"]).await,
        ["@alice:x join", "@bob:x join", "@carol:x join"]
    );
    assert_eq!(at(&store, &feed, now, &["invite"]).await, ["@dave:x invite"]);
    assert!(at(&store, &feed, now, &[]).await.is_empty());

    let members = store.members(feed.account_id, nid, now, &["invite"]).await.unwrap();
    assert_eq!(members[0].displayname.as_deref(), Some("@dave:x in $dave"));
    let bodies = store.bodies(&[members[0].body_id]).await.unwrap();
    assert_eq!(bodies, [(everybody()[3].body.clone(), None)]);
}

#[tokio::test]
async fn members_not_found() {
    let store = fresh_store().await;
    let feed = Feed::of(&store, "@alice:x").await;
    let place = Place::after(Position(0));
    let nobody = store.members(feed.account_id, RoomNid(42), place, ANY).await.unwrap();
    assert!(nobody.is_empty());
    let changes =
        store.member_changes(feed.account_id, RoomNid(42), place, Position(9), 9).await.unwrap();
    assert!(changes.is_empty());
    assert!(store.bodies(&[BodyId(42)]).await.unwrap().is_empty());
    assert!(store.bodies(&[]).await.unwrap().is_empty());
    assert!(store.members_at(feed.account_id, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn bodies_come_in_the_order_asked_for() {
    let store = fresh_store().await;
    let (feed, pos) = lazily_joined(&store).await;
    let nid = feed.room_nid("!r:x").await;
    let mut members = store.members(feed.account_id, nid, Place::after(pos), ANY).await.unwrap();
    members.sort_by(|one, other| other.user_id.cmp(&one.user_id));
    let ids: Vec<BodyId> = members.iter().map(|member| member.body_id).collect();
    let bodies = store.bodies(&[ids[0], ids[1], ids[0]]).await.unwrap();
    let [alice, bob] = [everybody()[0].body.clone(), everybody()[1].body.clone()];
    let bodies: Vec<_> = bodies.into_iter().map(|(body, _)| body).collect();
    assert_eq!(bodies, [bob.clone(), alice, bob]);
}

#[tokio::test]
async fn a_complete_room_stays_complete_until_it_is_left() {
    let store = fresh_store().await;
    let (mut feed, pos) = lazily_joined(&store).await;
    let nid = feed.room_nid("!r:x").await;
    store.complete_members(feed.account_id, nid, pos, &everybody()).await.unwrap();
    feed.rooms(vec![room_with("!r:x", vec![member("$eve", "@eve:x", "join")])]).await;
    assert!(store.room_head(feed.account_id, nid).await.unwrap().unwrap().members_complete);
    feed.rooms(vec![RoomUpdate { section: Section::Leave, ..room_with("!r:x", vec![]) }]).await;
    assert!(!store.room_head(feed.account_id, nid).await.unwrap().unwrap().members_complete);
}

#[tokio::test]
async fn what_polls_brought_meanwhile_stands() {
    let store = fresh_store().await;
    let (mut feed, pos) = lazily_joined(&store).await;
    // While the list of members is under way, Carol leaves and Dave joins.
    let timeline = vec![member("$gone", "@carol:x", "leave"), member("$here", "@dave:x", "join")];
    let later = feed.rooms(vec![room_with("!r:x", timeline)]).await;
    let nid = feed.room_nid("!r:x").await;
    store.complete_members(feed.account_id, nid, pos, &everybody()).await.unwrap();

    let others = async |place| {
        let mut lines = at(&store, &feed, place, ANY).await;
        lines.retain(|line| line.starts_with("@carol") || line.starts_with("@dave"));
        lines
    };
    assert_eq!(others(Place::after(pos)).await, ["@carol:x join", "@dave:x invite"]);
    assert_eq!(others(Place { pos: later, ord: 1 }).await, ["@carol:x leave", "@dave:x invite"]);
    assert_eq!(others(Place::after(later)).await, ["@carol:x leave", "@dave:x join"]);
}

/// A list of members that was asked for before the user left and came back used to bring those back who had left in
/// between, and nothing that came later could mend it.
#[tokio::test]
async fn a_list_from_before_a_rejoin_is_thrown_away() {
    let store = fresh_store().await;
    let (mut feed, pos) = lazily_joined(&store).await;
    let nid = feed.room_nid("!r:x").await;
    let leave = member("$left", "@alice:x", "leave");
    feed.rooms(vec![RoomUpdate { section: Section::Leave, ..room_with("!r:x", vec![leave]) }])
        .await;
    let rejoin = RoomUpdate {
        joins_anew: Some("$back".to_owned()),
        ..room_with("!r:x", vec![member("$back", "@alice:x", "join")])
    };
    let back = feed.rooms(vec![rejoin]).await;

    store.complete_members(feed.account_id, nid, pos, &everybody()).await.unwrap();

    assert!(!store.room_head(feed.account_id, nid).await.unwrap().unwrap().members_complete);
    assert_eq!(at(&store, &feed, Place::after(back), ANY).await, ["@alice:x join"]);
    let now = vec![member("$back", "@alice:x", "join"), member("$bye", "@carol:x", "leave")];
    store.complete_members(feed.account_id, nid, back, &now).await.unwrap();
    let expected = ["@alice:x join", "@carol:x leave"];
    assert_eq!(at(&store, &feed, Place::after(back), ANY).await, expected);
}

#[tokio::test]
async fn changes_come_in_arrival_order_and_in_pages() {
    let store = fresh_store().await;
    let (mut feed, pos) = lazily_joined(&store).await;
    let first = feed
        .rooms(vec![room_with(
            "!r:x",
            vec![member("$1", "@bob:x", "leave"), message("$m"), member("$2", "@carol:x", "join")],
        )])
        .await;
    let second = feed.rooms(vec![room_with("!r:x", vec![member("$3", "@bob:x", "join")])]).await;
    let nid = feed.room_nid("!r:x").await;
    let changes = async |after, until, limit| {
        let found = store.member_changes(feed.account_id, nid, after, until, limit).await.unwrap();
        let line = |change: &store::MemberChange| {
            format!(
                "{} {} {}>{}",
                change.place.ord,
                change.user_id,
                change.old_membership.as_deref().unwrap_or_default(),
                change.membership.as_deref().unwrap_or_default(),
            )
        };
        found.iter().map(line).collect::<Vec<_>>()
    };
    let all = ["0 @bob:x join>leave", "2 @carol:x >join", "0 @bob:x leave>join"];
    assert_eq!(changes(Place::after(pos), second, 9).await, all);
    assert_eq!(changes(Place::after(pos), second, 2).await, all[..2]);
    assert_eq!(changes(Place::after(pos), first, 9).await, all[..2]);
    assert_eq!(changes(Place { pos: first, ord: 0 }, second, 9).await, all[1..]);
    assert_eq!(changes(Place { pos: first, ord: i32::MAX }, second, 9).await, all[2..]);
    assert!(changes(Place::after(second), second, 9).await.is_empty());
}

#[tokio::test]
async fn certain_members_at_certain_places() {
    let store = fresh_store().await;
    let (mut feed, pos) = lazily_joined(&store).await;
    let later = feed.rooms(vec![room_with("!r:x", vec![member("$1", "@bob:x", "leave")])]).await;
    let nid = feed.room_nid("!r:x").await;
    for (place, expected) in [(Place::after(pos), "$bob"), (Place::after(later), "$1")] {
        let wanted = ["@bob:x", "@nobody:x"].map(|user| (nid, place, user.to_owned()));
        let found = store.members_at(feed.account_id, &wanted).await.unwrap();
        assert_eq!(found[&nid].len(), 1);
        let bob = &found[&nid][0];
        assert_eq!((bob.event_type.as_str(), bob.state_key.as_str()), ("m.room.member", "@bob:x"));
        assert_eq!(bob.body, message(expected).body);
    }
}

#[tokio::test]
async fn the_first_members_are_those_who_are_here() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let state = vec![
        member("$gone", "@gone:x", "leave"),
        member("$banned", "@banned:x", "ban"),
        member("$alice", "@alice:x", "join"),
        member("$bob", "@bob:x", "join"),
        member("$carol", "@carol:x", "invite"),
        member("$knocks", "@knocks:x", "knock"),
    ];
    let pos = feed.rooms(vec![room_with_state("!r:x", state, vec![])]).await;
    let timeline = vec![member("$left", "@bob:x", "leave"), member("$dave", "@dave:x", "join")];
    let later = feed.rooms(vec![room_with("!r:x", timeline)]).await;
    let nid = feed.room_nid("!r:x").await;
    let first = async |place, limit| {
        let rooms = [(nid, place), (RoomNid(42), place)];
        let found = store.first_members(feed.account_id, &rooms, "@alice:x", limit).await.unwrap();
        assert_eq!(found.len(), 1);
        let users: Vec<String> = found[&nid].iter().map(|(user_id, _)| user_id.clone()).collect();
        users
    };
    let mut before = first(Place::after(pos), 9).await;
    // Bodies of one poll have no order among them.
    before[..2].sort();
    before[2..].sort();
    assert_eq!(before, ["@bob:x", "@carol:x", "@banned:x", "@gone:x"]);
    let mut now = first(Place::after(later), 9).await;
    assert_eq!(now[..2], ["@carol:x", "@dave:x"]);
    now[2..].sort();
    assert_eq!(now[2..], ["@banned:x", "@bob:x", "@gone:x"]);
    assert_eq!(first(Place::after(later), 1).await, ["@carol:x"]);

    let rooms = [(nid, Place::after(later))];
    let found = store.first_members(feed.account_id, &rooms, "@alice:x", 2).await.unwrap();
    assert_eq!(found[&nid][1].1, message("$dave").body);
    assert!(store.first_members(feed.account_id, &[], "@alice:x", 9).await.unwrap().is_empty());
}
