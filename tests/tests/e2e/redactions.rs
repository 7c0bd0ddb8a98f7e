//! Redactions: what is redacted is in no answer again, whenever and wherever it was told before. Every
//! answer is looked through byte by byte.

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{assert_no_trace, joined, state, timeline, types};
use tests::scripted_homeserver::{Canned, first_sync, message, messages_in};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// Redactions name their target in other places, and keep other keys, in 1–10 and from 11 on.
const VERSIONS: [&str; 4] = ["1", "10", "11", "12"];

/// More than a poll asks for.
const MANY: usize = 130;

/// A user in a room who has told secrets in every way there is.
struct Gossip {
    alice: Client,
    room: String,
    /// The tokens that the user has had, the oldest first.
    tokens: Vec<String>,
    secrets: Vec<Secret>,
}

/// An event with something in it that is to be forgotten.
struct Secret {
    event_id: String,
    text: &'static str,
}

impl Gossip {
    /// A message that was edited, a name, and a topic that was followed by another one.
    async fn told(alice: Client, version: &str) -> Self {
        let room =
            alice.create_room(json!({"preset": "public_chat", "room_version": version})).await;
        let mut gossip = Self { alice, room, tokens: Vec::new(), secrets: Vec::new() };
        let mut chain = gossip.alice.v2();
        gossip.keep(&mut chain).await;
        let (alice, room) = (&gossip.alice, &gossip.room);
        let message = alice.send(room, "swordfish").await;
        let edit = alice
            .send_event(
                room,
                "m.room.message",
                json!({"msgtype": "m.text", "body": "* tuna",
                    "m.new_content": {"msgtype": "m.text", "body": "tuna"},
                    "m.relates_to": {"rel_type": "m.replace", "event_id": message}}),
            )
            .await
            .event_id();
        let reply = alice
            .send_event(
                room,
                "m.room.message",
                json!({"msgtype": "m.text", "body": "marlin",
                    "m.relates_to": {"rel_type": "m.thread", "event_id": message}}),
            )
            .await
            .event_id();
        let topic = alice.set_topic(room, "halibut").await;
        alice.set_topic(room, "about fish").await;
        let name = alice.rename_in(room, "Sturgeon").await.event_id();
        alice.rename_in(room, "Alice").await.ok();
        let last =
            alice.set_state(room, "m.room.name", "", json!({"name": "Barracuda"})).await.event_id();
        gossip.secrets = vec![
            Secret { event_id: message, text: "swordfish" },
            Secret { event_id: edit, text: "tuna" },
            Secret { event_id: reply, text: "marlin" },
            Secret { event_id: topic, text: "halibut" },
            Secret { event_id: name, text: "Sturgeon" },
            Secret { event_id: last.clone(), text: "Barracuda" },
        ];
        gossip.wait_for(&mut chain, &last).await;
        gossip.keep(&mut chain).await;
        gossip
    }

    async fn keep(&mut self, chain: &mut Chain) {
        chain.next().await;
        self.tokens.push(chain.since().to_owned());
    }

    async fn wait_for(&self, chain: &mut Chain, event_id: &str) {
        chain
            .until("an event", |reply| {
                let has = |event: &&Value| event["event_id"] == event_id;
                timeline(reply, &self.room).iter().any(has).then_some(())
            })
            .await;
    }

    /// Redacts everything; gives the last redaction.
    async fn redact_all(&self, by: &Client) -> String {
        let mut last = String::new();
        for secret in &self.secrets {
            last = by.redact(&self.room, &secret.event_id).await.event_id();
        }
        last
    }

