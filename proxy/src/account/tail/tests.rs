//! What the tail keeps, and what of it may stand for the store.

use bytes::Bytes;
use store::{
    AccountData, DeviceNid, DeviceUpdate, InboxSeq, Place, PresenceUpdate, Receipt, RoomHead,
    Section, StateQuery, StoredReceipt, TimelineQuery,
};

use super::*;

const ME: Asker<'_> = Asker { user_id: "@me:x", device_nid: DeviceNid(1) };
const MY_TABLET: Asker<'_> = Asker { user_id: "@me:x", device_nid: DeviceNid(2) };
const ROOM: RoomNid = RoomNid(7);

fn head(nid: RoomNid) -> RoomHead {
    RoomHead {
        room_nid: nid,
        room_id: format!("!{nid}:x"),
        section: Section::Join,
        segment_pos: Position(1),
        segment_limited: false,
        members_complete: false,
        kicked: false,
        forgotten: false,
        notification_count: 0,
        highlight_count: 0,
        thread_counts: None,
        heroes: None,
        joined_member_count: None,
        invited_member_count: None,
        summary_pos: Position(1),
        stripped_state: None,
        typing: None,
        typing_pos: Position(0),
        recency: 0,
    }
}

/// A poll of these rooms, and what the store made of it.
fn poll(pos: i64, rooms: Vec<(RoomNid, RoomUpdate)>) -> (Poll, Ingested) {
    let stored = rooms.iter().map(|(nid, _)| StoredRoom {
        head: head(*nid),
        section_before: Some(Section::Join),
        newly_joined: false,
        state_changed: false,
    });
    let stored = Ingested {
        pos: Position(pos),
        inbox_seq: InboxSeq(0),
        rooms: Some(stored.collect()),
        prunings: 0,
    };
    let device = DeviceUpdate {
        device_nid: DeviceNid(1),
        to_device: Vec::new(),
        one_time_keys_count: None,
        unused_fallback_key_types: None,
    };
    let rooms = rooms.into_iter().map(|(_, update)| update).collect();
    (Poll { rooms, device: Some(device), ..Poll::default() }, stored)
}

fn update(nid: RoomNid) -> RoomUpdate {
    RoomUpdate::empty(format!("!{nid}:x"), Section::Join)
}

