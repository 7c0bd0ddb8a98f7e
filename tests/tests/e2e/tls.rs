//! TLS on both sides: clients are served with it, and the homeserver is spoken to with it and has to prove who it is.

use std::time::Duration;

use serde_json::json;
use tests::authority::{Authority, Certificate};
use tests::client::Client;
use tests::lab::shared_postgres;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{ScriptedHomeserver, first_sync};
use tests::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn clients_are_served_over_tls() {
    let authority = Authority::new();
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = serving_tls(&homeserver, &authority.certify("127.0.0.1")).await;
    let base = format!("https://{}", proxy.address());
    let alice = homeserver.device(&base, "@alice:scripted", "PHONE").trusting(&authority.roots());
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["one"]));

    alice.v2().next().await;
    alice.v3().ask(json!({"to_device": {}})).await;
    alice.whoami().await.ok();
    let seen = homeserver.seen_at("/account/whoami");
    let scheme = seen.last().and_then(|seen| seen.header("x-forwarded-proto"));
    assert_eq!(scheme.as_deref(), Some("https"), "the homeserver learns what the client spoke");

    // Who trusts another authority does not speak to it, and who speaks no TLS hears nothing.
    let distrustful = alice.clone().trusting(&Authority::new().roots());
    distrustful.sync().try_send().await.expect_err("the certificate is not trusted");
    let plain = alice.at(&format!("http://{}", proxy.address())).on_new_connections();
    plain.sync().try_send().await.expect_err("plain HTTP is not answered");
    alice.sync().send().await.ok();
}

/// A handshake has ten seconds: who says nothing holds a connection no longer.
#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let authority = Authority::new();
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = serving_tls(&homeserver, &authority.certify("127.0.0.1")).await;
    let mut silent = TcpStream::connect(proxy.address()).await.unwrap();
    // The beginning of a handshake, and no more of it.
    let mut slow = TcpStream::connect(proxy.address()).await.unwrap();
    slow.write_all(&[22, 3, 1]).await.unwrap();

    let mut said = Vec::new();
    for connection in [&mut silent, &mut slow] {
        let end = timeout(Duration::from_secs(15), connection.read_to_end(&mut said)).await;
        // Closed, or reset: what was sent has not been read.
        end.expect("the connection is over within 15 seconds").ok();
    }
    assert!(said.is_empty(), "nothing was said: {said:?}");

    let base = format!("https://{}", proxy.address());
    let alice = homeserver.device(&base, "@alice:scripted", "PHONE").trusting(&authority.roots());
    alice.whoami().await.ok();
}

#[tokio::test]
async fn the_homeserver_is_spoken_to_over_tls() {
    let authority = Authority::new();
    let homeserver = ScriptedHomeserver::start_with_tls(&authority.certify("127.0.0.1")).await;
    let (proxy, alice) = before(&homeserver, &authority).await;
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["one"]));

    // The poller's way, and that of what passes through.
    alice.v2().next().await;
    alice.whoami().await.ok();
    assert!(proxy.log_text().contains("answers and knows Matrix"), "{}", proxy.log_tail());
}

#[tokio::test]
async fn a_homeserver_with_a_wrong_certificate_is_refused_and_the_log_says_why() {
    let trusted = Authority::new();
    let of_another = Authority::new().certify("127.0.0.1");
    let of_another_host = trusted.certify("another.example");
    for (certificate, why) in
        [(of_another, "UnknownIssuer"), (of_another_host, "not valid for name")]
    {
        let homeserver = ScriptedHomeserver::start_with_tls(&certificate).await;
        let (proxy, alice) = before(&homeserver, &trusted).await;

        for reply in [alice.sync().send().await, alice.whoami().await] {
            assert_eq!(reply.status, 502, "{}", reply.body_text());
            assert_eq!(reply.json["errcode"], "M_UNKNOWN");
        }
        assert!(homeserver.seen().is_empty(), "nothing was sent, and no token least of all");
        let line = eventually("a line in the log", async || {
            let log = proxy.log_text();
            let mut lines = log.lines().filter(|line| line.contains("does not answer"));
            lines.find(|line| line.contains("invalid peer certificate")).map(str::to_owned)
        })
        .await;
        assert!(line.contains(why) && line.contains("WARN"), "{line}");
    }
}

async fn serving_tls(homeserver: &ScriptedHomeserver, with: &Certificate) -> Proxy {
    let postgres = shared_postgres().await;
    let (certificate, key) = (with.certificate.to_str().unwrap(), with.key.to_str().unwrap());
    let flags = ["-tls-cert", certificate, "-tls-key", key];
    Proxy::start_with(&homeserver.url(), &postgres.database().await, &flags).await
}

/// A proxy on a machine that trusts this authority, and a client of it.
async fn before(homeserver: &ScriptedHomeserver, trusted: &Authority) -> (Proxy, Client) {
    let postgres = shared_postgres().await;
    let proxy = Proxy::prepare(&homeserver.url(), &postgres.database().await, &[])
        .on_a_machine_that_trusts(&trusted.roots());
    proxy.start_again().await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    (proxy, alice)
}
