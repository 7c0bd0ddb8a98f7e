//! Tokens that nobody knows: what they cost the homeserver, and that a flood of them is nobody else's trouble.

use std::collections::HashSet;
use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tests::client::{Client, Reply};
use tests::lab::shared_postgres;
use tests::proxy::Proxy;
use tests::replicas::Replicas;
use tests::scripted_homeserver::{
    Canned, Fault, Gate, ScriptedHomeserver, first_sync, nothing_new,
};
use tests::wait::eventually;

use crate::stage::Stage;

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

/// How many strangers the proxy of [`flooded`] asks about at once, and how many more wait.
const AT_ONCE: usize = 2;
const WAITING: usize = 4 * AT_ONCE;

#[tokio::test]
async fn a_refused_token_costs_the_homeserver_one_question_a_minute() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["one"]));
    let since = alice.v2().next().await["next_batch"].as_str().unwrap().to_owned();
    let stranger = stranger_at(&stage.proxy, "of_old");
    let words = json!({
        "errcode": "M_UNKNOWN_TOKEN", "error": "in words of its own", "soft_logout": true, "more": [1],
    });
    homeserver.revoke(&stranger, words.clone());

    for _ in 0..3 {
        let messages = format!("/_matrix/client/v3/rooms/!room:scripted/messages?from={since}");
        for reply in [
            stranger.sync().send().await,
            stranger.v3_sync(&json!({})).send().await,
            stranger.sync().query("user_id", "@somebody:scripted").send().await,
            stranger.get(&messages).send().await,
        ] {
            assert_eq!((reply.status, &reply.json), (401, &words));
        }
    }
    assert_eq!(questions_about(homeserver, &stranger), 1);
}

/// A refusal is remembered by the process that heard it.
#[tokio::test]
async fn a_refused_token_costs_one_question_a_minute_of_each_process() {
    const PROCESSES: usize = 3;
    let homeserver = ScriptedHomeserver::start().await;
    let database = shared_postgres().await.database().await;
    let replicas = Replicas::start(&homeserver.url(), &database, PROCESSES).await;
    let stranger = stranger_at(replicas.proxy(0), "of_all");
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "in words of its own"});
    homeserver.revoke(&stranger, words.clone());

    for _ in 0..5 {
        for number in 0..PROCESSES {
            let here = replicas.at(number, &stranger);
            for reply in [here.sync().send().await, here.v3_sync(&json!({})).send().await] {
                assert_eq!((reply.status, &reply.json), (401, &words));
            }
        }
    }
    let asked = questions_about(&homeserver, &stranger);
    assert!((1..=PROCESSES).contains(&asked), "{asked} questions of {PROCESSES} processes");
}

#[tokio::test]
async fn requests_with_one_unknown_token_share_one_question() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["one"]));
    let answer = json!({"user_id": alice.user_id, "device_id": alice.device_id}).to_string();
    let gate = Gate::closed();
    let held = Canned::bytes(200, answer[..9].to_owned()).then(answer[9..].to_owned());
    homeserver.on_path(WHOAMI, held.held_by(&gate));
    let ask = |alice: Client| async move { alice.sync().send().await };

    let first = tokio::spawn(ask(alice.on_new_connections()));
    eventually("the question", async || (questions_about(homeserver, alice) > 0).then_some(()))
        .await;
    let others = (0..20).map(|_| tokio::spawn(ask(alice.on_new_connections())));
    let others: Vec<_> = others.collect();
    // Who came before this is answered was there before the gate opens.
    alice.get("/_syncv3/ping").send().await.ok();
    gate.open();

    first.await.unwrap().ok();
    for other in others {
        other.await.unwrap().ok();
    }
    assert_eq!(questions_about(homeserver, alice), 1);
}

