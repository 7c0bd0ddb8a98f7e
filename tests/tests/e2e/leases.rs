//! Several processes on one database: each account is polled for by one of them, and when that one is gone by another.

use std::time::Duration;

use serde_json::json;
use tests::client::Client;
use tests::keep::Signal;
use tests::lab::shared_postgres;
use tests::matchers::{joined, messages};
use tests::postgres::Database;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{
    Canned, ScriptedHomeserver, first_sync, messages_in, nothing_new,
};
use tests::wait::{eventually, eventually_within};

const ROOM: &str = "!room:scripted";

/// How long after a process was killed another one polls for its accounts, at most.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// How soon a request has to end that need not wait for any poll: less than any waits for one.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A homeserver, and processes in front of it that share a database.
struct Replicas {
    homeserver: ScriptedHomeserver,
    database: Database,
    proxies: Vec<Proxy>,
}

impl Replicas {
    /// With one process.
    async fn start() -> Self {
        let homeserver = ScriptedHomeserver::start().await;
        let database = shared_postgres().await.database().await;
        let mut replicas = Self { homeserver, database, proxies: Vec::new() };
        replicas.start_another().await;
        replicas
    }

    async fn start_another(&mut self) {
        self.proxies.push(Proxy::start(&self.homeserver.url(), &self.database).await);
    }

    /// Alice's phone, which talks to the first process and has synced.
    async fn alice(&self) -> Client {
        let alice = self.homeserver.device(&self.proxies[0].url(), "@alice:scripted", "PHONE");
        self.homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
        alice.v2().next().await;
        self.homeserver.is_polled_with("s1").await;
        alice
    }

    /// Two of them, the first of which polls for Alice: a vacant account is any process' that is there.
    async fn two() -> (Self, Client) {
        let mut replicas = Self::start().await;
        let alice = replicas.alice().await;
        replicas.start_another().await;
        (replicas, alice)
    }