    fn texts(&self) -> Vec<&'static str> {
        self.secrets.iter().map(|secret| secret.text).collect()
    }

    /// No answer that this user's client can get has a trace of what was redacted.
    async fn assert_forgotten(&self, client: &Client) {
        let texts = self.texts();
        let check = |reply: &tests::client::Reply| assert_no_trace(&reply.body_text(), &texts);
        let lazy = json!({"room": {"state": {"lazy_load_members": true}}});
        let short = json!({"room": {"timeline": {"limit": 1}}});
        let long = json!({"room": {"timeline": {"limit": 100}}});
        for filter in [json!({}), lazy, short, long] {
            check(&client.fresh_sync().filter(&filter).send().await.expect_status(200));
            for since in &self.tokens {
                let request = client.fresh_sync().filter(&filter).since(since);
                check(&request.send().await.expect_status(200));
                let request = client.fresh_sync().filter(&filter).since(since);
                check(&request.query("full_state", "true").send().await.expect_status(200));
            }
        }
        for sort in ["by_pl", "by_name"] {
            let body = json!({"room_members": {"room_id": self.room, "p": {"sort": sort}}});
            check(&client.v3_sync(&body).send().await.expect_status(200));
        }
    }

    /// Every redacted event in the timeline is pruned and says why.
    fn assert_pruned(&self, reply: &Value) {
        let timeline = timeline(reply, &self.room);
        for secret in &self.secrets {
            let event = timeline
                .iter()
                .find(|event| event["event_id"] == secret.event_id.as_str())
                .unwrap_or_else(|| panic!("{} is not there: {reply:#}", secret.text));
            let kept = match event["type"].as_str() {
                Some("m.room.member") => json!({"membership": "join"}),
                _ => json!({}),
            };
            assert_eq!(event["content"], kept, "{event:#}");
            let because = &event["unsigned"]["redacted_because"];
            assert_eq!(because["type"], "m.room.redaction", "{event:#}");
            assert_eq!(because["sender"], self.alice.user_id.as_str(), "{event:#}");
            assert_eq!(because["content"]["redacts"], secret.event_id.as_str(), "{event:#}");
        }
        assert!(types(&timeline).contains(&"m.room.redaction"), "{reply:#}");
    }
}

#[tokio::test]
async fn a76_d1_11_what_is_redacted_is_never_served_again_in_any_room_version() {
    let lab = Lab::shared().await;
    for version in VERSIONS {
        let mut gossip = Gossip::told(lab.user("alice").await, version).await;
        let mut session = gossip.alice.v3();
        let members = json!({"room_members": {"room_id": gossip.room}});
        session.ask(members).await;
        let (since, old_page) = (gossip.tokens[0].clone(), session.next().to_owned());

        let mut chain = gossip.alice.v2();
        chain.next().await;
        let last = gossip.redact_all(&gossip.alice).await;
        gossip.wait_for(&mut chain, &last).await;
        gossip.keep(&mut chain).await;

        gossip.assert_forgotten(&gossip.alice).await;
        let long = json!({"room": {"timeline": {"limit": 100}}});
        let replay = gossip.alice.fresh_sync().since(&since).filter(&long).send().await.ok();
        gossip.assert_pruned(&replay);
        let again = gossip.alice.v3_sync(&json!({})).since(&old_page).send().await;
        assert_no_trace(&again.body_text(), &gossip.texts());
        let fresh = gossip.alice.sync().filter(&long).send().await.ok();
        gossip.assert_pruned(&fresh);
        let short = json!({"room": {"timeline": {"limit": 1}}});
        let fresh = gossip.alice.sync().filter(&short).send().await.ok();
        let name = state(&fresh, &gossip.room, "m.room.name", "").expect("the state has the name");
        assert_eq!(name["content"], json!({}));
        assert!(name["unsigned"]["redacted_because"].is_object(), "{name:#}");
    }
}

#[tokio::test]
async fn a76_d1_11_a_redaction_while_the_proxy_is_stopped() {
    let lab = Lab::with_own_proxy().await;
    for version in ["10", "12"] {
        let gossip = Gossip::told(lab.user("alice").await, version).await;
        let direct = lab.past_proxy(&gossip.alice);
        lab.proxy.stop().await;
        let last = gossip.redact_all(&direct).await;
        lab.proxy.start_again().await;

        let mut chain = gossip.alice.v2();
        gossip.wait_for(&mut chain, &last).await;
        gossip.assert_forgotten(&gossip.alice).await;
        let long = json!({"room": {"timeline": {"limit": 100}}});
        gossip.assert_pruned(&gossip.alice.sync().filter(&long).send().await.ok());
    }
}

