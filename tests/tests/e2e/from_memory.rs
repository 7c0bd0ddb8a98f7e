//! Who waits is answered from what the poll brought: nothing but the poll's own transaction is asked of Postgres. It counts
//! itself (`pg_stat_statements`). Where memory does not know for certain, the store is asked, and only for that.
//!
//! That both say the same is checked by every test of this folder: see `proxy/src/v2/check.rs`. Here it is left out, as in a
//! release build, for it asks the store itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::Client;
use tests::exposition::Exposition;
use tests::matchers::{events, joined, members_in_state, messages, numbers, timeline};
use tests::paths;
use tests::postgres::{Database, Postgres};
use tests::proxy::Proxy;
use tests::scripted_homeserver::{
    ScriptedHomeserver, first_sync, message, messages_in, nothing_new, with_to_device,
};
use tests::wait::eventually;

const ROOM: &str = "!room:scripted";
const BOB: &str = "@bob:scripted";

/// What the server ran, by the names that the store's statements begin with.
type Asked = BTreeMap<String, i64>;

/// A proxy that answers as a release build does, on a server that counts, and Alice, who syncs.
struct Stage {
    homeserver: ScriptedHomeserver,
    proxy: Proxy,
    alice: Client,
    watcher: Client,
    counters: tokio_postgres::Client,
    _postgres: Postgres,
    /// Of the last `next_batch` of the homeserver.
    number: u32,
}

impl Stage {
    async fn set() -> Self {
        let settings = ["shared_preload_libraries=pg_stat_statements"];
        let postgres = Postgres::start_with(&settings).await;
        let database: Database = postgres.database().await;
        let counters = database.connect().await.unwrap();
        counters.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
        let homeserver = ScriptedHomeserver::start().await;
        let place = format!("127.0.0.1:{}", paths::free_port());
        let flags = ["-metrics", &place];
        let proxy = Proxy::prepare_single(&homeserver.url(), &database, &flags).unchecked();
        proxy.start_again().await;
        let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
        let watcher = Client::anonymous(&format!("http://{place}"));
        let mut first = first_sync(&alice.user_id, ROOM, "s1", &["hello"]);
        let state = first["rooms"]["join"][ROOM]["state"]["events"].as_array_mut().unwrap();
        state.push(bob_is_here());
        homeserver.on_sync(None, &first);
        Self { homeserver, proxy, alice, watcher, counters, _postgres: postgres, number: 1 }
    }

    /// A client that has come back once, so that what it acknowledges is known; and a proxy that has done what it does after
    /// a start.
    async fn waiting(&mut self, chain: Chain) -> Chain {
        let mut chain = chain;
        chain.next().await;
        for text in ["one", "two", "and again"] {
            self.poll(&messages_in(ROOM, "", &[text])).await;
            chain.until_reply(text, |reply| messages(reply, ROOM) == [text]).await;
        }
        chain
    }

    /// The homeserver answers the poll that waits there, and has the next one when that is stored.
    async fn poll(&mut self, reply: &Value) {
        let since = format!("s{}", self.number);
        self.number += 1;
        let next_batch = format!("s{}", self.number);
        let mut reply = reply.clone();
        reply["next_batch"] = json!(next_batch);
        self.homeserver.on_sync(Some(&since), &reply);
        self.homeserver.is_polled_with(&next_batch).await;
    }

    /// What is asked of the store for a client that waits when this is told, beside what the poll itself asks; and the answer.
    async fn costs(&mut self, chain: &mut Chain, reply: &Value) -> (Asked, Value) {
        // The same poll with nobody waiting for it: its own share.
        let before = self.asked().await;
        let of_poll = {
            let alone = renamed(reply, "alone");
            self.poll(&alone).await;
            difference(&self.asked().await, &before)
        };
        chain
            .until_reply("the poll before", |told| !told["rooms"].is_null() || has_inbox(told))
            .await;

        // What it has got of the inbox it acknowledges before it waits.
        let request = tokio::spawn(chain.request().timeout(60_000).send());
        self.is_waited_for().await;
        let before = self.asked().await;
        self.poll(&renamed(reply, "waited")).await;
        let answer = request.await.unwrap().ok();
        chain.absorb(&answer);
        let with_client = difference(&self.asked().await, &before);
        (difference(&with_client, &of_poll), answer)
    }

