//! Restarts under a waiting client, and cold starts.

use std::time::Instant;

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::{Client, Reply};
use tests::lab::{Lab, shared_postgres};
use tests::matchers::{joined, messages, numbers};
use tests::proxy::{COLD_START, Proxy};
use tests::scripted_homeserver::{ScriptedHomeserver, message, messages_in, nothing_new};
use tests::wait::{PATIENCE, eventually};

#[tokio::test]
async fn a_restart_of_the_proxy_loses_nothing() {
    let lab = Lab::with_own_proxy().await;
    let Pair { alice, bob, room, mut chain } = Pair::meet(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    let waiting_v2 = tokio::spawn(chain.request().timeout(30_000).try_send());
    let waiting_v3 = tokio::spawn(session.request(&json!({})).timeout(30_000).try_send());
    lab.proxy.stop().await;
    // Whoever waited was sent home with a good answer or, at worst, as Synapse does it, with a closed connection.
    if let Ok(reply) = waiting_v2.await.unwrap() {
        chain.absorb(&reply.ok());
    }
    if let Ok(reply) = waiting_v3.await.unwrap() {
        let reply = reply.ok();
        assert_eq!(reply, json!({"next": session.next()}), "as if the time had been up");
        session.absorb(&reply);
    }

    bob.send(&room, "while it was away").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    lab.proxy.start_again().await;
    bob.send(&room, "when it was back").await;

    let (texts, to_device) = read_until(&mut chain, &room, "when it was back").await;
    assert_eq!(texts, ["while it was away", "when it was back"]);
    assert_eq!(to_device, [1]);
    let told = session
        .until("the message", |reply| {
            let numbers = numbers(&reply["to_device"]);
            (!numbers.is_empty()).then_some(numbers)
        })
        .await;
    assert_eq!(told, [1]);
    let after = session.ask(json!({})).await;
    assert_eq!(after, json!({"next": session.next()}), "it is told once");
}

#[tokio::test]
async fn a_restart_of_postgres_is_not_seen_by_those_who_wait() {
    let lab = Lab::with_own_postgres().await;
    let Pair { alice, bob, room, mut chain } = Pair::meet(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    let waiting_v2 = tokio::spawn(chain.request().timeout(60_000).send());
    let waiting_v3 = tokio::spawn(session.request(&json!({})).timeout(60_000).send());
    lab.postgres.stop();
    bob.send(&room, "while it was away").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    lab.postgres.start_again().await;

    // One of the two messages may come with the first answer and the other with the next.
    let first = waiting_v2.await.unwrap().ok();
    let mut texts: Vec<String> =
        messages(&first, &room).iter().map(|&text| text.to_owned()).collect();
    let mut to_device = numbers(&first["to_device"]);
    chain.absorb(&first);
    assert!(!texts.is_empty() || !to_device.is_empty(), "it was woken for nothing: {first:#}");
    bob.send(&room, "when it was back").await;
    let (more_texts, more_to_device) = read_until(&mut chain, &room, "when it was back").await;
    texts.extend(more_texts);
    to_device.extend(more_to_device);
    assert_eq!(texts, ["while it was away", "when it was back"]);
    assert_eq!(to_device, [1]);
    assert_eq!(numbers(&waiting_v3.await.unwrap().ok()["to_device"]), [1]);
}

#[tokio::test]
async fn a_request_that_comes_while_postgres_is_away_is_answered_when_it_is_back() {
    let lab = Lab::with_own_postgres().await;
    let Pair { alice, bob, room, chain } = Pair::meet(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    eventually("the message to be stored", async || {
        (lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await == 1).then_some(())
    })
    .await;

    lab.postgres.stop();
    let v2 = tokio::spawn(chain.request().send());
    let v3 = tokio::spawn(session.request(&json!({})).send());
    let messages_page = alice.on_new_connections().messages_before(&room, chain.since(), 1);
    let messages_page = tokio::spawn(messages_page.send());
    // This one needs no database, and passes the others on its way to the homeserver and back: they have arrived.
    alice.on_new_connections().get("/_matrix/client/versions").send().await.ok();
    assert!(
        !v2.is_finished() && !v3.is_finished() && !messages_page.is_finished(),
        "there is nothing that could answer them"
    );
    lab.postgres.start_again().await;

    assert_eq!(numbers(&v2.await.unwrap().ok()["to_device"]), [1]);
    assert_eq!(numbers(&v3.await.unwrap().ok()["to_device"]), [1]);
    let page = messages_page.await.unwrap().ok();
    assert_eq!(page["chunk"][0]["content"]["body"], "hello", "{page:#}");
}

#[tokio::test]
async fn a8_with_the_database_away_the_error_has_its_form() {
    let lab = Lab::with_own_postgres().await;
    let Pair { alice, chain, .. } = Pair::meet(&lab).await;
    lab.postgres.stop();

    let of_v3 = alice.on_new_connections();
    let of_v3 = of_v3.v3_sync(&json!({"to_device": {}}));
    let (of_v2, of_v3) = tokio::join!(alice.sync().send(), of_v3.send());
    for reply in [of_v2, of_v3] {
        assert_eq!(reply.header_values("access-control-allow-origin"), ["*"]);
        assert_eq!(reply.header_values("content-type"), ["application/json"]);
        reply.refused(503, "M_UNKNOWN");
    }

    lab.postgres.start_again().await;
    chain.request().send().await.ok();
}

#[tokio::test]
async fn a_restart_of_synapse_is_not_seen_by_those_who_wait() {
    let lab = Lab::with_own_synapse().await;
    let Pair { alice, bob, room, mut chain } = Pair::meet(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    let waiting_v2 = tokio::spawn(chain.request().timeout(60_000).send());
    let waiting_v3 = tokio::spawn(session.request(&json!({})).timeout(60_000).send());
    lab.synapse.stop().await;
    // A client that asks again in the meantime gets a good answer too.
    alice.on_new_connections().sync().since(chain.since()).timeout(500).send().await.ok();
    lab.synapse.start_again().await;
    bob.send(&room, "when it was back").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();

    let reply = waiting_v2.await.unwrap().ok();
    let texts: Vec<&str> = messages(&reply, &room);
    assert!(
        texts == ["when it was back"] || numbers(&reply["to_device"]) == [1],
        "it was woken for nothing: {reply:#}"
    );
    assert_eq!(numbers(&waiting_v3.await.unwrap().ok()["to_device"]), [1]);
    let (texts, to_device) = read_on(&mut chain, &reply, &room, "when it was back").await;
    assert_eq!(texts, ["when it was back"]);
    assert_eq!(to_device, [1]);
}

#[tokio::test]
async fn a_cold_start_answers_its_first_request_within_a_second() {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = Proxy::start(&homeserver.url(), &postgres.database().await).await;
    // An account with much behind it, and a homeserver that has nothing new to say.
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    homeserver.on_sync(None, &a_large_account(1_000, 20));
    let mut chain = alice.v2();
    chain.next().await;
    let mut session = alice.v3();
    session.ask(json!({"room_members": {"room_id": "!room0:scripted"}, "to_device": {}})).await;

    for round in 0..3 {
        proxy.kill9();
        let started = proxy.start_again().await;
        chain.request().send().await.ok();
        let v2 = started.elapsed();
        session.lose(json!({})).await;
        assert!(v2 < COLD_START, "in round {round} the first answer took {v2:?}");
        assert!(
            started.elapsed() < COLD_START * 2,
            "in round {round} the second answer took {:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn c10_a_cold_start_with_the_homeserver_down_serves_what_is_stored() {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = Proxy::start(&homeserver.url(), &postgres.database().await).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    homeserver.on_sync(None, &a_large_account(3, 5));
    let mut chain = alice.v2();
    let first = chain.next().await;

    proxy.kill9();
    drop(homeserver);
    proxy.start_again().await;

    let reply = chain.request().timeout(300).send().await.ok();
    assert_eq!(reply["next_batch"], chain.since());
    let again = alice.sync().send().await.ok();
    assert_eq!(
        again["rooms"]["join"].as_object().unwrap().len(),
        first["rooms"]["join"].as_object().unwrap().len()
    );
}

/// Two users in a room, and Alice's chain, which knows the room and has nothing outstanding.
struct Pair {
    alice: Client,
    bob: Client,
    room: String,
    chain: Chain,
}

impl Pair {
    async fn meet(lab: &Lab) -> Self {
        let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
        let room = alice.create_public_room().await;
        bob.join(&room).await.ok();
        bob.send(&room, "hello").await;
        let mut chain = alice.v2().filtered(json!({"presence": {"types": []}}));
        chain
            .until("Bob's message", |reply| messages(reply, &room).contains(&"hello").then_some(()))
            .await;
        eventually("quiet", async || {
            let reply = chain.next().await;
            reply["rooms"].is_null().then_some(())
        })
        .await;
        Self { alice, bob, room, chain }
    }
}

/// Everything that a chain brings until a room message has come and the to-device messages that go with it.
async fn read_until(chain: &mut Chain, room_id: &str, last: &str) -> (Vec<String>, Vec<u64>) {
    let (mut texts, mut to_device) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while !texts.iter().any(|text| text == last) {
        assert!(Instant::now() < deadline, "`{last}` does not come; there were {texts:?}");
        let reply: Reply = chain.request().timeout(2_000).send().await;
        let reply: Value = reply.ok();
        assert_ne!(joined(&reply, room_id)["timeline"]["limited"], true, "{reply:#}");
        texts.extend(messages(&reply, room_id).iter().map(|&text| text.to_owned()));
        to_device.extend(numbers(&reply["to_device"]));
        chain.absorb(&reply);
    }
    // What was sent before the last message may still come after it: the two streams are not ordered by each other.
    let reply = chain.request().timeout(1_000).send().await.ok();
    to_device.extend(numbers(&reply["to_device"]));
    texts.extend(messages(&reply, room_id).iter().map(|&text| text.to_owned()));
    chain.absorb(&reply);
    (texts, to_device)
}

/// [`read_until`] that begins with a reply that has come already.
async fn read_on(
    chain: &mut Chain,
    reply: &Value,
    room_id: &str,
    last: &str,
) -> (Vec<String>, Vec<u64>) {
    let mut texts: Vec<String> =
        messages(reply, room_id).iter().map(|&text| text.to_owned()).collect();
    let mut to_device = numbers(&reply["to_device"]);
    chain.absorb(reply);
    if texts.iter().any(|text| text == last) {
        let reply = chain.request().timeout(3_000).send().await.ok();
        to_device.extend(numbers(&reply["to_device"]));
        chain.absorb(&reply);
    } else {
        let (more_texts, more_to_device) = read_until(chain, room_id, last).await;
        texts.extend(more_texts);
        to_device.extend(more_to_device);
    }
    (texts, to_device)
}

/// The initial sync of an account with many rooms.
fn a_large_account(rooms: usize, events: usize) -> Value {
    let mut reply = nothing_new("s1");
    for room in 0..rooms {
        let room_id = format!("!room{room}:scripted");
        let mut entry = messages_in(&room_id, "s1", &[])["rooms"]["join"][&room_id].clone();
        entry["timeline"]["events"] =
            (0..events).map(|n| message(&format!("room {room} message {n}"))).collect();
        entry["timeline"]["limited"] = json!(true);
        entry["state"]["events"] = json!([
            {"type": "m.room.create", "state_key": "", "event_id": format!("$create{room}"), "sender": "@alice:scripted",
             "origin_server_ts": 1, "content": {"room_version": "10"}, "unsigned": {}},
            {"type": "m.room.member", "state_key": "@alice:scripted", "event_id": format!("$member{room}"),
             "sender": "@alice:scripted", "origin_server_ts": 1, "content": {"membership": "join"}, "unsigned": {}},
        ]);
        reply["rooms"]["join"][&room_id] = entry;
    }
    reply
}
