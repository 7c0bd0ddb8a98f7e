//! Several devices of a user: who is polled for, and when not.

use std::collections::HashSet;
use std::time::Instant;

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::{Lab, shared_postgres};
use tests::matchers::{messages, numbers};
use tests::proxy::Proxy;
use tests::scripted_homeserver::{
    ScriptedHomeserver, first_sync, messages_in, nothing_new, with_to_device,
};
use tests::wait::{PATIENCE, eventually};

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn c1_a_device_whose_clients_are_gone_is_not_polled_and_loses_nothing() {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let database = postgres.database().await;
    let proxy = Proxy::start_with(&homeserver.url(), &database, &["-device-idle", "1"]).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    let laptop = homeserver.device(&proxy.url(), "@alice:scripted", "LAPTOP");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut on_phone = alice.v2();
    on_phone.next().await;
    let mut on_laptop = laptop.v2();
    on_laptop.next().await;

    // Both have seen this. Long after it the laptop rests; each step wakes who does not.
    let mut step = 1;
    eventually("the laptop to rest", async || {
        let (from, to) = (format!("s{step}"), format!("s{}", step + 1));
        is_polled(&homeserver, &alice, &from).await;
        homeserver.on_sync(Some(&from), &nothing_new(&to));
        is_polled(&homeserver, &alice, &to).await;
        step += 1;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        (polls(&homeserver, &laptop, &to) == 0).then_some(())
    })
    .await;
    let at = format!("s{step}");
    let rests = polls_of(&homeserver, &laptop);
    let news = with_to_device(messages_in(ROOM, "the end", &["two"]), &[1, 2]);
    homeserver.on_sync(Some(&at), &news);
    on_phone.until("the message", |reply| (!messages(reply, ROOM).is_empty()).then_some(())).await;
    assert_eq!(polls_of(&homeserver, &laptop), rests, "nobody asks for its messages");

    // Its first sync waits for a poll that has them, although it does not wait for news.
    let reply = on_laptop.next().await;
    let mut to_device = numbers(&reply["to_device"]);
    assert_eq!(messages(&reply, ROOM), ["two"]);
    // The scripted homeserver knows no inboxes: what it says at this point it says to each device.
    to_device.extend(numbers(&on_laptop.next().await["to_device"]));
    assert_eq!(to_device, [1, 2]);
}

#[tokio::test]
async fn c1_an_account_that_nobody_uses_for_long_is_not_polled_and_catches_up() {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = Proxy::start(&homeserver.url(), &postgres.database().await).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    let bob = homeserver.device(&proxy.url(), "@bob:scripted", "PHONE");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut hers = alice.v2();
    hers.next().await;
    bob.v2().next().await;
    proxy.stop().await;
    let month = 31_i64 * 24 * 60 * 60 * 1_000;
    let aged = proxy.database().connect().await.unwrap();
    let sql = "UPDATE accounts SET used_at = used_at - $1 WHERE user_id = '@alice:scripted'";
    assert_eq!(aged.execute(sql, &[&month]).await.unwrap(), 1);
    let before = polls_of(&homeserver, &alice);
    let of_bob = polls_of(&homeserver, &bob);

    proxy.start_again().await;
    // Devices resume in the order of their numbers, hers before his.
    eventually("Bob's polls to go on", async || {
        (polls_of(&homeserver, &bob) > of_bob).then_some(())
    })
    .await;
    assert_eq!(polls_of(&homeserver, &alice), before, "hers rest");

    homeserver.on_sync(Some("s1"), &with_to_device(messages_in(ROOM, "s2", &["two"]), &[1]));
    let reply = hers.next().await;
    assert_eq!(messages(&reply, ROOM), ["two"]);
    assert_eq!(numbers(&reply["to_device"]), [1]);
}

/// Whatever stands in between may cut off what takes long: in the end nobody is asked to wait.
#[tokio::test]
async fn an_inbox_that_cannot_be_read_is_asked_for_otherwise_and_loses_nothing() {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = Proxy::start(&homeserver.url(), &postgres.database().await).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    let laptop = homeserver.device(&proxy.url(), "@alice:scripted", "LAPTOP");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    alice.v2().next().await;
    let mut chain = laptop.v2();
    chain.next().await;
    is_polled(&homeserver, &laptop, "s1").await;

    let broken = r#"{"next_batch":"s2","to_device":{"events":[{]}}"#;
    homeserver.on_sync_raw(Some("s1"), broken.to_owned());
    let holds = || -> Vec<u64> {
        let asked = homeserver.seen_at("/sync");
        asked
            .iter()
            .filter(|seen| is_by(seen, &laptop) && seen.since().as_deref() == Some("s1"))
            .map(|seen| seen.parameter("timeout").unwrap().parse().unwrap())
            .collect()
    };
    eventually("a poll that is not held", async || {
        holds().last().is_some_and(|hold| *hold < 1_000).then_some(())
    })
    .await;
    let (mut held, different) = (holds(), holds().into_iter().collect::<HashSet<_>>().len());
    held.pop();
    assert!(held.len() >= 3, "the same is asked for a few times: {held:?}");
    // One may have been given up for a request of the laptop, and asked again as it was.
    assert!(different >= held.len(), "never quite the same: {held:?}");

    homeserver.on_sync(Some("s1"), &with_to_device(nothing_new("s2"), &[1]));
    let to_device = chain
        .until("the message", |reply| {
            let numbers = numbers(&reply["to_device"]);
            (!numbers.is_empty()).then_some(numbers)
        })
        .await;
    assert_eq!(to_device, [1]);
}

