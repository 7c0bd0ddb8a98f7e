//! Row 10: a start on a database that holds much, with many accounts to be polled for.

mod fill;

use std::time::{Duration, Instant};

use tests::client::{encode, http_client};
use tests::load::clients;
use tests::load::homeserver::{Homeserver, Polls};
use tests::proxy::Proxy;
use tests::wait::{eventually_within, look_away};

use super::bench::{self, Bench, PATIENCE, median, milliseconds, number};
use crate::row::{Figure, Row};

/// How often the proxy is started.
const STARTS: usize = 3;

/// What the first answer is to be given within.
const LIMIT: Duration = Duration::from_secs(1);

pub(super) async fn measure(bench: &Bench) -> Row {
    let (accounts, rooms, members, rows) =
        bench.choose((2_000, 400, 20, 10_000_000), (60, 20, 6, 20_000));
    let homeserver = Homeserver::start(accounts, rooms, members);
    let proxy = bench.proxy(&homeserver, &["-device-idle", "86400"]).await;
    clients::log_in(&[proxy.url()], accounts).await;
    let machine = bench.machine(proxy.database()).await;
    bench::at_rest(&proxy, &machine, &homeserver).await;
    proxy.stop().await;
    eprintln!("{rows} rows are stored");
    let stored = fill::fill(proxy.database(), rows).await;
    let (mut accepts, mut answers) = (Vec::new(), Vec::new());
    // As its last sync before the stop gave it.
    proxy.start_again().await;
    let mut since = None;
    since = Some(sync(&proxy, since.as_deref()).await);
    for _ in 0..STARTS {
        proxy.stop().await;
        homeserver.forget_polls();
        let started = proxy.start_again().await;
        accepts.push(started.elapsed());
        since = Some(sync(&proxy, since.as_deref()).await);
        answers.push(started.elapsed());
        let mut back = Back::since(started);
        if answers.len() < STARTS {
            continue;
        }
        let polls_at_answer = homeserver.polls().begun.len();
        back.wait(&homeserver, accounts).await;
        return row(bench, &back, polls_at_answer, stored, accounts, accepts, answers);
    }
    unreachable!("the last start is measured to its end")
}

/// How the pollers came back.
struct Back {
    started: Instant,
    all: Duration,
    polls: Polls,
    most_a_second: usize,
}

impl Back {
    const fn since(started: Instant) -> Self {
        let polls = Polls { begun: Vec::new(), telling: 0, most_at_once: 0 };
        Self { started, all: Duration::ZERO, polls, most_a_second: 0 }
    }

    async fn wait(&mut self, homeserver: &Homeserver, accounts: usize) {
        self.polls = eventually_within(PATIENCE, "all accounts to be polled for", async || {
            let polls = homeserver.polls();
            let mut polled: Vec<usize> = polls.begun.iter().map(|(account, _)| *account).collect();
            polled.sort_unstable();
            polled.dedup();
            (polled.len() == accounts).then_some(polls)
        })
        .await;
        let mut begun: Vec<Instant> = self.polls.begun.iter().map(|(_, begun)| *begun).collect();
        begun.sort_unstable();
        self.all = begun.last().unwrap().duration_since(self.started);
        let second = Duration::from_secs(1);
        let within = |first: usize| {
            begun[first..].iter().take_while(|poll| **poll < begun[first] + second).count()
        };
        self.most_a_second = (0..begun.len()).map(within).max().unwrap_or_default();
    }
}

fn row(
    bench: &Bench,
    back: &Back,
    polls_at_answer: usize,
    stored: i64,
    accounts: usize,
    accepts: Vec<Duration>,
    answers: Vec<Duration>,
) -> Row {
    let (accepts, answer) = (median(accepts), median(answers));
    let all_were_back = polls_at_answer >= accounts;
    Row {
        number: 10,
        what: "a restart",
        to_reach: "the first answer in under a second; pollers back without a stampede",
        figures: vec![
            Figure::new("accepts connections after", milliseconds(accepts), "ms"),
            Figure::new("first answer after", milliseconds(answer), "ms"),
            Figure::new("polls begun by then", number(polls_at_answer), ""),
            Figure::new("all polled for after", back.all.as_secs_f64(), "s"),
            Figure::new("polls begun in a second, at most", number(back.most_a_second), ""),
            Figure::new("polls at once, at most", number(back.polls.most_at_once), ""),
        ],
        how: format!(
            "{stored} rows of history, {accounts} accounts with stored tokens; medians of {STARTS} starts; the answer is that of a `GET /sync` with a `since`, on a new connection"
        ),
        reached: answer < LIMIT && back.most_a_second < accounts / 4,
        fault: (bench.smoke && all_were_back)
            .then(|| "the first client was answered after all pollers were back".to_owned()),
    }
}

/// A sync on a new connection, again and again until it is answered. Gives its `next_batch`.
async fn sync(proxy: &Proxy, since: Option<&str>) -> String {
    let mut url = format!("{}/_matrix/client/v3/sync?timeout=0", proxy.url());
    if let Some(since) = since {
        url.push_str("&since=");
        url.push_str(&encode(since));
    }
    let begun = Instant::now();
    loop {
        let request = http_client().get(&url).bearer_auth(Homeserver::token(0));
        let reply = request.send().await.ok().filter(|reply| reply.status() == 200);
        if let Some(reply) = reply {
            let reply = reply.text().await.unwrap();
            return clients::next_batch(&reply).to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "the proxy does not answer");
        look_away().await;
    }
}
