//! All that an account does, again and again.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use store::{
    AccountData, BodySweep, DeviceNid, Event, Horizon, InboxSeq, Keep, Pace, Place, Poll, Position,
    PresenceUpdate, RoomNid, RoomUpdate, Section, StateBlock, StateKeys, StateQuery,
    StateSelection, Store, TimelineQuery,
};

use crate::polls::{
    Feed, counts, light, member, message, receipt, redaction, room_with_state, state, to_device,
};

/// How many rooms the account is in, and how many a poll or a request is about.
const ROOMS: usize = 2000;
const AT_ONCE: usize = 500;
const SOME: usize = 20;

/// The statements without which the test would prove nothing.
pub(crate) const HOT: &[&str] = &[
    "admin::account_status",
    "admin::account_statuses",
    "admin::device_statuses",
    "admin::drop_session",
    "admin::session_statuses",
    "account_rooms::write_account_rooms",
    "bodies::ids",
    "bodies::insert",
    "bodies::mark",
    "bodies::remove",
    "bodies::sweep_redactions",
    "bodies::unmark (used)",
    "bodies::window",
    "device_inbox::inbox",
    "device_inbox::purge",
    "history::borders",
    "history::copies",
    "history::device_lists",
    "history::polls",
    "history::rooms_between",
    "history::scans",
    "history::state_changes",
    "history::timelines",
    "history::updates",
    "ingest::ingest_light",
    "ingest::lock",
    "ingest::move_on",
    "latest_values::device_list_changes",
    "latest_values::global_account_data",
    "latest_values::presence",
    "latest_values::receipts",
    "latest_values::room_account_data",
    "latest_values::room_account_data_of",
    "members::bodies",
    "members::complete_members",
    "members::first_members",
    "members::member_changes",
    "members::members",
    "redactions::create",
    "redactions::finish_redaction_scan",
    "redactions::insert",
    "redactions::known",
    "redactions::prune",
    "redactions::redaction_scans",
    "redactions::remove_copies",
    "references::changes",
    "references::heads",
    "references::redacting_bodies",
    "references::redactions",
    "references::timelines",
    "retention::due_accounts",
    "retention::expire_inbox",
    "retention::expire_transaction_ids",
    "retention::promise",
    "retention::remove_gone_devices",
    "room_account_data::account_data_of_joined_rooms",
    "room_account_data::room_account_data_changes",
    "room_changes::room_changes",
    "room_changes::room_changes (of certain rooms)",
    "room_heads::changed_rooms",
    "room_heads::joined_rooms",
    "room_heads::room_head",
    "room_heads::room_heads",
    "room_heads::rooms_in",
    "room_lists::direct",
    "room_lists::room_list",
    "room_lists::room_list_changes",
    "room_outlines::room_outlines",
    "room_outlines::rooms_left_after",
    "room_outlines::rooms_of",
    "rooms::intern_rooms",
    "rooms::room_nids",
    "selected_state::selected_states",
    "sessions::acknowledge_session",
    "sessions::lock",
    "sessions::put_session_params",
    "session_sets::put_session_sets",
    "session_sets::put_session_sets (forgets)",
    "session_sets::session_sets",
    "sessions::session",
    "state::members_at",
    "state::states (delta)",
    "state::states (full)",
    "timelines::next_batch_at",
    "timelines::places_of",
    "timelines::places_of (bodies)",
    "timelines::timelines",
    "timelines::upstream_tokens",
    "upkeep::account_data",
    "upkeep::joined",
    "upkeep::joins_between",
    "upkeep::receipts",
    "upkeep::supplement",
    "write_latest::account_data",
    "write_latest::receipts",
    "write_rooms::before",
    "write_rooms::heads",
    "write_rooms::write_copies",
    "write_rooms::write_heads",
    "write_rooms::write_scans",
    "write_rooms::write_state_changes",
    "write_rooms::write_timelines",
    "write_rooms::write_updates",
];

/// An account joins its rooms, in big polls.
pub(crate) async fn begins(store: &Store) {
    let mut feed = Feed::of(store, "@alice:x").await;
    let device = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    store.claim_main_poll(feed.account_id, None, device).await.unwrap();
    for first in (0..ROOMS).step_by(AT_ONCE) {
        feed.rooms((first..first + AT_ONCE).map(|number| update(0, number)).collect()).await;
    }
}

/// What was answered, in an order that says nothing of how a map was gone through.
#[derive(Default)]
pub(crate) struct Answers(Vec<String>);

