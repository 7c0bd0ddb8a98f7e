//! What one client may take: each limit, and the error that it ends in.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::shared_postgres;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{Canned, Gate, ScriptedHomeserver, first_sync};
use tests::secrets::keep_answer;
use tests::wait::{PATIENCE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLAIM: &str = "/_matrix/client/v3/keys/claim";
const DOWNLOAD: &str = "/_matrix/client/v1/media/download/scripted/file";

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_in_matrix_form() {
    let (_homeserver, proxy, alice) = stage(&["-max-head-bytes", "4096"]).await;

    let get = || alice.get("/_syncv3/ping");
    get().header("X-Long", &"x".repeat(3000)).send().await.ok();
    get().header("X-Long", &"x".repeat(4096)).send().await.refused(431, "M_TOO_LARGE");
    get().query("long", &"x".repeat(4096)).send().await.refused(431, "M_TOO_LARGE");
    let many = |count: usize| (0..count).fold(get(), |get, n| get.header(&format!("X-{n}"), "y"));
    many(90).send().await.ok();
    let reply = many(110).send().await;
    assert_eq!(reply.header_values("access-control-allow-origin"), ["*"]);
    reply.refused(431, "M_TOO_LARGE");
    // Far beyond, nobody reads it to its end.
    let answer = raw(&proxy, &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000))).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_read_whole_has_its_limit_and_one_that_is_streamed_has_none() {
    let (homeserver, _proxy, alice) = stage(&["-max-buffered-bytes", "1000"]).await;
    homeserver.on_path(CLAIM, Canned::json(&json!({"one_time_keys": {}})));
    let upload = "/_matrix/media/v3/upload";
    homeserver.on_path(upload, Canned::json(&json!({"content_uri": "mxc://scripted/file"})));
    let long = json!({"one_time_keys": {}, "padding": "x".repeat(2000)});

    alice.post(CLAIM).json(&json!({"one_time_keys": {}})).send().await.ok();
    for path in [CLAIM, "/_matrix/client/v3/delete_devices", "/_matrix/client/v3/account/password"]
    {
        alice.post(path).json(&long).send().await.refused(413, "M_TOO_LARGE");
    }
    assert_eq!(homeserver.seen_at(CLAIM).len(), 1, "it is not passed on");
    alice.post(upload).bytes(Bytes::from(vec![0; 100_000])).send().await.ok();
}

