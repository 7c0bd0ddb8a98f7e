//! To-device messages: every session of a device gets each of them, and it stays in the database until all have
//! acknowledged it.

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, numbers};
use tests::proxy::Proxy;
use tests::session::Session;
use tests::wait::eventually;

#[tokio::test]
async fn two_sessions_and_a_v2_client_each_get_everything_and_the_last_to_acknowledge_empties_the_inbox()
 {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut one, mut two, mut v2) = three_sessions(&alice).await;

    for n in 0..5 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    stored_is(&lab.proxy, 5).await;

    assert_eq!(numbers(&one.ask(json!({})).await["to_device"]), [0, 1, 2, 3, 4]);
    one.ask(json!({})).await;
    assert_eq!(stored(&lab.proxy).await, 5, "two have not acknowledged them yet");

    assert_eq!(numbers(&v2.next().await["to_device"]), [0, 1, 2, 3, 4]);
    v2.next().await;
    assert_eq!(stored(&lab.proxy).await, 5, "one has not acknowledged them yet");

    assert_eq!(numbers(&two.ask(json!({})).await["to_device"]), [0, 1, 2, 3, 4]);
    assert_eq!(stored(&lab.proxy).await, 5, "delivered is not acknowledged");
    let after = two.ask(json!({})).await;
    assert!(after["to_device"].is_null(), "{after:#}");
    stored_is(&lab.proxy, 0).await;
}

#[tokio::test]
async fn the_v2_client_holds_a_message_that_all_v3_sessions_have_acknowledged() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut one, mut two, mut v2) = three_sessions(&alice).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    stored_is(&lab.proxy, 1).await;

    for session in [&mut one, &mut two] {
        assert_eq!(numbers(&session.ask(json!({})).await["to_device"]), [1]);
        session.ask(json!({})).await;
    }
    assert_eq!(stored(&lab.proxy).await, 1, "the v2 client has not even seen it");

    assert_eq!(numbers(&v2.next().await["to_device"]), [1]);
    assert_eq!(stored(&lab.proxy).await, 1, "delivered is not acknowledged");
    v2.next().await;
    stored_is(&lab.proxy, 0).await;
}

#[tokio::test]
async fn a_stray_v2_sync_without_a_since_holds_nothing_back() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    alice.sync().send().await.ok();

    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    stored_is(&lab.proxy, 1).await;
    session.ask(json!({})).await;
    session.ask(json!({})).await;

    stored_is(&lab.proxy, 0).await;
}

#[tokio::test]
async fn the_same_since_brings_the_same_messages_byte_for_byte() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    for content in [
        json!({"n": 0, "text": "größer > kleiner \\ \" \u{1F600}"}),
        json!({"n": 1, "z": 1, "a": [null, {}]}),
    ] {
        bob.send_to_device(&alice, "m.test", content).await.ok();
    }
    waits_for(&session, 2).await;

    let first = session.request(&json!({})).send().await.expect_status(200);
    let again = session.request(&json!({})).send().await.expect_status(200);
    assert_eq!(first.raw, again.raw);

    let also_on_v2 = alice.v2().next().await;
    assert_eq!(first.json["to_device"]["events"], also_on_v2["to_device"]["events"]);

    // What has come since follows.
    bob.send_to_device(&alice, "m.test", json!({"n": 2})).await.ok();
    waits_for(&session, 3).await;
    let more = session.request(&json!({})).send().await.expect_status(200);
    let events_of = |raw: &[u8]| {
        let raw = String::from_utf8(raw.to_vec()).unwrap();
        raw.split("]},\"next\"").next().unwrap().to_owned()
    };
    assert!(events_of(&more.raw).starts_with(&events_of(&first.raw)), "{:#}", more.json);
    assert_eq!(numbers(&more.json["to_device"]), [0, 1, 2]);
}

#[tokio::test]
async fn a_limit_makes_pages_that_follow_at_once() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut session = alice.v3();
    let first = session.ask(json!({"to_device": {"limit": 2}})).await;
    assert!(
        first["to_device"].is_null(),
        "a stream with nothing to say is left out of the first reply too: {first:#}"
    );
    for n in 0..5 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    lets_arrive(&alice, 5).await;

    for expected in [vec![0, 1], vec![2, 3], vec![4]] {
        let reply = session.poll().await;
        assert_eq!(numbers(&reply["to_device"]), expected, "{reply:#}");
        assert_eq!(reply["to_device"]["limit"], 2);
    }
}

#[tokio::test]
async fn a_limit_that_was_lowered_is_said_even_with_no_message_to_tell() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut session = alice.v3();

    let reply = session.ask(json!({"to_device": {"limit": 50_000}})).await;

    assert_eq!(reply, json!({"to_device": {"limit": 1_000, "events": []}, "next": session.next()}));
    let reply = session.ask(json!({})).await;
    assert_eq!(reply, json!({"next": session.next()}), "it is said once");
}