/// A client that uses the homeserver's own sliding sync gets its to-device messages there: we take none from it.
#[tokio::test]
async fn c1_a_device_on_native_sliding_sync_is_not_polled_until_it_comes_back() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut chain = alice.v2();
    chain.next().await;
    let mut sliding = Sliding { client: alice.clone(), pos: None, since: None };

    let mut got = Vec::new();
    for n in 0..10 {
        if n == 5 {
            // A restart does not begin to poll for it again either.
            lab.proxy.crash_and_restart().await;
        }
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
        let first = got.is_empty();
        let deadline = Instant::now() + PATIENCE;
        while got.len() <= n {
            assert!(Instant::now() < deadline, "message {n} went elsewhere: {got:?}");
            got.extend(sliding.next().await);
            // What came before the device was seen there was polled for; upstream may tell it there as well, as long as no
            // further poll has acknowledged it.
            let told_there = !got.is_empty();
            if first
                && !told_there
                && lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await > 0
            {
                got.push(0);
            }
        }
    }
    assert_eq!(got, (0..10).collect::<Vec<_>>());

    chain.next().await;
    bob.send_to_device(&alice, "m.test", json!({"n": 10})).await.ok();
    let mut back = Vec::new();
    chain
        .until("the message", |reply| {
            back.extend(numbers(&reply["to_device"]));
            back.contains(&10).then_some(())
        })
        .await;
}

/// The account's other devices go on without the one that left for sliding sync.
#[tokio::test]
async fn c1_when_the_main_device_goes_to_sliding_sync_another_takes_over() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    alice.v2().next().await;
    let mut chain = laptop.v2();
    chain.next().await;

    Sliding { client: alice.clone(), pos: None, since: None }.next().await;
    bob.send(&room, "are you there?").await;
    bob.send_to_device(&laptop, "m.test", json!({"n": 1})).await.ok();

    let (mut texts, mut to_device) = (Vec::new(), Vec::new());
    chain
        .until("everything", |reply| {
            texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
            to_device.extend(numbers(&reply["to_device"]));
            (!texts.is_empty() && !to_device.is_empty()).then_some(())
        })
        .await;
    assert_eq!((texts, to_device), (vec!["are you there?".to_owned()], vec![1]));
}

/// A loop of the homeserver's own sliding sync, for to-device messages alone.
struct Sliding {
    client: Client,
    pos: Option<String>,
    since: Option<String>,
}

impl Sliding {
    async fn next(&mut self) -> Vec<u64> {
        let mut to_device = json!({"enabled": true});
        if let Some(since) = &self.since {
            to_device["since"] = json!(since);
        }
        let reply = self
            .client
            .post("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync")
            .query("timeout", "2000")
            .maybe_query("pos", self.pos.as_deref())
            .json(&json!({"extensions": {"to_device": to_device}}))
            .send()
            .await
            .ok();
        self.pos = reply["pos"].as_str().map(str::to_owned);
        let messages: &Value = &reply["extensions"]["to_device"];
        self.since = messages["next_batch"].as_str().map(str::to_owned);
        numbers(messages)
    }
}

async fn is_polled(homeserver: &ScriptedHomeserver, by: &Client, since: &str) {
    eventually(&format!("a poll at {since}"), async || {
        (polls(homeserver, by, since) > 0).then_some(())
    })
    .await;
}

fn polls(homeserver: &ScriptedHomeserver, by: &Client, since: &str) -> usize {
    let all = homeserver.seen_at("/sync");
    let mut own = Vec::new();
    own.extend(all.iter().filter(|seen| is_by(seen, by)));
    own.iter().filter(|seen| seen.since().as_deref() == Some(since)).count()
}

fn polls_of(homeserver: &ScriptedHomeserver, by: &Client) -> usize {
    homeserver.seen_at("/sync").iter().filter(|seen| is_by(seen, by)).count()
}

fn is_by(seen: &tests::scripted_homeserver::Seen, by: &Client) -> bool {
    seen.header("authorization").is_some_and(|header| header.ends_with(&by.access_token))
}