impl Answers {
    fn note(&mut self, answer: &impl Debug) {
        let mut lines: Vec<String> = format!("{answer:#?}").lines().map(str::to_owned).collect();
        lines.sort_unstable();
        self.0.push(lines.join("\n"));
    }

    /// The first answer that is another in `others`, in both.
    pub(crate) fn difference<'a>(&'a self, others: &'a Self) -> Option<(&'a str, &'a str)> {
        assert_eq!(self.0.len(), others.0.len());
        let pairs = self.0.iter().zip(&others.0).map(|(one, other)| (one.as_str(), other.as_str()));
        pairs.into_iter().find(|(one, other)| one != other)
    }
}

/// It lives on: polls, and requests of clients. Gives what these were answered.
pub(crate) async fn goes_on(store: &Store, rounds: usize) -> Answers {
    let mut answers = Answers::default();
    let mut feed = Feed::of(store, "@alice:x").await;
    let device = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    for round in 1..=rounds {
        let pos = polls(&mut feed, device, round).await;
        let mut rooms = Vec::new();
        for number in 0..SOME {
            rooms.push(feed.room_nid(&room_id(number)).await);
        }
        reads_rooms(&feed, device, &rooms, pos, &mut answers).await;
        lists_rooms(&feed, pos, &mut answers).await;
        reads_members(&feed, rooms[0], pos, &mut answers).await;
        redacts(&mut feed, round).await;
        lives_in_sessions(&feed, device, round).await;
        lets_go(&feed, round).await;
        is_looked_at(&feed, &mut answers).await;
    }
    answers
}

fn room_id(number: usize) -> String {
    format!("!room-{number}:x")
}

fn update(round: usize, number: usize) -> RoomUpdate {
    let id = |what: &str| format!("${what}-{round}-{number}");
    let before = vec![
        state(&id("name"), "m.room.name", ""),
        member(&id("alice"), "@alice:x", "join"),
        member(&id("bob"), "@bob:x", "join"),
    ];
    let mut topic = state(&id("topic"), "m.room.topic", "");
    topic.copies = vec![format!("$topic-{}-{number}", round.wrapping_sub(1))];
    let timeline = vec![message(&id("message")), topic];
    RoomUpdate {
        receipts: vec![receipt("@bob:x", &id("message"), "")],
        account_data: vec![AccountData { event_type: "m.tag".into(), event: "{}".into() }],
        counts: Some(counts(1, 0)),
        ..room_with_state(&room_id(number), before, timeline)
    }
}

/// A busy poll, a room that is left and joined again, and a light poll. Gives the position after them.
async fn polls(feed: &mut Feed, device: DeviceNid, round: usize) -> Position {
    let mut rooms: Vec<RoomUpdate> = (0..SOME).map(|number| update(round, number)).collect();
    rooms[1].state = StateBlock::AfterTimeline(Vec::new());
    rooms[0].timeline[0].transaction_id = Some("txn".to_owned());
    let presence = PresenceUpdate {
        user_id: "@bob:x".to_owned(),
        event: Bytes::from_static(b"{}"),
        last_active_ts: None,
    };
    let busy = Poll {
        rooms,
        account_data: vec![AccountData { event_type: "m.direct".into(), event: "{}".into() }],
        presence: vec![presence],
        device_lists_changed: vec!["@bob:x".to_owned()],
        device: Some(to_device(device, &["1", "2"])),
        ..feed.next()
    };
    feed.store(&busy).await.unwrap();
    let gone = RoomUpdate { section: Section::Leave, ..update(round * 1000, SOME) };
    feed.rooms(vec![gone]).await;
    let pos = feed.rooms(vec![update(round * 1000 + 1, SOME)]).await;
    let since = (round > 1).then(|| (round - 1).to_string());
    let poll = light(since.as_deref(), &round.to_string(), to_device(device, &["3"]));
    feed.store.ingest_light(feed.account_id, &poll).await.unwrap();
    keeps_up(feed, pos, round).await;
    pos
}

/// A poll with redactions and a gap, in which there was another one.
async fn redacts(feed: &mut Feed, round: usize) {
    let mut carrier = message(&format!("$carrier-{round}"));
    carrier.copies = vec![format!("$message-{round}-2")];
    let timeline = vec![
        carrier,
        redaction(&format!("$redaction-{round}"), &format!("$message-{round}-2")),
        redaction(&format!("$again-{round}"), &format!("$topic-{round}-2")),
    ];
    let gap = RoomUpdate {
        limited: true,
        prev_batch: Some("p".to_owned()),
        ..room_with_state(&room_id(2), Vec::new(), timeline)
    };
    feed.rooms(vec![gap]).await;
    let scans = feed.store.redaction_scans(feed.account_id, 9).await.unwrap();
    let found = [redaction(&format!("$found-{round}"), &format!("$name-{round}-2"))];
    feed.store.finish_redaction_scan(feed.account_id, &scans[0], &found).await.unwrap();
}

