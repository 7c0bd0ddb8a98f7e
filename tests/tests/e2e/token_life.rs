//! Tokens that change, expire and come back: their device goes on where it was.

use std::time::Duration;

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::{Client, encode};
use tests::lab::Lab;
use tests::matchers::{messages, numbers, timeline};
use tests::scripted_homeserver::{Canned, Gate, first_sync, messages_in, with_to_device};
use tests::synapse::{APPLICATION_SERVICE_TOKEN, PASSWORD};
use tests::wait::eventually;

use crate::stage::Stage;

/// How soon a request has to end that need not wait for any poll.
const AT_ONCE: Duration = Duration::from_secs(15);
const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn b2_a_refresh_whose_answer_was_lost_can_be_asked_for_again() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let login = alice
        .post("/_matrix/client/v3/login")
        .without_token()
        .json(&json!({
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": alice.user_id},
            "password": PASSWORD, "device_id": "REFRESHING", "refresh_token": true,
        }))
        .send()
        .await
        .ok();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let mut token = text(&login, "access_token");
    let mut refresh_token = text(&login, "refresh_token");
    let device = |token: &str| Client::with_token(&lab.url(), &alice.user_id, "REFRESHING", token);
    let mut chain = device(&token).v2();
    chain.next().await;
    let (mut texts, mut to_device) = (Vec::new(), Vec::new());

    for round in 0..3_u64 {
        let refresh = || {
            let body = json!({"refresh_token": refresh_token});
            alice.post("/_matrix/client/v3/refresh").without_token().json(&body).send()
        };
        // This answer is lost. Had anybody used its token, the refresh token would be spent.
        refresh().await.ok();
        bob.send(&room, &format!("during {round}")).await;
        bob.send_to_device(&chain.client, "m.test", json!({"n": 2 * round})).await.ok();
        chain
            .until("what came meanwhile", |reply| {
                texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
                to_device.extend(numbers(&reply["to_device"]));
                (texts.len() as u64 > 2 * round && to_device.len() as u64 > 2 * round).then_some(())
            })
            .await;
        let refreshed = refresh().await.ok();
        token = text(&refreshed, "access_token");
        refresh_token = text(&refreshed, "refresh_token");

        bob.send(&room, &format!("after {round}")).await;
        bob.send_to_device(&chain.client, "m.test", json!({"n": 2 * round + 1})).await.ok();
        chain.client = device(&token);
        chain
            .until("what came with the new token", |reply| {
                texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
                to_device.extend(numbers(&reply["to_device"]));
                let all = 2 * round + 2;
                (texts.len() as u64 >= all && to_device.len() as u64 >= all).then_some(())
            })
            .await;
    }

    assert_eq!(to_device, [0, 1, 2, 3, 4, 5]);
    let expected = ["during 0", "after 0", "during 1", "after 1", "during 2", "after 2"];
    assert_eq!(texts, expected);
}

/// The room is polled as another device, and the first request with the new token is the one that sends.
#[tokio::test]
async fn what_is_sent_with_a_new_token_is_in_its_first_sync_as_its_own() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.v2().next().await;
    let mut login = json!({
        "type": "m.login.password", "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD, "device_id": "REFRESHING", "refresh_token": true,
    });
    let log_in = alice.post("/_matrix/client/v3/login").without_token().json(&login).send();
    login = log_in.await.ok();
    let device = |answer: &Value| {
        let token = answer["access_token"].as_str().unwrap();
        Client::with_token(&lab.url(), &alice.user_id, "REFRESHING", token)
    };
    let mut chain = device(&login).v2();
    chain.next().await;

    for round in 0..3 {
        let body = json!({"refresh_token": login["refresh_token"]});
        let refresh = alice.post("/_matrix/client/v3/refresh").without_token().json(&body);
        login = refresh.send().await.ok();
        chain.client = device(&login);
        let transactions = [format!("first-{round}"), format!("second-{round}")];
        for transaction in &transactions {
            let room = encode(&room);
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}");
            let body = json!({"msgtype": "m.text", "body": transaction});
            chain.client.put(&path).json(&body).send().await.ok();
        }

        let reply = chain.next().await;
        assert_eq!(messages(&reply, &room), transactions, "{reply:#}");
        for (event, transaction) in timeline(&reply, &room).iter().zip(&transactions) {
            assert_eq!(event["unsigned"]["transaction_id"], *transaction, "{reply:#}");
        }
    }
}

