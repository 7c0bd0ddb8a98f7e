//! Lists of the children of spaces.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;

use super::{begun, entry, named_room, named_rooms, removed, texts, told};

async fn space(client: &Client) -> String {
    let space = json!({"preset": "public_chat", "creation_content": {"type": "m.space"}});
    client.create_room(space).await
}

async fn add(client: &Client, space: &str, child: &str, content: Value) {
    client.set_state(space, "m.space.child", child, content).await.ok();
}

fn via() -> Value {
    json!({"via": ["x"]})
}

#[tokio::test]
async fn the_list_is_the_children_in_the_order_of_the_space() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&alice, &["a", "b", "c", "d", "no child"]).await;
    let (one, other) = (space(&alice).await, space(&alice).await);
    let unknown = named_room(&bob, "not hers").await;
    add(&alice, &one, &rooms[3], via()).await;
    add(&alice, &one, &unknown, via()).await;
    add(&alice, &one, &rooms[2], via()).await;
    add(&alice, &one, &rooms[1], json!({"via": ["x"], "order": "1"})).await;
    add(&alice, &one, &rooms[4], json!({})).await;
    add(&alice, &other, &rooms[0], via()).await;
    add(&alice, &other, &rooms[3], json!({"via": ["x"], "order": "1"})).await;

    let listed = async |spaces: &[&str], sort: Value, count: usize| {
        let ask = json!({"room_list": {"spaces": spaces, "p": {"sort": sort}}});
        let (_, reply) = begun(&alice, ask, count).await;
        let name = |room: &Value| room["name"].as_str().unwrap().to_owned();
        reply["room_list"]["rooms"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    let in_order = json!(["by_space_order"]);
    assert_eq!(listed(&[&one], in_order.clone(), 3).await, ["b", "d", "c"]);
    assert_eq!(listed(&[&other], in_order.clone(), 2).await, ["d", "a"]);
    assert_eq!(listed(&[&other, &one], in_order.clone(), 4).await, ["d", "a", "b", "c"]);
    assert_eq!(listed(&[&one, &other], in_order, 4).await, ["b", "d", "c", "a"]);
    let counted = json!(["by_highlight_count", "by_space_order"]);
    assert_eq!(listed(&[&one], counted, 3).await, ["b", "d", "c"], "all have the same count");
    assert_eq!(listed(&[&one], json!(["by_name"]), 3).await, ["b", "c", "d"]);
}

/// All children are followed, whether they are on the page or not.
#[tokio::test]
async fn children_beyond_the_page_come_when_they_stir() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&alice, &["a", "b", "outside"]).await;
    let space = space(&alice).await;
    for room in &rooms {
        bob.join(room).await.ok();
    }
    add(&alice, &space, &rooms[0], via()).await;
    add(&alice, &space, &rooms[1], via()).await;
    let ask = json!({"room_list": {
        "spaces": [space], "p": {"limit": 1, "sort": ["by_name"]}, "track_notifications": false,
    }});
    let (mut session, first) = begun(&alice, ask, 2).await;
    assert_eq!(told(&first), [&rooms[0]]);

    bob.starts_typing(&rooms[1]).await;
    bob.send(&rooms[2], "outside").await;
    bob.send(&rooms[0], "on the page").await;
    let mut seen = Vec::new();
    session
        .until("the first child", |reply| {
            seen.extend(told(reply).into_iter().map(str::to_owned));
            texts(entry(reply, &rooms[0])).contains(&"on the page").then_some(())
        })
        .await;
    assert!(!seen.contains(&rooms[2]), "{seen:?}");
    bob.send(&rooms[1], "beyond it").await;
    let mut initial = Vec::new();
    session
        .until("the other child", |reply| {
            let entry = entry(reply, &rooms[1]);
            initial.extend(entry.as_object().map(|entry| entry.contains_key("initial")));
            texts(entry).contains(&"beyond it").then_some(())
        })
        .await;
    let first_time = seen.contains(&rooms[1]);
    assert_eq!(initial.first(), Some(&!first_time), "it comes whole for the first time");
}

#[tokio::test]
async fn children_come_and_go() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["a", "b", "c"]).await;
    let space = space(&alice).await;
    add(&alice, &space, &rooms[0], via()).await;
    add(&alice, &space, &rooms[1], via()).await;
    let (mut session, _) = begun(&alice, json!({"room_list": {"spaces": [space]}}), 2).await;

    add(&alice, &space, &rooms[2], via()).await;
    let reply = session
        .until("the new child", |reply| (!entry(reply, &rooms[2]).is_null()).then(|| reply.clone()))
        .await;
    assert_eq!(entry(&reply, &rooms[2])["initial"], true);
    assert_eq!(reply["room_list"]["count"], 3);

    add(&alice, &space, &rooms[0], json!({})).await;
    let reply =
        session.until("its end", |reply| (!removed(reply).is_empty()).then(|| reply.clone())).await;
    assert_eq!((removed(&reply), told(&reply)), (vec![&*rooms[0]], vec![]));

    alice.leave(&rooms[1]).await.ok();
    let reply = session
        .until("the leave", |reply| (!removed(reply).is_empty()).then(|| reply.clone()))
        .await;
    assert_eq!((removed(&reply), told(&reply)), (vec![&*rooms[1]], vec![&*rooms[1]]));
    assert_eq!(reply["room_list"]["count"], 1);
}

#[tokio::test]
async fn who_leaves_a_space_lists_its_children_no_more() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let space = space(&bob).await;
    let ask = json!({"room_list": {"spaces": [space]}});
    alice.v3_sync(&ask).send().await.refused(403, "M_FORBIDDEN");
    alice.join(&space).await.ok();
    let (session, _) = begun(&alice, ask, 0).await;
    alice.leave(&space).await.ok();
    tests::wait::eventually("the refusal", async || {
        (session.request(&json!({})).send().await.status == 403).then_some(())
    })
    .await;
}

/// Names that are equal to whoever reads them are equal, however they are spelt.
#[tokio::test]
async fn equal_names_stand_in_the_order_of_the_space() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let names = ["caf\u{e9}", "cafe\u{301}", "CAF\u{c9}", "CAFE\u{301}", "Caf\u{e9}"];
    let rooms = named_rooms(&alice, &names).await;
    let space = space(&alice).await;
    for (number, room) in rooms.iter().enumerate() {
        let content = json!({"via": ["x"], "order": number.to_string()});
        add(&alice, &space, room, content).await;
    }
    let sort = json!(["by_name", "by_space_order"]);
    let ask = json!({"room_list": {"spaces": [space], "p": {"sort": sort}}});
    let (_, reply) = begun(&alice, ask, names.len()).await;
    assert_eq!(told(&reply), rooms);
}
