//! Row 3: an incremental sync with nothing new, again and again.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::initial::LAZY;
use super::sides::{Side, Sides, in_turn};
use super::statements::Calls;
use super::times::median;
use super::wire::{NO_ROOMS, Sync, Wire};
use crate::options::Options;
use crate::row::{Figure, Row};

/// How many devices ask, each on a connection of its own.
pub(crate) const DEVICES: usize = 4;
/// How much more often the proxy is to answer.
const TO_REACH: f64 = 20.0;
/// What no machine excuses. The proxy alone is slower in an unoptimised build.
const FAR_OFF: f64 = if cfg!(debug_assertions) { 2.0 } else { 3.0 };
/// What the proxy does by itself may be done once or twice more, or less, in one interval than in another as long: so many
/// statements, and one for each hundred requests, are not those of the requests.
const BY_ITSELF: f64 = 20.0;
const BY_CHANCE: f64 = 0.01;

/// A device that asks.
struct Asking {
    wire: Wire,
    since: String,
}

/// What came of it in one block.
#[derive(Default)]
struct Block {
    requests: f64,
    /// Of them, those that had something to tell.
    with_news: f64,
    per_second: f64,
}

pub(crate) async fn measure(sides: &Sides, options: &Options) -> Row {
    let (blocks, length) =
        if options.smoke { (2, Duration::from_secs(1)) } else { (5, Duration::from_secs(4)) };
    let mut synapse = devices(sides, Side::Synapse).await;
    let mut proxy = devices(sides, Side::Proxy).await;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let (mut quiet, mut during) = (Calls::default(), Calls::default());
    for run in 0..blocks {
        for side in in_turn(run) {
            if side == Side::Synapse {
                theirs.push(ask(&mut synapse, length).await);
                continue;
            }
            // Whatever the first requests of a block wake up is not what each of them costs.
            ask(&mut proxy, length / 10).await;
            let begun = sides.statements.look().await;
            tokio::time::sleep(length).await;
            let then = sides.statements.look().await;
            ours.push(ask(&mut proxy, length).await);
            quiet = quiet.plus(&then.since(&begun));
            during = during.plus(&sides.statements.look().await.since(&then));
        }
    }
    let per_second = |blocks: &[Block]| median(blocks.iter().map(|block| block.per_second));
    let (synapse, proxy) = (per_second(&theirs), per_second(&ours));
    let ratio = proxy / synapse;
    let requests: f64 = ours.iter().map(|block| block.requests).sum();
    let news: f64 = theirs.iter().chain(&ours).map(|block| block.with_news).sum();
    let beyond = during.beyond(&quiet, 1.0);
    let statements = beyond.total() / requests;
    let asks = beyond.total() > BY_ITSELF + requests * BY_CHANCE;
    let fault = if ratio < FAR_OFF {
        Some(format!("idle syncs are answered {ratio:.1} times as often"))
    } else if asks {
        Some(format!(
            "an idle sync asks Postgres {statements:.2} times: {}",
            beyond.in_words(requests)
        ))
    } else {
        None
    };
    Row {
        number: 3,
        what: "incremental sync with nothing new",
        to_reach: "20 times as many a second as Synapse, no query to Postgres",
        figures: vec![
            Figure::new("Synapse", synapse, "a second"),
            Figure::new("proxy", proxy, "a second"),
            Figure::new("ratio", ratio, ""),
            Figure::new("statements for a request", statements, ""),
            Figure::new("statements meanwhile", during.total(), ""),
            Figure::new("statements without requests, as long", quiet.total(), ""),
        ],
        how: format!(
            "{} rooms; {DEVICES} devices of the account, a connection each; medians of {blocks} blocks of {} s in turn; {requests} requests \
             to the proxy; {news} of all were answered with news",
            sides.town.rooms,
            length.as_secs()
        ),
        reached: ratio >= TO_REACH && !asks,
        fault,
    }
}

/// The devices, where they stand now.
async fn devices(sides: &Sides, side: Side) -> Vec<Asking> {
    let mut devices = Vec::new();
    for device in &sides.town.devices {
        let mut wire = Wire::of(device, &sides.url(side));
        let answer = wire.sync(&Sync { filter: NO_ROOMS, ..Sync::default() }).await;
        devices.push(Asking { wire, since: answer.next_batch() });
    }
    // What a device has not heard of yet, such as who is there, it hears of now.
    ask(&mut devices, Duration::from_millis(500)).await;
    devices
}

/// All ask for so long, each as soon as it is answered.
async fn ask(devices: &mut [Asking], length: Duration) -> Block {
    let begun = Instant::now();
    let blocks = join_all(devices.iter_mut().map(|device| device.ask_until(begun + length))).await;
    let took = begun.elapsed().as_secs_f64();
    let mut all = Block::default();
    for block in blocks {
        all.requests += block.requests;
        all.with_news += block.with_news;
    }
    all.per_second = all.requests / took;
    all
}

impl Asking {
    async fn ask_until(&mut self, end: Instant) -> Block {
        let mut block = Block::default();
        while Instant::now() < end {
            let sync = Sync { since: Some(&self.since), filter: LAZY, ..Sync::default() };
            let answer = self.wire.sync(&sync).await;
            let next_batch = answer.next_batch();
            block.requests += 1.0;
            // Synapse's token may move on with nothing to tell.
            if answer.text().contains("\"rooms\"") || answer.text().contains("\"presence\"") {
                block.with_news += 1.0;
            }
            self.since = next_batch;
        }
        block
    }
}
