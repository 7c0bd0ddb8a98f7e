//! Everything that goes wrong between the proxy and the homeserver: nothing is lost, nothing comes twice.

use std::time::Duration;

use serde_json::json;
use tests::chain::Chain;
use tests::client::encode;
use tests::matchers::{events, joined, messages, numbers, section, typing};
use tests::scripted_homeserver::{
    Canned, Fault, first_sync, messages_in, nothing_new, with_to_device,
};
use tests::wait::{eventually, eventually_within};

use super::ROOM;
use crate::stage::Stage;

/// A stage on which Alice has synced and the next poll waits; and her chain.
async fn polled() -> (Stage, Chain) {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    (stage, chain)
}

#[tokio::test]
async fn c10_whatever_goes_wrong_the_same_position_is_asked_for_again() {
    for fault in [
        Fault::Status(502, json!({"errcode": "M_UNKNOWN", "error": "bad gateway"})),
        Fault::Status(500, json!({"errcode": "M_UNKNOWN", "error": "internal server error"})),
        Fault::Status(404, json!("not even an error object")),
        Fault::Html,
        Fault::TruncatedJson,
        Fault::BreakOff,
    ] {
        let (stage, mut chain) = polled().await;
        let homeserver = &stage.homeserver;

        homeserver.next_syncs_fail(2, &fault);
        homeserver.on_sync(Some("s1"), &with_to_device(messages_in(ROOM, "s2", &["two"]), &[1, 2]));
        homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));
        // The poll that was waiting is answered now; faults are for those after it, which ask for `s2`.
        let mut texts: Vec<String> = Vec::new();
        let mut to_device = Vec::new();
        chain
            .until("the last message", |reply| {
                texts.extend(messages(reply, ROOM).iter().map(|&text| text.to_owned()));
                to_device.extend(numbers(&reply["to_device"]));
                texts.contains(&"three".to_owned()).then_some(())
            })
            .await;

        assert_eq!(homeserver.faults_left(), 0, "the faults have not happened");
        assert_eq!(texts, ["two", "three"], "after {fault:?}");
        assert_eq!(to_device, [1, 2], "after {fault:?}");
        let polled: Vec<String> = homeserver.polled().into_iter().flatten().collect();
        let again = polled.iter().filter(|since| *since == "s1" || *since == "s2").count();
        assert!(again >= 4, "two failures and two successes are four polls at least: {polled:?}");
    }
}

#[tokio::test]
async fn c10_an_answer_in_small_pieces_is_an_answer() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.next_syncs_fail(1, &Fault::Drip);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["slowly"]));

    let reply = alice.sync().send().await.ok();

    assert_eq!(messages(&reply, ROOM), ["slowly"]);
    assert_eq!(homeserver.faults_left(), 0);
}

#[tokio::test]
async fn c10_while_the_homeserver_is_down_waiting_clients_go_on_waiting() {
    let (stage, mut chain) = polled().await;
    let homeserver = &stage.homeserver;
    homeserver
        .next_syncs_fail(3, &Fault::Status(503, json!({"errcode": "M_UNKNOWN", "error": "down"})));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));

    let reply = chain.request().timeout(1_500).send().await.ok();
    assert!(reply["rooms"].is_null(), "{reply:#}");

    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["up again"]));
    chain.absorb(&reply);
    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["up again"]);
}

