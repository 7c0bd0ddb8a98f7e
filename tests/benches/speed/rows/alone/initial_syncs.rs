//! Row 2: several initial syncs of v2 at once must not take more memory the larger the account is.

use std::time::Duration;

use futures_util::future::join_all;
use tests::load::homeserver::{Homeserver, Large};

use super::bench::{self, Bench, PATIENCE, comes_in, initial_sync, mib, number};
use crate::row::{Figure, Row};

/// How many clients sync at once.
const CLIENTS: usize = 4;

/// No more than this much memory may be needed for them, in MiB.
const LIMIT: f64 = 64.0;

/// Less is taken for noise, in MiB: what a process takes for itself when it is asked for anything.
const NOISE: f64 = 8.0;

const LAZY: &str = r#"{"room":{"state":{"lazy_load_members":true}}}"#;

struct Measured {
    rooms: usize,
    grown: f64,
    reply: f64,
    took: Duration,
}

pub(super) async fn measure(bench: &Bench) -> Row {
    let [small, large] = bench.choose([1_000, 10_000], [60, 600]);
    let small = syncs(bench, small).await;
    let large = syncs(bench, large).await;
    let ratio = large.grown.max(NOISE) / small.grown.max(NOISE);
    let mut figures = Vec::new();
    for Measured { rooms, grown, reply, took } in [&small, &large] {
        figures.push(Figure::new(format!("{rooms} rooms"), *grown, "MiB more"));
        figures.push(Figure::new("each reply", *reply, "MiB"));
        figures.push(Figure::new("all after", took.as_secs_f64(), "s"));
    }
    Row {
        number: 2,
        what: "4 initial v2 syncs at once",
        to_reach: "less than 64 MiB more memory, however large the account",
        figures,
        how: format!(
            "the proxy is started anew, and has answered a sync without rooms; then the peak of its resident memory while {CLIENTS} clients read a lazy initial sync each"
        ),
        reached: small.grown.max(large.grown) < LIMIT && ratio < 1.5,
        fault: (ratio > 2.0)
            .then(|| format!("ten times the rooms take {ratio:.1} times the memory")),
    }
}

async fn syncs(bench: &Bench, rooms: usize) -> Measured {
    let homeserver = Homeserver::with_large(&[Large {
        rooms,
        members: 6,
        members_of_first: 6,
        events: 20,
        pace: Duration::ZERO,
    }]);
    // The first poll is not what this is about, however long it is.
    let proxy = bench.proxy(&homeserver, &["-max-reply-bytes", "2000000000"]).await;
    comes_in(&proxy.url(), 0).await;
    tests::wait::eventually_within(PATIENCE, "the first poll to be stored", async || {
        homeserver.first_reply(0).followed
    })
    .await;
    proxy.stop().await;
    proxy.start_again().await;
    comes_in(&proxy.url(), 0).await;
    let machine = bench.machine(proxy.database()).await;
    bench::at_rest(&proxy, &machine, &homeserver).await;
    let before = proxy.memory_kib();
    proxy.forget_peak_memory();
    let url = proxy.url();
    let replies = join_all((0..CLIENTS).map(|_| initial_sync(&url, 0, LAZY))).await;
    let grown = mib(proxy.peak_memory_kib().saturating_sub(before));
    let bytes = replies.iter().map(|reply| reply.bytes).min().unwrap_or_default();
    assert!(bytes > rooms * 1_000, "{bytes} bytes are no reply of {rooms} rooms");
    let took = replies.iter().map(|reply| reply.took).max().unwrap_or_default();
    Measured { rooms, grown, reply: number(bytes) / 1024.0 / 1024.0, took }
}
