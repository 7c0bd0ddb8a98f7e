//! What the homeserver writes arrives as it was written, wherever it stands in an answer.

use std::fmt::Write;

use tests::client::SyncRequest;
use tests::scripted_homeserver::{first_sync, message};

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn a110_a85_json_comes_through_byte_for_byte_in_every_part_of_an_answer() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut pieces = Vec::new();
    let mut odd = |place: &str| {
        let piece = oddity(place);
        pieces.push(piece.clone());
        piece
    };
    let event = |event_type: &str, id: &str, content: &str, more: &str| {
        format!(
            r#"{{"origin_server_ts":1700000000000,"sender":"@bob:scripted","type":"{event_type}","event_id":"{id}","content":{content}{more}}}"#
        )
    };
    let invite_state = format!(
        r#"{{"more":{}, "events":[{}]}}"#,
        odd("beside the stripped state"),
        event(
            "m.room.name",
            "$stripped",
            &odd("stripped state"),
            r#","state_key":"","unsigned":{"age":  7}"#
        )
    );
    let knock_state = format!(r#"{{ "events":[ {} ]}}"#, odd("a stripped event"));
    let mut room = String::new();
    write!(
        room,
        r#"{{"timeline":{{"limited":false,"prev_batch":"p","events":[{},{}]}},"state":{{"events":[{}]}},
            "account_data":{{"events":[{{"type":"m.room.data","content":{},"beside":{}}}]}},
            "ephemeral":{{"events":[{{"type":"m.typing","content":{{"user_ids":["@bob:scripted"],"more":{}}}}},
                {{"type":"m.receipt","content":{{"$one":{{"m.read":{{"@bob:scripted":{}}}}}}}}}]}},
            "unread_notifications":{{"notification_count":0,"highlight_count":0}},
            "unread_thread_notifications":{{"$one":{{"notification_count":1,"highlight_count":0,"more":{}}}}},"summary":{{}}}}"#,
        event("m.odd", "$one", &odd("content"), &format!(r#","beside":{}"#, odd("beside content"))),
        event("m.odd", "$two", "{}", &format!(r#","unsigned":{{"org.example.more":{}}}"#, odd("unsigned"))),
        event("m.odd.state", "$three", &odd("state"), r#","state_key":"k\u0065y""#),
        odd("room account data"),
        odd("beside room account data"),
        odd("typing"),
        odd("a receipt"),
        odd("thread counts"),
    )
    .unwrap();
    let top = format!(
        r#""account_data":{{"events":[{{"content":{},"type":"m.global"}}]}},
           "presence":{{"events":[{{"type":"m.presence","sender":"@bob:scripted","content":{{"presence":"online","last_active_ago":5,"more":{},"\ud800":1}}}}]}},
           "to_device":{{"events":[{{"sender":"@bob:scripted","type":"m.to_device","content":{}}}]}},
           "device_one_time_keys_count":{{"signed_curve25519":  5}},"#,
        odd("global account data"),
        odd("presence"),
        odd("to-device"),
    );
    let reply = format!(
        r#"{{{top}"next_batch":"s1","rooms":{{"join":{{"{ROOM}":{room}}},"invite":{{"!invite:scripted":{{"invite_state":{invite_state}}}}},
            "knock":{{"!knock:scripted":{{"knock_state":{knock_state}}}}}}}}}"#
    );
    homeserver.on_sync_raw(None, reply);

    let filter = serde_json::json!({"room": {
        "timeline": {"unread_thread_notifications": true}, "state": {"lazy_load_members": true},
    }});
    let text = of_any_shape(alice.sync().filter(&filter)).await;

    for piece in &pieces {
        assert!(text.contains(piece), "{piece:.60} did not come through as it was: {text}");
    }
    for verbatim in [
        &format!(r#""invite_state":{invite_state}"#),
        &format!(r#""knock_state":{knock_state}"#),
        r#""state_key":"k\u0065y""#,
        r#""\ud800":1"#,
        r#""device_one_time_keys_count":{"signed_curve25519":  5}"#,
    ] {
        assert!(text.contains(verbatim), "{verbatim:.80} did not come through as it was: {text}");
    }
}

#[tokio::test]
async fn a110_a26_what_event_fields_choose_is_not_touched_either() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let content = oddity("content");
    let marker = message("marker").to_string();
    let event = format!(
        r#"{{"event_id":"$odd","type":"m.odd","sender":"@bob:scripted","content":{{"a.b":{content},"c":1}}}}"#
    );
    let reply = first_sync(&alice.user_id, ROOM, "s1", &["marker"]).to_string();
    homeserver.on_sync_raw(None, reply.replace(&marker, &event));

    let filter = serde_json::json!({"event_fields": [r"content.a\.b"]});
    let text = of_any_shape(alice.sync().filter(&filter)).await;

    assert!(text.contains(&format!(r#"[{{"content":{{"a.b":{content}}}}}]"#)), "{text}");
}

/// The text of an answer that no ordinary parser can hold.
async fn of_any_shape(request: SyncRequest) -> String {
    let request = request.of_any_shape("the homeserver is odd on purpose");
    request.send().await.expect_status(200).body_text()
}

/// JSON that is easily altered: order of keys, numbers of every kind, blanks, escapes, depth, duplicates.
fn oddity(place: &str) -> String {
    format!(
        r#"{{"z":"{place}","a":1.10,"big":123456789012345678901234567890,"e":-1E+2,"huge":1e400,"zero":-0.0,"lone":"\ud800","nul":"a\u0000b","esc":"\u00e4\/","twice":1,"twice":2,"deep":{}1{},"blank":  [ 1 ,2 ]}}"#,
        "[".repeat(200),
        "]".repeat(200),
    )
}
