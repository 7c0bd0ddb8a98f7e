//! What belongs to the account, rule by rule: account data, push rules, upgrades of rooms; what of an event is told to
//! one account and not to another; the top of an answer.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Client, encode};
use tests::lab::Lab;
use tests::matchers::{content_of, events, joined, messages, state, timeline, types};
use tests::wait::eventually;

#[tokio::test]
async fn a72_tags_markers_and_flags_come_and_go() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let event_id = alice.send(&room, "read up to here").await;
    let mut chain = alice.v2();
    chain.next().await;
    let mut next = async |what: &str, event_type: &str| {
        let reply = chain.until_reply(what, |reply| joined(reply, &room).is_object()).await;
        let data = events(&joined(&reply, &room)["account_data"]);
        let told = types(&data).into_iter().map(str::to_owned).collect::<Vec<_>>();
        (told, content_of(&data, event_type).clone())
    };
    let only = |event_type: &str| vec![event_type.to_owned()];

    for tag in ["u.one", "u.two"] {
        alice.tag(&room, tag).await.ok();
    }
    let (mut told, mut tags) = next("a tag", "m.tag").await;
    if tags["tags"]["u.two"].is_null() {
        (told, tags) = next("the other tag", "m.tag").await;
    }
    assert_eq!(told, only("m.tag"));
    let order = json!({"order": 0.5});
    assert_eq!(tags, json!({"tags": {"u.one": order, "u.two": order}}), "the whole object comes");

    let markers = format!("/_matrix/client/v3/rooms/{}/read_markers", encode(&room));
    alice.post(&markers).json(&json!({"m.fully_read": event_id})).send().await.ok();
    let read = next("the marker", "m.fully_read").await;
    assert_eq!(read, (only("m.fully_read"), json!({"event_id": event_id})));

    alice.set_room_account_data(&room, "m.marked_unread", &json!({"unread": true})).await.ok();
    let unread = next("the flag", "m.marked_unread").await;
    assert_eq!(unread, (only("m.marked_unread"), json!({"unread": true})));

    for tag in ["u.one", "u.two"] {
        untag(&alice, &room, tag).await;
    }
    let (_, mut tags) = next("a tag to go", "m.tag").await;
    if tags["tags"] != json!({}) {
        (_, tags) = next("the other tag to go", "m.tag").await;
    }
    assert_eq!(tags, json!({"tags": {}}), "that there are none left is told");

    let initial = alice.fresh_sync().send().await.ok();
    let data = events(&joined(&initial, &room)["account_data"]);
    assert_eq!(content_of(&data, "m.fully_read"), &json!({"event_id": event_id}));
    assert_eq!(content_of(&data, "m.marked_unread"), &json!({"unread": true}));
}

#[tokio::test]
async fn a77_d5_4_what_is_bundled_with_an_event_comes_and_what_relates_to_it_later_follows() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    // Bundled are the events of limited timelines only.
    for n in 0..25 {
        alice.send(&room, &format!("filler {n}")).await;
    }
    let original = alice.send(&room, "teh original").await;
    let edit = async |body: &str| {
        let content = json!({
            "msgtype": "m.text", "body": format!("* {body}"),
            "m.new_content": {"msgtype": "m.text", "body": body},
            "m.relates_to": {"rel_type": "m.replace", "event_id": original},
        });
        alice.send_event(&room, "m.room.message", content).await.event_id()
    };
    let first_edit = edit("the original").await;

    let mut chain = alice.v2();
    let initial = chain.next().await;
    let told = timeline(&initial, &room);
    let event = told.iter().find(|event| event["event_id"] == original.as_str()).unwrap();
    let replacement = &event["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(replacement["event_id"], first_edit.as_str(), "{event:#}");

    edit("the last word").await;
    let later = chain.until_reply("the edit", |reply| joined(reply, &room).is_object()).await;
    assert_eq!(messages(&later, &room), ["* the last word"]);
    let initial = alice.fresh_sync().send().await.ok();
    assert_eq!(messages(&initial, &room).last(), Some(&"* the last word"));
}

#[tokio::test]
async fn a79_the_age_is_that_of_the_answer() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let event_id = alice.send(&room, "young once").await;
    let age = async || {
        let reply = alice.fresh_sync().send().await.ok();
        let timeline = timeline(&reply, &room);
        let event = timeline.iter().find(|event| event["event_id"] == event_id.as_str()).unwrap();
        event["unsigned"]["age"].as_i64().expect("an age")
    };

    let asked = Instant::now();
    let young = age().await;
    let answered = Instant::now();
    let (old, least, most) = eventually("the event to be older by two seconds", async || {
        let least = answered.elapsed();
        let old = age().await;
        (old - young > 2_000).then_some((old, least, asked.elapsed()))
    })
    .await;

    let grown = Duration::from_millis(u64::try_from(old - young).unwrap());
    let slack = Duration::from_millis(100);
    assert!(
        grown + slack >= least && grown <= most + slack,
        "within {least:?} to {most:?} it grew older by {grown:?}"
    );
}