    /// How many accounts each living process holds, by its number.
    async fn held(&self) -> Vec<(i32, i64)> {
        let rows = self
            .database
            .connect()
            .await
            .unwrap()
            .query(
                "SELECT r.replica_id, COUNT(a.account_id)
                 FROM replicas r
                 LEFT JOIN accounts a ON a.replica_id = r.replica_id
                 WHERE r.alive_until > extract(epoch FROM clock_timestamp()) * 1000
                 GROUP BY r.replica_id
                 ORDER BY r.replica_id",
                &[],
            )
            .await
            .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Waits until a poll with this `since` has come again, after `before` of them.
    async fn is_polled_again(&self, since: &str, before: usize) {
        eventually_within(TAKE_OVER, "another process to poll", async || {
            (self.polls(since) > before).then_some(())
        })
        .await;
    }

    /// Checks that no device was ever polled for by two processes at once.
    #[track_caller]
    fn assert_polled_by_one(&self) {
        assert_eq!(self.homeserver.most_syncs_at_once(), 1, "of one device");
    }

    fn polls(&self, since: &str) -> usize {
        self.homeserver.polled().iter().filter(|polled| polled.as_deref() == Some(since)).count()
    }
}

#[tokio::test]
async fn a_killed_process_is_replaced_within_ten_seconds() {
    let (replicas, alice) = Replicas::two().await;
    let mut elsewhere = alice.at(&replicas.proxies[1].url()).v2();
    elsewhere.until_reply("the room", |reply| joined(reply, ROOM).is_object()).await;
    assert_eq!(replicas.held().await.iter().map(|(_, held)| held).sum::<i64>(), 1);

    let before = replicas.polls("s1");
    replicas.proxies[0].kill9();
    replicas.is_polled_again("s1", before).await;

    replicas.homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    elsewhere.until_reply("the message", |reply| messages(reply, ROOM) == ["two"]).await;
    let held = replicas.held().await;
    assert_eq!(held.iter().map(|(_, held)| held).sum::<i64>(), 1, "{held:?}");
    replicas.assert_polled_by_one();
}

#[tokio::test]
async fn a_process_that_ends_in_order_leaves_its_accounts_to_the_others() {
    let (replicas, _alice) = Replicas::two().await;
    let before = replicas.polls("s1");
    replicas.proxies[0].stop().await;
    replicas.is_polled_again("s1", before).await;
    let held = replicas.held().await;
    assert!(matches!(held[..], [(_, 1)]), "one is left, and holds the account: {held:?}");
    replicas.assert_polled_by_one();
}

#[tokio::test]
async fn a_process_that_is_alone_polls_again_at_once_after_it_was_killed() {
    let replicas = Replicas::start().await;
    replicas.alice().await;
    let before = replicas.polls("s1");
    replicas.proxies[0].crash_and_restart().await;
    replicas.is_polled_again("s1", before).await;
    let held = replicas.held().await;
    assert!(matches!(held[..], [(_, 1)]), "{held:?}");
    replicas.assert_polled_by_one();
}

/// A process can stand still for longer than the others wait for it: a machine that was suspended, or swaps. Its poll stays
/// open while it does, so the homeserver has two of the device's for so long.
#[tokio::test]
async fn a_process_that_stood_still_is_replaced_and_disturbs_nobody_when_it_goes_on() {
    let (replicas, alice) = Replicas::two().await;
    let mut elsewhere = alice.at(&replicas.proxies[1].url()).v2();
    elsewhere.until_reply("the room", |reply| joined(reply, ROOM).is_object()).await;

    let before = replicas.polls("s1");
    let stopped = replicas.held().await;
    replicas.proxies[0].signal(Signal::Stop);
    replicas.is_polled_again("s1", before).await;
    replicas.homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    elsewhere.until_reply("the message", |reply| messages(reply, ROOM) == ["two"]).await;
    // The answer of its own poll is there, and it would store it.
    replicas.proxies[0].signal(Signal::Continue);
    eventually("it to have joined anew", async || {
        let held = replicas.held().await;
        (held.len() == 2 && held.last() > stopped.last()).then_some(())
    })
    .await;
    replicas.homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));
    elsewhere.until_reply("the next message", |reply| messages(reply, ROOM) == ["three"]).await;
    let stored = replicas.database.connect().await.unwrap();
    let polls = stored.query_one("SELECT COUNT(*) FROM polls", &[]).await.unwrap();
    assert_eq!(polls.get::<_, i64>(0), 3, "each poll is stored once");
}