#[tokio::test]
async fn the_first_sync_with_a_new_token_waits_for_what_was_written_with_it() {
    let stage = Stage::set().await;
    let (chain, polls) = writes_with_a_new_token(&stage).await;
    waits_for_its_write(&stage, &chain, "s1", polls).await;
}

/// The homeserver says whose the token is after that. The old one is used no more, as one that has expired must not be.
#[tokio::test]
async fn a_first_sync_that_hangs_up_leaves_the_new_token_to_the_next() {
    let stage = Stage::set().await;
    let (chain, polls) = writes_with_a_new_token(&stage).await;
    let gate = stage.homeserver.hold_whoami();
    let hangs_up = chain.client.on_new_connections().sync().since(chain.since());
    let hangs_up = tokio::spawn(hangs_up.try_send());
    eventually("the question", async || (bearers_at(&stage, "/whoami", &chain) > 0).then_some(()))
        .await;
    hangs_up.abort();
    // Long enough for the proxy to notice.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.open();
    let database = stage.proxy.database().connect().await.unwrap();
    eventually("the new token to be known", async || {
        let tokens = database.query_one("SELECT count(*) FROM access_tokens", &[]).await.unwrap();
        (tokens.get::<_, i64>(0) == 2).then_some(())
    })
    .await;

    waits_for_its_write(&stage, &chain, "s1", polls).await;
    assert_eq!(bearers_at(&stage, "/whoami", &chain), 1);
    eventually("a poll with it", async || (bearers_at(&stage, "/sync", &chain) > 0).then_some(()))
        .await;
}

#[tokio::test]
async fn a_first_sync_that_is_refused_for_what_it_asks_leaves_the_new_token_to_the_next() {
    let stage = Stage::set().await;
    let (chain, polls) = writes_with_a_new_token(&stage).await;
    chain.request().query("full_state", "maybe").send().await.expect_status(400);

    waits_for_its_write(&stage, &chain, "s1", polls).await;
}

/// Nobody knows the token when the write begins; when it is answered the first sync has made it known.
#[tokio::test]
async fn a_write_that_overlaps_the_first_sync_with_a_new_token_is_in_the_next() {
    let stage = Stage::set().await;
    let (mut chain, polls) = writes_with_a_new_token(&stage).await;
    let (homeserver, gate) = (&stage.homeserver, Gate::closed());
    homeserver.on_path("/_matrix/client/v3/user", Canned::json(&json!({})).behind(&gate));
    let writes = homeserver.seen_at("/account_data/").len();
    let client = chain.client.on_new_connections();
    let writing =
        tokio::spawn(async move { client.set_account_data("com.example", &json!({})).await });
    eventually("the write", async || {
        (homeserver.seen_at("/account_data/").len() > writes).then_some(())
    })
    .await;
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    polls.open();
    chain.next().await;
    homeserver.is_polled_with("s2").await;
    let polls = homeserver.hold_syncs();
    gate.open();
    writing.await.unwrap().ok();

    waits_for_its_write(&stage, &chain, "s2", polls).await;
}

/// Alice's phone has synced, and has written something with a new token: its chain, which goes on with that one, and what
/// holds the polls that begin from now on.
async fn writes_with_a_new_token(stage: &Stage) -> (Chain, Gate) {
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_path("/_matrix/client/v3/user", Canned::json(&json!({})));
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    chain.client = Client::with_token(&stage.proxy.url(), &alice.user_id, "PHONE", "renewed");
    homeserver.allow(&chain.client);
    let polls = homeserver.hold_syncs();
    chain.client.set_account_data("com.example", &json!({})).await.ok();
    (chain, polls)
}