/// What is merged beside polls, of a room that was just joined.
async fn keeps_up(feed: &Feed, pos: Position, round: usize) {
    let (store, account) = (&feed.store, feed.account_id);
    store.joins_between(account, Position(pos.0 - 2), pos).await.unwrap();
    let told = RoomUpdate {
        receipts: vec![receipt("@carol:x", &format!("$carol-{round}"), "")],
        account_data: vec![AccountData {
            event_type: "m.test".into(),
            event: round.to_string().into(),
        }],
        ..update(round, SOME)
    };
    store.supplement(account, pos, &[told]).await.unwrap();
    store.global_account_data_of(account, "m.direct").await.unwrap();
}

/// What a sync asks about a window of rooms, from the beginning and since a while ago.
async fn reads_rooms(
    feed: &Feed,
    device: DeviceNid,
    rooms: &[RoomNid],
    pos: Position,
    answers: &mut Answers,
) {
    let (store, account) = (&feed.store, feed.account_id);
    let before = Position(pos.0 - 3);
    answers.note(&store.rooms_in(account, &[Section::Join, Section::Invite]).await.unwrap());
    answers.note(&store.joined_rooms(account).await.unwrap());
    answers.note(&store.changed_rooms(account, before).await.unwrap());
    answers.note(&store.room_changes(account, before, pos, None).await.unwrap());
    answers.note(&store.room_changes(account, before, pos, Some(rooms)).await.unwrap());
    answers.note(&store.room_head(account, rooms[0]).await.unwrap());
    answers.note(&store.room_heads(account, rooms).await.unwrap());
    answers.note(&store.room_nid("!unknown:x").await.unwrap());
    answers.note(&store.account_data_of_joined_rooms(account, pos).await.unwrap());
    answers.note(&store.room_account_data_changes(account, before, pos).await.unwrap());
    for after in [Position(0), before] {
        let since: Vec<_> = rooms.iter().map(|nid| (*nid, after)).collect();
        answers.note(&store.receipts(account, &since, pos).await.unwrap());
        answers.note(&store.room_account_data(account, &since, pos).await.unwrap());
        answers.note(&store.global_account_data(account, after, pos).await.unwrap());
        answers.note(&store.presence(account, after, pos).await.unwrap());
        answers.note(&store.device_list_changes(account, after, pos).await.unwrap());
        let timeline = |room_nid: &RoomNid| TimelineQuery {
            room_nid: *room_nid,
            after,
            before: Place::after(pos),
        };
        let queries: Vec<_> = rooms.iter().map(timeline).collect();
        answers.note(&store.timelines(account, device, &queries, 20).await.unwrap());
    }
    for since in [None, Some(Place::after(before))] {
        let query =
            |room_nid: &RoomNid| StateQuery { room_nid: *room_nid, at: Place::after(pos), since };
        let queries: Vec<_> = rooms.iter().map(query).collect();
        answers.note(&store.states(account, &queries, StateSelection::All).await.unwrap());
    }
    for place in [Place::after(pos), Place::after(before)] {
        let keys =
            [("m.room.name", Some("")), ("m.room.topic", None), ("m.room.member", Some("@bob:x"))];
        let keys = keys.map(|(event_type, state_key)| StateKeys { event_type, state_key });
        let at: Vec<_> = rooms.iter().map(|nid| (*nid, place)).collect();
        answers.note(&store.selected_states(account, &at, &keys).await.unwrap());
    }
    let place = Place { pos: Position(pos.0 - 2), ord: 1 };
    answers.note(&store.upstream_tokens(account, rooms[0], place).await.unwrap());
    let since: Vec<_> = rooms.iter().map(|nid| (*nid, Position(0))).collect();
    let named = ["$message-0-1".to_owned(), "$unknown".to_owned()];
    let found = store.places_of(account, &since, pos, &named).await.unwrap();
    assert_eq!(found.len(), 1);
    answers.note(&found);
    answers.note(&store.next_batch_at(account, pos).await.unwrap());
    answers.note(&store.event_ids_after(account, before).await.unwrap());
    answers.note(&store.rooms_left_after(account, before).await.unwrap());
    let outlines = store.room_outlines(account, &[Section::Join, Section::Invite]).await.unwrap();
    answers.note(&store.rooms_of(account, &outlines[..SOME]).await.unwrap());
}

