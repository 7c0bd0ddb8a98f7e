//! Row 7: clients that wait while nothing happens.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use tests::client::encode;
use tests::load::clients;
use tests::load::homeserver::Homeserver;
use tests::proxy::Proxy;
use tests::wait::eventually_within;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bench::{self, Bench, PATIENCE, mib, number};
use crate::row::{Figure, Row};

/// How many connect at once.
const CONNECTING: usize = 32;

/// Longer than this row takes, in milliseconds.
const LONG_POLL: u32 = 1_200_000;

/// As much as a client that waits may take, in KiB; and what the small form forgives, whose build keeps more on each stack.
const LIMIT: f64 = 16.0;
const LENIENT: f64 = 64.0;

pub(super) async fn measure(bench: &Bench) -> Row {
    let (accounts, each, seconds) = bench.choose((100, 100, 30), (5, 40, 3));
    let clients = accounts * each;
    // Each of them is a connection in this process and in the proxy.
    assert!(
        bench.open_files > clients as u64 + 2_000,
        "{clients} clients need more open files than the limit of {}: raise it (ulimit -n)",
        bench.open_files
    );
    let homeserver = Homeserver::start(accounts, accounts.div_ceil(5), accounts.min(20));
    let flags = [
        ["-max-connections", "0"],
        ["-max-connections-per-address", "0"],
        ["-max-requests-per-token", "0"],
        ["-max-timeout", "3600"],
        ["-device-idle", "86400"],
    ];
    let proxy = bench.proxy(&homeserver, &flags.concat()).await;
    let machine = bench.machine(proxy.database()).await;
    let proxies = std::slice::from_ref(&proxy);
    let begun = proxy.memory_kib();
    let stand = clients::log_in(&[proxy.url()], accounts).await;
    bench::at_rest(&proxy, &machine, &homeserver).await;
    let logged_in = proxy.memory_kib();
    let open = proxy.open_files();
    let waiting: Vec<TcpStream> = stream::iter(0..clients)
        .map(|client| wait(&proxy, client % accounts, &stand[client % accounts]))
        .buffer_unordered(CONNECTING)
        .collect()
        .await;
    eventually_within(PATIENCE, "the proxy to have all connections", async || {
        (proxy.open_files() >= open + clients).then_some(())
    })
    .await;
    bench::at_rest(&proxy, &machine, &homeserver).await;
    let held = proxy.memory_kib();
    let before = machine.look(proxies, &homeserver).await;
    let quiet = Instant::now();
    // What is measured is a span of time in which nothing happens.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let costs = machine.look(proxies, &homeserver).await.since(before);
    let quiet = quiet.elapsed().as_secs_f64();
    let answered = waiting.iter().filter(|stream| stream.try_read(&mut [0]).is_ok()).count();
    assert_eq!(answered, 0, "clients that should wait were answered, or hung up on");
    let kib = |memory: u64| mib(memory) * 1024.0;
    let client = kib(held.saturating_sub(logged_in)) / number(clients);
    let account = kib(logged_in.saturating_sub(begun)) / number(accounts);
    Row {
        number: 7,
        what: "clients that wait while nothing happens",
        to_reach: "at most 16 KiB each, all told; hardly any processor time",
        figures: vec![
            Figure::new("a client", client, "KiB"),
            Figure::new("beside it an account", account, "KiB"),
            Figure::new("proxy", costs.proxy / quiet * 100.0, "% of a core"),
            Figure::new("Postgres", costs.postgres / quiet * 100.0, "% of a core"),
            Figure::new("homeserver", costs.homeserver / quiet * 100.0, "% of a core"),
        ],
        how: format!(
            "{clients} v2 clients of {accounts} accounts, each with a connection of its own; resident memory of the proxy, which the kernel's own for sockets is not part of; processor time over {seconds} s"
        ),
        reached: client <= LIMIT,
        fault: (client > LENIENT).then(|| format!("a waiting client takes {client:.0} KiB")),
    }
}

/// A client that sends its request and waits.
async fn wait(proxy: &Proxy, account: usize, since: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let (token, since) = (Homeserver::token(account), encode(since));
    let request = format!(
        "GET /_matrix/client/v3/sync?timeout={LONG_POLL}&since={since} HTTP/1.1\r\n\
         Host: proxy\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}
