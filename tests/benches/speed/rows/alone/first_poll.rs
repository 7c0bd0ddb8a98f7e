//! Row 9: the first poll of an account, of which the homeserver tells room by room as fast as it can.

use std::time::Duration;

use tests::load::homeserver::{Homeserver, Large};
use tests::wait::eventually_within;

use super::bench::{Bench, PATIENCE, comes_in, initial_sync, mib, number};
use crate::row::{Figure, Row};
use crate::rows::LIKE_THE_PROXY;

/// Members of each room: with its events some 50 KiB.
const MEMBERS: usize = 115;

/// What ten times the rooms may take more in the small form, of which every first poll's own share is large.
const SLOPE: f64 = 3.0;

/// Memory that any first poll may take, in MiB, before its size is compared with another's.
const NOISE: f64 = 16.0;

struct Measured {
    large: Large,
    /// What the proxy's memory grew by, in MiB.
    grown: f64,
    /// The reply, in MiB.
    reply: f64,
    /// How long a reader that does nothing takes for it.
    reader: Duration,
    /// How long until it is stored.
    stored: Duration,
}

pub(super) async fn measure(bench: &Bench) -> Row {
    let [few, many] = bench.choose([1_000, 10_000], [30, 300]);
    let pace = Duration::from_millis(bench.choose(10, 2));
    let large =
        |rooms| Large { rooms, members: MEMBERS, members_of_first: MEMBERS, events: 20, pace };
    let crowded = Large {
        members: 6,
        members_of_first: bench.choose(100_000, 2_000),
        ..large(bench.choose(100, 10))
    };
    let few = poll(bench, large(few)).await;
    let many = poll(bench, large(many)).await;
    let crowded = poll(bench, crowded).await;
    let slope = many.grown.max(NOISE) / few.grown.max(NOISE);
    let slower =
        |measured: &Measured| measured.stored.as_secs_f64() / measured.reader.as_secs_f64();
    let mut figures = Vec::new();
    for measured in [&few, &many, &crowded] {
        let Large { rooms, members_of_first, .. } = measured.large;
        figures.extend([
            Figure::new(
                format!("**{rooms} rooms, the first of {members_of_first} members** reply"),
                measured.reply,
                "MiB",
            ),
            Figure::new("memory", measured.grown, "MiB more"),
            Figure::new("plain reader", measured.reader.as_secs_f64(), "s"),
            Figure::new("stored after", measured.stored.as_secs_f64(), "s"),
            Figure::new("over the reader", slower(measured), ""),
        ]);
    }
    Row {
        number: 9,
        what: "the first poll of an account",
        to_reach: "memory bounded by the largest room; at most 1.2 times upstream's own time",
        figures,
        how: format!(
            "rooms of {MEMBERS} members and 20 events; the homeserver takes {} ms for each room and sends it at once; the peak of the proxy's resident memory, and from the poll to the next one, which begins once it is stored",
            pace.as_millis()
        ),
        // Of the account of few rooms too: that its memory does not grow any more says nothing if it is large already.
        reached: slope < 1.5 && many.grown < 128.0 && slower(&many) <= 1.2,
        fault: (bench.smoke && slope > SLOPE)
            .then(|| format!("ten times the rooms take {slope:.1} times the memory")),
    }
}

async fn poll(bench: &Bench, large: Large) -> Measured {
    let homeserver = Homeserver::with_large(&[large]);
    let reader = initial_sync(&homeserver.url(), 0, LIKE_THE_PROXY).await;
    let proxy = bench.proxy(&homeserver, &["-max-reply-bytes", "2000000000"]).await;
    let before = proxy.memory_kib();
    proxy.forget_peak_memory();
    comes_in(&proxy.url(), 0).await;
    let stored = eventually_within(PATIENCE, "the first poll to be stored", async || {
        let first = homeserver.first_reply(0);
        Some(first.followed?.duration_since(first.begun?))
    })
    .await;
    let grown = mib(proxy.peak_memory_kib().saturating_sub(before));
    let told = homeserver.first_reply(0).bytes;
    assert_eq!(told, reader.bytes, "the proxy was told something else than the plain reader");
    Measured { large, grown, reply: number(told) / 1024.0 / 1024.0, reader: reader.took, stored }
}