/// A homeserver that takes a poll and never answers it cannot be told from one that has no news, so the poll is let wait.
/// Who has written something wants to read it, and has it asked anew.
#[tokio::test]
async fn c10_a_poll_that_is_never_answered_is_asked_anew_when_a_client_writes() {
    let (stage, mut chain) = polled().await;
    let homeserver = &stage.homeserver;
    let sending = format!("/_matrix/client/v3/rooms/{}/send", encode(ROOM));
    homeserver.on_path(&sending, Canned::json(&json!({"event_id": "$mine"})));
    homeserver.next_syncs_fail(1, &Fault::Hang);
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    eventually("a poll that hangs", async || (homeserver.faults_left() == 0).then_some(())).await;
    // The poll that hangs tells nothing of this.
    let mut news = messages_in(ROOM, "s3", &["mine"]);
    news["rooms"]["join"][ROOM]["timeline"]["events"][0]["sender"] = json!(stage.alice.user_id);
    homeserver.on_sync(Some("s2"), &news);
    let polls = || {
        let all = homeserver.seen_at("/sync").into_iter();
        all.filter(|seen| seen.since().as_deref() == Some("s2")).collect::<Vec<_>>()
    };
    let reply = chain.request().timeout(2_000).send().await.ok();
    assert!(reply["rooms"].is_null(), "{reply:#}");
    chain.absorb(&reply);
    assert_eq!(polls().len(), 1, "it waits as for one that has no news");
    // It is given up a minute later, as the tests of `upstream` show.
    assert_eq!(polls()[0].parameter("timeout").as_deref(), Some("25000"));

    stage.alice.send(ROOM, "mine").await;
    let reply = chain.next().await;

    assert_eq!(messages(&reply, ROOM), ["mine"], "{reply:#}");
    assert_eq!(polls().len(), 2, "it was asked anew, from where it stood");
    homeserver.is_polled_with("s3").await;
    assert!(messages(&chain.next().await, ROOM).is_empty(), "it comes once");
}

#[tokio::test]
async fn c10_a_rate_limit_is_obeyed() {
    let (stage, mut chain) = polled().await;
    let homeserver = &stage.homeserver;
    let limit =
        json!({"errcode": "M_LIMIT_EXCEEDED", "error": "too fast", "retry_after_ms": 2_000});
    homeserver.next_syncs_fail(1, &Fault::Status(429, limit));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    homeserver.is_polled_with("s2").await;
    let refused_at = std::time::Instant::now();
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["patience"]));

    chain.until("the message", |reply| (!messages(reply, ROOM).is_empty()).then_some(())).await;

    assert!(
        refused_at.elapsed() >= Duration::from_millis(1_700),
        "it asked again after {:?}",
        refused_at.elapsed()
    );
}

#[tokio::test]
async fn c10_a5_a_token_that_ends_is_answered_in_the_homeservers_words_and_a_new_one_goes_on() {
    for words in [
        json!({"errcode": "M_UNKNOWN_TOKEN", "error": "time for a refresh", "soft_logout": true}),
        json!({"errcode": "M_UNKNOWN_TOKEN", "error": "it is over"}),
        json!({"errcode": "M_USER_LOCKED", "error": "for a while", "soft_logout": true}),
    ] {
        let stage = Stage::set().await;
        let (homeserver, alice) = (&stage.homeserver, &stage.alice);
        homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
        let mut chain = alice.v2();
        chain.next().await;
        let mut session = alice.v3();
        session.ask(json!({})).await;

        let waiting = tokio::spawn(chain.request().timeout(30_000).send());
        homeserver.is_polled_with("s1").await;
        homeserver.revoke(alice, words.clone());
        if words["errcode"] == "M_UNKNOWN_TOKEN" {
            // The request that waits is the first to hear of it.
            assert_eq!(waiting.await.unwrap().expect_status(401).json, words);
        }
        let refusal = eventually("the token to be refused", async || {
            let reply = chain.request().send().await;
            (reply.status == 401).then_some(reply)
        });
        assert_eq!(refusal.await.json, words);
        assert_eq!(session.request(&json!({})).send().await.expect_status(401).json, words);

        // The same device has a new token; a locked account is unlocked.
        if words["errcode"] == "M_UNKNOWN_TOKEN" {
            chain.client = alice.renewed();
        }
        homeserver.allow(&chain.client);
        homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["while you were away"]));
        let reply =
            chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
        assert_eq!(messages(&reply, ROOM), ["while you were away"]);
        assert_eq!(
            homeserver.polled().iter().filter(|since| since.is_none()).count(),
            1,
            "nothing was fetched twice"
        );
    }
}

