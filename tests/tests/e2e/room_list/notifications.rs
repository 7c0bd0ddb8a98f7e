//! Rooms outside the active set in which something notifies.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::session::Session;

use super::{arrived, begun, entry, named_room, notification, texts};

/// A session of Alice that follows no room, and her room with Bob.
struct Outside {
    alice: Client,
    bob: Client,
    room: String,
    session: Session,
}

impl Outside {
    async fn of(lab: &Lab, room: Value) -> Self {
        let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
        let room = alice.create_room(room).await;
        bob.join(&room).await.ok();
        let ask = json!({"room_list": {"p": {"limit": 0}}});
        let (session, _) = begun(&alice, ask, 1).await;
        Self { alice, bob, room, session }
    }

    /// Everything that notifies until there is a message, by its text.
    async fn until(&mut self, last: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        let (session, room) = (&mut self.session, &self.room);
        session
            .until(last, |reply| {
                assert!(entry(reply, room).is_null(), "it is followed: {reply:#}");
                let found = notification(reply, room);
                if !found.is_null() {
                    seen.push(found.clone());
                }
                texts(found).contains(&last).then_some(())
            })
            .await;
        seen
    }
}

fn all_texts(entries: &[Value]) -> Vec<&str> {
    entries.iter().flat_map(texts).collect()
}

#[tokio::test]
async fn a_room_that_nobody_follows_notifies() {
    let lab = Lab::shared().await;
    let mut outside = Outside::of(&lab, json!({"preset": "public_chat", "name": "Outside"})).await;
    outside.bob.send(&outside.room, "one").await;
    let first = outside.until("one").await;
    let entry = first.last().unwrap();
    assert_eq!((&entry["initial"], &entry["name"]), (&json!(true), &json!("Outside")));
    assert_eq!(entry["notification_count"], 1);
    assert!(entry["prev_batch"].is_string());

    // Alice's own messages do not notify, nor do they come with one that does.
    outside.alice.send(&outside.room, "mine").await;
    outside.bob.send(&outside.room, "two").await;
    let then = outside.until("two").await;
    assert_eq!(all_texts(&then), ["two"]);
    let entry = then.last().unwrap();
    assert!(entry["initial"].is_null() && entry["name"].is_null(), "it came once: {entry:#}");
    assert_eq!(entry["limited"], true, "her own message is not there: {entry:#}");
}

#[tokio::test]
async fn what_changed_meanwhile_comes_with_the_next_notification() {
    let lab = Lab::shared().await;
    let mut outside = Outside::of(&lab, json!({"preset": "public_chat", "name": "old"})).await;
    outside.bob.send(&outside.room, "one").await;
    outside.until("one").await;
    let name = json!({"name": "new"});
    outside.alice.set_state(&outside.room, "m.room.name", "", name).await.ok();
    outside.session.request(&json!({})).timeout(500).send().await.ok();
    outside.bob.send(&outside.room, "two").await;
    let then = outside.until("two").await;
    assert_eq!(then.last().unwrap()["name"], "new");
}

#[tokio::test]
async fn a_room_in_which_only_mentions_notify_is_quiet() {
    let lab = Lab::shared().await;
    let mut outside = Outside::of(&lab, json!({"preset": "public_chat"})).await;
    mentions_only(&outside).await;
    outside.bob.send(&outside.room, "quiet").await;
    let mention = json!({
        "msgtype": "m.text", "body": "loud",
        "m.mentions": {"user_ids": [outside.alice.user_id]},
    });
    // A poll that brings both brings them together; so the first one has to be there before.
    arrived(&outside.alice, &outside.room, "quiet").await;
    outside.bob.send_event(&outside.room, "m.room.message", mention).await.ok();
    let seen = outside.until("loud").await;
    assert_eq!(all_texts(&seen), ["loud"]);
    assert_eq!(seen.last().unwrap()["highlight_count"], 1);
}

#[tokio::test]
async fn in_an_encrypted_room_every_event_comes() {
    let lab = Lab::shared().await;
    let encryption = json!({
        "type": "m.room.encryption", "state_key": "",
        "content": {"algorithm": "m.megolm.v1.aes-sha2"},
    });
    let room = json!({"preset": "public_chat", "initial_state": [encryption]});
    let mut outside = Outside::of(&lab, room).await;
    mentions_only(&outside).await;
    outside.alice.send(&outside.room, "mine").await;
    for text in ["one", "two"] {
        outside.bob.send(&outside.room, text).await;
        let seen = outside.until(text).await;
        assert_eq!(all_texts(&seen), [text]);
    }
}

#[tokio::test]
async fn notifications_can_be_done_without_and_end_where_a_room_is_followed() {
    let lab = Lab::shared().await;
    let mut outside = Outside::of(&lab, json!({"preset": "public_chat"})).await;
    outside.session.ask(json!({"room_list": {"track_notifications": false}})).await;
    outside.bob.send(&outside.room, "not told").await;
    arrived(&outside.alice, &outside.room, "not told").await;
    let reply = outside.session.ask(json!({})).await;
    assert!(reply["room_list"].is_null(), "{reply:#}");

    let more = json!({"room_list": {"track_notifications": true, "p": {"limit": 5}}});
    let reply = outside.session.ask(more).await;
    assert_eq!(texts(entry(&reply, &outside.room)), ["not told"]);
    outside.bob.send(&outside.room, "followed").await;
    let room = outside.room.clone();
    outside
        .session
        .until("the message", |reply| {
            assert!(notification(reply, &room).is_null(), "{reply:#}");
            texts(entry(reply, &room)).contains(&"followed").then_some(())
        })
        .await;
}

/// A room that notified and is sent whole later is not new a second time.
#[tokio::test]
async fn a_room_that_notified_and_comes_onto_the_page_has_what_is_new() {
    let lab = Lab::shared().await;
    let mut outside = Outside::of(&lab, json!({"preset": "public_chat"})).await;
    outside.bob.send(&outside.room, "one").await;
    outside.until("one").await;
    outside.alice.send(&outside.room, "mine").await;
    arrived(&outside.alice, &outside.room, "mine").await;
    let reply = outside.session.ask(json!({"room_list": {"p": {"limit": 5}}})).await;
    let found = entry(&reply, &outside.room);
    assert!(found["initial"].is_null(), "{found:#}");
    assert_eq!(texts(found), ["mine"]);
}

#[tokio::test]
async fn an_invite_is_no_notification() {
    let lab = Lab::shared().await;
    let outside = Outside::of(&lab, json!({"preset": "public_chat"})).await;
    let other = named_room(&outside.bob, "other").await;
    outside.bob.invite(&other, &outside.alice.user_id).await.ok();
    let invites = json!({"room_list": {"filters": {"is_invite": true}}});
    begun(&outside.alice, invites, 1).await;
    let reply = outside.session.lose(json!({})).await;
    assert!(notification(&reply, &other).is_null(), "{reply:#}");
}

/// From now on only mentions of Alice notify her in the room.
async fn mentions_only(outside: &Outside) {
    let rule = format!(
        "/_matrix/client/v3/pushrules/global/room/{}",
        tests::client::encode(&outside.room)
    );
    outside.alice.put(&rule).json(&json!({"actions": []})).send().await.ok();
}