#[tokio::test]
async fn what_may_pass_is_no_refusal() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["one"]));
    let locked = json!({"errcode": "M_USER_LOCKED", "error": "locked", "soft_logout": true});
    for (canned, status) in [
        (Canned::bytes(503, "<html>down</html>"), 502),
        (Canned::bytes(429, r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow down"}"#), 429),
        (Canned::bytes(401, "<html>a reverse proxy's own</html>"), 502),
        (Canned::bytes(401, locked.to_string()), 401),
    ] {
        homeserver.on_path(WHOAMI, canned);
        let before = questions_about(homeserver, alice);
        for _ in 0..2 {
            let reply = alice.sync().send().await;
            assert_eq!(reply.status, status, "{}", reply.body_text());
        }
        assert_eq!(questions_about(homeserver, alice), before + 2, "each was asked about");
    }

    let answer = json!({"user_id": alice.user_id, "device_id": alice.device_id});
    homeserver.on_path(WHOAMI, Canned::json(&answer));
    alice.sync().send().await.ok();
}

/// Some of a homeserver's workers know the token, and others do not.
#[tokio::test]
async fn a_token_that_is_refused_by_polls_alone_is_not_asked_about_all_the_while() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["one"]));
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    homeserver.is_polled_with("s1").await;
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "not here"});
    homeserver.next_syncs_fail(1_000_000, &Fault::Status(401, words));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));

    // The first waits for polls all the while, in vain, and nobody does so after it: only then it shows how often is asked.
    let mut asked = 0;
    for _ in 0..2 {
        let before = questions_about(homeserver, alice);
        let reply = session.request(&json!({})).timeout(5_000).send().await.ok();
        session.absorb(&reply);
        assert_eq!(reply, json!({"next": session.next()}));
        asked = questions_about(homeserver, alice) - before;
    }
    assert!((1..=10).contains(&asked), "{asked} questions within 5 s");
}