/// It was alone when it stopped, and heard nothing of what was told meanwhile: the token was replaced.
#[tokio::test]
async fn a_process_that_stood_still_alone_doubts_its_tokens_when_another_has_come() {
    let mut replicas = Replicas::start().await;
    let alice = replicas.alice().await;
    // No poll is answered with the homeserver's word on the token.
    let _polls = replicas.homeserver.hold_syncs();
    replicas.homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    replicas.is_polled_again("s2", 0).await;
    let before = replicas.polls("s2");
    replicas.proxies[0].signal(Signal::Stop);
    replicas.start_another().await;
    replicas.is_polled_again("s2", before).await;
    let again = json!({"user_id": alice.user_id, "device_id": alice.device_id});
    replicas.homeserver.on_path("/_matrix/client/v3/login", Canned::json(&again));
    let elsewhere = alice.at(&replicas.proxies[1].url());
    elsewhere.post("/_matrix/client/v3/login").without_token().json(&json!({})).send().await.ok();
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "there is a new one"});
    replicas.homeserver.revoke(&alice, words);
    replicas.proxies[0].signal(Signal::Continue);
    eventually("it to have joined anew", async || (replicas.held().await.len() == 2).then_some(()))
        .await;
    // Until it hears the others again it asks about every token.
    tokio::time::sleep(Duration::from_secs(1)).await;

    // Without a poll's failure to learn of it from.
    let reply =
        tokio::time::timeout(AT_ONCE, alice.sync().send()).await.expect("it is told at once");
    reply.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a_new_process_gets_its_share_of_the_accounts() {
    const ACCOUNTS: i64 = 12;
    let mut replicas = Replicas::start().await;
    let first = first_sync("@somebody:scripted", ROOM, "s1", &["one"]);
    replicas.homeserver.on_sync(None, &first);
    for number in 0..ACCOUNTS {
        let user_id = format!("@user{number}:scripted");
        let url = replicas.proxies[0].url();
        replicas.homeserver.device(&url, &user_id, "PHONE").v2().next().await;
    }
    let all = usize::try_from(ACCOUNTS).unwrap();
    eventually("each to be polled for", async || (replicas.polls("s1") >= all).then_some(())).await;
    let before = replicas.polls("s1");
    replicas.start_another().await;
    let moved = eventually("the accounts to be shared", async || {
        let held = replicas.held().await;
        let all = held.iter().map(|(_, held)| held).sum::<i64>() == ACCOUNTS;
        let shared = held.len() == 2 && held.iter().all(|(_, held)| *held >= ACCOUNTS / 3);
        (all && shared).then(|| held[1].1)
    })
    .await;
    // The new process polls for those that have moved; the old one must have ended its polls before.
    let moved = usize::try_from(moved).unwrap();
    eventually("the new process to poll", async || {
        (replicas.polls("s1") >= before + moved).then_some(())
    })
    .await;
    // What is answered now is answered to somebody, and not to one that is about to hang up.
    replicas.homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    eventually("each to be polled for from there", async || {
        (replicas.polls("s2") >= all).then_some(())
    })
    .await;
    replicas.assert_polled_by_one();
}

/// It knows the device by the number that it had before it went from the store, and signed in again elsewhere.
#[tokio::test]
async fn a_process_that_takes_over_polls_for_a_device_that_signed_in_again_elsewhere() {
    let gone = "UPDATE accounts SET main_device_nid = NULL; DELETE FROM devices";
    the_next_polls_although(gone).await;
}

/// And the account by its old number, too.
#[tokio::test]
async fn a_process_that_takes_over_polls_for_a_user_who_signed_in_again_elsewhere() {
    let gone =
        "UPDATE accounts SET main_device_nid = NULL; DELETE FROM devices; DELETE FROM accounts";
    the_next_polls_although(gone).await;
}

async fn the_next_polls_although(gone: &str) {
    let (replicas, alice) = Replicas::two().await;
    alice.at(&replicas.proxies[1].url()).v2().next().await;
    let database = replicas.database.connect().await.unwrap();
    database.batch_execute(gone).await.unwrap();
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "logged out"});
    replicas.homeserver.revoke(&alice, words);
    let again = Client::with_token(alice.base(), &alice.user_id, &alice.device_id, "another");
    replicas.homeserver.allow(&again);
    again.v2().next().await;

    replicas.proxies[0].kill9();
    eventually("the other to have taken over", async || {
        matches!(replicas.held().await[..], [(_, 1)]).then_some(())
    })
    .await;
    replicas.homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));

    // No client is there to bring the token again.
    replicas.is_polled_again("s2", 0).await;
    assert_eq!(replicas.database.count("SELECT count(*) FROM access_tokens").await, 1);
}

/// Whatever takes the session away (an administrator, a failover), the process makes a new one and keeps its accounts.
#[tokio::test]
async fn a_session_that_is_cut_off_costs_nothing() {
    let replicas = Replicas::start().await;
    let alice = replicas.alice().await;
    let before = replicas.held().await;
    let administrator = replicas.database.connect().await.unwrap();
    administrator
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    eventually("another membership", async || {
        let held = replicas.held().await;
        (held != before && matches!(held[..], [(_, 1)])).then_some(())
    })
    .await;
    replicas.homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    alice.v2().until_reply("the message", |reply| messages(reply, ROOM).contains(&"two")).await;
}
