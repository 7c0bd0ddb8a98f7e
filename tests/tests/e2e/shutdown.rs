//! SIGTERM: who waits is answered, what moves may finish, and the process ends within ten seconds all the same.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tests::client::Client;
use tests::paths;
use tests::scripted_homeserver::{Fault, first_sync};
use tests::wait::eventually;
use tokio::net::TcpStream;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// [`tests::proxy::Proxy::stop`] is what holds the ten seconds.
#[tokio::test]
async fn who_waits_is_answered_and_who_hangs_holds_nothing_up() {
    let place = format!("127.0.0.1:{}", paths::free_port());
    let stage = Stage::set_with(&["-metrics", &place]).await;
    let watcher = Client::anonymous(&format!("http://{place}"));
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));
    let mut chain = alice.v2();
    chain.next().await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    let v2 = tokio::spawn(chain.request().timeout(60_000).send());
    let v3 = tokio::spawn(session.request(&json!({})).timeout(60_000).send());
    let upload = tokio::spawn(endless_upload(alice.clone(), proxy.url()));
    // Bob's first poll gets no answer, so his initial sync does not either.
    homeserver.next_syncs_fail(1_000, &Fault::Hang);
    let bob = homeserver.device(&proxy.url(), "@bob:scripted", "DESK");
    let initial = tokio::spawn(bob.sync().try_send());
    eventually("all of them to be under way", async || {
        let scraped = watcher.get("/metrics").send().await.body_text();
        let both = ["v2", "v3"].map(|api| format!("syncv3_waiting_requests{{api=\"{api}\"}} 1\n"));
        let all = both.iter().all(|line| scraped.contains(line.as_str()));
        let uploads = homeserver.has_begun("/media/v3/upload");
        let polled = homeserver.polled().iter().filter(|since| since.is_none()).count() >= 2;
        (all && uploads && polled).then_some(())
    })
    .await;

    let meanwhile = async {
        eventually("/ready to say no", async || {
            let reply = watcher.get("/ready").send().await;
            (reply.status == 503).then(|| assert_eq!(reply.json["ready"], false))
        })
        .await;
        watcher.get("/health").send().await.expect_status(200);
        eventually("new connections to be refused", async || {
            TcpStream::connect(proxy.address()).await.is_err().then_some(())
        })
        .await;
        let since = chain.since();
        assert_eq!(v2.await.unwrap().ok()["next_batch"], since, "as if the time had been up");
        assert_eq!(v3.await.unwrap().ok(), json!({"next": session.next()}));
        let refused = initial.await.unwrap().unwrap();
        refused.refused(503, "M_UNKNOWN");
    };
    tokio::join!(proxy.stop(), meanwhile);
    assert!(upload.await.unwrap(), "the upload that never ends was cut off");
}

/// Uploads until it is cut off; whether it was.
async fn endless_upload(alice: Client, url: String) -> bool {
    let chunks = stream::unfold((), |()| async {
        tests::wait::look_away().await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"more ")), ()))
    });
    let request = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = request.post(format!("{url}/_matrix/media/v3/upload"));
    let request = request.bearer_auth(&alice.access_token);
    request.body(reqwest::Body::wrap_stream(chunks)).send().await.is_err()
}
