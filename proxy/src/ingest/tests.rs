//! What a sync reply becomes: data-only cases, odd JSON included.

use store::{DeviceNid, Poll, StateBlock};

use super::*;

const ASKED: Asked<'_> =
    Asked { user_id: "@me:x", device_nid: DeviceNid(1), since: Some("s1"), received_at: 10_000 };

fn read(reply: &str) -> Poll {
    main_poll(reply.as_bytes(), ASKED).expect("a sync reply")
}

fn with_timeline(events: &str) -> Poll {
    read(&format!(
        r#"{{"next_batch":"s2","rooms":{{"join":{{"!r:x":{{"timeline":{{"limited":true,"prev_batch":"p","events":[{events}]}}}}}}}}}}"#
    ))
}

#[test]
fn an_answer_that_is_no_sync_reply_is_refused() {
    for reply in ["", "<html>", "[]", "{}", r#"{"next_batch":5}"#, r#"{"next_batch":"s2""#] {
        assert!(main_poll(reply.as_bytes(), ASKED).is_err(), "{reply}");
    }
}

#[test]
fn an_event_is_split() {
    let poll = with_timeline(
        r#"{"type":"m.room.message","event_id":"$1","sender":"@a:x","content":{"n":1.10},"unsigned":{"age":1000,"transaction_id":"t","membership":"join"},"x":"\ud800"}"#,
    );
    let room = &poll.rooms[0];
    assert!(room.limited);
    assert_eq!(room.prev_batch.as_deref(), Some("p"));
    let event = &room.timeline[0];
    assert_eq!(
        &*event.body,
        br#"{"type":"m.room.message","event_id":"$1","sender":"@a:x","content":{"n":1.10},"x":"\ud800"}"#
    );
    assert_eq!(event.unsigned.as_deref(), Some(&br#"{"membership":"join"}"#[..]));
    assert_eq!(event.age_ts, Some(9_000));
    assert_eq!(event.transaction_id.as_deref(), Some("t"));
    assert!(poll.quarantined.is_empty());
}

#[test]
fn a_bad_event_is_quarantined_and_the_rest_goes_on() {
    let poll = with_timeline(
        r#"{"type":"\ud800","event_id":"$1"},5,{"type":"t","event_id":"$2"},{"type":"t","event_id":"$3","state_key":"\u0000"},{"type":"t","event_id":"$4","state_key":7}"#,
    );
    assert_eq!(poll.rooms[0].timeline.len(), 1);
    assert_eq!(poll.rooms[0].timeline[0].event_id, "$2");
    assert_eq!(poll.quarantined.len(), 4);
}

#[test]
fn a_bad_room_is_quarantined_and_the_rest_goes_on() {
    let poll = read(r#"{"next_batch":"s2","rooms":{"join":{"!a:x":5,"!b:x":{}}}}"#);
    assert_eq!(poll.rooms.len(), 1);
    assert_eq!(poll.rooms[0].room_id, "!b:x");
    assert_eq!(poll.quarantined.len(), 1);
}

/// A lone surrogate is legal JSON and no text: such a room was left out without a word.
#[test]
fn a_room_whose_id_is_no_text_is_quarantined() {
    let poll = read(r#"{"next_batch":"s2","rooms":{"join":{"!\ud800:x":{},"!b:x":{}}}}"#);
    assert_eq!(poll.rooms.len(), 1);
    assert_eq!(poll.quarantined.len(), 1);
}

#[test]
fn a_member_event_gives_membership_and_name() {
    let poll = with_timeline(
        r#"{"type":"m.room.member","event_id":"$1","state_key":"@a:x","content":{"membership":"join","displayname":"A\u0000b"}}"#,
    );
    let event = &poll.rooms[0].timeline[0];
    assert_eq!(event.membership.as_deref(), Some("join"));
    assert_eq!(event.displayname.as_deref(), Some("Ab"));
}

#[test]
fn state_after_is_preferred_under_both_names() {
    for name in ["state_after", "org.matrix.msc4222.state_after"] {
        let poll = read(&format!(
            r#"{{"next_batch":"s2","rooms":{{"join":{{"!r:x":{{"{name}":{{"events":[{{"type":"t","state_key":"","event_id":"$1"}}]}}}}}}}}}}"#
        ));
        assert!(
            matches!(&poll.rooms[0].state, StateBlock::AfterTimeline(events) if events.len() == 1)
        );
    }
}

#[test]
fn receipts_typing_counts_and_summary_are_read() {
    let poll = read(
        r#"{"next_batch":"s2","rooms":{"join":{"!r:x":{"ephemeral":{"events":[{"type":"m.typing","content":{"user_ids":["@a:x"]}},{"type":"m.receipt","content":{"$1":{"m.read":{"@a:x":{"ts":1,"thread_id":"main"}}}}}]},"unread_notifications":{"notification_count":2,"highlight_count":1},"unread_thread_notifications":{"$t":{"notification_count":1,"highlight_count":0}},"summary":{"m.heroes":["@a:x"],"m.joined_member_count":2}}}}}"#,
    );
    let room = &poll.rooms[0];
    assert_eq!(room.typing.as_deref(), Some(&br#"{"user_ids":["@a:x"]}"#[..]));
    assert_eq!(room.receipts[0].thread_id, "main");
    let counts = room.counts.as_ref().expect("counts");
    assert_eq!((counts.notification_count, counts.highlight_count), (2, 1));
    assert!(counts.threads.is_some());
    assert_eq!(room.summary.joined_member_count, Some(2));
}

#[test]
fn a_rejoin_is_seen_and_a_renaming_is_not() {
    let join = |previous: &str| {
        with_timeline(&format!(
            r#"{{"type":"m.room.member","event_id":"$1","state_key":"@me:x","content":{{"membership":"join"}},"unsigned":{{"prev_content":{{"membership":"{previous}"}}}}}}"#
        ))
        .rooms[0]
            .joins_anew
            .clone()
    };
    assert_eq!(join("leave").as_deref(), Some("$1"));
    assert_eq!(join("join"), None);
}

#[test]
fn an_old_join_that_lazy_loading_shows_is_no_rejoin() {
    let shown = |limited: bool| {
        let poll = read(&format!(
            r#"{{"next_batch":"s2","rooms":{{"join":{{"!r:x":{{"timeline":{{"events":[],"limited":{limited}}},"state":{{"events":[{{"type":"m.room.member","event_id":"$1","state_key":"@me:x","content":{{"membership":"join"}},"unsigned":{{"prev_content":{{"membership":"invite"}}}}}}]}}}}}}}}}}"#
        ));
        poll.rooms[0].joins_anew.clone()
    };
    assert_eq!(shown(true).as_deref(), Some("$1"));
    assert_eq!(shown(false), None);
}

#[test]
fn presence_becomes_absolute() {
    let poll = read(
        r#"{"next_batch":"s2","presence":{"events":[{"type":"m.presence","sender":"@a:x","content":{"presence":"online","last_active_ago":4000}}]}}"#,
    );
    assert_eq!(poll.presence[0].last_active_ts, Some(6_000));
    assert_eq!(
        &*poll.presence[0].event,
        br#"{"type":"m.presence","sender":"@a:x","content":{"presence":"online"}}"#
    );
}

#[test]
fn the_device_gets_its_own_part() {
    let poll = light_poll(
        br#"{"next_batch":"s2","to_device":{"events":[{"a":1},{"b":"\ud800"}]},"device_one_time_keys_count":{"signed_curve25519":50},"device_unused_fallback_key_types":["signed_curve25519"]}"#,
        ASKED,
    )
    .expect("a sync reply");
    assert_eq!(poll.device.to_device.len(), 2);
    assert_eq!(&*poll.device.to_device[1], br#"{"b":"\ud800"}"#);
    assert_eq!(
        poll.device.unused_fallback_key_types.as_deref(),
        Some(&br#"["signed_curve25519"]"#[..])
    );
}

/// Rooms listed twice do not cost more the more rooms there are: of 100 000 each pair would be compared otherwise.
#[test]
fn many_rooms_listed_twice_are_read() {
    let section: Vec<String> = (0..100_000).map(|number| format!("\"!{number}:x\":{{}}")).collect();
    let section = section.join(",");
    let reply =
        format!(r#"{{"next_batch":"s","rooms":{{"leave":{{{section}}},"invite":{{{section}}}}}}}"#);
    let poll = main_poll(reply.as_bytes(), ASKED).expect("a sync reply");
    assert_eq!(poll.rooms.len(), 100_000);
    assert!(poll.rooms.iter().all(|room| room.section == Section::Invite));
}