/// The next sync of the chain waits for a poll that begins then, which is the one with this `since`.
async fn waits_for_its_write(stage: &Stage, chain: &Chain, since: &str, polls: Gate) {
    let waiting = tokio::spawn(chain.request().send());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "it waits for what it wrote");
    stage.homeserver.on_sync(Some(since), &messages_in(ROOM, "s9", &["written"]));
    polls.open();

    assert_eq!(messages(&waiting.await.unwrap().ok(), ROOM), ["written"]);
}

/// How many requests for a path came to the homeserver with the chain's token.
fn bearers_at(stage: &Stage, path: &str, chain: &Chain) -> usize {
    let bearer = format!("Bearer {}", chain.client.access_token);
    let seen = stage.homeserver.seen_at(path).into_iter();
    seen.filter(|seen| seen.header("authorization").as_ref() == Some(&bearer)).count()
}

/// Synapse lets a device's old token live beside the new one.
#[tokio::test]
async fn b2_a_new_login_of_a_device_goes_on_where_it_was() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.next().await;

    let again = lab.log_in_again(&alice).await;
    assert_ne!(again.access_token, alice.access_token);
    for n in 0..3 {
        bob.send_to_device(&again, "m.test", json!({"n": n})).await.ok();
    }
    bob.send(&room, "while nobody looked").await;
    lab.past_proxy(&alice).whoami().await.ok();

    chain.client = again;
    let (mut texts, mut to_device) = (Vec::new(), Vec::new());
    let mut takes = |reply: &Value| {
        texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
        to_device.extend(numbers(&reply["to_device"]));
        !texts.is_empty() && to_device.len() >= 3
    };
    chain.until("everything", |reply| takes(reply).then_some(())).await;
    takes(&chain.next().await);
    assert_eq!(texts, ["while nobody looked"]);
    assert_eq!(to_device, [0, 1, 2]);
}

/// As by retention, or by a logout that this process did not hear of.
#[tokio::test]
async fn a_device_that_is_gone_from_the_store_can_sign_in_again() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    alice.v2().next().await;
    let database = lab.proxy.database().connect().await.unwrap();
    let gone = "UPDATE accounts SET main_device_nid = NULL; DELETE FROM devices";
    database.batch_execute(gone).await.unwrap();

    let again = lab.log_in_again(&alice).await;
    again.sync().send().await.ok();
    let mut session = again.v3();
    session.ask(json!({"to_device": {}})).await;
    alice.send_to_device(&again, "m.test", json!({"n": 1})).await.ok();
    session.until("it", |reply| (numbers(&reply["to_device"]) == [1]).then_some(())).await;
}

/// As by retention, which lets go of the last device and its account in one turn.
#[tokio::test]
async fn a_user_who_is_gone_from_the_store_can_sign_in_again() {
    let lab = Lab::with_own_proxy().await;
    let gone =
        "UPDATE accounts SET main_device_nid = NULL; DELETE FROM devices; DELETE FROM accounts";
    for is_new_device in [false, true] {
        let (alice, bob, room) = lab.two_in_a_room().await;
        alice.v2().next().await;
        let database = lab.proxy.database().connect().await.unwrap();
        database.batch_execute(gone).await.unwrap();

        let again = if is_new_device {
            lab.second_device(&alice).await
        } else {
            lab.log_in_again(&alice).await
        };
        again.sync().send().await.ok();
        let mut chain = again.v2();
        chain.next().await;
        bob.send(&room, "welcome back").await;
        bob.send_to_device(&again, "m.test", json!({"n": 1})).await.ok();
        let (mut texts, mut to_device) = (0, 0);
        chain
            .until("what is sent now", |reply| {
                texts += messages(reply, &room).len();
                to_device += numbers(&reply["to_device"]).len();
                (texts > 0 && to_device > 0).then_some(())
            })
            .await;
    }
}