fn event(event_id: &str, sender: &str) -> Event {
    let body = format!(r#"{{"event_id":"{event_id}","type":"t","sender":"{sender}"}}"#);
    Event { event_id: event_id.to_owned(), body: body.into(), ..Event::default() }
}

fn with_events(events: Vec<Event>) -> (RoomNid, RoomUpdate) {
    (ROOM, RoomUpdate { timeline: events, ..update(ROOM) })
}

/// A tail of these polls.
fn tail(polls: Vec<(Poll, Ingested)>) -> Tail {
    let tail = Tail::default();
    for (poll, stored) in polls {
        tail.push(poll, stored, true);
    }
    tail
}

fn idle(pos: i64) -> (Poll, Ingested) {
    poll(pos, Vec::new())
}

#[tokio::test(start_paused = true)]
async fn a_stretch_is_there_if_all_of_its_polls_are() {
    #[track_caller]
    fn check(tail: &Tail, since: i64, until: i64, expected: bool) {
        let stretch = tail.stretch(Position(since), Position(until), 0);
        assert_eq!(stretch.is_some(), expected, "{since} to {until}");
        if let Some(stretch) = stretch {
            assert_eq!(stretch.until(), Position(until));
        }
    }
    let polls = tail(vec![idle(4), idle(5), idle(6)]);
    for (since, until) in [(3, 6), (3, 4), (4, 6), (5, 6)] {
        check(&polls, since, until, true);
    }
    for (since, until) in [(2, 6), (6, 6), (5, 7), (0, 0), (i64::MAX, 6), (5, i64::MAX)] {
        check(&polls, since, until, false);
    }
    // A position that nobody told of is between them: those before it are of no use.
    let (gap, stored) = idle(8);
    polls.push(gap, stored, true);
    check(&polls, 5, 8, false);
    check(&polls, 5, 6, false);
    check(&polls, 7, 8, true);
    // Nobody is there: the next client begins where this poll is not known.
    let (unattended, stored) = idle(9);
    polls.push(unattended, stored, false);
    check(&polls, 7, 8, false);
    check(&polls, 8, 9, false);
    check(&Tail::default(), 0, 1, false);
}

#[tokio::test(start_paused = true)]
async fn little_is_kept_and_not_for_long() {
    let many = tail((1..=40).map(idle).collect());
    assert!(many.stretch(Position(24), Position(40), 0).is_some());
    assert!(many.stretch(Position(23), Position(40), 0).is_none());

    let large = |pos, bytes: usize| {
        let body = Bytes::from(vec![b' '; bytes]);
        poll(pos, vec![with_events(vec![Event { body, ..Event::default() }])])
    };
    let heavy = tail(vec![large(1, MOST_BYTES / 2), large(2, MOST_BYTES / 2)]);
    assert!(heavy.stretch(Position(0), Position(2), 0).is_none());
    assert!(heavy.stretch(Position(1), Position(2), 0).is_some());
    let too_heavy = tail(vec![idle(1), large(2, MOST_BYTES)]);
    assert!(too_heavy.lock().is_none());

    heavy.sweep();
    assert!(heavy.lock().is_some());
    tokio::time::advance(KEEP).await;
    assert!(heavy.stretch(Position(1), Position(2), 0).is_none());
    heavy.sweep();
    assert!(heavy.lock().is_none());
}

#[test]
fn what_was_pruned_since_is_of_no_use() {
    let (before, stored) = idle(1);
    let polls = tail(vec![(before, Ingested { prunings: 3, ..stored })]);
    assert!(polls.stretch(Position(0), Position(1), 3).is_some());
    assert!(polls.stretch(Position(0), Position(1), 4).is_none());
    // The store does not tell of a poll in which something is redacted.
    let (redacts, stored) = idle(2);
    polls.push(redacts, Ingested { prunings: 3, rooms: None, ..stored }, true);
    assert!(polls.stretch(Position(0), Position(1), 3).is_none());
}

/// The stretch after `since`, of polls from position 1 on.
fn stretch(since: i64, polls: Vec<(Poll, Ingested)>) -> Stretch {
    let until = i64::try_from(polls.len()).expect("a few");
    let polls = tail(polls);
    polls.stretch(Position(since), Position(until), 0).expect("all of it is there")
}

#[test]
fn timelines_are_read_from_their_end() {
    let polls = || {
        vec![
            poll(1, vec![with_events(vec![event("$1", "@a:x"), event("$2", "@a:x")])]),
            poll(2, vec![(RoomNid(8), update(RoomNid(8)))]),
            poll(3, vec![with_events(vec![event("$3", "@a:x")])]),
        ]
    };
    #[track_caller]
    fn check(
        stretch: &Stretch,
        after: i64,
        before: Place,
        limit: usize,
        expected: Option<&[&str]>,
    ) {
        let query = TimelineQuery { room_nid: ROOM, after: Position(after), before };
        let found = stretch.timeline(&query, limit, ME).map(|events| {
            let id = |event: &store::TimelineEvent| {
                crate::views::EventFields::read(&event.body).event_id
            };
            events.iter().map(id).collect::<Vec<_>>()
        });
        assert_eq!(
            found.as_ref().map(|ids| ids.iter().map(|id| &**id).collect()),
            expected.map(Vec::from)
        );
    }
    let end = Place::after(Position(3));
    let all = stretch(0, polls());
    check(&all, 0, end, 9, Some(&["$3", "$2", "$1"]));
    check(&all, 0, end, 2, Some(&["$3", "$2"]));
    check(&all, 0, end, 0, Some(&[]));
    check(&all, 0, Place { pos: Position(1), ord: 1 }, 9, Some(&["$1"]));
    check(&all, 2, end, 9, Some(&["$3"]));
    let late = stretch(1, polls());
    check(&late, 1, end, 9, Some(&["$3"]));
    check(&late, 0, end, 9, None);
}

#[test]
fn a_transaction_id_is_told_where_it_is_known_who_sent_the_event() {
    #[track_caller]
    fn check(event: Event, asker: Asker<'_>, expected: Result<Option<&str>, ()>) {
        let stretch = stretch(0, vec![poll(1, vec![with_events(vec![event])])]);
        let query =
            TimelineQuery { room_nid: ROOM, after: Position(0), before: Place::after(Position(1)) };
        let found = stretch.timeline(&query, 9, asker);
        let found = found.as_ref().and_then(|events| events.first());
        assert_eq!(found.map(|event| event.transaction_id.as_deref()).ok_or(()), expected);
    }
    let mine = || event("$1", "@me:x");
    let told = || Event { transaction_id: Some("t".to_owned()), ..mine() };
    check(event("$1", "@a:x"), ME, Ok(None));
    check(told(), ME, Ok(Some("t")));
    check(told(), MY_TABLET, Err(()));
    check(mine(), MY_TABLET, Err(()));
    check(mine(), ME, Err(()));
}

#[test]
fn rooms_are_as_their_last_poll_left_them() {
    let mut polls = vec![
        poll(1, vec![(ROOM, update(ROOM)), (RoomNid(3), update(RoomNid(3)))]),
        poll(2, vec![(ROOM, RoomUpdate { limited: true, ..update(ROOM) })]),
        poll(3, vec![(ROOM, update(ROOM))]),
    ];
    for (number, (_, stored)) in polls.iter_mut().enumerate() {
        let room = &mut stored.rooms.as_mut().expect("told")[0];
        room.head.notification_count = i64::try_from(number).expect("a few");
        room.section_before = [None, Some(Section::Join), Some(Section::Join)][number];
        room.newly_joined = number == 0;
    }
    let rooms = stretch(0, polls.clone()).changed_rooms();
    assert_eq!(rooms.iter().map(|room| room.head.room_nid).collect::<Vec<_>>(), [RoomNid(3), ROOM]);
    let room = &rooms[1];
    assert_eq!((room.section_before, room.newly_joined), (None, true));
    assert_eq!((room.head.notification_count, room.cut), (2, Some(Position(2))));
    let rooms = stretch(2, polls).changed_rooms();
    let room = &rooms[0];
    assert_eq!((rooms.len(), room.newly_joined, room.cut), (1, false, None));
    assert_eq!(room.section_before, Some(Section::Join));
}

#[test]
fn state_is_unchanged_where_no_poll_changed_it() {
    let mut polls = vec![
        poll(1, vec![(ROOM, update(ROOM))]),
        poll(2, vec![(ROOM, update(ROOM))]),
        poll(3, vec![(ROOM, update(ROOM))]),
    ];
    polls[1].1.rooms.as_mut().expect("told")[0].state_changed = true;
    #[track_caller]
    fn check(stretch: &Stretch, room_nid: RoomNid, since: Option<Place>, expected: bool) {
        let query = StateQuery { room_nid, at: Place::after(Position(3)), since };
        assert_eq!(stretch.state_is_unchanged(&query), expected, "{since:?}");
    }
    let all = stretch(0, polls.clone());
    check(&all, ROOM, Some(Place::after(Position(0))), false);
    check(&all, ROOM, Some(Place::after(Position(1))), false);
    check(&all, ROOM, Some(Place { pos: Position(2), ord: 5 }), false);
    check(&all, ROOM, Some(Place::after(Position(2))), true);
    check(&all, ROOM, Some(Place { pos: Position(3), ord: 0 }), true);
    check(&all, RoomNid(8), Some(Place::after(Position(0))), true);
    check(&all, RoomNid(8), None, false);
    let late = stretch(2, polls);
    check(&late, ROOM, Some(Place::after(Position(2))), true);
    check(&late, ROOM, Some(Place::after(Position(1))), false);
}

fn receipt(user_id: &str, thread_id: &str, event_id: &str) -> Receipt {
    Receipt {
        user_id: user_id.to_owned(),
        receipt_type: "m.read".to_owned(),
        thread_id: thread_id.to_owned(),
        event_id: event_id.to_owned(),
        data: Bytes::from_static(b"{}"),
    }
}

#[test]
fn of_receipts_the_last_counts() {
    #[track_caller]
    fn check(polls: &[&[Receipt]], expected: Option<&[(&str, &str, &str)]>) {
        let told = polls.iter().zip(1..).map(|(receipts, pos)| {
            poll(pos, vec![(ROOM, RoomUpdate { receipts: receipts.to_vec(), ..update(ROOM) })])
        });
        let stretch = stretch(0, told.collect());
        let found = stretch.receipts(ROOM, Position(0));
        let found = found.as_ref().map(|all| {
            let parts = |told: &'_ StoredReceipt| {
                [&told.user_id, &told.thread_id, &told.event_id].map(String::clone)
            };
            all.iter().map(parts).collect::<Vec<_>>()
        });
        let expected = expected.map(|all| {
            let parts = |(user_id, thread_id, event_id): &(&str, &str, &str)| {
                [user_id, thread_id, event_id].map(|part| (*part).to_owned())
            };
            all.iter().map(parts).collect::<Vec<_>>()
        });
        assert_eq!(found, expected);
    }
    check(
        &[&[receipt("@a:x", "", "$1"), receipt("@b:x", "", "$1")], &[receipt("@a:x", "", "$2")]],
        Some(&[("@b:x", "", "$1"), ("@a:x", "", "$2")]),
    );
    // Of a threaded and an unthreaded one in the same place the unthreaded comes last.
    let in_thread = receipt("@a:x", "$t", "$1");
    check(
        &[&[receipt("@a:x", "", "$1"), in_thread.clone()]],
        Some(&[("@a:x", "$t", "$1"), ("@a:x", "", "$1")]),
    );
    check(&[std::slice::from_ref(&in_thread), &[receipt("@a:x", "main", "$1")]], None);
    check(
        &[&[in_thread], &[receipt("@a:x", "main", "$2")]],
        Some(&[("@a:x", "$t", "$1"), ("@a:x", "main", "$2")]),
    );
}