/// Not the end of the token: the client is told why, and all goes on when the reason is gone.
#[tokio::test]
async fn c10_a_user_whom_the_homeserver_does_not_serve_is_told_so() {
    let (stage, mut chain) = polled().await;
    let homeserver = &stage.homeserver;
    let words =
        json!({"errcode": "M_CONSENT_NOT_GIVEN", "error": "agree first", "consent_uri": "x"});
    homeserver.next_syncs_fail(1, &Fault::Status(403, words.clone()));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));

    let refusal = eventually("the refusal", async || {
        let reply = chain.request().send().await;
        (reply.status != 200).then_some(reply)
    });
    assert_eq!(refusal.await.expect_status(403).json, words);
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["agreed"]));
    eventually("the end of it", async || {
        (chain.request().send().await.status == 200).then_some(())
    })
    .await;
    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["agreed"]);
}

#[tokio::test]
async fn b2_after_a_refresh_the_device_goes_on_where_it_was() {
    let (stage, mut chain) = polled().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.revoke(
        alice,
        json!({"errcode": "M_UNKNOWN_TOKEN", "error": "expired", "soft_logout": true}),
    );
    eventually("the token to be refused", async || {
        (chain.request().send().await.status == 401).then_some(())
    })
    .await;

    // The same device has a new token.
    chain.client = alice.renewed();
    homeserver.allow(&chain.client);
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["while you were away"]));

    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["while you were away"]);
    assert_eq!(
        homeserver.polled().iter().filter(|since| since.is_none()).count(),
        1,
        "nothing was fetched twice"
    );
}

#[tokio::test]
async fn c10_a_reply_that_is_cut_off_again_and_again_is_asked_for_with_fewer_events() {
    let (stage, mut chain) = polled().await;
    let homeserver = &stage.homeserver;
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    homeserver.is_polled_with("s2").await;
    homeserver.next_syncs_fail(5, &Fault::TruncatedJson);
    homeserver.on_sync(Some("s2"), &nothing_new("s3"));
    homeserver.on_sync(Some("s3"), &messages_in(ROOM, "s4", &["at last"]));

    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;

    assert_eq!(messages(&reply, ROOM), ["at last"]);
    let limits: Vec<String> = homeserver
        .seen_at("/sync")
        .iter()
        .filter(|seen| seen.since().as_deref() == Some("s3"))
        .map(|seen| seen.parameter("filter").unwrap())
        .map(|filter| filter.split("\"limit\":").nth(1).unwrap()[..3].to_owned())
        .collect();
    assert_eq!(limits[..6], ["100", "100", "100", "50,", "25,", "12,"], "{limits:?}");
}