/// Other servers end the old token with the login. It is refused at once, although its poll still hangs there.
#[tokio::test]
async fn b2_a_new_login_of_a_device_ends_its_old_token() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    // The poll after this one arrives, and gets no answer whatever becomes of its token.
    let _gate = homeserver.hold_syncs();
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    chain.until("the message", |reply| (!messages(reply, ROOM).is_empty()).then_some(())).await;
    homeserver.is_polled_with("s2").await;
    let waiting = tokio::spawn(chain.request().timeout(60_000).send());
    let again = Client::with_token(&stage.proxy.url(), &alice.user_id, "PHONE", "another");
    let login = json!({
        "user_id": again.user_id, "device_id": again.device_id, "access_token": again.access_token,
    });
    homeserver.on_path("/_matrix/client/v3/login", Canned::json(&login));
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "there is a new one"});
    homeserver.revoke(alice, words.clone());
    homeserver.allow(&again);

    again.post("/_matrix/client/v3/login").without_token().json(&json!({})).send().await.ok();

    let reply = tokio::time::timeout(AT_ONCE, waiting).await.expect("the request has ended");
    assert_eq!(reply.unwrap().expect_status(401).json, words);
    let used =
        homeserver.seen_at("/whoami").iter().chain(&homeserver.seen_at("/sync")).any(|seen| {
            seen.header("authorization").is_some_and(|header| header.contains(&again.access_token))
        });
    assert!(!used, "the new token is its client's to use first");
}

/// As with OpenID Connect: the token expires without a word, and the client comes with another one, of which nobody told us.
#[tokio::test]
async fn b2_a_soft_logout_pauses_and_a_new_token_goes_on() {
    for soft_logout in [Some(true), None] {
        let stage = Stage::set().await;
        let (homeserver, alice) = (&stage.homeserver, &stage.alice);
        homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
        homeserver.on_sync(Some("s1"), &with_to_device(messages_in(ROOM, "s2", &["two"]), &[1]));
        let mut chain = alice.v2();
        // The second poll may be stored before this is answered.
        let first = chain.next().await;
        homeserver.is_polled_with("s2").await;
        let mut words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "expired"});
        if let Some(soft_logout) = soft_logout {
            words["soft_logout"] = json!(soft_logout);
        }
        homeserver.revoke(alice, words.clone());
        eventually("the homeserver's words", async || {
            let reply = chain.request().send().await;
            (reply.status == 401 && reply.json == words).then_some(())
        })
        .await;
        let polls = homeserver.polled().len();
        homeserver.on_sync(Some("s2"), &with_to_device(messages_in(ROOM, "s3", &["three"]), &[2]));

        let renewed = Client::with_token(&stage.proxy.url(), &alice.user_id, "PHONE", "renewed");
        homeserver.allow(&renewed);
        assert_eq!(homeserver.polled().len(), polls, "nothing is asked with a dead token");
        chain.client = renewed;

        let owned = |text: &&str| (*text).to_owned();
        let mut texts: Vec<String> = messages(&first, ROOM).iter().map(owned).collect();
        let mut to_device = numbers(&first["to_device"]);
        chain
            .until("everything", |reply| {
                texts.extend(messages(reply, ROOM).iter().map(owned));
                to_device.extend(numbers(&reply["to_device"]));
                (texts.len() >= 3 && to_device.len() >= 2).then_some(())
            })
            .await;
        assert_eq!(texts, ["one", "two", "three"]);
        assert_eq!(to_device, [1, 2]);
    }
}