#[tokio::test]
async fn a_stream_that_was_dropped_goes_on_where_it_was_when_it_is_asked_for_again() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    // The other session acknowledges nothing, so that what was delivered is still there to be told again by mistake.
    let (mut session, mut holder) = (alice.v3(), alice.v3());
    holder.ask(json!({})).await;
    session.ask(json!({"to_device": {"limit": 2}})).await;
    for n in 0..3 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    lets_arrive(&alice, 3).await;
    assert_eq!(numbers(&session.ask(json!({})).await["to_device"]), [0, 1]);

    let dropped = session.ask(json!({"to_device": null})).await;
    assert!(dropped["to_device"].is_null(), "{dropped:#}");
    bob.send_to_device(&alice, "m.test", json!({"n": 3})).await.ok();
    lets_arrive(&alice, 4).await;
    let without = session.ask(json!({})).await;
    assert!(without["to_device"].is_null(), "{without:#}");

    let again = session.ask(json!({"to_device": {}})).await;
    assert_eq!(
        numbers(&again["to_device"]),
        [2, 3],
        "neither what it had already nor a gap where it did not ask"
    );
    let after = session.ask(json!({})).await;
    assert!(after["to_device"].is_null(), "{after:#}");
}

#[tokio::test]
async fn a_new_session_begins_with_the_oldest_message_still_held() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut reader, mut holder) = (alice.v3(), alice.v3());
    reader.ask(json!({"to_device": {}})).await;
    holder.ask(json!({"to_device": {}})).await;
    for n in 0..3 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    waits_for(&reader, 3).await;
    reader.ask(json!({})).await;
    reader.ask(json!({})).await;

    // `holder` has not acknowledged anything, so everything is still there for a third session.
    let late = alice.v3().ask(json!({"to_device": {}})).await;

    assert_eq!(numbers(&late["to_device"]), [0, 1, 2]);
}

/// An acknowledgement that had moved backwards would be seen only when another session lets go of the messages: those
/// between the two places would stay for ever.
#[tokio::test]
async fn an_acknowledgement_never_moves_backwards() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut session, mut other) = (alice.v3(), alice.v3());
    session.ask(json!({"to_device": {"limit": 1}})).await;
    other.ask(json!({"to_device": {}})).await;
    for n in 0..3 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    waits_for(&other, 3).await;
    assert_eq!(numbers(&session.ask(json!({})).await["to_device"]), [0]);
    let behind_the_first = session.clone();
    assert_eq!(numbers(&session.ask(json!({})).await["to_device"]), [1]);
    // This acknowledges the first two.
    assert_eq!(numbers(&session.lose(json!({})).await["to_device"]), [2]);

    // An old request that was on its way all the time arrives now.
    let replayed = behind_the_first.lose(json!({})).await;
    assert_eq!(numbers(&replayed["to_device"]), [1], "the other session still holds them all");
    assert_eq!(stored(&lab.proxy).await, 3);

    other.ask(json!({})).await;
    other.ask(json!({})).await;
    assert_eq!(stored(&lab.proxy).await, 1, "both have acknowledged the first two");
    assert_eq!(numbers(&session.ask(json!({})).await["to_device"]), [2]);
    session.ask(json!({})).await;
    assert_eq!(stored(&lab.proxy).await, 0);
}

#[tokio::test]
async fn a_session_that_does_not_ask_for_to_device_still_holds_the_messages() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut reader, mut bystander) = (alice.v3(), alice.v3());
    reader.ask(json!({"to_device": {}})).await;
    bystander.ask(json!({})).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 7})).await.ok();
    waits_for(&reader, 1).await;
    reader.ask(json!({})).await;
    reader.ask(json!({})).await;
    bystander.ask(json!({})).await;

    // It asks for the stream only now, in mid-session: nothing was acknowledged unseen.
    let reply = bystander.ask(json!({"to_device": {}})).await;

    assert_eq!(numbers(&reply["to_device"]), [7]);
}

#[tokio::test]
async fn a_waiting_session_wakes_for_a_message() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.send_to_device(&alice, "m.test", json!({"n": 3})).await.ok();
    let reply = waiting.await.unwrap().ok();

    assert_eq!(numbers(&reply["to_device"]), [3]);
    assert_eq!(events(&reply["to_device"])[0]["sender"], bob.user_id.as_str());
    assert_eq!(events(&reply["to_device"])[0]["type"], "m.test");
}

/// How many to-device messages the proxy keeps, whoever they are for.
async fn stored(proxy: &Proxy) -> i64 {
    proxy.database().count("SELECT COUNT(*) FROM device_inbox").await
}

async fn stored_is(proxy: &Proxy, expected: i64) {
    eventually(&format!("{expected} messages in the database"), async || {
        (stored(proxy).await == expected).then_some(())
    })
    .await;
}

/// Waits until a session could be told of so many messages, without telling it.
async fn waits_for(session: &Session, count: usize) {
    eventually(&format!("{count} messages for the session"), async || {
        let reply: Value = session.lose(json!({})).await;
        (numbers(&reply["to_device"]).len() == count).then_some(())
    })
    .await;
}

/// Waits until so many messages have arrived for a device, by asking again and again in a session made for that alone.
async fn lets_arrive(client: &Client, count: usize) {
    let mut probe = client.v3();
    probe.ask(json!({})).await;
    eventually(&format!("{count} messages for the device"), async || {
        let reply = probe.lose(json!({"to_device": {}})).await;
        (numbers(&reply["to_device"]).len() == count).then_some(())
    })
    .await;
}

/// Two v3 sessions and the v2 sync of one device, each of which counts.
async fn three_sessions(client: &Client) -> (Session, Session, Chain) {
    let (mut one, mut two, mut v2) = (client.v3(), client.v3(), client.v2());
    one.ask(json!({"to_device": {}})).await;
    two.ask(json!({"to_device": {}})).await;
    v2.next().await;
    // From its first `since` on, the device's v2 sync counts as a session.
    v2.next().await;
    (one, two, v2)
}