    async fn is_waited_for(&self) {
        eventually("the request to wait", async || {
            (self.metric(r#"syncv3_waiting_requests{api="v2"}"#).await > 0.5).then_some(())
        })
        .await;
    }

    async fn metric(&self, series: &str) -> f64 {
        let reply = self.watcher.get("/metrics").send().await.expect_status(200);
        Exposition::read(&reply.body_text()).value(series)
    }

    /// Looks so far, by where they found what there was to say: in memory, in both, in the store.
    async fn looks(&self) -> [i64; 3] {
        let mut looks = [0; 3];
        for (count, source) in looks.iter_mut().zip(["memory", "both", "store"]) {
            let value =
                self.metric(&format!(r#"syncv3_v2_looks_total{{source="{source}"}}"#)).await;
            *count = value.to_string().parse().unwrap();
        }
        looks
    }

    /// Looks since those.
    async fn looks_since(&self, before: [i64; 3]) -> [i64; 3] {
        let now = self.looks().await;
        std::array::from_fn(|source| now[source] - before[source])
    }

    /// Everything so far, but for what processes do by themselves.
    async fn asked(&self) -> Asked {
        let rows = self
            .counters
            .query(
                "SELECT split_part(split_part(query, '-- ', 2), E'\\n', 1) AS name, SUM(calls)::BIGINT AS calls
                FROM pg_stat_statements
                WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND query LIKE '-- %::%'
                    AND query !~ '^-- (replicas|membership|retention|chores|history|sizes|upkeep|device_inbox::count|bodies::(window|mark|remove|sweep_redactions))'
                GROUP BY 1",
                &[],
            )
            .await
            .unwrap();
        rows.iter().map(|row| (row.get("name"), row.get("calls"))).collect()
    }
}

fn has_inbox(reply: &Value) -> bool {
    !reply["to_device"].is_null()
}

/// What one has that the other has not.
fn difference(all: &Asked, other: &Asked) -> Asked {
    let names = all.keys().chain(other.keys());
    let counts = names.map(|name| {
        let of = |asked: &Asked| asked.get(name).copied().unwrap_or_default();
        (name.clone(), of(all) - of(other))
    });
    counts.filter(|(_, calls)| *calls != 0).collect()
}

/// The same with other event IDs, so that it is told anew.
fn renamed(reply: &Value, suffix: &str) -> Value {
    let mut reply = reply.clone();
    for list in ["timeline", "state"] {
        let events = reply["rooms"]["join"][ROOM][list]["events"].as_array_mut();
        for event in events.into_iter().flatten() {
            let event_id = format!("{}-{suffix}", event["event_id"].as_str().unwrap());
            event["event_id"] = json!(event_id);
        }
    }
    reply
}

fn bob_is_here() -> Value {
    json!({
        "type": "m.room.member", "state_key": BOB, "sender": BOB, "event_id": "$bob", "unsigned": {},
        "origin_server_ts": 1_700_000_000_000_u64, "content": {"membership": "join"},
    })
}

fn lazily() -> Value {
    json!({"room": {"state": {"lazy_load_members": true}}})
}

#[tokio::test]
async fn a_request_that_finds_nothing_new_asks_nothing() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2();
    let mut chain = stage.waiting(chain).await;
    let before = stage.asked().await;
    for _ in 0..3 {
        let reply = chain.next().await;
        assert!(reply["rooms"].is_null(), "{reply:#}");
    }
    assert_eq!(difference(&stage.asked().await, &before), Asked::new());
}

#[tokio::test]
async fn an_event_costs_a_waiting_client_no_statement() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2();
    let mut chain = stage.waiting(chain).await;
    let looks = stage.looks().await;

    let (cost, answer) = stage.costs(&mut chain, &messages_in(ROOM, "", &["three"])).await;

    assert_eq!(messages(&answer, ROOM), ["three"]);
    assert_eq!(cost, Asked::new());
    assert_eq!(stage.looks_since(looks).await, [2, 0, 0]);
}

/// The topic is set in the timeline: what state the client lacks only the store knows. The rest is in memory.
#[tokio::test]
async fn who_loads_members_lazily_asks_for_nothing_that_it_knows() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2().filtered(lazily());
    let mut chain = stage.waiting(chain).await;

    let (cost, answer) = stage.costs(&mut chain, &messages_in(ROOM, "", &["three"])).await;
    assert_eq!(messages(&answer, ROOM), ["three"]);
    let told = members_in_state(&answer, ROOM);
    assert!(told.is_empty(), "Bob was told with his first message: {told:?}");
    assert_eq!(cost, Asked::new());

    let looks = stage.looks().await;
    let mut carol_comes = messages_in(ROOM, "", &[]);
    let mut carol = bob_is_here();
    (carol["state_key"], carol["sender"]) = (json!("@carol:scripted"), json!("@carol:scripted"));
    let mut topic = message("a topic");
    (topic["type"], topic["state_key"]) = (json!("m.room.topic"), json!(""));
    topic["content"] = json!({"topic": "memory"});
    carol_comes["rooms"]["join"][ROOM]["timeline"]["events"] = json!([carol, topic]);
    let (cost, answer) = stage.costs(&mut chain, &carol_comes).await;
    assert_eq!(timeline(&answer, ROOM).len(), 2);
    let names: Vec<&str> = cost.keys().map(String::as_str).collect();
    assert_eq!(names, ["state::states (delta)"], "{cost:?}");
    assert_eq!(stage.looks_since(looks).await, [0, 2, 0]);
}

#[tokio::test]
async fn to_device_messages_receipts_and_typing_are_in_memory_as_well() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2();
    let mut chain = stage.waiting(chain).await;

