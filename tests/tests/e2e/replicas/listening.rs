//! The session with which a process hears the others is lost: its clients miss nothing, and the homeserver is not overrun.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use serde_json::json;
use tests::lab::{Lab, shared_postgres};
use tests::matchers::joined;
use tests::postgres::Database;
use tests::replicas::Replicas;
use tests::scripted_homeserver::{ScriptedHomeserver, first_sync};
use tests::wait::{PATIENCE, eventually, eventually_within};

use crate::numbered::{Progress, read_session, read_v2, send_to_device, send_to_room};

/// How many processes there are here.
const PROCESSES: usize = 2;

/// The sessions with which processes listen: each holds the lock of its replica as well, which nobody else does for long.
const LISTENERS: &str =
    "SELECT count(*) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND EXISTS (SELECT 1 FROM replicas r WHERE r.replica_id = l.objid::BIGINT)";

const TERMINATED: &str = "SELECT count(*) FROM (
        SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS terminated";

#[tokio::test]
async fn while_sessions_that_listen_are_lost_every_message_arrives_exactly_once() {
    const TO_DEVICE: usize = 120;
    const IN_ROOM: usize = 80;
    const LOSSES: usize = 3;
    let lab = Lab::shared().await;
    let database = lab.postgres.database().await;
    let replicas = Replicas::start(&lab.synapse.url(), &database, PROCESSES).await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let laptop = lab.second_device(&alice).await;
    // Each device has a v2 client at one process, and a session at the other.
    let mut readers = Vec::new();
    for (number, device) in [&alice, &laptop].into_iter().enumerate() {
        let mut chain = replicas.at(number, device).on_new_connections().v2();
        chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
        let mut session = replicas.at(number + 1, device).on_new_connections().v3();
        session.ask(json!({"to_device": {"limit": 7}})).await;
        readers.push(tokio::spawn(read_v2(chain, room.clone(), TO_DEVICE, IN_ROOM)));
        readers.push(tokio::spawn(read_session(session, "a session", TO_DEVICE)));
    }

    let (in_room_sent, to_device_sent) = (Progress::default(), Progress::default());
    let bob = lab.past_proxy(&bob);
    let mut sending = vec![tokio::spawn(send_to_room(
        bob.on_new_connections(),
        room.clone(),
        IN_ROOM,
        in_room_sent.clone(),
    ))];
    for device in [&alice, &laptop] {
        let (from, to) = (bob.on_new_connections(), lab.past_proxy(device));
        sending.push(tokio::spawn(send_to_device(from, to, TO_DEVICE, to_device_sent.clone())));
    }
    // Each loss comes when another share has been sent, so that all are in the middle.
    for loss in 1..=LOSSES {
        eventually_within(PATIENCE * 3, "the next share of messages", async || {
            let sent = in_room_sent.load(Ordering::Relaxed);
            (sent >= IN_ROOM * loss / (LOSSES + 1)).then_some(())
        })
        .await;
        all_listeners_are_lost(&database).await;
    }
    for task in sending.into_iter().chain(readers) {
        task.await.unwrap();
    }
}

/// While nobody could hear of a logout, every token may be dead: each is asked about once, but not all at the same moment.
#[tokio::test]
async fn tokens_that_are_all_in_doubt_are_asked_about_a_few_at_once() {
    const AT_ONCE: usize = 2;
    const CLIENTS: usize = 12;
    let homeserver = ScriptedHomeserver::start().await;
    homeserver.on_sync(None, &first_sync("@user0:scripted", "!room:scripted", "s1", &["one"]));
    let database = shared_postgres().await.database().await;
    let flags = ["-max-token-checks", &AT_ONCE.to_string()];
    let replicas = Replicas::start_with(&homeserver.url(), &database, PROCESSES, &flags).await;
    let url = replicas.proxy(0).url();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = homeserver.device(&url, &format!("@user{number}:scripted"), "PHONE");
        client.sync().send().await.ok();
        clients.push(client.on_new_connections());
    }
    // A poll that succeeds is a word on its token, too: none does meanwhile.
    let polls = homeserver.hold_syncs();
    all_listeners_are_lost(&database).await;
    all_listen(&database).await;
    let answers = homeserver.hold_whoami();
    let before = homeserver.seen_at("/whoami").len();
    let asking = join_all(clients.iter().map(|client| client.sync().send()));
    let asking = tokio::spawn(asking);
    let asked = || homeserver.seen_at("/whoami").len() - before;
    eventually("the first questions", async || (asked() >= AT_ONCE).then_some(())).await;
    // Who came before this is answered was there before the gate opens.
    clients[0].get("/_syncv3/ping").send().await.ok();
    answers.open();
    polls.open();

    for reply in asking.await.unwrap() {
        reply.ok();
    }
    assert_eq!(homeserver.most_whoamis_at_once(), AT_ONCE);
    assert!(asked() <= CLIENTS, "{} questions about {CLIENTS} tokens", asked());
}

/// Every process loses the session with which it listens.
async fn all_listeners_are_lost(database: &Database) {
    all_listen(database).await;
    let lost = database.count(TERMINATED).await;
    assert_eq!(lost, i64::try_from(PROCESSES).unwrap());
}

/// Waits until each process has a session with which it listens.
async fn all_listen(database: &Database) {
    eventually("every process to listen", async || {
        let listeners = usize::try_from(database.count(LISTENERS).await).unwrap();
        (listeners == PROCESSES).then_some(())
    })
    .await;
}
