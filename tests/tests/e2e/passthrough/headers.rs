//! Paths and headers, in both directions.

use serde_json::json;
use tests::client::Client;
use tests::lab::shared_postgres;
use tests::proxy::Proxy;
use tests::scripted_homeserver::Canned;
use tests::secrets::keep_answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{raw_request, targets};
use crate::stage::Stage;

#[tokio::test]
async fn paths_and_queries_arrive_exactly_as_they_were_sent() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    for target in [
        "/_matrix/client/v3/directory/room/%23alias%2Fwith%2Fslashes:scripted",
        "/_matrix/client/v3/rooms/!a%3Ab/state/m.room.member/%40user%2Fname%3Ascripted",
        "/_matrix/client/v3/rooms/!a:b/event/$event%2Bid",
        "/_matrix/client/v3/profile/@%C3%BCser:scripted?a=%20+b&c=%26&empty=&flag",
        "/_matrix/client/unstable/org.example.msc1234/thing;with=semicolons,and,commas",
        "/.well-known/matrix/client",
    ] {
        raw_request(
            proxy,
            "GET",
            target,
            &[("Authorization", &format!("Bearer {}", alice.access_token))],
        )
        .await;
        let seen = homeserver.seen();
        assert!(
            seen.iter().any(|seen| seen.target == target),
            "{target} did not arrive; {:?}",
            targets(homeserver)
        );
    }
}

#[tokio::test]
async fn headers_of_the_connection_stay_on_their_side() {
    let stage = Stage::set().await;
    let (homeserver, proxy) = (&stage.homeserver, &stage.proxy);
    let target = "/_matrix/client/v3/thing";
    homeserver.on_path(
        target,
        Canned::json(&json!({}))
            .header("keep-alive", "timeout=77")
            .header("x-of-the-homeserver", "kept")
            .header("proxy-authenticate", "Basic"),
    );

    let reply = raw_request(
        proxy,
        "GET",
        target,
        &[
            ("Connection", "X-Listed"),
            ("X-Listed", "drop me"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authorization", "Basic c2VjcmV0"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Of-The-Client", "keep me"),
            ("User-Agent", "a client of its own"),
        ],
    )
    .await;

    let seen = homeserver.seen_at(target).remove(0);
    for dropped in ["x-listed", "keep-alive", "proxy-authorization", "te", "upgrade"] {
        assert_eq!(seen.header(dropped), None, "`{dropped}` was passed on");
    }
    assert_eq!(seen.header("x-of-the-client").as_deref(), Some("keep me"));
    assert_eq!(seen.header("user-agent").as_deref(), Some("a client of its own"));
    assert_eq!(
        seen.header("x-forwarded-for").as_deref(),
        Some("203.0.113.9, 127.0.0.1"),
        "the client's address is appended"
    );
    let reply = reply.to_lowercase();
    assert!(reply.contains("x-of-the-homeserver: kept"), "{reply}");
    assert!(!reply.contains("timeout=77") && !reply.contains("proxy-authenticate"), "{reply}");
}

/// Where two servers find the end of a body at different places, one request hides inside another.
#[tokio::test]
async fn no_request_is_smuggled_inside_another() {
    let stage = Stage::set().await;
    let (homeserver, proxy) = (&stage.homeserver, &stage.proxy);
    let target = "/_matrix/client/v3/thing";
    homeserver.on_path(target, Canned::json(&json!({})));
    homeserver.on_path("/_synapse/admin", Canned::json(&json!({"smuggled": true})));
    for framing in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 5",
        "Transfer-Encoding: xchunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Content-Length: +5",
        "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let hidden = "GET /_synapse/admin/v1/users HTTP/1.1\r\nHost: x\r\n\r\n";
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n0\r\n\r\n{hidden}");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        // A connection that is given up in mid-request may end anyhow.
        stream.read_to_string(&mut answer).await.ok();
        keep_answer(&answer);
        assert!(!answer.contains("smuggled"), "{framing}: {answer}");
    }
    assert!(homeserver.seen_at("/_synapse").is_empty(), "{:?}", targets(homeserver));
    let arrived = homeserver.seen_at(target);
    assert!(!arrived.is_empty(), "a body with one end passes");
    for seen in arrived {
        let ends = [seen.header("content-length"), seen.header("transfer-encoding")];
        assert!(ends.iter().flatten().count() <= 1, "{ends:?}");
    }
}

#[tokio::test]
async fn a2_every_answer_has_exactly_one_allow_origin() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_path(
        "/_matrix/client/v3/with",
        Canned::json(&json!({})).header("access-control-allow-origin", "*"),
    );
    homeserver.on_path("/_matrix/client/v3/without", Canned::json(&json!({})));
    homeserver.on_path(
        "/_matrix/client/v3/twice",
        Canned::json(&json!({}))
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-origin", "*"),
    );

    for path in ["with", "without", "twice", "missing"] {
        let reply = alice.get(&format!("/_matrix/client/v3/{path}")).send().await;
        assert_eq!(reply.header_values("access-control-allow-origin"), ["*"], "for {path}");
    }
}

#[tokio::test]
async fn a8_a_homeserver_out_of_reach_is_a_502_in_matrix_form() {
    let postgres = shared_postgres().await;
    let nobody_listens = format!("http://127.0.0.1:{}", tests::paths::free_port());
    let proxy = Proxy::start(&nobody_listens, &postgres.database().await).await;

    let reply = Client::anonymous(&proxy.url()).get("/_matrix/client/v3/login").send().await;

    assert!(matches!(reply.status, 502 | 504), "it answered {}", reply.status);
    assert_eq!(reply.json["errcode"], "M_UNKNOWN");
    assert_eq!(reply.header_values("access-control-allow-origin"), ["*"]);
}