/// One room's news can never be read: it gets a gap, and all others go on.
#[tokio::test]
async fn c10_a_room_that_spoils_every_reply_is_left_out_with_a_gap() {
    const FILTER: &str = "/_matrix/client/v3/sync?filter=%7B%22room%22%3A%7B";
    let aside = "/_matrix/client/v3/sync?since=s1&filter=%7B%22room%22%3A%7B%22rooms%22%3A%5B";
    let (bad, good) = ("!bad:scripted", "!good:scripted");
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let mut first = first_sync(&alice.user_id, good, "s1", &["one"]);
    first["rooms"]["join"][bad] =
        first_sync(&alice.user_id, bad, "s1", &["two"])["rooms"]["join"][bad].take();
    homeserver.on_sync(None, &first);
    let cut_off = || Canned::bytes(200, r#"{"next_batch":"s2","rooms":{"join":{"!bad"#);
    homeserver.on_path(
        "/_matrix/client/v3/joined_rooms",
        Canned::json(&json!({"joined_rooms": [good, bad]})),
    );
    homeserver.on_path(&format!("{FILTER}%22timeline%22%3A%7B%22limit%22%3A1%2C"), cut_off());
    for limit in ["100", "50", "25", "12", "6", "3"] {
        let filter = format!("{FILTER}%22timeline%22%3A%7B%22limit%22%3A{limit}%2C");
        homeserver.on_path(&filter, cut_off());
    }
    homeserver.on_path(&format!("{aside}%22%21bad"), cut_off());
    homeserver.on_path(&format!("{aside}%22%21good"), Canned::json(&nothing_new("ignored")));
    homeserver.on_path(
        &format!("{FILTER}%22not_rooms%22%3A%5B%22%21bad%3Ascripted%22%5D"),
        Canned::json(&messages_in(good, "s2", &["goes on"])),
    );
    let mut chain = alice.v2();
    chain.next().await;

    let reply = chain.until_reply("news", |reply| !reply["rooms"].is_null()).await;

    assert_eq!(messages(&reply, good), ["goes on"]);
    assert_eq!(joined(&reply, bad)["timeline"]["limited"], true, "{reply:#}");
    assert!(proxy.database().count("SELECT COUNT(*) FROM quarantine").await > 0);
}

/// The homeserver was restored from a backup, say. Nobody knows what happened in between: every room is a gap, one that is
/// no longer there is left, and everybody's keys may have changed.
#[tokio::test]
async fn c10_a_position_that_is_refused_begins_anew_with_a_gap() {
    for keys_are_known in [true, false] {
        let stage = Stage::set().await;
        let (homeserver, alice) = (&stage.homeserver, &stage.alice);
        let gone = "!gone:scripted";
        let mut first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
        first["rooms"]["join"][gone] =
            first_sync(&alice.user_id, gone, "s1", &["bye"])["rooms"]["join"][gone].take();
        let state = first["rooms"]["join"][ROOM]["state"]["events"].as_array_mut().unwrap();
        for (event_type, key, content) in [
            ("m.room.encryption", "", json!({"algorithm": "m.megolm.v1.aes-sha2"})),
            ("m.room.member", "@bob:scripted", json!({"membership": "join"})),
            ("m.room.member", "@eve:scripted", json!({"membership": "leave"})),
        ] {
            state.push(json!({
                "type": event_type, "state_key": key, "event_id": format!("${event_type}{key}"),
                "sender": "@bob:scripted", "origin_server_ts": 1, "content": content, "unsigned": {},
            }));
        }
        homeserver.on_sync(None, &first);
        if keys_are_known {
            homeserver.on_path(
                "/_matrix/client/v3/keys/changes?from=s1&to=t1",
                Canned::json(&json!({
                    "changed": ["@carol:scripted", "@\u{0}:scripted"],
                    "left": ["@dave:scripted", format!("@{}:scripted", "x".repeat(5_000))],
                })),
            );
        }
        let mut chain = alice.v2();
        chain.next().await;
        homeserver.is_polled_with("s1").await;
        homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "t1", &["anew"]));
        let refusal = json!({"errcode": "M_UNKNOWN", "error": "Invalid stream token"});
        homeserver.next_syncs_fail(2, &Fault::Status(400, refusal));
        // The poll that waits is answered now; the faults are for those after it.
        homeserver.on_sync(Some("s1"), &nothing_new("s1"));

        let reply = chain.until_reply("the gap", |reply| !messages(reply, ROOM).is_empty()).await;

        assert_eq!(messages(&reply, ROOM), ["anew"]);
        assert_eq!(joined(&reply, ROOM)["timeline"]["limited"], true);
        assert!(!events(&joined(&reply, ROOM)["state"]).is_empty(), "{reply:#}");
        assert!(section(&reply, "leave", gone).is_object(), "{reply:#}");
        let lists = &reply["device_lists"];
        if keys_are_known {
            assert_eq!(lists["changed"], json!(["@carol:scripted"]));
            assert_eq!(lists["left"], json!(["@dave:scripted"]));
        } else {
            assert_eq!(lists["changed"], json!(["@alice:scripted", "@bob:scripted"]));
        }
    }
}

/// One refusal may be a mistake of something in between, and other failures before it make it no second one.
#[tokio::test]
async fn c10_a_position_that_is_refused_once_is_asked_for_again() {
    let (stage, mut chain) = polled().await;
    let homeserver = &stage.homeserver;
    let unavailable = json!({"errcode": "M_UNKNOWN", "error": "bad gateway"});
    homeserver.next_syncs_fail(1, &Fault::Status(502, unavailable));
    let refusal = json!({"errcode": "M_UNKNOWN", "error": "Invalid stream token"});
    homeserver.next_syncs_fail(1, &Fault::Status(400, refusal));
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["two"]));
    // The poll that waits is answered now; the faults are for those after it.
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));

    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;

    assert_eq!(messages(&reply, ROOM), ["two"]);
    assert_eq!(
        (joined(&reply, ROOM)["timeline"]["limited"].clone(), homeserver.faults_left()),
        (json!(false), 0)
    );
    let anew = homeserver.polled().iter().filter(|since| since.is_none()).count();
    assert_eq!(anew, 1, "only in the beginning");
}

