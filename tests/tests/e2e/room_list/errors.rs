//! What is refused, and by which name.

use serde_json::{Value, json};
use tests::lab::Lab;

use super::{begun, named_rooms, next_page};

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let check = async |list: Value, errcode: &str, named: &str| {
        let refusal = alice.v3_sync(&json!({"room_list": list})).send().await.refused(400, errcode);
        let text = refusal["error"].as_str().unwrap();
        assert!(text.starts_with(&format!("{named}: ")), "{text}");
    };
    check(json!({"p": {"limit": -1}}), "M_INVALID_PARAM", "room_list.p.limit").await;
    check(json!({"p": {"limit": "1"}}), "M_BAD_JSON", "room_list.p.limit").await;
    check(json!({"p": {"sort": "by_name"}}), "M_BAD_JSON", "room_list.p.sort").await;
    let space_order = json!({"p": {"sort": ["by_space_order"]}});
    check(space_order, "M_INVALID_PARAM", "room_list.p.sort").await;
    check(json!({"p": {"since": "2"}}), "M_INVALID_PARAM", "room_list.p.since").await;
    let pair = json!({"state_events": [["m.room.name"]]});
    check(pair, "M_BAD_JSON", "room_list.state_events").await;
    let pairs = json!({"state_events": vec![["m.room.name", ""]; 101]});
    check(pairs, "M_INVALID_PARAM", "room_list.state_events").await;
    check(json!({"spaces": ["space"]}), "M_INVALID_PARAM", "room_list.spaces").await;
    let is_dm = json!({"filters": {"is_dm": "yes"}});
    check(is_dm, "M_BAD_JSON", "room_list.filters.is_dm").await;
    let types = json!({"filters": {"room_types": [1]}});
    check(types, "M_BAD_JSON", "room_list.filters.room_types").await;
    check(json!({"filters": []}), "M_BAD_JSON", "room_list.filters").await;
    let tracked = json!({"track_notifications": 1});
    check(tracked, "M_BAD_JSON", "room_list.track_notifications").await;

    let nowhere = json!({"room_list": {"spaces": ["!nowhere:x"]}});
    alice.v3_sync(&nowhere).send().await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn page_tokens_belong_to_their_session() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    named_rooms(&alice, &["a", "b"]).await;
    let ask = json!({"room_list": {"p": {"limit": 1}}});
    let (session, first) = begun(&alice, ask.clone(), 2).await;
    let token = next_page(&first).unwrap();
    let page = json!({"room_list": {"p": {"since": token}}});
    session.request(&page).send().await.ok();

    // Another session, and one that has yet to begin, have no such list.
    let (another, _) = begun(&alice, json!({"room_list": {}}), 2).await;
    another.request(&page).send().await.refused(400, "M_INVALID_PARAM");
    alice.v3_sync(&page).send().await.refused(400, "M_INVALID_PARAM");
    bob.v3_sync(&page).send().await.refused(400, "M_INVALID_PARAM");
}
