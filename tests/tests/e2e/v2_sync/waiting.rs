//! What ends a wait, and what does not; several syncs of one device; clients that go away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{content_of, events, joined, messages, numbers, of_type, section, typing};

/// How long a request may wait, in milliseconds; what ends its wait must do so much sooner.
const WAIT: u64 = 30_000;
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a42_what_happens_in_a_room_ends_a_wait() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    let event_id = alice.send(&room, "read me").await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    wakes(&mut chain, "typing", |reply| typing(reply, &room).is_some(), async {
        bob.starts_typing(&room).await;
    })
    .await;
    let has_receipt = |reply: &Value| {
        !of_type(&events(&joined(reply, &room)["ephemeral"]), "m.receipt").is_empty()
    };
    wakes(&mut chain, "a receipt", has_receipt, async {
        bob.read(&room, &event_id).await.ok();
    })
    .await;
    wakes(&mut chain, "a message", |reply| messages(reply, &room) == ["wake up"], async {
        bob.send(&room, "wake up").await;
    })
    .await;
    // Of what Alice does herself another of her devices would be told, and here that device is not on the proxy.
    let elsewhere = lab.past_proxy(&alice);
    let tagged = |reply: &Value| !room_data(reply, &room, "m.tag").is_null();
    wakes(&mut chain, "a tag", tagged, async {
        elsewhere.tag(&room, "u.work").await.ok();
    })
    .await;
    let noted = |reply: &Value| !room_data(reply, &room, "org.example.note").is_null();
    wakes(&mut chain, "room account data", noted, async {
        elsewhere.set_room_account_data(&room, "org.example.note", &json!({"a": 1})).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a42_a_change_of_the_own_membership_ends_a_wait() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let elsewhere = lab.past_proxy(&alice);
    let public = bob.create_public_room().await;
    let private = bob.create_room(json!({"preset": "private_chat"})).await;
    let mut chain = alice.v2();
    chain.next().await;

    let sections =
        [("invite", &private), ("join", &public), ("leave", &public), ("leave", &private)];
    for (step, (name, room)) in sections.into_iter().enumerate() {
        let is_there = |reply: &Value| section(reply, name, room).is_object();
        wakes(&mut chain, name, is_there, async {
            match step {
                0 => bob.invite(&private, &alice.user_id).await.ok(),
                1 => elsewhere.join(&public).await.ok(),
                2 => bob.ban(&public, &alice.user_id).await.ok(),
                _ => elsewhere.leave(&private).await.ok(),
            };
        })
        .await;
    }
}

#[tokio::test]
async fn a42_what_belongs_to_no_room_ends_a_wait() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let elsewhere = lab.past_proxy(&alice);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    let ignores = |reply: &Value| !data(reply, "m.ignored_user_list").is_null();
    wakes(&mut chain, "account data", ignores, async {
        let nobody = json!({"ignored_users": {}});
        elsewhere.set_account_data("m.ignored_user_list", &nobody).await.ok();
    })
    .await;
    wakes(&mut chain, "a push rule", |reply| !data(reply, "m.push_rules").is_null(), async {
        let rule = json!({"actions": ["notify"], "pattern": "sword"});
        let path = "/_matrix/client/v3/pushrules/global/content/sword";
        elsewhere.put(path).json(&rule).send().await.ok();
    })
    .await;
    wakes(&mut chain, "a to-device message", |reply| numbers(&reply["to_device"]) == [1], async {
        bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    })
    .await;
    let bobs_keys = |reply: &Value| {
        reply["device_lists"]["changed"]
            .as_array()
            .is_some_and(|changed| changed.contains(&json!(bob.user_id)))
    };
    wakes(&mut chain, "new keys", bobs_keys, async {
        bob.upload_keys(&device_keys(&bob)).await.ok();
    })
    .await;
    let bob_is_busy = |reply: &Value| {
        events(&reply["presence"]).iter().any(|event| event["content"]["status_msg"] == "busy")
    };
    wakes(&mut chain, "presence", bob_is_busy, async {
        bob.set_presence("online", "busy").await.ok();
    })
    .await;
}

