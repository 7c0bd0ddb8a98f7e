//! Who is online, whichever replica the client is at.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::events;
use tests::wait::eventually;

use super::{COUNT, replicas};

#[tokio::test]
async fn a_user_is_online_who_syncs_at_any_replica() {
    let lab = Lab::shared().await;
    let replicas = replicas(&lab).await;
    let (alice, bob, _room) = lab.two_in_a_room().await;
    // His account is polled for by one of them, and he talks to each in turn.
    replicas.at(0, &bob).sync().query("set_presence", "offline").send().await.ok();
    let holder = replicas.holder_of(&bob.user_id).await;

    for number in 0..COUNT {
        // Not past the replicas: of what he says elsewhere they do not know, and poll on for him who was online a moment ago.
        replicas.at(number, &bob).set_presence("offline", "").await.ok();
        let mut hers = replicas.at(0, &alice).v2();
        eventually("Bob to be offline", async || {
            let path = format!("/_matrix/client/v3/presence/{}/status", bob.user_id);
            (alice.get(&path).send().await.json["presence"] == "offline").then_some(())
        })
        .await;
        hers.next().await;
        let client = replicas.at(holder + number, &bob).on_new_connections();
        let reply = client.sync().query("set_presence", "online").send().await.ok();
        // A client sees its own presence in the very sync that says so.
        assert_eq!(of(&reply, &bob), Some(json!("online")), "at {number}: {reply:#}");
        hers.until("Bob to be online", |reply| {
            (of(reply, &bob) == Some(json!("online"))).then_some(())
        })
        .await;
    }
}

/// What a reply says of a user's presence last.
fn of(reply: &Value, user: &Client) -> Option<Value> {
    let all = events(&reply["presence"]);
    let last = all.iter().rfind(|event| event["sender"] == user.user_id.as_str())?;
    Some(last["content"]["presence"].clone())
}
