//! The process that polls for an account dies while something is asked of it, or while it is told something.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::shared_postgres;
use tests::matchers::{events, numbers};
use tests::replicas::Replicas;
use tests::scripted_homeserver::{
    Canned, Ledger, ROOMS, ScriptedHomeserver, first_sync, nothing_new,
};
use tests::wait::eventually;

use super::{COUNT, in_a_long_poll, scripted};
use crate::numbered::{read_session_at, read_v2_at};

const ROOM: &str = "!room:scripted";
const PATH: &str = "/_matrix/client/v3/user/@alice:scripted/account_data/org.test";

/// The write is covered by whoever polls next, and the sync that waits for it has it.
#[tokio::test]
async fn a_write_that_a_killed_process_was_to_cover_is_covered_by_the_next() {
    the_next_covers_the_write(60_000).await;
}

/// And so has one that waits for nothing else.
#[tokio::test]
async fn a_write_that_a_killed_process_was_to_cover_is_in_the_very_next_reply() {
    the_next_covers_the_write(0).await;
}

/// `timeout`: the client's, in milliseconds.
async fn the_next_covers_the_write(timeout: u64) {
    let homeserver = ScriptedHomeserver::start().await;
    homeserver.on_path(PATH, Canned::json(&json!({})));
    let database = shared_postgres().await.database().await;
    let replicas = Replicas::start(&homeserver.url(), &database, 2).await;
    let alice = homeserver.device(&replicas.proxy(0).url(), "@alice:scripted", "PHONE");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    alice.sync().send().await.ok();
    let holder = replicas.holder_of(&alice.user_id).await;
    let elsewhere = replicas.at(holder + 1, &alice).on_new_connections();
    let mut chain = elsewhere.v2();
    chain.next().await;
    in_a_long_poll(&homeserver).await;

    // The poll that is to cover the write is never answered.
    let gate = homeserver.hold_syncs();
    let demanded = || {
        let polls = homeserver.seen_at("/sync").into_iter();
        // No two polls ask for the same, so a few milliseconds are none.
        let at_once = |timeout: Option<String>| {
            timeout.is_none_or(|timeout| timeout.parse::<u64>().unwrap() < 1_000)
        };
        polls.filter(|seen| seen.since().is_some() && at_once(seen.parameter("timeout"))).count()
    };
    let before = demanded();
    let written = json!({"n": 1});
    elsewhere.put(PATH).json(&written).send().await.ok();
    let waiting = tokio::spawn(chain.request().timeout(timeout).send());
    eventually("a poll for the write", async || (demanded() > before).then_some(())).await;
    assert!(!waiting.is_finished(), "it waits for the write");
    replicas.proxy(holder).kill9();
    let mut news = nothing_new("s2");
    news["account_data"] = json!({"events": [{"type": "org.test", "content": written}]});
    homeserver.on_sync(Some("s1"), &news);
    gate.open();

    // Without anybody to take over it would be answered in the end, and be empty.
    let reply = waiting.await.unwrap().ok();
    let told = |reply: &Value| {
        let all = events(&reply["account_data"]);
        all.iter().map(|event| event["content"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(&reply), [written], "{reply:#}");
    assert_eq!(replicas.holder_of(&alice.user_id).await, (holder + 1) % 2);
    chain.absorb(&reply);
    assert!(told(&chain.next().await).is_empty(), "it comes once");
}

/// How often the process that polls is killed.
const KILLS: usize = 2;

/// How many messages go to each device, and half as many into a room, around each kill, and after the last.
const SHARE: usize = 120;
const TO_DEVICE: usize = SHARE * (KILLS + 1);
const IN_ROOM: usize = TO_DEVICE / 2;

/// How long after one message the next is sent. Those of half a share take less time than another process to take over.
const PAUSE: Duration = Duration::from_millis(50);

/// Clients that are at another process with each request, one of them dead for a while, miss nothing and get nothing twice.
#[tokio::test]
async fn while_the_process_that_polls_is_killed_every_message_arrives_exactly_once() {
    let (homeserver, replicas, alice) = scripted().await;
    let ledger = homeserver.keep_books();
    let laptop = homeserver.device(&replicas.proxy(0).url(), &alice.user_id, "LAPTOP");
    let devices = [alice, laptop];
    let mut beginning = Vec::new();
    for device in &devices {
        let mut chain = device.v2();
        // From its first `since` on it is somebody whom messages are kept for.
        chain.next().await;
        chain.next().await;
        let mut session = device.v3();
        session.ask(json!({"to_device": {"limit": 7}})).await;
        beginning.push((device, chain, session));
    }
    let mut readers = Vec::new();
    for (turn, (device, chain, session)) in beginning.into_iter().enumerate() {
        let servers = |first: usize| -> Vec<Client> {
            (first..first + COUNT).map(|n| replicas.at(n, device).on_new_connections()).collect()
        };
        let room = ROOMS[0].to_owned();
        readers.push(tokio::spawn(read_v2_at(servers(turn), chain, room, TO_DEVICE, IN_ROOM)));
        let reading = read_session_at(servers(turn + 1), session, "a session", TO_DEVICE);
        readers.push(tokio::spawn(reading));
    }

    for kill in 0..KILLS {
        let killing = async {
            let half = u64::try_from(kill * SHARE + SHARE / 2).unwrap();
            eventually("half of the share", async || {
                (ledger.sent_to(&devices[0].user_id, &devices[0].device_id) >= half).then_some(())
            })
            .await;
            let killed = replicas.holder_of(&devices[0].user_id).await;
            replicas.proxy(killed).kill9();
            eventually("another process to take over", async || {
                (replicas.holder_of(&devices[0].user_id).await != killed).then_some(())
            })
            .await;
            replicas.start_again(killed, COUNT).await;
        };
        tokio::join!(killing, send_a_share(&ledger, &devices));
    }
    send_a_share(&ledger, &devices).await;
    for reader in readers {
        reader.await.unwrap();
    }
    // While nothing comes a poll stays open: if there were another beside it, it would stay so, too.
    let mut chain = devices[0].v2();
    chain.next().await;
    let reply = chain.request().timeout(5_000).send().await.ok();
    assert!(numbers(&reply["to_device"]).is_empty(), "all have been told: {reply:#}");
    assert_eq!(homeserver.most_syncs_at_once(), 1, "of one device");
}

async fn send_a_share(ledger: &Ledger, devices: &[Client]) {
    for n in 0..SHARE {
        for device in devices {
            ledger.send_to(&device.user_id, &device.device_id);
        }
        if n % 2 == 0 {
            ledger.say(0);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
