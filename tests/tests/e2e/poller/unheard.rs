//! A poll that is stored although the answer to its commit never came: the connection broke in between.

use serde_json::{Value, json};
use tests::forwarder::Forwarder;
use tests::lab::shared_postgres;
use tests::matchers::messages;
use tests::postgres::Database;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{ScriptedHomeserver, first_sync, messages_in, nothing_new};
use tests::wait::eventually;

use super::ROOM;

/// From now on each commit of a poll that gets a position takes two seconds.
const SLOW_COMMITS: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(2); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON polls
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();";

/// What a poll leaves to be done beside it, and what memory holds of it, does not hang on that answer.
#[tokio::test]
async fn what_a_poll_leaves_behind_is_seen_to_though_nobody_heard_of_its_commit() {
    let homeserver = ScriptedHomeserver::start().await;
    let database = shared_postgres().await.database().await;
    let wire = Forwarder::to_postgres(&database).await;
    let proxy = Proxy::start_with(&homeserver.url(), &wire.database(&database), &[]).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;

    let sql = database.connect().await.unwrap();
    sql.batch_execute(SLOW_COMMITS).await.unwrap();
    let mut unheard = messages_in(ROOM, "s2", &["nine"]);
    unheard["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    unheard["account_data"] = ignoring(&json!({"@eve:scripted": {}}));
    unheard["device_one_time_keys_count"] = json!({"signed_curve25519": 7});
    homeserver.on_sync(Some("s1"), &unheard);
    let waiting = tokio::spawn(async move {
        chain
            .until("nine", |reply| messages(reply, ROOM).contains(&"nine").then(|| reply.clone()))
            .await
    });
    is_committing(&database).await;
    wire.cut_committed();
    // Waits for the commit.
    sql.batch_execute("DROP TRIGGER slow ON polls").await.unwrap();
    let mut next = nothing_new("s3");
    next["account_data"] = ignoring(&json!({}));
    next.as_object_mut().unwrap().remove("device_one_time_keys_count");
    homeserver.on_sync(Some("s2"), &next);

    let told: Value = waiting.await.unwrap();
    assert_eq!(told["device_one_time_keys_count"]["signed_curve25519"], 7);
    let is_asked_from_the_gap = || {
        let asked = homeserver.seen_at("/messages");
        asked.iter().any(|seen| seen.parameter("from").as_deref() == Some("before s2"))
    };
    eventually("the gap to be looked through", async || is_asked_from_the_gap().then_some(()))
        .await;
    // Everything anew, for what Eve wrote while she was ignored.
    let is_asked_for_eves_part = || {
        let asked = homeserver.seen_at("/sync").into_iter().filter(|seen| seen.since().is_none());
        asked.filter_map(|seen| seen.parameter("filter")).any(|it| it.contains(r#""limit":100"#))
    };
    eventually("what was withheld", async || is_asked_for_eves_part().then_some(())).await;
}

fn ignoring(users: &Value) -> Value {
    let list = json!({"type": "m.ignored_user_list", "content": {"ignored_users": users}});
    json!({"events": [list]})
}

async fn is_committing(database: &Database) {
    let asleep = "SELECT COUNT(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event = 'PgSleep'";
    eventually("a commit", async || (database.count(asleep).await > 0).then_some(())).await;
}