#[tokio::test]
async fn c6_d1_11_a_redaction_in_a_gap_is_looked_for() {
    let lab = Lab::with_own_proxy().await;
    for version in ["1", "12"] {
        let gossip = Gossip::told(lab.user("alice").await, version).await;
        let direct = lab.past_proxy(&gossip.alice);
        lab.proxy.stop().await;
        gossip.redact_all(&direct).await;
        for n in 0..MANY {
            direct.send(&gossip.room, &format!("filler {n}")).await;
        }
        lab.proxy.start_again().await;

        let mut chain = gossip.alice.v2();
        let reply = chain
            .until_reply("the filler", |reply| {
                reply.to_string().contains(&format!("filler {}", MANY - 1))
            })
            .await;
        assert_eq!(joined(&reply, &gossip.room)["timeline"]["limited"], true);
        let name = eventually("the gap to be looked through", async || {
            let reply = gossip.alice.fresh_sync().send().await.ok();
            let name = state(&reply, &gossip.room, "m.room.name", "")?;
            name["unsigned"]["redacted_because"].is_object().then(|| name.clone())
        })
        .await;
        assert_eq!(name["content"], json!({}));
        gossip.assert_forgotten(&gossip.alice).await;
    }
}

/// The gap is remembered with the poll that left it: a crash before it was looked through changes nothing.
#[tokio::test]
async fn c6_a_gap_outlives_a_crash() {
    let lab = Lab::with_own_proxy().await;
    let gossip = Gossip::told(lab.user("alice").await, "12").await;
    let direct = lab.past_proxy(&gossip.alice);
    lab.proxy.stop().await;
    gossip.redact_all(&direct).await;
    for n in 0..MANY {
        direct.send(&gossip.room, &format!("filler {n}")).await;
    }
    lab.proxy.start_again().await;
    let scans = "SELECT COUNT(*) FROM redaction_scans";
    let database = lab.proxy.database();
    // Whichever came first: the crash, or the end of the looking.
    eventually("the poll that leaves the gap", async || {
        (database.count("SELECT COALESCE(MAX(pos), 0) FROM room_updates WHERE limited").await > 1)
            .then_some(())
    })
    .await;
    lab.proxy.crash_and_restart().await;
    eventually("the gap to be looked through", async || {
        (database.count(scans).await == 0).then_some(())
    })
    .await;
    gossip.assert_forgotten(&gossip.alice).await;
}

#[tokio::test]
async fn a76_d1_11_another_account_of_the_proxy_forgets_as_well() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let gossip = Gossip::told(alice, "11").await;
    bob.join(&gossip.room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &gossip.room).is_object()).await;
    let since = chain.since().to_owned();

    let last = gossip.redact_all(&gossip.alice).await;
    gossip.wait_for(&mut chain, &last).await;

    let bobs = Gossip {
        alice: gossip.alice.clone(),
        room: gossip.room.clone(),
        tokens: vec![since],
        secrets: gossip.secrets,
    };
    bobs.assert_forgotten(&bob).await;
}

fn redaction_of(event_id: &str) -> Value {
    json!({
        "type": "m.room.redaction", "event_id": format!("$redaction_of_{event_id}"), "sender": "@bob:scripted",
        "origin_server_ts": 1_700_000_000_000_u64, "redacts": event_id, "content": {"reason": "no fish"}, "unsigned": {},
    })
}

/// The homeserver tells the edit and the last answer of a thread inside the first event of it.
#[tokio::test]
async fn c6_aggregated_copies_go_with_what_they_are_copies_of() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["root"]);
    let told_as = |event_id: &str, text: &str| {
        let mut event = message(text);
        event["event_id"] = json!(event_id);
        event
    };
    let (mut answer, edit) = (told_as("$1", "swordfish"), told_as("$2", "tuna"));
    answer["unsigned"]["m.relations"]["m.replace"] = told_as("$3", "marlin");
    first["rooms"]["join"][ROOM]["timeline"]["events"][0]["unsigned"]["m.relations"] = json!({
        "m.thread": {"latest_event": answer, "count": 1, "current_user_participated": false},
        "m.replace": edit,
    });
    homeserver.on_sync(None, &first);
    let mut chain = alice.v2();
    let told = chain.next().await.to_string();
    assert!(["swordfish", "tuna", "marlin"].iter().all(|text| told.contains(text)), "{told}");

    let mut redactions = messages_in(ROOM, "s2", &[]);
    redactions["rooms"]["join"][ROOM]["timeline"]["events"] =
        json!(["$1", "$2", "$3"].map(redaction_of));
    homeserver.on_sync(Some("s1"), &redactions);
    chain.until("the redactions", |reply| joined(reply, ROOM).is_object().then_some(())).await;

    let reply = alice.sync().send().await.expect_status(200);
    let root = timeline(&reply.json, ROOM)[0];
    let thread = &root["unsigned"]["m.relations"]["m.thread"];
    assert_eq!((&thread["count"], &thread["latest_event"]["content"]), (&json!(1), &json!({})));
    assert!(root["unsigned"]["m.relations"]["m.replace"].is_null(), "{root:#}");
    assert_no_trace(&reply.body_text(), &["swordfish", "tuna", "marlin"]);
}