/// Twelve wait, something happens in a room of two of them.
#[tokio::test]
async fn a42_d1_16_an_event_ends_the_waits_of_its_room_and_no_others() {
    const OTHERS: usize = 10;
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chains = vec![quiet(&alice), quiet(&bob)];
    for _ in 0..OTHERS {
        let user = lab.user("other").await;
        user.create_public_room().await;
        chains.push(quiet(&user));
    }
    for chain in &mut chains {
        while !(chain.next().await["rooms"].is_null()
            && chain.next().await["device_lists"].is_null())
        {}
    }

    let waiting: Vec<_> = chains
        .iter()
        .map(|chain| {
            let client = chain.client.on_new_connections();
            let request = quiet(&client).request().since(chain.since()).timeout(8_000);
            tokio::spawn(async move {
                let started = Instant::now();
                (request.send().await.ok(), started.elapsed())
            })
        })
        .collect();
    lab.past_proxy(&alice).send(&room, "for two").await;

    let mut told = Vec::new();
    for (number, request) in waiting.into_iter().enumerate() {
        let (reply, waited) = request.await.unwrap();
        if messages(&reply, &room) == ["for two"] {
            told.push(number);
        } else {
            assert!(reply["rooms"].is_null(), "{reply:#}");
            assert!(waited >= Duration::from_millis(7_900), "{number} waited {waited:?} only");
        }
    }
    assert_eq!(told, [0, 1]);
}

/// An application and its extension for notifications, say: they have one token and know nothing of each other.
#[tokio::test]
async fn a40_two_syncs_of_one_device_are_both_answered() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let earlier = chain.since().to_owned();
    bob.send(&room, "one").await;
    chain.until_reply("one", |reply| messages(reply, &room) == ["one"]).await;

    let started = Instant::now();
    let own = alice.on_new_connections();
    let (same, again, behind, (), _event) = tokio::join!(
        waits_for(alice.on_new_connections(), chain.since(), &room, "two"),
        waits_for(alice.on_new_connections(), chain.since(), &room, "two"),
        waits_for(alice.on_new_connections(), &earlier, &room, "two"),
        async {
            own.sync().send().await.ok();
        },
        bob.send(&room, "two"),
    );
    assert_eq!((same, again), (vec!["two".to_owned()], vec!["two".to_owned()]));
    assert_eq!(behind, ["one", "two"]);
    assert!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
}

#[tokio::test]
async fn a44_a_client_that_goes_away_has_acknowledged_nothing() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    // One that goes away while it waits, and several that go away with an answer on its way to them.
    let waiting = tokio::spawn(
        alice.on_new_connections().sync().since(chain.since()).timeout(WAIT).try_send(),
    );
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    waiting.abort();
    bob.send(&room, "hello").await;
    for pause in 0..10 {
        let request = alice.on_new_connections().sync().since(chain.since());
        tokio::time::timeout(Duration::from_millis(pause), request.try_send()).await.ok();
    }

    let mut to_device = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    chain
        .until("both", |reply| {
            to_device.extend(numbers(&reply["to_device"]));
            texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
            (!to_device.is_empty() && !texts.is_empty()).then_some(())
        })
        .await;
    assert_eq!((to_device, texts), (vec![1], vec!["hello".to_owned()]));
}

/// Asks until something is in a reply, with requests that must each be answered long before their time is up.
async fn wakes(
    chain: &mut Chain,
    what: &str,
    found: impl Fn(&Value) -> bool,
    doing: impl Future<Output = ()>,
) {
    let ask = async |chain: &Chain| {
        let started = Instant::now();
        let reply = chain.request().timeout(WAIT).send().await.ok();
        assert!(started.elapsed() < SOON, "{what} did not end a wait: {reply:#}");
        reply
    };
    let (mut reply, ()) = tokio::join!(ask(chain), doing);
    loop {
        chain.absorb(&reply);
        if found(&reply) {
            return;
        }
        reply = ask(chain).await;
    }
}

/// The texts of the room, asked for from `since` until `last` is among them.
async fn waits_for(client: Client, since: &str, room: &str, last: &str) -> Vec<String> {
    let mut since = since.to_owned();
    let mut texts = Vec::new();
    while texts.last().map(String::as_str) != Some(last) {
        let reply = client.sync().since(&since).timeout(WAIT).send().await.ok();
        texts.extend(messages(&reply, room).iter().map(|&text| text.to_owned()));
        reply["next_batch"].as_str().unwrap().clone_into(&mut since);
    }
    texts
}

/// A chain that hears of rooms only.
fn quiet(client: &Client) -> Chain {
    client.v2().filtered(json!({"presence": {"types": []}, "account_data": {"types": []}}))
}

fn data<'a>(reply: &'a Value, event_type: &str) -> &'a Value {
    content_of(&events(&reply["account_data"]), event_type)
}

fn room_data<'a>(reply: &'a Value, room: &str, event_type: &str) -> &'a Value {
    content_of(&events(&joined(reply, room)["account_data"]), event_type)
}

fn device_keys(client: &Client) -> Value {
    json!({"device_keys": {
        "user_id": client.user_id,
        "device_id": client.device_id,
        "algorithms": ["m.megolm.v1.aes-sha2"],
        "keys": {format!("ed25519:{}", client.device_id): "a key"},
        "signatures": {},
    }})
}