    let mut reply = with_to_device(messages_in(ROOM, "", &["three"]), &[7]);
    reply["rooms"]["join"][ROOM]["ephemeral"]["events"] = json!([
        {"type": "m.typing", "content": {"user_ids": [BOB]}},
        {"type": "m.receipt", "content": {"$one": {"m.read": {BOB: {"ts": 1}}}}},
    ]);
    reply["account_data"] = json!({"events": [{"type": "com.example", "content": {"n": 1}}]});
    reply["device_lists"] = json!({"changed": [BOB], "left": []});
    let (cost, answer) = stage.costs(&mut chain, &reply).await;

    assert_eq!(cost, Asked::new());
    assert_eq!(numbers(&answer["to_device"]), [7]);
    assert_eq!(events(&joined(&answer, ROOM)["ephemeral"]).len(), 2);
    assert_eq!(answer["account_data"]["events"][0]["content"]["n"], 1);
    assert_eq!(answer["device_lists"]["changed"], json!([BOB]));
}

/// Two clients stand at different places, one of them behind polls that are still in memory.
#[tokio::test]
async fn what_several_polls_brought_is_one_answer() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2();
    let mut chain = stage.waiting(chain).await;
    let looks = stage.looks().await;
    for text in ["three", "four", "five"] {
        stage.poll(&messages_in(ROOM, "", &[text])).await;
    }
    let answer = chain.next().await;
    assert_eq!(messages(&answer, ROOM), ["three", "four", "five"]);
    assert_eq!(joined(&answer, ROOM)["timeline"]["limited"], false);
    assert_eq!(stage.looks_since(looks).await, [1, 0, 0]);

    let mut gap = messages_in(ROOM, "", &["six"]);
    gap["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    stage.poll(&messages_in(ROOM, "", &["lost"])).await;
    stage.poll(&gap).await;
    let answer = chain.next().await;
    assert_eq!(
        messages(&answer, ROOM),
        ["six"],
        "nothing from before a gap comes with what follows"
    );
    assert_eq!(joined(&answer, ROOM)["timeline"]["limited"], true);
}

