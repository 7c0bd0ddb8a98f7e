//! Who writes through the proxy reads what it wrote, in the very next sync, whatever it is.

mod kinds;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{messages, timeline};
use tests::scripted_homeserver::{Canned, Fault, first_sync, messages_in, nothing_new};
use tests::wait::eventually;

use self::kinds::{KINDS, World};
use crate::stage::Stage;

const ROUNDS: usize = 200;
const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn a45_two_hundred_writes_of_every_kind_are_each_in_the_next_sync() {
    let lab = Lab::shared().await;
    let mut world = World::new(&lab).await;
    // The phone runs the main poll, the laptop a light one.
    let mut chains = [world.alice.v2(), world.laptop.v2()];
    for chain in &mut chains {
        chain.next().await;
    }
    let mut failed = Vec::new();
    for round in 0..ROUNDS {
        let kind = KINDS[round % KINDS.len()];
        world.from_laptop = (round / KINDS.len()) % 2 == 1;
        let writer = usize::from(world.from_laptop);
        world.prepare(kind).await;
        for chain in &mut chains {
            chain.next().await;
        }
        let seen = world.write(kind, round).await;
        for (number, chain) in chains.iter_mut().enumerate() {
            let reply = chain.next().await;
            if !seen(&reply) && (number == writer || !kind.is_of_one_device()) {
                failed
                    .push(format!("{kind:?}, round {round}, from {writer}, to {number}: {reply}"));
            }
        }
        if round % 8 == 0 {
            let reply = world.writer().fresh_sync().send().await.ok();
            assert!(reply["next_batch"].is_string(), "{reply:#}");
        }
    }
    assert!(failed.is_empty(), "{} of {ROUNDS}: {failed:#?}", failed.len());
}

/// A sync waits for its account's writes; but where the homeserver is away, only once.
#[tokio::test]
async fn a45_with_the_homeserver_away_one_wait_is_enough() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_path("/_matrix/client/v3/user", Canned::json(&json!({})));
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    let down = Fault::Status(503, json!({"errcode": "M_UNKNOWN", "error": "down"}));
    homeserver.next_syncs_fail(100_000, &down);

    let mut waits = Vec::new();
    for _ in 0..4 {
        alice.set_account_data("com.example", &json!({})).await.ok();
        let asked = Instant::now();
        chain.next().await;
        waits.push(asked.elapsed());
    }

    let long = waits.iter().filter(|wait| **wait > Duration::from_secs(3)).count();
    assert!(long <= 1, "{waits:?}");
    assert!(waits[0] < Duration::from_secs(10), "{waits:?}");
}

/// The polls that drain a new main device's inbox bring nothing of what is written in rooms: the main poll after them does.
#[tokio::test]
async fn a_write_is_covered_by_the_main_poll_of_the_device_that_takes_it_over() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let sends = path(ROOM, "send", "m.room.message", "txn");
    homeserver.on_path(&sends, Canned::json(&json!({"event_id": "$two"})));
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    alice.v2().next().await;
    let laptop = homeserver.device(&stage.proxy.url(), &alice.user_id, "LAPTOP");
    homeserver.on_sync(None, &nothing_new("light1"));
    let mut chain = laptop.v2();
    chain.next().await;
    homeserver.is_polled_with("light1").await;
    let body = json!({"msgtype": "m.text", "body": "two"});
    laptop.put(&sends).json(&body).send().await.ok();
    // The poll that drains the inbox stops at the first gate, and the main poll after it at the second.
    let drains = homeserver.hold_syncs();
    let polls = homeserver.polled().len();
    homeserver.revoke(alice, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "gone"}));
    let arrives = async |since: &str, behind: usize| {
        eventually(&format!("a poll with since={since}"), async || {
            let mut new = homeserver.polled().into_iter().skip(behind);
            new.any(|polled| polled.as_deref() == Some(since)).then_some(())
        })
        .await;
    };
    arrives("light1", polls).await;
    let main = homeserver.hold_syncs();
    let mut comes = messages_in(ROOM, "s2", &["two"]);
    comes["rooms"]["join"][ROOM]["timeline"]["events"][0]["sender"] = json!(alice.user_id);
    homeserver.on_sync(Some("s1"), &comes);
    let waiting = tokio::spawn(chain.request().send());
    let polls = homeserver.polled().len();
    drains.open();
    arrives("s1", polls).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "what drained the inbox covers no write");
    main.open();

    assert_eq!(messages(&waiting.await.unwrap().ok(), ROOM), ["two"]);
}

