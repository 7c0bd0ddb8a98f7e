//! Many at once: no deadlock, nothing lost, nothing kept too long or let go too early.

use store::{AccountId, DeviceNid, InboxSeq, NewSession, Place, Position, Store, TimelineQuery};
use tests::random::Random;
use tests::wait::PATIENCE;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::database::Fresh;
use crate::polls::{Feed, light, message, redaction, room_with, to_device};

const LIVE_SINCE: i64 = 0;

/// Waits for all, and fails when one fails or they wait for each other.
async fn all_end(mut tasks: JoinSet<()>) {
    timeout(PATIENCE, async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    })
    .await
    .unwrap();
}

/// A client that hangs up in the middle of anything leaves no connection behind that is not clean: the
/// first statement of a transaction is as good a middle as any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_leaves_no_open_transaction_behind() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    feed.rooms(vec![room_with("!a:x", vec![message("$1")])]).await;
    let device = fresh.store.device(feed.account_id, "D").await.unwrap();
    let mut random = Random::seeded(7);

    for round in 0..600_u64 {
        let (store, account_id) = (fresh.store.clone(), feed.account_id);
        let device_nid = device.device_nid;
        // A connection is open, so that what is interrupted is the transaction and not the connecting.
        store.ping().await.unwrap();
        let given_up = tokio::spawn(async move {
            if round % 2 == 0 {
                store.changed_rooms(account_id, Position(0)).await.map(drop)
            } else {
                store.acknowledge_v2(account_id, device_nid, InboxSeq(0), 1, 0).await.map(drop)
            }
        });
        // Not a wait for something to happen: the moment of giving up is what is tried.
        let moment =
            std::time::Instant::now() + std::time::Duration::from_micros(random.between(0, 250));
        while std::time::Instant::now() < moment {
            tokio::task::yield_now().await;
        }
        given_up.abort();
        given_up.await.ok();
    }

    for _ in 0..40 {
        fresh.store.forget_light_since(device.device_nid).await.unwrap();
        fresh.store.changed_rooms(feed.account_id, Position(0)).await.unwrap();
    }
    let open = "SELECT COUNT(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(fresh.count(open).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_store_the_same_events_at_once() {
    const ACCOUNTS: u64 = 4;
    const POLLS: usize = 12;
    const EVENTS: usize = 300;
    let fresh = Fresh::database().await;
    let mut tasks = JoinSet::new();
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let mut feed = Feed::of(&fresh.store, &format!("@user-{number}:x")).await;
        accounts.push(feed.account_id);
        tasks.spawn(async move {
            let mut random = Random::seeded(number);
            for poll in 0..POLLS {
                // Each homeserver worker has its own idea of the order.
                let mut ids: Vec<usize> = (0..EVENTS).map(|n| poll * EVENTS / 2 + n).collect();
                for place in (1..ids.len()).rev() {
                    let other = usize::try_from(random.between(0, place as u64)).unwrap();
                    ids.swap(place, other);
                }
                let timeline = |half: &[usize]| {
                    half.iter().map(|n| message(&format!("$event-{n}"))).collect::<Vec<_>>()
                };
                let (one, other) = ids.split_at(EVENTS / 2);
                let (first, second) =
                    if random.coin() { ("!a:x", "!b:x") } else { ("!b:x", "!a:x") };
                feed.rooms(vec![
                    room_with(first, timeline(one)),
                    room_with(second, timeline(other)),
                ])
                .await;
            }
        });
    }
    all_end(tasks).await;

    let distinct = (POLLS - 1) * EVENTS / 2 + EVENTS;
    let stored = fresh.count("SELECT COUNT(*) FROM event_bodies").await;
    assert_eq!(stored, i64::try_from(distinct).unwrap());
    // The store would try again after a deadlock; with bodies in one order there is none.
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(fresh.count(deadlocks).await, 0);
    for account_id in accounts {
        assert_eq!(told(&fresh.store, account_id).await, POLLS * EVENTS);
    }
}

