//! Row 4: from before an event is sent until it is at a client that waits.
//!
//! Two in a room both wait, and the one sends what the other is told. There are two such pairs alike: what the one sends and
//! hears goes through the proxy, what the other does goes to the homeserver. The proxy never hears of the second pair, so that
//! what it polls for is nothing while they are at it; and both wait all the time.

mod listener;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tests::client::{Client, encode};

use self::listener::Listener;
use super::sides::{Side, Sides, in_turn};
use super::statements::Calls;
use super::times::Times;
use super::town::Pair;
use super::wire::Wire;
use crate::options::Options;
use crate::row::{Figure, Row};

/// How much longer it may take.
const TO_REACH: f64 = 1.15;
/// What no machine and no build excuses, with so many milliseconds more.
const FAR_OFF: f64 = 3.0;
const PAUSE: f64 = 20.0;
/// One for each account that is told; the rest is by chance.
const ONE_TRANSACTION: f64 = 1.05;
/// How many deliveries the transactions are counted in.
const COUNTED: u16 = 40;
const COUNTED_IN_A_SMALL_RUN: u16 = 10;
/// What is sent is sent one by one, and whoever was told has time to wait again.
const PACE: Duration = Duration::from_millis(100);

/// Who is told.
#[derive(Debug, Clone, Copy)]
enum To {
    /// The account in all rooms.
    Busy,
    /// The one in this room alone.
    Friend,
}

/// A pair with its connections to one side.
struct Talking {
    room_id: String,
    /// Of each of the two: what it sends on, and what it hears.
    busy: (Wire, Listener),
    friend: (Wire, Listener),
}

pub(crate) async fn measure(sides: &Sides, options: &Options) -> Row {
    let (blocks, in_block) = if options.smoke { (2, 6) } else { (6, 20) };
    let mut synapse = Talking::begin(&sides.town.twin_pair, &sides.url(Side::Synapse)).await;
    let mut proxy = Talking::begin(&sides.town.warm_pair, &sides.url(Side::Proxy)).await;
    for to in [To::Busy, To::Friend] {
        // Whatever the first ones take is not what a delivery takes.
        synapse.deliver(to, 3).await;
        proxy.deliver(to, 3).await;
    }
    let mut figures = Vec::new();
    let mut worst = Vec::new();
    let mut fault = None;
    for (to, name) in
        [(To::Busy, "to the large account"), (To::Friend, "to an account of one room")]
    {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for run in 0..blocks {
            for side in in_turn(run) {
                match side {
                    Side::Synapse => theirs.extend(synapse.deliver(to, in_block).await),
                    Side::Proxy => ours.extend(proxy.deliver(to, in_block).await),
                }
            }
        }
        let (theirs, ours) = (Times::of(theirs), Times::of(ours));
        let (median, p99) = (ours.median() / theirs.median(), ours.p99() / theirs.p99());
        figures.extend([
            Figure::new(format!("{name}, Synapse"), theirs.median(), "ms"),
            Figure::new(format!("{name}, proxy"), ours.median(), "ms"),
            Figure::new(format!("{name}, ratio"), median, ""),
            Figure::new(format!("{name}, Synapse's p99"), theirs.p99(), "ms"),
            Figure::new(format!("{name}, proxy's p99"), ours.p99(), "ms"),
            Figure::new(format!("{name}, ratio of the p99"), p99, ""),
        ]);
        worst.extend([median, p99]);
        if ours.median() > theirs.median() * FAR_OFF + PAUSE {
            fault = Some(format!("a delivery {name} takes {median:.1} times as long"));
        }
    }
    let asked = count(sides, &mut proxy, options).await;
    figures.extend(asked.figures);
    Row {
        number: 4,
        what: "send to delivered to a waiting client",
        to_reach: "median and p99 at most 1.15 times Synapse's, one Postgres transaction on the way",
        figures,
        how: format!(
            "{} rooms; {} deliveries each, in blocks of {in_block} in turn, 100 ms apart; in the proxy's database for each: {}",
            sides.town.rooms,
            blocks * usize::from(in_block),
            asked.in_words
        ),
        reached: worst.iter().all(|ratio| *ratio <= TO_REACH)
            && asked.per_account <= ONE_TRANSACTION,
        fault,
    }
}

/// What the proxy asks its database for one delivery. Two accounts are told of the event, each by a poll of its own.
struct Asked {
    figures: Vec<Figure>,
    in_words: String,
    /// How many transactions that write one event takes, for one account.
    per_account: f64,
}

async fn count(sides: &Sides, proxy: &mut Talking, options: &Options) -> Asked {
    let count = if options.smoke { COUNTED_IN_A_SMALL_RUN } else { COUNTED };
    let deliveries = f64::from(count);
    let statements = &sides.statements;
    let begun = Instant::now();
    let before = statements.look().await;
    proxy.deliver(To::Busy, count).await;
    let during = statements.look().await.since(&before);
    let took = begun.elapsed();
    let before = statements.look().await;
    tokio::time::sleep(took).await;
    let quiet = statements.look().await.since(&before);
    let asked: Calls = during.beyond(&quiet, 1.0);
    let written = asked.of("COMMIT") / deliveries;
    assert!(written > 0.0, "an event was told that nobody stored: {}", asked.in_words(deliveries));
    let mut figures = vec![
        Figure::new("transactions of more than one statement", written, "for both accounts"),
        Figure::new("statements", asked.total() / deliveries, "for both accounts"),
    ];
    if !options.smoke {
        let all = transactions(sides, proxy, count).await / deliveries;
        figures.push(Figure::new("all transactions", all, "for both accounts"));
    }
    Asked { figures, in_words: asked.in_words(deliveries), per_account: written / 2.0 }
}

/// All transactions of so many deliveries, without those that happen by themselves.
async fn transactions(sides: &Sides, proxy: &mut Talking, count: u16) -> f64 {
    let before = sides.statements.transactions().await;
    let begun = Instant::now();
    proxy.deliver(To::Busy, count).await;
    let took = begun.elapsed();
    let then = sides.statements.transactions().await;
    tokio::time::sleep(took).await;
    let last = sides.statements.transactions().await;
    (then - before) - (last - then)
}

impl Talking {
    /// Both begin to wait.
    async fn begin(pair: &Pair, url: &str) -> Self {
        let party = async |client: &Client| {
            (Wire::of(client, url), Listener::begin(Wire::of(client, url)).await)
        };
        let (busy, friend) = (party(&pair.busy).await, party(&pair.friend).await);
        Self { room_id: pair.room_id.clone(), busy, friend }
    }

    /// So many events, one after the other. Gives the time that each took.
    async fn deliver(&mut self, to: To, count: u16) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..count {
            // A pace that beats with nothing else.
            tokio::time::sleep(PACE + Duration::from_millis(number() * 7 % 29)).await;
            times.push(self.deliver_one(to).await);
        }
        times
    }

    async fn deliver_one(&mut self, to: To) -> Duration {
        let (from, to) = match to {
            To::Busy => (&mut self.friend.0, &mut self.busy.1),
            To::Friend => (&mut self.busy.0, &mut self.friend.1),
        };
        let said = format!("delivery number {} of all", number());
        let target = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.message/d{}",
            encode(&self.room_id),
            number()
        );
        let body = Bytes::from(json!({"msgtype": "m.text", "body": said}).to_string());
        let begun = Instant::now();
        // It may be there before its sender is told that it was taken.
        let (_, arrived) = tokio::join!(from.put(&target, body), to.hears(&said));
        arrived - begun
    }
}

/// A number that has not been used.
fn number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}