#[tokio::test]
async fn a_flood_of_unknown_tokens_is_shed() {
    let (homeserver, proxy, gate) = flooded().await;
    let shed = flood(&proxy, &homeserver).await;

    for reply in &shed {
        let error = reply.clone().refused(429, "M_LIMIT_EXCEEDED");
        assert!(error["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{error}");
        assert_eq!(reply.header_values("retry-after").len(), 1);
    }
    gate.open();
    // Whoever was sent away finds out later what the homeserver says.
    let stranger = stranger_at(&proxy, "who_comes_again");
    eventually("an answer", async || {
        let reply = stranger.sync().send().await;
        (reply.status == 401).then(|| reply.refused(401, "M_UNKNOWN_TOKEN"))
    })
    .await;
}

#[tokio::test]
async fn what_a_flood_sheds_ends_nothing_at_the_homeserver() {
    let (homeserver, proxy, _gate) = flooded().await;
    let log_out = |stranger: Client| async move {
        stranger.post("/_matrix/client/v3/logout/all").json(&json!({})).send().await
    };
    for reply in flood_of(&proxy, &homeserver, log_out).await {
        reply.refused(429, "M_LIMIT_EXCEEDED");
    }
    // Else the homeserver would end sessions that go on here.
    assert!(homeserver.seen_at("/logout").is_empty());
}

#[tokio::test]
async fn known_tokens_are_not_held_up_by_a_flood() {
    let (homeserver, proxy, _gate) = flooded().await;
    let bob = homeserver.device(&proxy.url(), "@bob:scripted", "DESK");
    let answer = json!({"user_id": bob.user_id, "device_id": bob.device_id});
    homeserver.on_path(WHOAMI, Canned::json(&answer));
    bob.sync().send().await.ok();
    proxy.crash_and_restart().await;
    let gate = hold_whoami(&homeserver);
    let before = questions_about(&homeserver, &bob);
    flood(&proxy, &homeserver).await;

    // Nothing of Bob's is in memory, but the store knows his token: he is asked about beside the strangers.
    let asked = tokio::spawn(bob.sync().send());
    eventually("a question about Bob", async || {
        (questions_about(&homeserver, &bob) > before).then_some(())
    })
    .await;
    // It is held like all others, and a token that was good before is good when the homeserver does not answer.
    asked.await.unwrap().ok();
    drop(gate);
}

#[tokio::test]
async fn what_passes_through_is_the_homeservers_own_to_judge() {
    let stage = Stage::set().await;
    let stranger = stranger_at(&stage.proxy, "who_passes");
    for n in 0..3 {
        let path = "/_matrix/client/v3/profile/@alice:scripted";
        stranger.get(path).send().await.refused(401, "M_UNKNOWN_TOKEN");
        assert_eq!(stage.homeserver.seen_at(path).len(), n + 1);
    }
    assert_eq!(questions_about(&stage.homeserver, &stranger), 0, "nobody asks about it");
}

/// A bot, of which nothing is known.
#[tokio::test]
async fn who_sends_and_never_syncs_is_asked_about_once() {
    let stage = Stage::set().await;
    let bot = stage.homeserver.device(&stage.proxy.url(), "@bot:scripted", "BOT");
    stage
        .homeserver
        .on_path("/_matrix/client/v3/rooms", Canned::json(&json!({"event_id": "$sent"})));
    for _ in 0..3 {
        bot.send("!room:scripted", "beep").await;
    }
    assert_eq!(questions_about(&stage.homeserver, &bot), 1);
}

/// Whoever cannot be asked about in time is nobody for a while: only one of its writes is held back.
#[tokio::test]
async fn who_sends_while_nobody_says_who_it_is_is_held_back_once() {
    let stage = Stage::set().await;
    let (homeserver, proxy) = (&stage.homeserver, &stage.proxy);
    let sends = Canned::json(&json!({"event_id": "$sent"}));
    homeserver.on_path("/_matrix/client/v3/rooms", sends);
    let _gate = homeserver.hold_whoami();
    let slow = homeserver.device(&proxy.url(), "@bot:scripted", "SLOW");
    let mut took = Vec::new();
    for _ in 0..3 {
        let sent = Instant::now();
        slow.send("!room:scripted", "beep").await;
        took.push(sent.elapsed());
    }
    assert!(took[1..].iter().all(|took| *took < Duration::from_secs(2)), "{took:?}");
    assert_eq!(questions_about(homeserver, &slow), 1);

    homeserver.on_path(WHOAMI, Canned::bytes(429, r#"{"errcode":"M_LIMIT_EXCEEDED"}"#));
    let refused = homeserver.device(&proxy.url(), "@bot:scripted", "REFUSED");
    for _ in 0..3 {
        refused.send("!room:scripted", "beep").await;
    }
    assert_eq!(questions_about(homeserver, &refused), 1);
}

/// A proxy that asks about few strangers at once, before a homeserver that does not answer such questions until the gate
/// opens.
async fn flooded() -> (ScriptedHomeserver, Proxy, Gate) {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let flags = ["-max-token-checks", &AT_ONCE.to_string()];
    let proxy = Proxy::start_with(&homeserver.url(), &postgres.database().await, &flags).await;
    let gate = hold_whoami(&homeserver);
    (homeserver, proxy, gate)
}

/// So many strangers sync that some find no room; returns what these were told. The others go on waiting.
async fn flood(proxy: &Proxy, homeserver: &ScriptedHomeserver) -> Vec<Reply> {
    flood_of(proxy, homeserver, |stranger| async move { stranger.sync().send().await }).await
}

/// The same, of strangers that ask for something else.
async fn flood_of<F>(
    proxy: &Proxy,
    homeserver: &ScriptedHomeserver,
    ask: impl Fn(Client) -> F,
) -> Vec<Reply>
where
    F: Future<Output = Reply> + Send + 'static,
{
    const SHED: usize = 20;
    let (sender, mut replies) = tokio::sync::mpsc::unbounded_channel();
    let all_before: HashSet<String> = asked_about(homeserver);
    let requests = (0..AT_ONCE + WAITING + SHED).map(|n| {
        let stranger = stranger_at(proxy, &format!("of_a_flood_{n}"));
        let (sender, asked) = (sender.clone(), ask(stranger));
        async move {
            let reply = asked.await;
            // Nobody listens any more once enough have been told.
            sender.send(reply).ok();
        }
    });
    tokio::spawn(join_all(requests.collect::<Vec<_>>()));
    let mut shed = Vec::new();
    while shed.len() < SHED {
        shed.push(replies.recv().await.expect("requests are under way"));
    }
    let asked = asked_about(homeserver).difference(&all_before).count();
    assert!(asked <= AT_ONCE, "{asked} strangers were asked about at once");
    shed
}

/// The homeserver begins to say that it does not know the token, and ends when the gate opens.
fn hold_whoami(homeserver: &ScriptedHomeserver) -> Gate {
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "never heard of it"}).to_string();
    let gate = Gate::closed();
    let held = Canned::bytes(401, words[..9].to_owned()).then(words[9..].to_owned());
    homeserver.on_path(WHOAMI, held.held_by(&gate));
    gate
}

fn stranger_at(proxy: &Proxy, name: &str) -> Client {
    let token = format!("token_of_a_stranger_{name}");
    Client::with_token(&proxy.url(), "@stranger:scripted", "NONE", &token)
}

/// How often the homeserver was asked whose this client's token is.
fn questions_about(homeserver: &ScriptedHomeserver, client: &Client) -> usize {
    let bearer = format!("Bearer {}", client.access_token);
    let asked = homeserver.seen_at(WHOAMI).into_iter();
    asked.filter(|seen| seen.header("authorization").as_ref() == Some(&bearer)).count()
}

fn asked_about(homeserver: &ScriptedHomeserver) -> HashSet<String> {
    homeserver.seen_at(WHOAMI).iter().filter_map(|seen| seen.header("authorization")).collect()
}
