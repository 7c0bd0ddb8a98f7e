//! Bodies: large, slow, in parts. Never held in memory.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Body;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tests::client::Client;
use tests::lab::Lab;
use tests::scripted_homeserver::{Canned, Gate};

use crate::stage::Stage;

const UPLOAD: &str = "/_matrix/media/v3/upload";
const DOWNLOAD: &str = "/_matrix/client/v1/media/download/scripted/file";
const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_large_upload_is_streamed_in_little_memory() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_path(UPLOAD, Canned::json(&json!({"content_uri": "mxc://scripted/file"})));
    alice.whoami().await.ok();
    let before = proxy.peak_memory_kib();

    let piece = Bytes::from(vec![b'x'; MIB]);
    let pieces = stream::repeat(piece.clone()).take(100).map(Ok::<_, std::io::Error>);
    let response = reqwest_client()
        .post(format!("{}{UPLOAD}", proxy.url()))
        .bearer_auth(&alice.access_token)
        .body(Body::wrap_stream(pieces))
        .send()
        .await
        .unwrap();

    assert_eq!(response.status(), 200);
    let arrived = homeserver.seen_at(UPLOAD);
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].body_length, 100 * MIB as u64);
    let whole: Vec<u8> = piece.repeat(100);
    assert_eq!(arrived[0].body_digest, digest(&SHA256, &whole).as_ref());
    let grown = proxy.peak_memory_kib() - before;
    assert!(grown < 40 * 1024, "the proxy grew by {grown} KiB for an upload of {} KiB", 100 * 1024);
}

#[tokio::test]
async fn a_large_download_is_streamed_in_little_memory() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let mut file =
        Canned::bytes(200, Bytes::from(vec![b'y'; MIB])).header("content-type", "video/mp4");
    for _ in 1..100 {
        file = file.then(Bytes::from(vec![b'y'; MIB]));
    }
    homeserver.on_path(DOWNLOAD, file);
    alice.whoami().await.ok();
    let before = proxy.peak_memory_kib();

    let response = reqwest_client()
        .get(format!("{}{DOWNLOAD}", proxy.url()))
        .bearer_auth(&alice.access_token)
        .send()
        .await
        .unwrap();
    let mut length = 0;
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        length += piece.unwrap().len();
    }

    assert_eq!(length, 100 * MIB);
    let grown = proxy.peak_memory_kib() - before;
    assert!(
        grown < 40 * 1024,
        "the proxy grew by {grown} KiB for a download of {} KiB",
        100 * 1024
    );
}

#[tokio::test]
async fn the_beginning_of_a_slow_answer_does_not_wait_for_its_end() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let gate = Gate::closed();
    homeserver.on_path(DOWNLOAD, Canned::bytes(200, "first ").then("second").held_by(&gate));

    let response = reqwest_client()
        .get(format!("{}{DOWNLOAD}", proxy.url()))
        .bearer_auth(&alice.access_token)
        .send()
        .await
        .unwrap();
    let mut body = response.bytes_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "first ");
    gate.open();
    assert_eq!(body.next().await.unwrap().unwrap(), "second");
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn ranges_go_there_and_back() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_path(
        DOWNLOAD,
        Canned::bytes(206, "cde")
            .header("content-range", "bytes 2-4/10")
            .header("etag", "\"v1\"")
            .header("accept-ranges", "bytes"),
    );

    let reply =
        alice.get(DOWNLOAD).header("Range", "bytes=2-4").header("If-Range", "\"v1\"").send().await;

    assert_eq!((reply.status, reply.raw.as_ref()), (206, b"cde".as_slice()));
    assert_eq!(reply.header_values("content-range"), ["bytes 2-4/10"]);
    assert_eq!(reply.header_values("etag"), ["\"v1\""]);
    let seen = &homeserver.seen_at(DOWNLOAD)[0];
    assert_eq!(seen.header("range").as_deref(), Some("bytes=2-4"));
    assert_eq!(seen.header("if-range").as_deref(), Some("\"v1\""));
}

#[tokio::test]
async fn media_goes_to_synapse_and_back() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let picture: Vec<u8> =
        (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();

    let upload = alice
        .post("/_matrix/media/v3/upload")
        .header("Content-Type", "application/octet-stream")
        .bytes(picture.clone().into());
    let uri = upload.send().await.text("content_uri");
    let path = uri.strip_prefix("mxc://").unwrap();
    let download = alice
        .get(&format!("/_matrix/client/v1/media/download/{path}"))
        .send()
        .await
        .expect_status(200);

    assert_eq!(download.raw, picture);
}

fn reqwest_client() -> reqwest::Client {
    // The first client of the library sets up what reqwest needs.
    drop(Client::anonymous("http://127.0.0.1"));
    reqwest::Client::builder().no_proxy().build().unwrap()
}