/// Each account is told all redactions, each in another order, together with other spellings of what they are for.
/// Whoever is told last finds what the others stored meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_accounts_that_are_told_of_redactions_at_once_leave_nothing_unpruned() {
    const ACCOUNTS: u64 = 4;
    const EVENTS: usize = 60;
    let fresh = Fresh::database().await;
    let mut tasks = JoinSet::new();
    for number in 0..ACCOUNTS {
        let mut feed = Feed::of(&fresh.store, &format!("@user-{number}:x")).await;
        tasks.spawn(async move {
            let mut random = Random::seeded(number);
            let mut events: Vec<store::Event> = (0..EVENTS)
                .flat_map(|n| {
                    let mut told = message(&format!("$event-{n}"));
                    let spelling = number % 2;
                    told.body = format!(r#"{{"event_id":"$event-{n}","s{spelling}":1}}"#).into();
                    [told, redaction(&format!("$redaction-{n}"), &format!("$event-{n}"))]
                })
                .collect();
            for place in (1..events.len()).rev() {
                let other = usize::try_from(random.between(0, place as u64)).unwrap();
                events.swap(place, other);
            }
            for timeline in events.chunks(5) {
                feed.rooms(vec![room_with("!a:x", timeline.to_vec())]).await;
            }
        });
    }
    all_end(tasks).await;

    let whole = "SELECT COUNT(*) FROM event_bodies
                 WHERE event_id LIKE '$event-%' AND redacted_by IS NULL";
    assert_eq!(fresh.count(whole).await, 0);
    let pruned = "SELECT COUNT(*) FROM event_bodies WHERE redacted_by IS NOT NULL";
    assert_eq!(fresh.count(pruned).await, 2 * i64::try_from(EVENTS).unwrap());
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(fresh.count(deadlocks).await, 0);
}