/// What a list asks about all rooms at once, and about those that changed.
async fn lists_rooms(feed: &Feed, pos: Position, answers: &mut Answers) {
    let (store, account) = (&feed.store, feed.account_id);
    answers.note(&store.room_list_changes(account, Position(pos.0 - 3)).await.unwrap());
    let listed = store.room_list(account).await.unwrap().rooms;
    for many in [SOME, listed.len()] {
        let rooms: Vec<_> = listed.iter().take(many).map(|room| room.room_nid).collect();
        let places: Vec<_> = rooms.iter().map(|nid| (*nid, Place::after(pos))).collect();
        let keys = ["m.room.name", "m.room.avatar", "m.room.create"];
        let keys = keys.map(|event_type| StateKeys { event_type, state_key: Some("") });
        answers.note(&store.selected_states(account, &places, &keys).await.unwrap());
        answers.note(&store.first_members(account, &places, "@alice:x", 5).await.unwrap());
        answers.note(&store.room_account_data_of(account, &rooms, "m.tag").await.unwrap());
    }
}

async fn reads_members(feed: &Feed, room_nid: RoomNid, pos: Position, answers: &mut Answers) {
    let (store, account) = (&feed.store, feed.account_id);
    let all: Vec<Event> =
        (0..50).map(|n| member(&format!("$member-{n}"), &format!("@user-{n}:x"), "join")).collect();
    answers.note(&store.complete_members(account, room_nid, pos, &all).await.unwrap());
    let members = store.members(account, room_nid, Place::after(pos), &["join"]).await.unwrap();
    answers.note(&members);
    let ids: Vec<_> = members.iter().map(|member| member.body_id).collect();
    answers.note(&store.bodies(&ids).await.unwrap());
    let after = Place::after(Position(pos.0 - 4));
    answers.note(&store.member_changes(account, room_nid, after, pos, 50).await.unwrap());
    let wanted: Vec<_> =
        ["@bob:x", "@user-7:x"].map(|user| (room_nid, Place::after(pos), user.to_owned())).into();
    answers.note(&store.members_at(account, &wanted).await.unwrap());
}

/// By an operator.
async fn is_looked_at(feed: &Feed, answers: &mut Answers) {
    let (store, account) = (&feed.store, feed.account_id);
    answers.note(&store.account_statuses("@alice", 9).await.unwrap());
    answers.note(&store.account_status("@alice:x").await.unwrap());
    answers.note(&store.device_statuses(account).await.unwrap());
    let sessions = store.session_statuses(account, Some("PHONE")).await.unwrap();
    answers.note(&sessions);
    let oldest = sessions.iter().find_map(|session| session.session_id).unwrap();
    assert!(store.drop_session(account, oldest, 0).await.unwrap());
}

async fn lives_in_sessions(feed: &Feed, device: DeviceNid, round: usize) {
    let (store, account) = (&feed.store, feed.account_id);
    let session =
        store.create_session(account, device, b"{}", &[], 1, 100).await.unwrap().session_id;
    let params = round.to_string();
    let keep = Keep { turns: 32, bytes: 1 << 20 };
    store.put_session_params(account, session, 1, params.as_bytes(), keep).await.unwrap();
    store.session(account, device, session, 1, 0).await.unwrap();
    let set = store::NewSet { set_id: b"set", purpose: 0, content: b"rooms" };
    store.put_session_sets(account, session, &[set], &[b"other"], keep).await.unwrap();
    store.session_sets(account, session, &[b"set"], &[b"set"]).await.unwrap();
    store.touch_session(account, session, 2).await.unwrap();
    let seq = store.inbox(account, device, InboxSeq(0), 9).await.unwrap().messages[0].seq;
    store.acknowledge_session(account, device, session, seq, 0).await.unwrap();
    store.acknowledge_v2(account, device, seq, 1, 0).await.unwrap();
}

/// A turn of retention, to which everything is old, and a sweep of everybody's bodies.
async fn lets_go(feed: &Feed, round: usize) {
    let now = i64::try_from(round).unwrap() * 24 * 60 * 60 * 1000;
    let horizon = Horizon { now, oldest: now, live_since: 0, events: 50 };
    let pace = Pace { rows: 1000, pause: Duration::ZERO };
    let due = feed.store.due_accounts(now, now - 1, 1000).await.unwrap();
    let due = due.into_iter().find(|due| due.account_id == feed.account_id).unwrap();
    feed.store.retain(&due, horizon, pace).await.unwrap();
    let sweep = BodySweep { now, oldest: now, window: 1_000_000, pace };
    feed.store.sweep_bodies(sweep).await.unwrap();
}
