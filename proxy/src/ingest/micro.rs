//! What reading a poll costs.

use ::tests::micro::measure;
use divan::{Bencher, black_box, counter::BytesCount};

use super::*;

const ASKED: Asked<'_> = Asked {
    user_id: "@alice:example.org",
    device_nid: DeviceNid(1),
    since: Some("s72594_4483_1934"),
    received_at: 1_700_000_000_000,
};

/// How many rooms and events a reply tells of.
fn told(reply: &[u8]) -> usize {
    let poll = main_poll(reply, ASKED).expect("a reply");
    let events = poll.rooms.iter().map(|room| room.timeline.len()).sum::<usize>();
    poll.rooms.len() + events
}

fn message(room: usize, number: usize) -> String {
    format!(
        r#"{{"type":"m.room.encrypted","sender":"@bob{number}:example.org","content":{{"algorithm":"m.megolm.v1.aes-sha2","sender_key":"{key}","ciphertext":"{ciphertext}","session_id":"{key}","device_id":"DEVICEOFBOB"}},"origin_server_ts":1699999999{number:03},"unsigned":{{"membership":"join","age":{number}}},"event_id":"$event_{room}_{number}_abcdefghijklmnopqrstuvwxyz012345"}}"#,
        key = "K".repeat(43),
        ciphertext = "AwgAEnACgAkLmt6qF84IK".repeat(20),
    )
}

fn member(room: usize, number: usize) -> String {
    format!(
        r#"{{"type":"m.room.member","state_key":"@bob{number}:example.org","sender":"@bob{number}:example.org","content":{{"membership":"join","displayname":"Bob the {number}th","avatar_url":"mxc://example.org/abcdefghijklmnop"}},"origin_server_ts":1699999999{number:03},"unsigned":{{"age":{number},"replaces_state":"$earlier_{room}_{number}_abcdefghijklmnopqrstuvwxyz","prev_content":{{"membership":"invite"}},"prev_sender":"@alice:example.org"}},"event_id":"$member_{room}_{number}_abcdefghijklmnopqrstuvwxyz01234"}}"#
    )
}

/// A reply with so many rooms, each with so many messages and so many members.
pub(crate) fn reply(rooms: usize, messages: usize, members: usize) -> String {
    let list = |count: usize, event: &dyn Fn(usize) -> String| {
        (0..count).map(event).collect::<Vec<_>>().join(",")
    };
    let room = |room: usize| {
        format!(
            r#""!room{room}:example.org":{{"timeline":{{"events":[{}],"prev_batch":"t1-{room}_0_0","limited":false}},"state":{{"events":[{}]}},"account_data":{{"events":[]}},"ephemeral":{{"events":[{{"type":"m.receipt","content":{{"$event_{room}_0":{{"m.read":{{"@bob1:example.org":{{"ts":1699999999000}}}}}}}}}}]}},"unread_notifications":{{"notification_count":1,"highlight_count":0}},"summary":{{}}}}"#,
            list(messages, &|number| message(room, number)),
            list(members, &|number| member(room, number)),
        )
    };
    format!(
        r#"{{"next_batch":"s72595_4483_1934","device_one_time_keys_count":{{"signed_curve25519":50}},"device_unused_fallback_key_types":["signed_curve25519"],"rooms":{{"join":{{{}}}}}}}"#,
        list(rooms, &room),
    )
}

fn reads(bencher: Bencher<'_, '_>, reply: &str, expected: usize) {
    let call = || told(black_box(reply).as_bytes());
    measure(bencher, BytesCount::of_str(reply), expected, call);
}

#[divan::bench]
fn a_poll_of_one_event(bencher: Bencher<'_, '_>) {
    reads(bencher, &reply(1, 1, 0), 2);
}

#[divan::bench]
fn a_poll_of_100_rooms(bencher: Bencher<'_, '_>) {
    reads(bencher, &reply(100, 3, 2), 400);
}

#[divan::bench]
fn a_first_poll_of_1_000_rooms(bencher: Bencher<'_, '_>) {
    reads(bencher, &reply(1_000, 5, 5), 6_000);
}