/// What Alice sends comes with its transaction ID for the device that her polls are made for; for another only the store
/// knows whether it sent that.
#[tokio::test]
async fn a_second_device_asks_the_store_who_sent_an_event() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2();
    let mut phone = stage.waiting(chain).await;
    stage.homeserver.on_sync(None, &nothing_new("laptop-1"));
    let laptop = stage.homeserver.device(&stage.proxy.url(), &stage.alice.user_id, "LAPTOP");
    let mut laptop = laptop.v2();
    laptop.next().await;

    let mut mine = messages_in(ROOM, "", &["mine"]);
    let event = &mut mine["rooms"]["join"][ROOM]["timeline"]["events"][0];
    event["sender"] = json!(stage.alice.user_id);
    event["unsigned"]["transaction_id"] = json!("txn");
    let looks = stage.looks().await;
    stage.poll(&mine).await;
    let transaction_id = |answer: &Value| {
        let sent = timeline(answer, ROOM)[0].clone();
        assert_eq!(sent["content"]["body"], "mine");
        sent["unsigned"]["transaction_id"].clone()
    };
    assert_eq!(transaction_id(&phone.next().await), "txn");
    assert_eq!(transaction_id(&laptop.next().await), Value::Null);
    assert_eq!(stage.looks_since(looks).await, [1, 1, 0]);
}

/// A redaction makes what is in memory useless, whichever account's poll brings it.
#[tokio::test]
async fn what_another_account_hears_is_redacted_is_not_told_from_memory() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2();
    let mut chain = stage.waiting(chain).await;
    let bob = stage.homeserver.device(&stage.proxy.url(), BOB, "DESK");
    stage.homeserver.on_sync(None, &first_sync(BOB, ROOM, "bob-1", &["hello"]));
    bob.v2().next().await;
    stage.homeserver.is_polled_with("bob-1").await;

    // Both are told of the secret, Bob also that it is redacted. Alice comes back only then.
    let secret = messages_in(ROOM, "bob-2", &["a secret"]);
    stage.poll(&secret).await;
    stage.homeserver.on_sync(Some("bob-1"), &secret);
    stage.homeserver.is_polled_with("bob-2").await;
    let looks = stage.looks().await;
    let mut redacts = messages_in(ROOM, "bob-3", &["gone"]);
    let redaction = &mut redacts["rooms"]["join"][ROOM]["timeline"]["events"][0];
    (redaction["type"], redaction["redacts"]) = (json!("m.room.redaction"), json!("$a_secret"));
    redaction["content"] = json!({});
    stage.homeserver.on_sync(Some("bob-2"), &redacts);
    stage.homeserver.is_polled_with("bob-3").await;

    let answer = chain.next().await;
    let told = timeline(&answer, ROOM);
    assert_eq!(told[0]["event_id"], "$a_secret");
    assert_eq!(told[0]["content"], json!({}));
    assert_eq!(told[0]["unsigned"]["redacted_because"]["event_id"], "$gone");
    assert_eq!(stage.looks_since(looks).await, [0, 0, 1]);

    // Her own poll brings it: what it tells is not kept, and neither is what was before it.
    stage.poll(&messages_in(ROOM, "", &["another"])).await;
    stage.poll(&redacts).await;
    let answer = chain.next().await;
    assert_eq!(timeline(&answer, ROOM).len(), 2);
    assert_eq!(stage.looks_since(looks).await, [0, 0, 2]);
}

/// A poll that redacts is not kept in memory: its client is answered by the store, as every client once was.
#[tokio::test]
async fn what_is_not_in_memory_is_asked_of_the_store() {
    let mut stage = Stage::set().await;
    let chain = stage.alice.v2();
    let mut chain = stage.waiting(chain).await;
    let mut redacts = messages_in(ROOM, "", &["gone"]);
    let redaction = &mut redacts["rooms"]["join"][ROOM]["timeline"]["events"][0];
    (redaction["type"], redaction["redacts"]) = (json!("m.room.redaction"), json!("$nobody_s"));

    let (cost, answer) = stage.costs(&mut chain, &redacts).await;

    assert_eq!(timeline(&answer, ROOM).len(), 1);
    let names: Vec<&str> = cost.keys().map(String::as_str).collect();
    let expected = [
        "latest_values::device_list_changes",
        "latest_values::global_account_data",
        "latest_values::presence",
        "latest_values::receipts",
        "latest_values::room_account_data",
        "room_heads::changed_rooms",
        "room_heads::now",
        "state::states (delta)",
        "timelines::timelines",
    ];
    assert_eq!(names, expected, "{cost:?}");
}
