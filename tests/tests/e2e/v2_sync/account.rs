//! Account data and tags.

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{content_of, events, joined, types};

#[tokio::test]
async fn a98_a99_global_account_data_comes_at_first_and_when_it_changes() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    alice.set_account_data("com.example.settings", &json!({"dark": true})).await.ok();

    let mut chain = alice.v2();
    let initial = chain.next().await;
    let all = events(&initial["account_data"]);
    assert_eq!(content_of(&all, "com.example.settings"), &json!({"dark": true}));
    assert!(types(&all).contains(&"m.push_rules"), "the push rules are account data too: {all:#?}");

    alice.set_account_data("com.example.settings", &json!({"dark": false})).await.ok();
    let changed = chain.until_reply("the change", |reply| reply["account_data"].is_object()).await;
    let changed = events(&changed["account_data"]);
    assert_eq!(types(&changed), ["com.example.settings"], "only what changed comes");
    assert_eq!(changed[0]["content"], json!({"dark": false}));
}

#[tokio::test]
async fn a72_room_account_data_and_tags_come_at_first_and_when_they_change() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.tag(&room, "u.work").await.ok();

    let mut chain = alice.v2();
    let initial = chain.next().await;
    let tags = content_of(&events(&joined(&initial, &room)["account_data"]), "m.tag").clone();
    assert_eq!(tags, json!({"tags": {"u.work": {"order": 0.5}}}));

    alice.set_room_account_data(&room, "com.example.note", &json!({"text": "remember"})).await.ok();
    let changed = chain.until_reply("the change", |reply| joined(reply, &room).is_object()).await;
    let changed = events(&joined(&changed, &room)["account_data"]);
    assert_eq!(types(&changed), ["com.example.note"], "only what changed comes");
    assert_eq!(changed[0]["content"], json!({"text": "remember"}));
}

#[tokio::test]
async fn a98_another_device_hears_of_it() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let mut chain = laptop.v2();
    chain.next().await;

    alice.set_account_data("com.example.settings", &json!({"from": "the phone"})).await.ok();

    let content = chain
        .until("the change", |reply| {
            let content =
                content_of(&events(&reply["account_data"]), "com.example.settings").clone();
            (!content.is_null()).then_some(content)
        })
        .await;
    assert_eq!(content, json!({"from": "the phone"}));
}

#[tokio::test]
async fn a72_d1_3_the_last_tag_goes_and_emptied_data_is_empty() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    alice.tag(&room, "u.work").await.ok();
    alice.set_account_data("org.example.settings", &json!({"dark": true})).await.ok();
    let mut chain = laptop.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    alice.untag(&room, "u.work").await.ok();
    alice.set_account_data("org.example.settings", &json!({})).await.ok();

    let (mut tags, mut settings) = (Value::Null, Value::Null);
    chain
        .until("both changes", |reply| {
            let room_data = events(&joined(reply, &room)["account_data"]);
            for (kept, found) in [
                (&mut tags, content_of(&room_data, "m.tag")),
                (
                    &mut settings,
                    content_of(&events(&reply["account_data"]), "org.example.settings"),
                ),
            ] {
                if !found.is_null() {
                    *kept = found.clone();
                }
            }
            (!tags.is_null() && !settings.is_null()).then_some(())
        })
        .await;
    assert_eq!((tags, settings), (json!({"tags": {}}), json!({})));
}
