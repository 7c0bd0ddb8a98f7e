//! The way to Postgres over TLS: encrypted where `sslmode` says so, and to nobody who cannot prove who it is.

use std::path::Path;

use tests::authority::Authority;
use tests::matchers::messages;
use tests::postgres::{Database, Postgres};
use tests::proxy::Proxy;
use tests::scripted_homeserver::{ScriptedHomeserver, first_sync};
use tests::wait::eventually;

const ROOM: &str = "!room:scripted";

/// The proxy's sessions by how they came. The test's own comes through the socket, with no name.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND application_name = 'syncv3' AND ssl =";

#[tokio::test]
async fn the_database_is_spoken_to_over_tls() {
    let authority = Authority::new();
    let postgres = Postgres::start_with_tls(&authority.certify("127.0.0.1")).await;
    for parameters in ["sslmode=require".to_owned(), verified(&authority.roots(), "verify-full")] {
        let homeserver = ScriptedHomeserver::start().await;
        let database = postgres.database().await.over_tls(&parameters);
        let proxy = Proxy::start(&homeserver.url(), &database).await;
        let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
        homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));

        assert_eq!(messages(&alice.sync().send().await.ok(), ROOM), ["one"], "{parameters}");
        // The pool's, and the one with which the process listens.
        assert!(database.count(&format!("{SESSIONS} TRUE")).await >= 2, "{parameters}");
        assert_eq!(database.count(&format!("{SESSIONS} FALSE")).await, 0, "{parameters}");
        let (_code, found) = proxy.check();
        assert!(found.contains("OK    database"), "{parameters}: {found}");
    }
}

#[tokio::test]
async fn a_database_with_a_wrong_certificate_is_refused_and_the_reason_is_told() {
    let trusted = Authority::new();
    let homeserver = ScriptedHomeserver::start().await;
    let of_another = Postgres::start_with_tls(&Authority::new().certify("127.0.0.1")).await;
    let of_another_host = Postgres::start_with_tls(&trusted.certify("another.example")).await;
    for (postgres, mode, why) in [
        (&of_another, "verify-full", "UnknownIssuer"),
        (&of_another, "verify-ca", "UnknownIssuer"),
        (&of_another_host, "verify-full", "not valid for name"),
    ] {
        let database = postgres.database().await.over_tls(&verified(&trusted.roots(), mode));
        let proxy = Proxy::prepare_single(&homeserver.url(), &database, &[]);

        let (code, found) = proxy.check();
        let line = found.lines().find(|line| line.contains(" database ")).unwrap_or_default();
        assert!(code != Some(0) && line.starts_with("FAIL"), "{mode}: {found}");
        for said in ["invalid peer certificate", why, "-db"] {
            assert!(line.contains(said), "{mode}: `{said}` is missing in {line}");
        }
        proxy.start_blindly();
        eventually("the reason in the log", async || {
            let log = proxy.log_text();
            let mut lines = log.lines().filter(|line| line.contains("waiting for the database"));
            lines.any(|line| line.contains(why)).then_some(())
        })
        .await;
        assert_nobody_came_in(&database).await;
    }
    // Who does not ask for the name is content with the chain.
    let database = of_another_host.database().await;
    let database = database.over_tls(&verified(&trusted.roots(), "verify-ca"));
    Proxy::start(&homeserver.url(), &database).await;
}

#[tokio::test]
async fn a_database_that_offers_no_tls_is_not_spoken_to_where_it_is_required() {
    let homeserver = ScriptedHomeserver::start().await;
    let without = Postgres::start_on_loopback().await;
    let database = without.database().await.over_tls("sslmode=require");
    let (code, found) = Proxy::prepare_single(&homeserver.url(), &database, &[]).check();
    assert!(code != Some(0) && found.contains("server does not support TLS"), "{found}");
    assert_nobody_came_in(&database).await;
}

async fn assert_nobody_came_in(database: &Database) {
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.count(tables).await, 0, "no session of the proxy did anything");
}

/// The parameters for a server that has to prove with these roots who it is.
fn verified(roots: &Path, sslmode: &str) -> String {
    format!("sslmode={sslmode} sslrootcert={}", roots.display())
}
