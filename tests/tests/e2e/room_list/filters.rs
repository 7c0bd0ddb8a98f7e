//! Filters: which rooms are in the list, and how rooms come into it and leave it while the session streams.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::wait::eventually;

use super::{begun, entry, named_room, named_rooms, removed, texts, told};

/// The names of the rooms that pass filters, sorted by them.
async fn passing(alice: &Client, filters: &Value) -> Vec<String> {
    let ask = json!({"room_list": {"p": {"sort": ["by_name"]}, "filters": filters}});
    let reply = alice.v3().ask(ask).await;
    let rooms = reply["room_list"]["rooms"].as_array().unwrap();
    assert_eq!(reply["room_list"]["count"], rooms.len());
    rooms.iter().map(|room| room["name"].as_str().unwrap().to_owned()).collect()
}

fn encryption() -> Value {
    json!({"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}})
}

#[tokio::test]
async fn each_filter_keeps_its_rooms() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&alice, &["Direct", "Favourite", "Plain"]).await;
    alice.create_room(json!({"name": "Secret", "initial_state": [encryption()]})).await;
    alice.create_room(json!({"name": "Space", "creation_content": {"type": "m.space"}})).await;
    alice.create_room(json!({"name": "Odd", "creation_content": {"type": "org.odd"}})).await;
    alice.set_account_data("m.direct", &json!({"@bob:x": [rooms[0]]})).await.ok();
    alice.tag(&rooms[1], "m.favourite").await.ok();
    alice.tag(&rooms[1], "u.work").await.ok();
    alice.tag(&rooms[2], "u.work").await.ok();
    let invitation = named_room(&bob, "Invitation").await;
    bob.invite(&invitation, &alice.user_id).await.ok();

    let check = async |filters: Value, expected: &[&str]| {
        eventually(&filters.to_string(), async || {
            (passing(&alice, &filters).await == expected).then_some(())
        })
        .await;
    };
    check(json!({}), &["Direct", "Favourite", "Odd", "Plain", "Secret", "Space"]).await;
    check(json!({"is_dm": true}), &["Direct"]).await;
    check(json!({"is_dm": false}), &["Favourite", "Odd", "Plain", "Secret", "Space"]).await;
    check(json!({"is_encrypted": true}), &["Secret"]).await;
    check(json!({"is_encrypted": false, "is_dm": false}), &["Favourite", "Odd", "Plain", "Space"])
        .await;
    check(json!({"room_types": ["m.space"]}), &["Space"]).await;
    check(json!({"room_types": ["m.space", null], "not_room_types": [null]}), &["Space"]).await;
    check(json!({"not_room_types": [null, "m.space"]}), &["Odd"]).await;
    check(json!({"tags": ["m.favourite", "u.work"]}), &["Favourite", "Plain"]).await;
    check(json!({"tags": ["u.work"], "not_tags": ["m.favourite"]}), &["Plain"]).await;
    check(json!({"not_tags": ["u.work"], "room_types": [null]}), &["Direct", "Secret"]).await;
    check(json!({"room_name_like": "E"}), &["Direct", "Favourite", "Secret", "Space"]).await;
    check(json!({"room_name_like": "no such room"}), &[]).await;
    check(json!({"is_invite": false, "room_name_like": "pla"}), &["Plain"]).await;
    check(json!({"is_invite": true}), &["Invitation"]).await;
    check(json!({"unheard_of": true, "is_dm": true}), &["Direct"]).await;
}

#[tokio::test]
async fn a_room_whose_tags_begin_or_cease_to_match_comes_and_goes() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = named_room(&alice, "room").await;
    let ask = json!({"room_list": {"filters": {"tags": ["u.work"]}}});
    let (mut session, _) = begun(&alice, ask, 0).await;

    alice.send(&room, "not told").await;
    alice.tag(&room, "u.work").await.ok();
    let reply = session
        .until("the room", |reply| (!entry(reply, &room).is_null()).then(|| reply.clone()))
        .await;
    assert_eq!(entry(&reply, &room)["initial"], true);
    assert_eq!(reply["room_list"]["count"], 1);
    assert_eq!(texts(entry(&reply, &room)), ["not told"], "the last event, as of any room");

    alice.untag(&room, "u.work").await.ok();
    let reply =
        session.until("its end", |reply| (!removed(reply).is_empty()).then(|| reply.clone())).await;
    assert_eq!((removed(&reply), told(&reply)), (vec![room.as_str()], vec![]));
    assert_eq!(reply["room_list"]["count"], 0);
}