#[test]
fn of_latest_values_the_last_counts() {
    let data = |event_type: &str, event: &'static str| AccountData {
        event_type: event_type.to_owned(),
        event: Bytes::from_static(event.as_bytes()),
    };
    let presence = |user_id: &str, ts| PresenceUpdate {
        user_id: user_id.to_owned(),
        event: Bytes::from_static(b"{}"),
        last_active_ts: Some(ts),
    };
    let (mut first, stored) =
        poll(1, vec![(ROOM, RoomUpdate { account_data: vec![data("a", "1")], ..update(ROOM) })]);
    first.account_data = vec![data("a", "1"), data("b", "2")];
    first.presence = vec![presence("@a:x", 1), presence("@b:x", 1)];
    first.device_lists_changed = vec!["@a:x".to_owned(), "@b:x".to_owned()];
    let (mut second, then) = idle(2);
    second.account_data = vec![data("a", "3"), data("a", "4")];
    second.presence = vec![presence("@a:x", 2)];
    second.device_lists_left = vec!["@a:x".to_owned(), "@c:x".to_owned()];
    second.device_lists_changed = vec!["@c:x".to_owned()];
    let stretch = stretch(0, vec![(first, stored), (second, then)]);

    let texts = |told: Vec<(String, Bytes)>| -> Vec<String> {
        told.iter()
            .map(|(name, event)| format!("{name}{}", String::from_utf8_lossy(event)))
            .collect()
    };
    assert_eq!(texts(stretch.global_account_data()), ["b2", "a4"]);
    assert_eq!(
        stretch.room_account_data(ROOM, Position(0)).map(texts),
        Some(vec!["a1".to_owned()])
    );
    assert_eq!(stretch.room_account_data(ROOM, Position(1)).map(texts), Some(Vec::new()));
    assert_eq!(stretch.room_account_data(RoomNid(8), Position(0)).map(texts), Some(Vec::new()));
    let seen = stretch.presence();
    let seen: Vec<_> = seen.iter().map(|told| (&*told.user_id, told.last_active_ts)).collect();
    assert_eq!(seen, [("@b:x", Some(1)), ("@a:x", Some(2))]);
    let lists = stretch.device_list_changes();
    assert_eq!(
        (lists.changed, lists.left),
        (vec!["@b:x".into(), "@c:x".into()], vec!["@a:x".into()])
    );
    assert!(stretch.was_enough());
    stretch.asks_store();
    assert!(!stretch.was_enough());
}