/// The number of events in both rooms of an account.
async fn told(store: &Store, account_id: AccountId) -> usize {
    let now = store.account_by_id(account_id).await.unwrap().unwrap().pos;
    let mut queries = Vec::new();
    for room_id in ["!a:x", "!b:x"] {
        let room_nid = store.room_nid(room_id).await.unwrap().unwrap();
        queries.push(TimelineQuery { room_nid, after: Position(0), before: Place::after(now) });
    }
    let timelines = store.timelines(account_id, DeviceNid(0), &queries, 10_000).await.unwrap();
    timelines.values().map(Vec::len).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_pollers_wins_each_position() {
    let fresh = Fresh::database().await;
    let account_id = fresh.store.account("@alice:x").await.unwrap().account_id;
    let mut tasks = JoinSet::new();
    for poller in 0..3 {
        let store = fresh.store.clone();
        tasks.spawn(async move {
            loop {
                let account = store.account_by_id(account_id).await.unwrap().unwrap();
                if account.pos >= Position(40) {
                    return;
                }
                let timeline = vec![message(&format!("${}-{poller}", account.pos))];
                let poll = store::Poll {
                    asked_since: account.upstream_since,
                    next_batch: format!("{}-{poller}", account.pos),
                    rooms: vec![room_with("!r:x", timeline)],
                    ..store::Poll::default()
                };
                match store.ingest(account_id, &poll).await {
                    Ok(ingested) => assert_eq!(ingested.pos.0, account.pos.0 + 1),
                    Err(store::Error::Fenced { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    all_end(tasks).await;
    assert_eq!(fresh.count("SELECT COUNT(*) FROM polls").await, 40);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM timeline_events").await, 40);
}

/// A device with messages that have the numbers from 1 on.
async fn device_with_messages(store: &Store, count: usize) -> (AccountId, DeviceNid) {
    let account = store.account("@alice:x").await.unwrap().account_id;
    let device = store.device(account, "PHONE").await.unwrap().device_nid;
    let messages = vec!["{}"; count];
    store.ingest_light(account, &light(None, "1", to_device(device, &messages))).await.unwrap();
    (account, device)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_at_once_purge_exactly() {
    const MESSAGES: i64 = 60;
    let fresh = Fresh::database().await;
    let (account, device) = device_with_messages(&fresh.store, 60).await;
    let store = fresh.store.clone();
    let mut sessions = Vec::new();
    for number in 0..4 {
        let made = store.create_session(account, device, b"{}", &[], 1, 100).await.unwrap();
        sessions.push((number, made.session_id));
    }
    store.acknowledge_v2(account, device, InboxSeq(0), 1, LIVE_SINCE).await.unwrap();
    let mut tasks = JoinSet::new();
    for (number, session) in sessions {
        let store = fresh.store.clone();
        tasks.spawn(async move {
            for seq in 1..=MESSAGES - number {
                let seq = InboxSeq(seq);
                store.acknowledge_session(account, device, session, seq, LIVE_SINCE).await.unwrap();
                // What this session has not acknowledged is there.
                let page = store.inbox(account, device, seq, 1).await.unwrap();
                assert_eq!(page.messages.is_empty(), seq.0 == MESSAGES);
                assert!(page.messages.iter().all(|message| message.seq.0 == seq.0 + 1));
            }
        });
    }
    tasks.spawn(async move {
        for seq in 1..=MESSAGES {
            store.acknowledge_v2(account, device, InboxSeq(seq), 1, LIVE_SINCE).await.unwrap();
        }
    });
    all_end(tasks).await;
    // The slowest has acknowledged all but three: those are held, and nothing else.
    let held = fresh.store.inbox(account, device, InboxSeq(0), 99).await.unwrap();
    let held: Vec<i64> = held.messages.iter().map(|message| message.seq.0).collect();
    assert_eq!(held, [MESSAGES - 2, MESSAGES - 1, MESSAGES]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_born_during_a_purge_misses_nothing_it_was_promised() {
    const MESSAGES: i64 = 60;
    let fresh = Fresh::database().await;
    let (account, device) = device_with_messages(&fresh.store, 60).await;
    let mut tasks = JoinSet::new();
    let store = fresh.store.clone();
    tasks.spawn(async move {
        for seq in 1..=MESSAGES {
            store.acknowledge_v2(account, device, InboxSeq(seq), 1, LIVE_SINCE).await.unwrap();
        }
    });
    for _ in 0..2 {
        let store = fresh.store.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                let made = store.create_session(account, device, b"{}", &[], 1, 100).await.unwrap();
                everything_since_birth_is_there(&store, account, device, made).await;
                // Gone through everything, it holds nothing back from the others.
                store
                    .acknowledge_session(account, device, made.session_id, InboxSeq(MESSAGES), 0)
                    .await
                    .unwrap();
            }
        });
    }
    all_end(tasks).await;
}

async fn everything_since_birth_is_there(
    store: &Store,
    account: AccountId,
    device: DeviceNid,
    made: NewSession,
) {
    let page = store.inbox(account, device, made.inbox_acked, 99).await.unwrap();
    let held: Vec<i64> = page.messages.iter().map(|message| message.seq.0).collect();
    assert_eq!(held, (made.inbox_acked.0 + 1..=60).collect::<Vec<_>>());
}

/// A logout and an acknowledgement once took the rows of device and session in opposite order, and a logout could leave
/// behind what a poll was just storing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_removed_in_the_middle_of_everything() {
    let fresh = Fresh::database().await;
    let account = fresh.store.account("@alice:x").await.unwrap().account_id;
    for round in 0..25 {
        let device = fresh.store.device(account, &format!("D{round}")).await.unwrap().device_nid;
        let sessions = futures_util::future::join_all(
            (0..3).map(|_| fresh.store.create_session(account, device, b"{}", &[], 1, 100)),
        )
        .await;
        let mut tasks = JoinSet::new();
        for session in sessions {
            let (store, session) = (fresh.store.clone(), session.unwrap().session_id);
            tasks.spawn(async move {
                for seq in 1..5 {
                    let seq = InboxSeq(seq);
                    store.acknowledge_session(account, device, session, seq, 0).await.unwrap();
                }
            });
        }
        let store = fresh.store.clone();
        tasks.spawn(async move {
            let messages = vec!["{}"; 200];
            let poll = light(None, "1", to_device(device, &messages));
            store.ingest_light(account, &poll).await.unwrap();
        });
        let store = fresh.store.clone();
        tasks.spawn(async move { store.remove_devices(account, &[device]).await.unwrap() });
        all_end(tasks).await;
    }
    assert_eq!(fresh.count("SELECT COUNT(*) FROM devices").await, 0);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM device_inbox").await, 0);
}
