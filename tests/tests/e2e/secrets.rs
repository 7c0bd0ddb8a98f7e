//! Secrets stay secret: at rest, and in the log at every level.
//!
//! What all other tests see is looked through when the suite is over: see `tests::secrets`.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::postgres::Database;
use tests::secrets::found_in;
use tests::synapse::PASSWORD;

use crate::stage::Stage;

#[tokio::test]
async fn no_table_holds_a_secret_in_clear() {
    let lab = Lab::with_own_proxy().await;
    let tokens = a_busy_session(&lab).await;
    let database = lab.proxy.database();

    let dump = dump(database).await;
    assert!(dump.contains("m.room.create"), "the dump has no event in it");
    assert_eq!(found_in(&dump, &secrets(&tokens)), [""; 0]);

    // The search would find them, as text and as bytes.
    let connection = database.connect().await.unwrap();
    connection.batch_execute("CREATE TABLE planted (as_text text, as_bytes bytea)").await.unwrap();
    connection
        .execute(
            "INSERT INTO planted VALUES ($1, NULL), (NULL, $2)",
            &[
                &format!("before {} after", tokens[0]),
                &format!("before {} after", tokens[1]).into_bytes(),
            ],
        )
        .await
        .unwrap();
    let planted = self::dump(database).await;
    assert_eq!(found_in(&planted, &[&tokens[0], &tokens[1]]), [&tokens[0], &tokens[1]]);
}

/// What libraries say at this level is theirs to choose, and changes with their versions.
#[tokio::test]
async fn no_level_of_the_log_tells_a_secret() {
    for level in [
        "trace",
        "info,hyper=trace,hyper_util=trace,reqwest=trace,tokio_postgres=trace,rustls=trace",
    ] {
        let lab = Lab::with_own_proxy_and_flags(&["-log-level", level]).await;
        let tokens = a_busy_session(&lab).await;
        lab.proxy.stop().await;

        let log = lab.proxy.log_text();
        assert!(log.lines().count() > 3, "it logs nothing at {level}: {log}");
        assert_eq!(found_in(&log, &secrets(&tokens)), [""; 0], "at {level}");
        assert_eq!(found_in(&format!("{log}{}", tokens[0]), &secrets(&tokens)), [&tokens[0]]);
    }
}

#[tokio::test]
async fn a_token_that_the_homeserver_repeats_is_not_logged() {
    let stage = Stage::set().await;
    let (homeserver, proxy) = (&stage.homeserver, &stage.proxy);
    // Too short to be looked for in what the test itself is told.
    let echoed = "echo-4711";
    let alice = Client::with_token(&proxy.url(), "@alice:scripted", "PHONE", echoed);
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": format!("`{echoed}` is of no use")});
    homeserver.revoke(&alice, words.clone());

    let reply = alice.sync().send().await;
    assert_eq!((reply.status, reply.json), (401, words), "to its client it says what it said");
    proxy.stop().await;
    let log = proxy.log_text();
    assert!(log.contains("status=401"), "{log}");
    assert!(!log.contains(echoed), "{log}");
}

/// Everything that has to do with secrets: logging in, refreshing, both syncs, writes, refusals, logging out. Returns the
/// tokens.
async fn a_busy_session(lab: &Lab) -> Vec<String> {
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();

    let login = json!({
        "type": "m.login.password", "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD, "device_id": "REFRESHING", "refresh_token": true,
    });
    let login =
        alice.post("/_matrix/client/v3/login").without_token().json(&login).send().await.ok();
    let body = json!({"refresh_token": login["refresh_token"]});
    let used = Client::with_token(&lab.url(), "", "", text(&login, "access_token"));
    used.sync().send().await.ok();
    let refreshed =
        alice.post("/_matrix/client/v3/refresh").without_token().json(&body).send().await.ok();
    let renewed = Client::with_token(&lab.url(), "", "", text(&refreshed, "access_token"));

    for client in [&alice, &bob, &laptop, &renewed] {
        let mut chain = client.v2();
        chain.next().await;
        client.send(&room, "something to sync").await;
        chain.next().await;
        let mut session = client.v3();
        session.ask(json!({"to_device": {}, "room_list": {}, "e2ee": {}})).await;
        client.messages_before(&room, chain.since(), 5).send().await.ok();
        client.get("/_matrix/client/versions").send().await.ok();
        // In the query, where the specification still allows it.
        let sync = client.get("/_matrix/client/v3/sync").without_token();
        sync.query("access_token", &client.access_token).send().await.ok();
        client.v3_sync_bytes(b"{").send().await.refused(400, "M_NOT_JSON");
        client.get(&format!("/_matrix/client/v3/rooms/{room}/nonsense")).send().await;
    }
    laptop.logout().await.ok();
    laptop.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    vec![
        alice.access_token,
        bob.access_token,
        laptop.access_token,
        text(&login, "access_token").to_owned(),
        text(&login, "refresh_token").to_owned(),
        text(&refreshed, "access_token").to_owned(),
        text(&refreshed, "refresh_token").to_owned(),
    ]
}

fn text<'a>(reply: &'a Value, key: &str) -> &'a str {
    reply[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {reply}"))
}

/// The tokens, and what else nobody may tell.
fn secrets(tokens: &[String]) -> Vec<&str> {
    let others = [PASSWORD, tests::proxy::SECRET, tests::postgres::PASSWORD];
    tokens.iter().map(String::as_str).chain(others).collect()
}

/// All rows of all tables as text.
async fn dump(database: &Database) -> String {
    let connection = database.connect().await.unwrap();
    let tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'";
    let mut dump = String::new();
    for table in connection.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let rows = format!("SELECT (t.*)::text FROM {table} AS t");
        for row in connection.query(&rows, &[]).await.unwrap() {
            dump.push_str(row.get(0));
            dump.push('\n');
        }
    }
    dump + &as_text(database).await
}

/// Bytes that are text, as text: `bytea` is dumped in hexadecimal.
async fn as_text(database: &Database) -> String {
    let connection = database.connect().await.unwrap();
    let bodies = "SELECT encode(body, 'escape') FROM event_bodies";
    let rows = connection.query(bodies, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect()
}