/// A head that begins must end; a connection on which nothing begins may stay.
#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off_and_an_idle_connection_is_not() {
    let (_homeserver, proxy, _alice) = stage(&["-head-timeout", "1"]).await;
    let ping = format!("GET /_syncv3/ping HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.address());
    let mut idle = connect(&proxy).await;
    let mut kept_alive = connect(&proxy).await;
    kept_alive.write_all(ping.as_bytes()).await.unwrap();
    answer_on(&mut kept_alive).await;

    let mut slow = connect(&proxy).await;
    slow.write_all(b"GET /_syncv3/ping HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let answer = until_closed(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""errcode":"M_UNKNOWN""#), "{answer}");

    // A second head on the same connection has its time, too.
    let mut second = connect(&proxy).await;
    second.write_all(ping.as_bytes()).await.unwrap();
    answer_on(&mut second).await;
    second.write_all(b"GET /").await.unwrap();
    let answer = until_closed(&mut second).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    for connection in [&mut idle, &mut kept_alive] {
        connection.write_all(ping.as_bytes()).await.unwrap();
        assert!(answer_on(connection).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_in_vain() {
    let (_homeserver, proxy, alice) = stage(&["-body-timeout", "1"]).await;
    for path in [CLAIM, "/_matrix/client/v3/delete_devices", "/_matrix/client/v3/sync"] {
        let answer = raw(
            &proxy,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\n{{\"on",
                alice.access_token
            ),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{path}: {answer}");
        assert!(answer.contains(r#""errcode":"M_UNKNOWN""#), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_reply_that_nobody_takes_is_cut_off_in_mid_stream() {
    let (homeserver, proxy, alice) = stage(&["-reply-timeout", "1"]).await;
    let piece = Bytes::from(vec![b'y'; 1024 * 1024]);
    let mut file = Canned::bytes(200, piece.clone());
    for _ in 1..64 {
        file = file.then(piece.clone());
    }
    homeserver.on_path(DOWNLOAD, file);

    let mut client = connect(&proxy).await;
    let request = format!(
        "GET {DOWNLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        alice.access_token
    );
    client.write_all(request.as_bytes()).await.unwrap();
    eventually("the proxy to give up", async || {
        proxy.log_text().contains("takes nothing of its reply").then_some(())
    })
    .await;

    let received = until_closed(&mut client).await.len();
    assert!(received < 64 * 1024 * 1024, "all of it had been sent: {received} bytes");
    // Somebody else is answered.
    alice.get("/_syncv3/ping").send().await.ok();
}

#[tokio::test]
async fn connections_have_a_limit_in_all() {
    let (_homeserver, proxy, _alice) = stage(&["-max-connections", "3"]).await;
    // One after the other is answered, so that all three are open.
    let ping = format!("GET /_syncv3/ping HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.address());
    let mut open = Vec::new();
    while open.len() < 3 {
        let mut connection = connect(&proxy).await;
        connection.write_all(ping.as_bytes()).await.unwrap();
        // The one with which the start was waited for may still be counted.
        if answer_on(&mut connection).await.starts_with("HTTP/1.1 200 ") {
            open.push(connection);
        }
    }

    let answer = raw(&proxy, &ping).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains(r#""errcode":"M_LIMIT_EXCEEDED""#), "{answer}");
    assert!(answer.contains("retry-after: ") && answer.contains("retry_after_ms"), "{answer}");

    open.pop();
    eventually("room for another", async || {
        let mut another = connect(&proxy).await;
        another.write_all(ping.as_bytes()).await.ok()?;
        answer_on(&mut another).await.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
}

/// Tests come from this machine, as a reverse proxy does. Who is counted is tested beside the code.
#[tokio::test]
async fn connections_of_a_reverse_proxy_are_not_counted_by_address() {
    let (_homeserver, proxy, _alice) = stage(&["-max-connections-per-address", "1"]).await;
    let ping = format!("GET /_syncv3/ping HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.address());
    let mut connections = [connect(&proxy).await, connect(&proxy).await, connect(&proxy).await];
    for connection in &mut connections {
        connection.write_all(ping.as_bytes()).await.unwrap();
        assert!(answer_on(connection).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn requests_of_one_token_have_a_limit() {
    let (homeserver, proxy, alice) = stage(&["-max-requests-per-token", "2"]).await;
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["one"]));
    let gate = Gate::closed();
    let path = "/_matrix/client/v3/held";
    homeserver.on_path(path, Canned::bytes(200, "{").then("}").held_by(&gate));
    let bob = homeserver.device(&proxy.url(), "@bob:scripted", "DESK");
    // A reply under way counts as well as one that is waited for.
    let held = |_| {
        let alice = alice.on_new_connections();
        tokio::spawn(async move { alice.get(path).send().await })
    };
    let under_way: Vec<_> = (0..2).map(held).collect();
    eventually("both requests at the homeserver", async || {
        (homeserver.seen_at(path).len() == 2).then_some(())
    })
    .await;

    for refused in [
        alice.sync().send().await,
        alice.v3_sync(&json!({})).send().await,
        alice.get("/_matrix/client/v3/pushrules/").send().await,
    ] {
        let error = refused.refused(429, "M_LIMIT_EXCEEDED");
        assert!(error["retry_after_ms"].as_u64().is_some(), "{error}");
    }
    assert_eq!(bob.get("/_syncv3/ping").send().await.ok()["service"], "syncv3");
    let nobody = alice.get("/_matrix/client/versions").without_token().send().await.ok();
    assert!(nobody["versions"].is_array(), "who has no token is not counted");

    gate.open();
    for request in under_way {
        assert_eq!(request.await.unwrap().ok(), Value::Object(serde_json::Map::new()));
    }
    eventually("room for another request", async || {
        (alice.sync().send().await.status == 200).then_some(())
    })
    .await;
}

/// A scripted homeserver, a proxy with these flags before it, and a client of the proxy.
async fn stage(flags: &[&str]) -> (ScriptedHomeserver, Proxy, Client) {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = Proxy::start_with(&homeserver.url(), &postgres.database().await, flags).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    (homeserver, proxy, alice)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends text as it is, and returns what comes back until the connection ends.
async fn raw(proxy: &Proxy, request: &str) -> String {
    let mut stream = connect(proxy).await;
    // The proxy may have said all that it has to say before it has everything.
    stream.write_all(request.as_bytes()).await.ok();
    until_closed(&mut stream).await
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    match read.expect("the connection is closed") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    kept(&answer)
}

/// The first piece of an answer on a connection that stays open.
async fn answer_on(stream: &mut TcpStream) -> String {
    let mut answer = [0; 4096];
    let limit = PATIENCE + Duration::from_secs(1);
    let read = tokio::time::timeout(limit, stream.read(&mut answer)).await;
    let length = read.expect("there is an answer").unwrap_or(0);
    kept(&answer[..length])
}

/// The text of an answer, in which secrets are looked for as in all others.
fn kept(answer: &[u8]) -> String {
    let answer = String::from_utf8_lossy(answer).into_owned();
    keep_answer(&answer);
    answer
}