/// Both were restarted: the homeserver has forgotten who typed, and never says that they stopped.
#[tokio::test]
async fn c10_who_typed_before_a_restart_is_not_believed_to_type_for_ever() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
    first["rooms"]["join"][ROOM]["ephemeral"]["events"] =
        json!([{"type": "m.typing", "content": {"user_ids": ["@bob:scripted"]}}]);
    homeserver.on_sync(None, &first);
    let mut chain = alice.v2();
    assert_eq!(typing(&chain.next().await, ROOM), Some(vec!["@bob:scripted"]));

    proxy.crash_and_restart().await;
    let restarted = std::time::Instant::now();
    let reply = chain.until_reply("the end of it", |reply| typing(reply, ROOM).is_some()).await;

    assert_eq!(typing(&reply, ROOM), Some(Vec::new()));
    assert!(restarted.elapsed() > Duration::from_secs(20), "a refresh has its time to come");
}

/// Each of many syncs wants a poll that begins now, and the homeserver is slow: one of them has to be stored all the same.
#[tokio::test]
async fn c10_those_who_keep_writing_keep_no_poll_from_being_stored() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let path = "/_matrix/client/v3/user/@alice:scripted/account_data/org.example";
    homeserver.on_path(path, Canned::json(&json!({})));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    // An answer takes longer than the next write is away.
    homeserver.next_syncs_fail(1_000, &Fault::Drip);
    let writer = alice.clone();
    let writing = tokio::spawn(async move {
        let mut syncs = tokio::task::JoinSet::new();
        loop {
            writer.put(path).json(&json!({})).send().await.ok();
            syncs.spawn(writer.on_new_connections().sync().send());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    // The poll that the homeserver has held so far has been given up.
    eventually("polls", async || (homeserver.polled().len() > 3).then_some(())).await;
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));

    let stored = tokio::time::timeout(
        Duration::from_secs(10),
        chain.until("the message", |reply| (messages(reply, ROOM) == ["two"]).then_some(())),
    );

    assert!(stored.await.is_ok(), "polled with {:?}", homeserver.polled());
    writing.abort();
}

/// The homeserver holds the main poll although its token is dead, and it is a request that finds out.
#[tokio::test]
async fn c1_the_main_poll_is_taken_over_as_soon_as_its_token_is_known_to_be_dead() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let laptop = homeserver.device(&stage.proxy.url(), &alice.user_id, "LAPTOP");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    homeserver.on_path("/_matrix/client/v3/account/password", Canned::json(&json!({})));
    alice.sync().send().await.ok();
    homeserver.is_polled_with("s1").await;
    laptop.sync().send().await.ok();
    let polls_with = async |since: &str, count: usize| {
        eventually("both to be polled for", async || {
            (homeserver.is_polled_with(since).await >= count).then_some(())
        })
        .await;
    };
    polls_with("s1", 3).await;
    homeserver.next_syncs_fail(2, &Fault::Hang);
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    polls_with("s2", 2).await;
    eventually("both to hang", async || (homeserver.faults_left() == 0).then_some(())).await;

    homeserver.revoke(alice, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "it is over"}));
    let password = json!({"new_password": "x"});
    laptop.post("/_matrix/client/v3/account/password").json(&password).send().await.ok();
    alice.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");

    eventually_within(Duration::from_secs(10), "the laptop to run the main poll", async || {
        homeserver
            .seen_at("/sync")
            .iter()
            .filter(|seen| seen.headers["authorization"].to_str().unwrap().contains("LAPTOP"))
            .any(|seen| seen.parameter("filter").unwrap().contains("lazy_load_members"))
            .then_some(())
    })
    .await;
}