/// A poll that lags behind tells again what is redacted.
#[tokio::test]
async fn a76_what_is_redacted_does_not_come_back() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut secret = message("swordfish");
    secret["event_id"] = json!("$1");
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &[]);
    first["rooms"]["join"][ROOM]["timeline"]["events"] = json!([secret, redaction_of("$1")]);
    homeserver.on_sync(None, &first);
    let mut chain = alice.v2();
    chain.next().await;
    let mut again = messages_in(ROOM, "s2", &[]);
    secret["another_worker"] = json!(true);
    again["rooms"]["join"][ROOM]["timeline"]["events"] = json!([secret]);
    homeserver.on_sync(Some("s1"), &again);

    let chain = &mut chain.of_any_shape("the homeserver repeats an event");
    let reply = chain.until_reply("the repetition", |reply| joined(reply, ROOM).is_object()).await;

    assert_eq!(timeline(&reply, ROOM)[0]["content"], json!({}));
    let fresh = alice.sync().of_any_shape("the homeserver repeats an event");
    for reply in [reply, fresh.send().await.ok()] {
        assert_no_trace(&reply.to_string(), &["swordfish"]);
    }
}

/// A homeserver that fails is asked again; one that refuses is not, and holds up nothing.
#[tokio::test]
async fn c6_a_gap_is_looked_through_in_pages_and_again_after_a_failure() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let path = "/_matrix/client/v3/rooms/%21room%3Ascripted/messages";
    let topic = json!({
        "type": "m.room.topic", "state_key": "", "event_id": "$topic", "sender": "@bob:scripted",
        "origin_server_ts": 1, "content": {"topic": "swordfish"}, "unsigned": {},
    });
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
    first["rooms"]["join"][ROOM]["state"]["events"].as_array_mut().unwrap().push(topic);
    homeserver.on_sync(None, &first);
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.on_path(path, Canned::bytes(502, "<html>"));
    let mut gap = messages_in(ROOM, "s2", &["nine"]);
    gap["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    homeserver.on_sync(Some("s1"), &gap);
    chain.until("the gap", |reply| joined(reply, ROOM).is_object().then_some(())).await;
    eventually("a failed look", async || {
        (!homeserver.seen_at("/messages").is_empty()).then_some(())
    })
    .await;

    let page = |chunk: Value| Canned::json(&json!({"chunk": chunk, "start": "x", "end": "page 2"}));
    homeserver.on_path(path, page(json!([])));
    homeserver.on_path(&format!("{path}?dir=b&from=page+2"), page(json!([redaction_of("$topic")])));

    let topic = eventually("the redaction", async || {
        let reply = alice.fresh_sync().send().await.expect_status(200);
        (!reply.body_text().contains("swordfish"))
            .then(|| state(&reply.json, ROOM, "m.room.topic", "").cloned().unwrap())
    })
    .await;
    assert_eq!(topic["unsigned"]["redacted_because"]["content"]["reason"], "no fish");
    let asked = homeserver.seen_at("/messages");
    let first = &asked[0];
    assert_eq!(first.parameter("from").as_deref(), Some("before s2"));
    assert_eq!(first.parameter("to").as_deref(), Some("s1"));
    assert_eq!(first.parameter("filter").as_deref(), Some(r#"{"types":["m.room.redaction"]}"#));
}