#[tokio::test]
async fn a6_a_locked_account_is_told_so_and_loses_nothing() {
    let lab = Lab::shared().await;
    let (alice, bob, admin) =
        (lab.user("alice").await, lab.user("bob").await, lab.administrator().await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.next().await;
    let waiting = tokio::spawn(chain.request().timeout(60_000).send());
    let lock = async |locked: bool| {
        let path = format!("/_synapse/admin/v2/users/{}", alice.user_id);
        admin.put(&path).json(&json!({"locked": locked})).send().await.ok();
    };

    lock(true).await;
    // The poll that hangs at the homeserver is answered with this, and the one after it is refused.
    bob.send(&room, "before you hear of it").await;
    let mut waited = waiting.await.unwrap();
    if waited.status == 200 {
        chain.absorb(&waited.json);
        waited = eventually("the lock", async || {
            let reply = chain.request().timeout(30_000).send().await;
            (reply.status != 200).then_some(reply)
        })
        .await;
    }
    assert_eq!(waited.refused(401, "M_USER_LOCKED")["soft_logout"], true);
    chain.request().send().await.refused(401, "M_USER_LOCKED");
    let since = chain.since().to_owned();
    bob.send(&room, "while you were locked out").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();

    lock(false).await;
    let reply = alice.sync().since(&since).timeout(30_000).send().await.ok();
    let mut texts: Vec<String> =
        messages(&reply, &room).iter().map(|&text| text.to_owned()).collect();
    let mut to_device = numbers(&reply["to_device"]);
    chain.absorb(&reply);
    if texts.is_empty() || to_device.is_empty() {
        chain
            .until("what came meanwhile", |reply| {
                texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
                to_device.extend(numbers(&reply["to_device"]));
                (texts.iter().any(|text| text.starts_with("while")) && !to_device.is_empty())
                    .then_some(())
            })
            .await;
    }
    assert!(texts.contains(&"while you were locked out".to_owned()), "{texts:?}");
    assert_eq!(to_device, [1]);
}

#[tokio::test]
async fn a6_a_suspended_account_syncs() {
    let lab = Lab::shared().await;
    let (alice, admin) = (lab.user("alice").await, lab.administrator().await);
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    chain.next().await;
    let path = format!("/_synapse/admin/v1/suspend/{}", alice.user_id);
    admin.put(&path).json(&json!({"suspend": true})).send().await.ok();

    let reply = chain.next().await;
    assert!(reply["next_batch"].is_string());
    let content = json!({"msgtype": "m.text", "body": "let me"});
    assert_eq!(alice.send_event(&room, "m.room.message", content).await.status, 403);
    alice.sync().send().await.ok();
}

#[tokio::test]
async fn a10_guests_sync() {
    let lab = Lab::shared().await;
    let nobody = Client::anonymous(&lab.url());
    let registered = nobody
        .post("/_matrix/client/v3/register")
        .query("kind", "guest")
        .json(&json!({}))
        .send()
        .await
        .ok();
    let text = |key: &str| registered[key].as_str().unwrap();
    let guest =
        Client::with_token(&lab.url(), text("user_id"), text("device_id"), text("access_token"));

    let mut chain = guest.v2();
    let first = chain.next().await;
    assert!(first["next_batch"].is_string(), "{first:#}");
    chain.next().await;

    let mut session = guest.v3();
    session.ask(json!({"to_device": {}, "e2ee": {}})).await;
    session.ask(json!({})).await;
}

#[tokio::test]
async fn a10_a_sync_of_an_application_service_as_one_of_its_users_is_the_homeservers() {
    let lab = Lab::shared().await;
    let bridge = Client::with_token(&lab.url(), "", "", APPLICATION_SERVICE_TOKEN);
    let name = format!("_bridge_{}", std::process::id());
    bridge
        .post("/_matrix/client/v3/register")
        .json(&json!({"type": "m.login.application_service", "username": name}))
        .send()
        .await;
    let sync = |at: &Client| {
        let request = at.sync().query("user_id", &format!("@{name}:test.local"));
        request.send()
    };

    let through = sync(&bridge).await;
    let past = sync(&lab.past_proxy(&bridge)).await;
    assert_eq!(
        (through.status, through.json["errcode"].clone()),
        (past.status, past.json["errcode"].clone())
    );

    // In a request of ours `user_id` means nothing: it shows nobody's rooms.
    let alice = lab.user("alice").await;
    let ours = bridge.v3_sync(&json!({"to_device": {}})).query("user_id", &alice.user_id);
    assert!(ours.send().await.status >= 400);

    // In anybody else's request it means nothing, and is no way to the homeserver's own sync.
    let reply = alice.sync().query("user_id", "@somebody:test.local").send().await.ok();
    assert!(reply["next_batch"].as_str().unwrap().starts_with("v2_"), "{reply:#}");
}

#[tokio::test]
async fn a5_with_the_homeserver_away_an_unknown_token_is_nobodys_fault() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let down = Canned::bytes(503, "<html>down</html>");
    homeserver.on_path("/_matrix/client/v3/account/whoami", down);

    let reply = alice.sync().send().await;
    assert!(reply.status >= 500, "{}", reply.body_text());
    assert!(reply.json["errcode"].is_string(), "{}", reply.body_text());
    assert_eq!(reply.header_values("access-control-allow-origin"), ["*"]);
}

