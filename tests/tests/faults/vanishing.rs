//! Clients that are gone in the middle of a request or a reply, hundreds of times: nothing of them stays.

use std::sync::Arc;

use tests::lab::shared_postgres;
use tests::proxy::Proxy;
use tests::random::Random;
use tests::scripted_homeserver::{LargeAccount, ScriptedHomeserver};
use tests::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Enough for an initial answer of several megabytes.
const ROOMS: usize = 300;

/// How much more memory than after the first hundred: what an allocator may keep.
const MORE_MEMORY_KIB: u64 = 16 * 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_by_the_hundred_leave_nothing_behind() {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = Proxy::start(&homeserver.url(), &postgres.database().await).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    LargeAccount::moves_in(&homeserver, &alice.user_id, ROOMS);
    let mut chain = alice.v2();
    chain.next().await;
    let mut random = Random::seeded(9);
    vanish(&proxy, &alice.access_token, 100, &mut random).await;
    let files = settled(&proxy, 0).await;
    let memory = proxy.memory_kib();

    vanish(&proxy, &alice.access_token, 400, &mut random).await;

    settled(&proxy, files).await;
    let after = proxy.memory_kib();
    assert!(after <= memory + MORE_MEMORY_KIB, "{after} KiB, after the first hundred {memory} KiB");
    let sessions = proxy.database().count("SELECT COUNT(*) FROM sessions").await;
    assert!(sessions <= 20, "{sessions} sessions");
    let open = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let open = proxy.database().count(open).await;
    // The pool's, and the one with which a process says that it lives.
    assert!(open <= 17, "{open} connections to the database");
    chain.next().await;
}

/// Waits until the process has no more files open than before, or than its pool and poller may have; gives how many.
async fn settled(proxy: &Proxy, before: usize) -> usize {
    let most = before.max(60);
    eventually("connections to be closed", async || {
        let files = proxy.open_files();
        (files <= most).then_some(files)
    })
    .await
}

/// So many clients, eight at a time, each gone at another moment of one of four requests.
async fn vanish(proxy: &Proxy, token: &str, count: usize, random: &mut Random) {
    let address = Arc::new(proxy.address());
    let body = r#"{"to_device":{},"room_list":{"p":{"limit":200}}}"#;
    for _ in 0..count / 8 {
        let gone = (0..8).map(|_| {
            let request = match random.between(0, 3) {
                0 => format!("GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"),
                1 => format!(
                    "POST /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                2 => format!(
                    "POST /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 5000\r\n\r\n{body}"
                ),
                _ => String::from("GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\nAuthori"),
            };
            // Those that wait for an answer they cannot get are gone without one.
            let waits = request.ends_with(body) && request.contains("5000") || request.ends_with("Authori");
            let bytes = if waits { 0 } else { random.between(0, 200_000) };
            vanish_after(Arc::clone(&address), request, bytes)
        });
        futures_util::future::join_all(gone).await;
    }
}

/// Sends a request and reads so many bytes of the answer, or to the end of what comes.
async fn vanish_after(address: Arc<String>, request: String, mut bytes: u64) {
    let mut stream = TcpStream::connect(address.as_str()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut piece = vec![0; 8 * 1_024];
    while bytes > 0 {
        // An answer that ends before is followed by nothing: the connection is kept open for the next request.
        let read =
            tokio::time::timeout(std::time::Duration::from_millis(300), stream.read(&mut piece));
        match read.await {
            Ok(Ok(length @ 1..)) => bytes = bytes.saturating_sub(length as u64),
            _ => return,
        }
    }
}
