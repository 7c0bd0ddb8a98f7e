//! Who is online: a proxy that polls for everybody all the time makes nobody online by that.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::{Client, SyncRequest, encode};
use tests::lab::Lab;
use tests::matchers::{events, messages};
use tests::wait::{eventually, eventually_within};
use tokio::task::JoinHandle;

#[tokio::test]
async fn a15_c4_a_user_is_online_as_long_as_a_client_syncs_and_not_much_longer() {
    let lab = Lab::shared().await;
    let (alice, bob, _room) = lab.two_in_a_room().await;
    let mut hers = alice.v2();
    hers.next().await;
    bob.set_presence("unavailable", "in the lab").await.ok();
    eventually("Bob's status", async || {
        (presence_of(&bob, &alice).await["status_msg"] == "in the lab").then_some(())
    })
    .await;

    let began = Instant::now();
    let syncs = keeps_syncing(bob.v2().client.sync().query("set_presence", "online"));
    let seen = hers
        .until("Bob to be online", |reply| {
            let his = of(reply, &bob)?;
            (his["presence"] == "online").then(|| his.clone())
        })
        .await;
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!(seen["status_msg"], "in the lab", "a sync does not touch it: {seen:#}");

    // Long enough for several polls with his token: he is online all the time.
    let until = Instant::now() + Duration::from_secs(40);
    while Instant::now() < until {
        let reply = hers.request().timeout(5_000).send().await.ok();
        hers.absorb(&reply);
        if let Some(his) = of(&reply, &bob) {
            assert_eq!(
                (&his["presence"], &his["status_msg"]),
                (&json!("online"), &json!("in the lab"))
            );
        }
    }

    syncs.abort();
    let stopped = Instant::now();
    // Her own chain is what tells her; she asks on, and the proxy polls on for both.
    let within = Duration::from_secs(90);
    eventually_within(within, "Bob not to be online", async || {
        let reply = hers.request().timeout(5_000).send().await.ok();
        hers.absorb(&reply);
        of(&reply, &bob).is_some_and(|his| his["presence"] != "online").then_some(())
    })
    .await;
    assert!(stopped.elapsed() > Duration::from_secs(5), "he has hardly gone");
}

#[tokio::test]
async fn a15_one_device_online_and_one_offline_is_online() {
    let lab = Lab::shared().await;
    let (alice, bob, _room) = lab.two_in_a_room().await;
    let laptop = lab.second_device(&bob).await;
    let offline = keeps_syncing(bob.sync().query("set_presence", "offline"));
    let online = keeps_syncing(laptop.sync().query("set_presence", "online"));

    eventually("Bob to be online", async || {
        (presence_of(&bob, &alice).await["presence"] == "online").then_some(())
    })
    .await;
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        assert_eq!(presence_of(&bob, &alice).await["presence"], "online");
        tests::wait::look_away().await;
    }
    offline.abort();
    online.abort();
}

/// What is said outright holds until a sync says otherwise; a poll that happens meanwhile does not.
#[tokio::test]
async fn b3_a_presence_that_was_set_is_not_overwritten_by_a_poll() {
    outlasts_polls(false).await;
}

/// As after a refresh: the first request with the token is the one that says it.
#[tokio::test]
async fn b3_a_presence_that_was_set_with_a_new_token_is_not_overwritten_by_a_poll() {
    outlasts_polls(true).await;
}

