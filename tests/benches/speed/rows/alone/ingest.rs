//! Row 8: events in shared rooms, more and more of them, until the proxy no longer keeps up.

use tests::load::step::Step;
use tests::load::world::{Crowd, World};

use super::bench::{Bench, number};
use crate::row::{Figure, Row};

/// Where doubling the rate begins, in events a second, and how often it is doubled at most.
const FIRST_RATE: f64 = 5.0;
const DOUBLINGS: usize = 8;

/// Transactions for each poll that are those of the few clients' answers, and of the proxy's own beat, at most.
const OTHERS: f64 = 0.5;

pub(super) async fn measure(bench: &Bench) -> Row {
    let crowd = bench.choose(
        Crowd { accounts: 2_000, rooms: 400, members: 20, clients: 20, replicas: 1 },
        Crowd { accounts: 12, rooms: 4, members: 6, clients: 2, replicas: 1 },
    );
    let (seconds, doublings) = bench.choose((10, DOUBLINGS), (3, 2));
    let (mut world, _memory) = World::make(&bench.postgres, &crowd).await;
    let mut steps = Vec::new();
    let mut rate = FIRST_RATE;
    for _ in 0..doublings {
        steps.push(world.play(rate, seconds).await);
        if !bench.smoke && !steps.last().is_some_and(Step::is_sustained) {
            break;
        }
        rate *= 2.0;
    }
    let [first, .., last] = &steps[..] else { panic!("two rates at least are played") };
    let sustained = steps.iter().filter(|step| step.is_sustained()).map(|step| step.told_rate);
    let most = sustained.fold(0.0, f64::max);
    let transactions = |step: &Step| step.costs.commits / number(step.all_polls);
    let writes = |step: &Step| step.costs.writes / number(step.all_polls);
    let wal = |step: &Step| step.each(step.costs.wal);
    let mut figures = vec![Figure::new("sustained", most, "events told a second")];
    for step in &steps {
        let cores = |time: f64| time / step.took.as_secs_f64() * 100.0;
        figures.extend([
            Figure::new(
                format!("**at {:.0} a second** in a poll", step.told_rate),
                step.events_a_poll(),
                "events",
            ),
            Figure::new("transactions a poll", transactions(step), ""),
            Figure::new("that write", writes(step), ""),
            Figure::new("WAL", wal(step), "B an event"),
            Figure::new("p50", step.percentile(50), "ms"),
            Figure::new("p99", step.percentile(99), "ms"),
            Figure::new("proxy", cores(step.costs.proxy), "% of a core"),
            Figure::new("Postgres", cores(step.costs.postgres), "%"),
            Figure::new("homeserver", cores(step.costs.homeserver), "%"),
        ]);
    }
    let Crowd { accounts, rooms, members, clients, .. } = crowd;
    let doubled: usize = steps.iter().map(|step| step.doubled).sum();
    let grows = wal(last) > wal(first) * 1.5;
    let fault = if doubled > 0 {
        Some(format!("{doubled} events came twice"))
    } else {
        grows.then(|| {
            format!("WAL for each event grows from {:.0} to {:.0} bytes", wal(first), wal(last))
        })
    };
    Row {
        number: 8,
        what: "events in shared rooms, more and more of them",
        to_reach: "at most one transaction a poll; polls that bring more under load; little WAL",
        reached: steps.iter().all(|step| writes(step) <= 1.1 && transactions(step) <= 1.0 + OTHERS)
            && last.events_a_poll() >= first.events_a_poll(),
        figures,
        how: format!(
            "{accounts} accounts in {rooms} rooms of {members}, {clients} clients that wait, {seconds} s at each rate; transactions are for each poll, those included that told nothing, and all of the database's, those of clients' answers and of the proxy's own beat among them, and each statement outside of one is one"
        ),
        fault,
    }
}
