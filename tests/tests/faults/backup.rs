//! A homeserver that was restored from a backup: what it told since then, its tokens among it, it knows no more.
//!
//! One that refuses its tokens is in the storm's table, and in `tests/e2e/poller/faults.rs`.

use serde_json::json;
use tests::lab::Lab;
use tests::matchers::{messages, numbers};
use tests::wait::eventually;

/// Synapse takes a token from its own future for one of now, so nobody who polls sees any refusal.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_homeserver_restored_from_a_backup_is_followed_from_there() {
    let lab = Lab::with_own_synapse().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let (mut chain, mut session) = (alice.v2(), alice.v3());
    chain.next().await;
    session.ask(json!({"to_device": {}})).await;
    lab.synapse.stop().await;
    lab.synapse.back_up();
    lab.synapse.start_again().await;
    for n in 0..20 {
        bob.send(&room, &format!("lost {n}")).await;
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    chain
        .until("the last", |reply| messages(reply, &room).contains(&"lost 19").then_some(()))
        .await;
    session
        .until("the last", |reply| numbers(&reply["to_device"]).contains(&19).then_some(()))
        .await;

    lab.synapse.stop().await;
    lab.synapse.restore_backup();
    lab.synapse.start_again().await;

    // What is said before somebody polls again is before that poll's position: Synapse tells nobody of it.
    let mut said = 0;
    let mut heard: Vec<String> = Vec::new();
    eventually("her to hear again", async || {
        bob.send(&room, &format!("after {said}")).await;
        bob.send_to_device(&alice, "m.test", json!({"n": 100 + said})).await.ok();
        said += 1;
        heard.extend(messages(&chain.next().await, &room).iter().map(|&text| text.to_owned()));
        (!heard.is_empty()).then_some(())
    })
    .await;
    bob.send(&room, "the last").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 100 + said})).await.ok();
    while heard.last().is_none_or(|text| text != "the last") {
        let reply = chain.until_reply("more", |reply| !messages(reply, &room).is_empty()).await;
        heard.extend(messages(&reply, &room).iter().map(|&text| text.to_owned()));
    }
    let first = said - u64::try_from(heard.len()).unwrap() + 1;
    let mut expected: Vec<String> = (first..said).map(|n| format!("after {n}")).collect();
    expected.push("the last".to_owned());
    assert_eq!(heard, expected, "from the first that is heard on, each comes once and in order");
    let mut told: Vec<u64> = Vec::new();
    while told.last() != Some(&(100 + said)) {
        told.extend(numbers(&session.poll().await["to_device"]));
    }
    assert!(told.is_sorted_by(|a, b| *b == a + 1), "{told:?}");
}
