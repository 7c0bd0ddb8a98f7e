//! Clients that are at another replica with each request: nothing is lost, nothing doubled, nothing late.

use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{bodies, events, messages, numbers, typing};
use tests::scripted_homeserver::{Canned, first_sync, messages_in};

use super::{COUNT, in_a_long_poll, replicas, scripted};

const ROOM: &str = "!room:scripted";

const ROUNDS: u64 = 12;

/// What a client has got of a text and a message to the device in each round.
#[derive(Debug, Default)]
struct Got {
    texts: Vec<String>,
    to_device: Vec<u64>,
}

impl Got {
    /// Takes the texts that a reply tells of the room, and its to-device messages.
    fn take(&mut self, texts: &[&str], reply: &Value) {
        self.texts.extend(texts.iter().map(|&text| text.to_owned()));
        self.to_device.extend(numbers(&reply["to_device"]));
    }

    fn has_all_of(&self, round: u64) -> bool {
        self.texts.len() as u64 > round && self.to_device.len() as u64 > round
    }

    #[track_caller]
    fn assert_each_once_in_order(&self) {
        let expected: Vec<String> = (0..ROUNDS).map(|round| format!("text {round}")).collect();
        assert_eq!(self.texts, expected);
        assert_eq!(self.to_device, (0..ROUNDS).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_v2_client_that_moves_with_each_request_misses_nothing_and_gets_nothing_twice() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let replicas = replicas(&lab).await;
    let bob = lab.past_proxy(&bob);
    let mut chain = replicas.at(0, &alice).v2();
    chain.next().await;

    let mut got = Got::default();
    for round in 0..ROUNDS {
        bob.send(&room, &format!("text {round}")).await;
        bob.send_to_device(&alice, "m.test", json!({"n": round})).await.ok();
        let mut number = usize::try_from(round).unwrap();
        while !got.has_all_of(round) {
            number += 1;
            chain = chain.moved_to(&replicas.at(number, &alice));
            let reply = chain.poll().await;
            got.take(&messages(&reply, &room), &reply);
            assert!(number < 100, "it does not come: {got:?}");
        }
    }

    got.assert_each_once_in_order();
}

#[tokio::test]
async fn a_v3_session_that_moves_with_each_request_misses_nothing_and_gets_nothing_twice() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let replicas = replicas(&lab).await;
    let bob = lab.past_proxy(&bob);
    let mut session = replicas.at(0, &alice).v3();
    let first = json!({
        "room": {"room_id": room, "timeline_limit": 10}, "to_device": {}, "receipts": {"room_id": room},
        "room_list": {},
    });
    session.ask(first).await;

    let mut got = Got::default();
    for round in 0..ROUNDS {
        bob.send(&room, &format!("text {round}")).await;
        bob.send_to_device(&alice, "m.test", json!({"n": round})).await.ok();
        let mut number = usize::try_from(round).unwrap();
        while !got.has_all_of(round) {
            number += 1;
            session.client = replicas.at(number, &alice);
            let reply = session.poll().await;
            let timeline = events(&reply["room"]["rooms"][&room]["timeline"]);
            got.take(&bodies(&timeline), &reply);
            assert!(number < 100, "it does not come: {got:?}");
        }
    }

    got.assert_each_once_in_order();
}

/// A token that one replica gave out names what another may not have heard of yet: it looks.
#[tokio::test]
async fn what_a_token_of_another_replica_covers_does_not_come_again() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let replicas = replicas(&lab).await;
    let mut chain = replicas.at(0, &alice).v2();
    chain.next().await;
    let holder = replicas.holder_of(&alice.user_id).await;

    for round in 0..ROUNDS {
        bob.send(&room, &format!("text {round}")).await;
        chain = chain.moved_to(&replicas.at(holder, &alice));
        chain.until("the text", |reply| (!messages(reply, &room).is_empty()).then_some(())).await;
        for other in 1..COUNT {
            let client = replicas.at(holder + other, &alice);
            let reply = chain.clone().moved_to(&client).next().await;
            assert!(messages(&reply, &room).is_empty(), "{reply:#}");
        }
    }
}

#[tokio::test]
async fn what_is_not_of_the_timeline_crosses_too() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let laptop = lab.second_device(&alice).await;
    let replicas = replicas(&lab).await;
    let bob = lab.past_proxy(&bob);
    let mut chains = Vec::new();
    for number in 0..COUNT {
        let mut chain = replicas.at(number, &alice).v2();
        chain.next().await;
        chains.push(chain);
    }
    let event_id = bob.send(&room, "hello").await;

    bob.starts_typing(&room).await;
    for chain in &mut chains {
        let types = |reply: &Value| typing(reply, &room).is_some_and(|users| !users.is_empty());
        chain.until_reply("Bob to type", types).await;
    }
    bob.read(&room, &event_id).await.ok();
    for chain in &mut chains {
        let receipts = |reply: &Value| reply.to_string().contains("m.receipt");
        chain.until_reply("a receipt", receipts).await;
    }
    lab.past_proxy(&laptop).set_account_data("org.test", &json!({"n": 1})).await.ok();
    for chain in &mut chains {
        let data = |reply: &Value| reply["account_data"].to_string().contains("org.test");
        chain.until_reply("account data", data).await;
    }
}

/// It comes to a replica that does not poll, and each poll takes longer than a sync waits for its writes as a rule.
#[tokio::test]
async fn a_client_comes_over_from_a_slow_homeserver_to_any_replica() {
    let (homeserver, replicas, alice) = scripted().await;
    homeserver.on_path("/_matrix/client/v3/user", Canned::json(&json!({})));
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["known"]));
    alice.sync().send().await.ok();
    let holder = replicas.holder_of(&alice.user_id).await;
    let elsewhere = replicas.at(holder + 1, &alice);
    elsewhere.sync().send().await.ok();
    in_a_long_poll(&homeserver).await;
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["in both"]));
    // The poll that was under way has brought it before the sync can have that one given up.
    homeserver.is_polled_with("s2").await;
    let answer = messages_in(ROOM, "s2", &["missed", "in both"]);
    homeserver.on_path("/_matrix/client/v3/sync?since=theirs", Canned::json(&answer));
    let is_slow = async {
        loop {
            let polls = homeserver.hold_syncs();
            tokio::time::sleep(Duration::from_secs(6)).await;
            polls.open();
        }
    };

    let reply = tokio::select! {
        () = is_slow => unreachable!("it is slow for ever"),
        reply = elsewhere.sync().since("theirs").send() => reply.ok(),
    };

    assert_eq!(messages(&reply, ROOM), ["missed", "in both"]);
    let mut chain = elsewhere.v2();
    chain.absorb(&reply);
    assert!(messages(&chain.next().await, ROOM).is_empty());
}