#[tokio::test]
async fn a_direct_chat_comes_into_the_list_of_direct_chats() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["one", "two"]).await;
    let direct = |room: &str| json!({"@bob:x": [room]});
    alice.set_account_data("m.direct", &direct(&rooms[0])).await.ok();
    let ask = json!({"room_list": {"filters": {"is_dm": true}}});
    let (mut session, first) = begun(&alice, ask, 1).await;
    assert_eq!(told(&first), [&rooms[0]]);

    alice.set_account_data("m.direct", &direct(&rooms[1])).await.ok();
    let reply = session
        .until("the change", |reply| (!removed(reply).is_empty()).then(|| reply.clone()))
        .await;
    assert_eq!((removed(&reply), told(&reply)), (vec![&*rooms[0]], vec![&*rooms[1]]));
    assert_eq!(entry(&reply, &rooms[1])["initial"], true);
}

/// A room beyond the first page that has matched all the time does not come into the list by changing.
#[tokio::test]
async fn only_what_begins_to_match_comes_into_the_list() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["beyond", "page", "other"]).await;
    let ask = json!({"room_list": {
        "p": {"limit": 1, "sort": ["by_recency"]}, "filters": {"room_name_like": "e"},
        "track_notifications": false,
    }});
    alice.send(&rooms[1], "the page").await;
    let (mut session, first) = begun(&alice, ask, 3).await;
    assert_eq!(told(&first), [&rooms[1]]);
    let rename = async |room: &str, name: &str| {
        alice.set_state(room, "m.room.name", "", json!({"name": name})).await.ok();
    };
    let mut seen = Vec::new();
    rename(&rooms[0], "beyond it").await;
    rename(&rooms[2], "gone").await;
    rename(&rooms[2], "it is not").await;
    alice.send(&rooms[1], "meanwhile").await;
    session
        .until("the page", |reply| {
            seen.extend(told(reply).into_iter().map(str::to_owned));
            texts(entry(reply, &rooms[1])).contains(&"meanwhile").then_some(())
        })
        .await;
    rename(&rooms[2], "here again").await;
    let reply = session
        .until("the room", |reply| {
            seen.extend(told(reply).into_iter().map(str::to_owned));
            (!entry(reply, &rooms[2]).is_null()).then(|| reply.clone())
        })
        .await;
    assert_eq!(entry(&reply, &rooms[2])["initial"], true);
    assert!(!seen.contains(&rooms[0]), "{seen:?}");
}

#[tokio::test]
async fn a_room_that_is_encrypted_from_now_on_leaves_the_list_of_others() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = named_room(&alice, "room").await;
    let ask = json!({"room_list": {"filters": {"is_encrypted": false}}});
    let (mut session, _) = begun(&alice, ask, 1).await;
    alice.set_state(&room, "m.room.encryption", "", encryption()["content"].clone()).await.ok();
    let reply =
        session.until("its end", |reply| (!removed(reply).is_empty()).then(|| reply.clone())).await;
    assert_eq!(removed(&reply), [&room]);
}

#[tokio::test]
async fn invites_are_a_list_of_their_own() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&bob, &["one", "two"]).await;
    bob.invite(&rooms[0], &alice.user_id).await.ok();
    let ask = json!({"room_list": {
        "filters": {"is_invite": true}, "state_events": [["m.room.name", ""]],
    }});
    let (mut session, first) = begun(&alice, ask, 1).await;
    let invite = entry(&first, &rooms[0]);
    assert_eq!((&invite["name"], &invite["initial"]), (&json!("one"), &json!(true)));
    for key in ["timeline", "state_events", "prev_batch", "limited"] {
        assert!(invite[key].is_null(), "{key}: {invite:#}");
    }
    assert!(invite["timestamp"].as_i64().unwrap() > 0);

    bob.invite(&rooms[1], &alice.user_id).await.ok();
    session
        .until("the second invite", |reply| {
            (entry(reply, &rooms[1])["name"] == "two").then_some(())
        })
        .await;
    alice.join(&rooms[0]).await.ok();
    let reply = session
        .until("the join", |reply| (!removed(reply).is_empty()).then(|| reply.clone()))
        .await;
    assert_eq!((removed(&reply), told(&reply)), (vec![&*rooms[0]], vec![]));
    assert_eq!(reply["room_list"]["count"], 1);

    let ignored = json!({"ignored_users": {bob.user_id.as_str(): {}}});
    alice.set_account_data("m.ignored_user_list", &ignored).await.ok();
    begun(&alice, json!({"room_list": {"filters": {"is_invite": true}}}), 0).await;
}