#[tokio::test]
async fn a80_what_is_told_of_an_event_depends_on_who_is_told() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    alice.set_topic(&room, "old").await;
    let replaced = alice.set_topic(&room, "new").await;
    alice.send(&room, "before Bob").await;
    bob.join(&room).await.ok();
    alice.send(&room, "with Bob").await;

    let filter = json!({"room": {"timeline": {"limit": 50}}});
    for (reader, before) in [(&alice, "join"), (&bob, "leave")] {
        let mut chain = reader.v2().filtered(filter.clone());
        let reply =
            chain.until_reply("all", |reply| messages(reply, &room).contains(&"with Bob")).await;
        let membership_at = |body: &str| {
            let timeline = timeline(&reply, &room);
            let event = timeline.iter().find(|event| event["content"]["body"] == body).unwrap();
            event["unsigned"]["membership"].clone()
        };
        assert_eq!(membership_at("before Bob"), before, "for {}", reader.user_id);
        assert_eq!(membership_at("with Bob"), "join", "for {}", reader.user_id);
        let timeline = timeline(&reply, &room);
        let topic = timeline.iter().find(|event| event["event_id"] == replaced.as_str()).unwrap();
        assert_eq!(topic["unsigned"]["prev_content"]["topic"], "old", "{topic:#}");
        assert!(topic["unsigned"]["replaces_state"].is_string(), "{topic:#}");
    }
}

#[tokio::test]
async fn a82_an_upgraded_room_is_two_rooms_and_takes_its_tags_along() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let old = alice.create_public_room().await;
    bob.join(&old).await.ok();
    for user in [&alice, &bob] {
        user.tag(&old, "u.kept").await.ok();
    }
    let (mut hers, mut his) = (alice.v2(), bob.v2());
    for chain in [&mut hers, &mut his] {
        chain.until_reply("the room", |reply| joined(reply, &old).is_object()).await;
    }

    let path = format!("/_matrix/client/v3/rooms/{}/upgrade", encode(&old));
    let new =
        alice.post(&path).json(&json!({"new_version": "11"})).send().await.text("replacement_room");
    for chain in [&mut hers, &mut his] {
        let tombstone = chain
            .until("the tombstone", |reply| {
                let events = timeline(reply, &old);
                let found = content_of(&events, "m.room.tombstone").clone();
                found.is_object().then_some(found)
            })
            .await;
        assert_eq!(tombstone["replacement_room"], new.as_str());
    }
    bob.join(&new).await.ok();
    for user in [&alice, &bob] {
        let mut chain = user.v2().filtered(json!({"room": {"timeline": {"limit": 50}}}));
        let reply = chain
            .until_reply("the new room and its tags", |reply| {
                let data = events(&joined(reply, &new)["account_data"]);
                content_of(&data, "m.tag")["tags"]["u.kept"].is_object()
            })
            .await;
        let create = content_of(&timeline(&reply, &new), "m.room.create").clone();
        let create = state(&reply, &new, "m.room.create", "")
            .map_or(create, |event| event["content"].clone());
        assert_eq!(create["predecessor"]["room_id"], old.as_str(), "{reply:#}");
        assert!(joined(&reply, &old).is_object(), "the old room is still joined: {reply:#}");
    }
}

#[tokio::test]
async fn a98_account_data_that_was_emptied_is_told_as_empty() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    alice.set_account_data("com.example.settings", &json!({"dark": true})).await.ok();
    let mut chain = alice.v2();
    chain.next().await;

    alice.set_account_data("com.example.settings", &json!({})).await.ok();
    let reply = chain.until_reply("the change", |reply| reply["account_data"].is_object()).await;
    let told = events(&reply["account_data"]);
    assert_eq!(types(&told), ["com.example.settings"]);
    assert_eq!(told[0]["content"], json!({}));
}

#[tokio::test]
async fn a99_a_new_push_rule_wakes_and_the_rules_come_whole() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut chain = alice.v2().filtered(json!({"presence": {"types": []}}));
    let initial = chain.next().await;
    let rules = content_of(&events(&initial["account_data"]), "m.push_rules").clone();
    assert!(rules["global"]["override"].is_array(), "{rules:#}");
    chain.until("quiet", |reply| reply["account_data"].is_null().then_some(())).await;

    let waiting = tokio::spawn(chain.request().timeout(30_000).send());
    let path = "/_matrix/client/v3/pushrules/global/content/com.example.rule";
    alice.put(path).json(&json!({"pattern": "coffee", "actions": ["notify"]})).send().await.ok();

    let reply = waiting.await.unwrap().ok();
    let told = events(&reply["account_data"]);
    assert_eq!(types(&told), ["m.push_rules"]);
    let content: &Value = &told[0]["content"]["global"]["content"];
    let ids: Vec<&Value> =
        content.as_array().into_iter().flatten().map(|rule| &rule["rule_id"]).collect();
    assert!(ids.contains(&&json!("com.example.rule")), "{content:#}");
    assert!(told[0]["content"]["global"]["override"].is_array(), "{:#}", told[0]);
}

#[tokio::test]
async fn a108_an_answer_with_nothing_to_say_has_no_empty_sections() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let filter = json!({"account_data": {"types": []}, "presence": {"types": []}});
    let mut chain = alice.v2().filtered(filter);

    for reply in [chain.next().await, chain.next().await] {
        let mut told: Vec<&str> = reply.as_object().unwrap().keys().map(String::as_str).collect();
        // Synapse still says the last one under the name that it had in MSC2732, too.
        told.retain(|name| !name.starts_with("org.matrix."));
        told.sort_unstable();
        assert_eq!(
            told,
            ["device_one_time_keys_count", "device_unused_fallback_key_types", "next_batch"]
        );
    }
    let room = alice.create_public_room().await;
    let reply = chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    assert_eq!(reply["rooms"].as_object().unwrap().len(), 1, "no empty sections: {reply:#}");
}

async fn untag(client: &Client, room: &str, tag: &str) {
    let path = format!(
        "/_matrix/client/v3/user/{}/rooms/{}/tags/{}",
        encode(&client.user_id),
        encode(room),
        encode(tag)
    );
    client.request(Method::DELETE, &path).send().await.ok();
}
