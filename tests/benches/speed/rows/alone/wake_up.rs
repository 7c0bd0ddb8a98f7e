//! Row 5: one event into a room whose members all wait, each with a client of its own.

use std::time::Duration;

use tests::load::clients::{self, Clients};
use tests::load::homeserver::Homeserver;
use tests::wait::eventually_within;

use super::bench::{self, Bench, PATIENCE, median, milliseconds, number};
use crate::row::{Figure, Row};

/// The room that everybody is in but the last account, and the one that the last account has to itself.
const EVERYBODY: usize = 0;
const ALONE: usize = 1;

pub(super) async fn measure(bench: &Bench) -> Row {
    let (members, rounds) = bench.choose((500, 9), (20, 5));
    let rooms = vec![(0..members).collect(), vec![members]];
    let homeserver = Homeserver::with_rooms(members + 1, rooms);
    let proxy = bench.proxy(&homeserver, &["-device-idle", "86400"]).await;
    let machine = bench.machine(proxy.database()).await;
    let urls = [proxy.url()];
    let stand = clients::log_in(&urls, members + 1).await;
    let clients = Clients::wait(&urls, &homeserver, &stand);
    let (mut alone, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let begun = machine.look(std::slice::from_ref(&proxy), &homeserver).await;
    for round in 0..=rounds {
        bench::at_rest(&proxy, &machine, &homeserver).await;
        let one = speak(&homeserver, &clients, ALONE, 1).await;
        bench::at_rest(&proxy, &machine, &homeserver).await;
        let all = speak(&homeserver, &clients, EVERYBODY, members).await;
        // In the first round everything is on its way for the first time.
        if round > 0 {
            alone.push(one[0]);
            first.push(all[0]);
            last.push(all[members - 1]);
        }
    }
    let costs = machine.look(std::slice::from_ref(&proxy), &homeserver).await.since(begun);
    let (alone, first, last) = (median(alone), median(first), median(last));
    let ratio = last.as_secs_f64() / alone.as_secs_f64();
    let each = 1_000.0 / number((rounds + 1) * (members + 1));
    // A homeserver that tells twenty accounts of an event costs twenty polls, and they share the machine.
    let bound = 20.0;
    Row {
        number: 5,
        what: "one event into a room with 500 waiting clients of 500 accounts",
        to_reach: "all have it within 3 times what a single client waits",
        figures: vec![
            Figure::new("all over one", ratio, ""),
            Figure::new("a client alone", milliseconds(alone), "ms"),
            Figure::new("the first of all", milliseconds(first), "ms"),
            Figure::new("the last of all", milliseconds(last), "ms"),
            Figure::new("processor time for each, proxy", costs.proxy * each, "ms"),
            Figure::new("Postgres", costs.postgres * each, "ms"),
            Figure::new("homeserver", costs.homeserver * each, "ms"),
        ],
        how: format!(
            "{members} accounts and clients, {rounds} rounds, medians; the client alone is in a room of its own, on the same proxy, while all others wait"
        ),
        reached: ratio <= 3.0,
        fault: (bench.smoke && ratio > bound)
            .then(|| format!("{members} clients wait {ratio:.1} times as long as one")),
    }
}

/// How long after the event each client had it. Sorted.
async fn speak(
    homeserver: &Homeserver,
    clients: &Clients,
    room: usize,
    members: usize,
) -> Vec<Duration> {
    homeserver.somebody_speaks(room);
    eventually_within(PATIENCE, "all clients to have the event", async || {
        (clients.count() >= members).then_some(())
    })
    .await;
    let mut seen = clients.take();
    assert_eq!((seen.doubled, seen.events), (0, members), "a client was told twice");
    seen.latencies.sort_unstable();
    seen.latencies
}