async fn outlasts_polls(with_a_new_token: bool) {
    let lab = Lab::shared().await;
    let (alice, mut bob, room) = lab.two_in_a_room().await;
    let mut his = bob.v2();
    his.next().await;
    let waiting =
        tokio::spawn(his.request().query("set_presence", "online").timeout(60_000).send());
    eventually("Bob to be online", async || {
        (presence_of(&bob, &alice).await["presence"] == "online").then_some(())
    })
    .await;

    if with_a_new_token {
        bob = lab.log_in_again(&bob).await;
    }
    bob.set_presence("unavailable", "at lunch").await.ok();
    // Each of these has his device polled for anew.
    for n in 0..5 {
        alice.send(&room, &n.to_string()).await;
        let filter = json!({"presence": {"types": []}, "room": {"rooms": []}});
        bob.set_account_data("com.example", &json!({"n": n})).await.ok();
        bob.sync().query("set_presence", "offline").filter(&filter).send().await.ok();
        let now = presence_of(&bob, &alice).await;
        assert_eq!(
            (&now["presence"], &now["status_msg"]),
            (&json!("unavailable"), &json!("at lunch"))
        );
    }
    waiting.abort();

    bob.sync().query("set_presence", "online").send().await.ok();
    eventually("Bob to be back", async || {
        let now = presence_of(&bob, &alice).await;
        (now["presence"] == "online" && now["status_msg"] == "at lunch").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a100_an_initial_sync_lists_oneself_and_nobody_who_is_offline() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let carol = lab.user("carol").await;
    carol.join(&room).await.ok();

    // The very first of the account, and the first of a device later on.
    for client in [&alice, &lab.second_device(&alice).await] {
        let reply = client.sync().query("set_presence", "online").send().await.ok();
        let own = of(&reply, client).expect("a sync has its own user's presence");
        assert_eq!(own["presence"], "online", "{reply:#}");
    }

    let mut hers = alice.v2();
    hers.next().await;
    bob.set_presence("online", "").await.ok();
    carol.set_presence("online", "").await.ok();
    carol.set_presence("offline", "").await.ok();
    let (mut bob_online, mut carol_offline) = (false, false);
    hers.until("both of them", |reply| {
        bob_online |= of(reply, &bob).is_some_and(|his| his["presence"] == "online");
        carol_offline |= of(reply, &carol).is_some_and(|hers| hers["presence"] == "offline");
        (bob_online && carol_offline).then_some(())
    })
    .await;

    let fresh = alice.fresh_sync().send().await.ok();
    assert!(of(&fresh, &bob).is_some_and(|his| his["presence"] == "online"), "{fresh:#}");
    assert!(of(&fresh, &carol).is_none(), "{fresh:#}");
}

/// Of whom I begin to share a room with I am told, once.
#[tokio::test]
async fn a101_a_new_room_brings_the_presence_of_its_members() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.set_presence("online", "here already").await.ok();
    let online = keeps_syncing(bob.sync().query("set_presence", "online"));
    let mut hers = alice.v2();
    let first = hers.next().await;
    assert!(of(&first, &bob).is_none(), "{first:#}");

    bob.join(&room).await.ok();
    let his = hers.until("Bob's presence", |reply| of(reply, &bob).cloned()).await;
    assert_eq!(his["presence"], "online");

    let mut theirs = bob.v2();
    theirs.next().await;
    let other = lab.user("carol").await;
    let carols = other.create_public_room().await;
    other.set_presence("online", "at home").await.ok();
    bob.join(&carols).await.ok();
    theirs.until("Carol's presence", |reply| of(reply, &other).cloned()).await;
    online.abort();
}

#[tokio::test]
async fn a100_presence_of_those_who_share_a_room_comes() {
    let lab = Lab::shared().await;
    let (alice, bob, _room) = lab.two_in_a_room().await;
    let mut chain = alice.v2();
    chain.next().await;

    bob.set_presence("online", "in the lab").await.ok();

    let content = chain
        .until("Bob's presence", |reply| {
            let presence = events(&reply["presence"]);
            let his = presence.into_iter().find(|event| event["sender"] == bob.user_id.as_str())?;
            (his["content"]["status_msg"] == "in the lab").then(|| his["content"].clone())
        })
        .await;
    assert_eq!(content["presence"], "online");
}

#[tokio::test]
async fn a15_a_client_that_syncs_as_offline_is_not_shown_online() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let mut his = bob.v2();
    let mut hers = alice.v2();
    hers.next().await;

    let reply = his.request().query("set_presence", "offline").send().await.ok();
    his.absorb(&reply);
    // The message after it shows that whatever the sync did to his presence has reached her.
    bob.send(&room, "you cannot see me").await;

    let seen_online = hers
        .until("Bob's message", |reply| {
            let online = events(&reply["presence"]).iter().any(|event| {
                event["sender"] == bob.user_id.as_str() && event["content"]["presence"] == "online"
            });
            (online || !messages(reply, &room).is_empty()).then_some(online)
        })
        .await;
    assert!(!seen_online, "a sync with set_presence=offline must not show the user online");
}

/// Asks the homeserver, as another user.
async fn presence_of(user: &Client, asked_by: &Client) -> Value {
    let path = format!("/_matrix/client/v3/presence/{}/status", encode(&user.user_id));
    asked_by.get(&path).send().await.ok()
}

fn of<'a>(reply: &'a Value, user: &Client) -> Option<&'a Value> {
    let presence = events(&reply["presence"]);
    presence
        .into_iter()
        .rev()
        .find(|event| event["sender"] == user.user_id.as_str())
        .map(|event| &event["content"])
}

/// A client that syncs again and again until it is aborted, as this request has it.
fn keeps_syncing(request: SyncRequest) -> JoinHandle<()> {
    let request = request.request();
    tokio::spawn(async move {
        let mut since: Option<String> = None;
        loop {
            let request = request.clone().query("timeout", "10000");
            let reply = request.maybe_query("since", since.as_deref()).send().await.ok();
            since = reply["next_batch"].as_str().map(str::to_owned);
        }
    })
}