#[tokio::test]
async fn b2_versions_are_told_while_the_homeserver_is_away() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let versions = "/_matrix/client/versions";
    let ask = |token: Option<&str>| {
        let request = alice.get(versions);
        match token {
            Some(token) => request.token(token).send(),
            None => request.without_token().send(),
        }
    };
    let own = json!({"versions": ["v1.11"], "unstable_features": {"for": "alice"}});
    homeserver.on_path(versions, Canned::json(&own));
    assert_eq!(ask(Some(&alice.access_token)).await.ok(), own);
    homeserver.on_path(versions, Canned::json(&json!({"versions": ["v1.11"]})));
    ask(None).await.ok();

    for status in [502, 503, 504] {
        homeserver.on_path(versions, Canned::bytes(status, "<html>down</html>"));
        assert_eq!(ask(Some(&alice.access_token)).await.ok(), own);
        assert_eq!(ask(None).await.ok(), json!({"versions": ["v1.11"]}));
        assert_eq!(ask(Some("another")).await.status, status, "nobody gets another one's answer");
    }
    drop(stage.homeserver);
    assert_eq!(ask(Some(&alice.access_token)).await.ok(), own);
}

#[tokio::test]
async fn b2_where_leaving_is_forgetting_a_new_client_is_told_of_no_room_left() {
    for (enabled, listed) in [(false, true), (true, false)] {
        let stage = Stage::set().await;
        let (homeserver, alice) = (&stage.homeserver, &stage.alice);
        let capability = json!({"m.forget_forced_upon_leave": {"enabled": enabled}});
        let answer = Canned::json(&json!({"capabilities": capability}));
        homeserver.on_path("/_matrix/client/v3/capabilities", answer);
        homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
        let mut chain = alice.v2();
        chain.next().await;
        let mut leave = messages_in(ROOM, "s2", &["farewell"]);
        let room = leave["rooms"]["join"][ROOM].take();
        leave["rooms"] = json!({"leave": {ROOM: room}});
        homeserver.on_sync(Some("s1"), &leave);
        // Who asks for the rooms that were left is told of it as well.
        homeserver.on_sync(None, &leave);
        chain
            .until("the leave", |reply| reply["rooms"]["leave"][ROOM].is_object().then_some(()))
            .await;
        eventually("the capabilities to be asked for", async || {
            (!homeserver.seen_at("/capabilities").is_empty()).then_some(())
        })
        .await;
        // The client's own question is as good as the poller's.
        alice.get("/_matrix/client/v3/capabilities").send().await.ok();

        let filter = json!({"room": {"include_leave": true}});
        let reply = alice.sync().filter(&filter).send().await.ok();
        assert_eq!(reply["rooms"]["leave"][ROOM].is_object(), listed, "{reply:#}");
    }
}