/// A device that does not run the main poll is told the transaction IDs of its own events, as soon as of the events.
#[tokio::test]
async fn a78_a_transaction_id_is_told_to_the_device_that_sent_it_and_to_no_other() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chains: Vec<Chain> = vec![alice.v2(), laptop.v2(), bob.v2()];
    for chain in &mut chains {
        chain.next().await;
    }

    for round in 0..30_u64 {
        let from = usize::from(round % 3 > 0);
        let sender = chains[from].client.on_new_connections();
        let transaction = format!("round/{round}");
        let sends = if round % 5 == 4 {
            let event_id = sender.send(&room, "to be redacted").await;
            path(&room, "redact", &event_id, &transaction)
        } else {
            path(&room, "send", "m.room.message", &transaction)
        };
        let body = json!({"msgtype": "m.text", "body": transaction});
        let sending = tokio::spawn(sender.put(&sends).json(&body).send());
        // Those who wait are woken by the event, which may be before its sender hears of it.
        let (mut told, mut asked) = (vec![None; 3], Vec::new());
        while told.iter().any(Option::is_none) {
            asked.clear();
            for chain in &chains {
                asked.push(tokio::spawn(chain.request().timeout(10_000).send()));
            }
            for (number, reply) in asked.drain(..).enumerate() {
                let reply = reply.await.unwrap().ok();
                for event in timeline(&reply, &room) {
                    let is_it = event["content"]["body"] == json!(transaction)
                        || event["type"] == "m.room.redaction";
                    if is_it {
                        told[number] = Some(event["unsigned"]["transaction_id"].clone());
                    }
                }
                chains[number].absorb(&reply);
            }
        }
        sending.await.unwrap().ok();
        for (number, told) in told.into_iter().enumerate() {
            let expected = if number == from { json!(transaction) } else { Value::Null };
            assert_eq!(
                told,
                Some(expected),
                "round {round}: device {from} sent it, {number} reads"
            );
        }
    }
}

#[tokio::test]
async fn a78_a_transaction_id_outlives_the_token_that_it_was_sent_with() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    alice.v2().next().await;
    laptop.v2().next().await;
    let put = |client: &Client, transaction: &str| {
        let body = json!({"msgtype": "m.text", "body": transaction});
        client.put(&path(&room, "send", "m.room.message", transaction)).json(&body).send()
    };
    put(&alice, "from the phone").await.ok();
    put(&laptop, "from the laptop").await.ok();

    for client in [&alice, &laptop] {
        let again = lab.log_in_again(client).await;
        let reply = again.fresh_sync().send().await.ok();
        let told: Vec<(&str, bool)> = timeline(&reply, &room)
            .iter()
            .filter(|event| event["type"] == "m.room.message")
            .map(|event| {
                let body = event["content"]["body"].as_str().unwrap();
                (body, event["unsigned"]["transaction_id"] == body)
            })
            .collect();
        let is_phone = client.device_id == alice.device_id;
        assert_eq!(told, [("from the phone", is_phone), ("from the laptop", !is_phone)]);
    }
}

/// The event arrives while its sender still waits for the answer.
#[tokio::test]
async fn a78_a_sync_waits_for_a_transaction_id_that_is_on_its_way_but_not_for_long() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let laptop = homeserver.device(&stage.proxy.url(), &alice.user_id, "LAPTOP");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    alice.v2().next().await;
    let mut chain = laptop.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    let gate = tests::scripted_homeserver::Gate::closed();
    let (head, tail) = (&b"{\"event_id\":"[..], &b"\"$two\"}"[..]);
    let held = Canned::bytes(200, head.to_vec())
        .header("content-type", "application/json")
        .then(tail.to_vec())
        .held_by(&gate);
    homeserver.on_path("/_matrix/client/v3/rooms", held);
    let body = json!({"msgtype": "m.text", "body": "two"});
    let put = laptop.on_new_connections().put(&path(ROOM, "send", "m.room.message", "txn"));
    let sending = tokio::spawn(put.json(&body).send());
    eventually("the request to arrive", async || {
        (!homeserver.seen_at("/send/").is_empty()).then_some(())
    })
    .await;
    let waiting = tokio::spawn(chain.request().timeout(30_000).send());
    let mut comes = messages_in(ROOM, "s2", &["two"]);
    comes["rooms"]["join"][ROOM]["timeline"]["events"][0]["sender"] = json!(alice.user_id);
    homeserver.on_sync(Some("s1"), &comes);
    homeserver.is_polled_with("s2").await;
    gate.open();
    sending.await.unwrap().ok();

    let reply = waiting.await.unwrap().ok();
    assert_eq!(messages(&reply, ROOM), ["two"]);
    assert_eq!(timeline(&reply, ROOM)[0]["unsigned"]["transaction_id"], "txn");
    chain.absorb(&reply);

    // An answer that does not come holds nobody up for long.
    let gate = tests::scripted_homeserver::Gate::closed();
    let held = Canned::bytes(200, head.to_vec()).then(tail.to_vec()).held_by(&gate);
    homeserver.on_path("/_matrix/client/v3/rooms", held);
    let put = laptop.on_new_connections().put(&path(ROOM, "send", "m.room.message", "txn2"));
    let _sending = tokio::spawn(put.json(&body).send());
    let waiting = tokio::spawn(chain.request().timeout(30_000).send());
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));
    let came = Instant::now();
    assert_eq!(messages(&waiting.await.unwrap().ok(), ROOM), ["three"]);
    assert!(came.elapsed() < Duration::from_secs(8), "{:?}", came.elapsed());
}

fn path(room: &str, action: &str, of: &str, transaction: &str) -> String {
    let encode = tests::client::encode;
    let (room, of, transaction) = (encode(room), encode(of), encode(transaction));
    format!("/_matrix/client/v3/rooms/{room}/{action}/{of}/{transaction}")
}
