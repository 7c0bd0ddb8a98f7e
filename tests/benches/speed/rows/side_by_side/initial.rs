//! Row 1: an initial sync of sync v2, of an account that the proxy polls for.

use super::sides::{Side, Sides, in_turn};
use super::times::{Times, median, milliseconds};
use super::wire::{Answer, Sync, Wire};
use crate::options::Options;
use crate::row::{Figure, Row};

/// How much faster it is to be, and how much of the time may pass before the first byte.
const TO_REACH: f64 = 30.0;
const BEFORE_FIRST_BYTE: f64 = 0.05;
/// What no machine excuses. The proxy alone is slower in an unoptimised build.
const FAR_OFF: f64 = if cfg!(debug_assertions) { 2.0 } else { 3.0 };

/// What clients ask for: their members as they need them, as Element does, or all at once.
pub(crate) const LAZY: &str =
    r#"{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":20}}}"#;
const KINDS: [(&str, &str); 2] =
    [("lazy", LAZY), ("not lazy", r#"{"room":{"timeline":{"limit":20}}}"#)];

/// What one kind of it showed.
struct Shown {
    synapse: Times,
    /// The same question a second time: the homeserver keeps the answer for two minutes.
    again: Times,
    proxy: Times,
    first_byte: Times,
    /// The part of the proxy's time that had passed at its first byte.
    before_first_byte: f64,
    bytes: [usize; 2],
}

impl Shown {
    fn ratio(&self) -> f64 {
        self.synapse.median() / self.proxy.median()
    }
}

pub(crate) async fn measure(sides: &Sides, options: &Options) -> Row {
    let runs = if options.smoke { 3 } else { 5 };
    let mut figures = Vec::new();
    let mut ratios = Vec::new();
    let mut shares = Vec::new();
    for (name, filter) in KINDS {
        let shown = ask(sides, filter, runs).await;
        let ratio = shown.ratio();
        figures.extend([
            Figure::new(format!("{name}, Synapse"), shown.synapse.median(), "ms"),
            Figure::new(format!("{name}, Synapse asked again"), shown.again.median(), "ms"),
            Figure::new(format!("{name}, proxy"), shown.proxy.median(), "ms"),
            Figure::new(format!("{name}, ratio"), ratio, ""),
            Figure::new(format!("{name}, proxy's first byte"), shown.first_byte.median(), "ms"),
            Figure::new(
                format!("{name}, that is of its time"),
                100.0 * shown.before_first_byte,
                "%",
            ),
            Figure::new(format!("{name}, Synapse's body"), kibibytes(shown.bytes[0]), "KiB"),
            Figure::new(format!("{name}, proxy's body"), kibibytes(shown.bytes[1]), "KiB"),
        ]);
        ratios.push(ratio);
        shares.push(shown.before_first_byte);
    }
    let (first_poll, reader) = (sides.first_poll.as_secs_f64(), sides.plain_reader.as_secs_f64());
    figures.extend([
        Figure::new("the first poll, a plain reader", reader, "s"),
        Figure::new("the first poll, until it is stored", first_poll, "s"),
        Figure::new("over the reader", first_poll / reader, ""),
    ]);
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    Row {
        number: 1,
        what: "v2 initial sync of a warm account",
        to_reach: "30 times faster than Synapse, first byte before 5 % of the time",
        how: format!(
            "{} rooms; medians of {runs} in turn; the ratio is to an answer that Synapse computes",
            sides.town.rooms
        ),
        reached: least >= TO_REACH && most < BEFORE_FIRST_BYTE,
        fault: (least < FAR_OFF).then(|| format!("an initial sync is {least:.1} times as fast")),
        figures,
    }
}

async fn ask(sides: &Sides, filter: &str, runs: usize) -> Shown {
    let warm = &sides.town.warm;
    let mut synapse = Wire::of(warm, &sides.url(Side::Synapse));
    let mut proxy = Wire::of(warm, &sides.url(Side::Proxy));
    // Each has seen the question before: of the proxy's first answers, one asks the homeserver for all members.
    initial(&mut synapse, filter).await;
    initial(&mut proxy, filter).await;
    let (mut computed, mut again, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        for side in in_turn(run) {
            if side == Side::Proxy {
                ours.push(initial(&mut proxy, filter).await);
                continue;
            }
            let timeout = a_timeout_of_its_own();
            let sync = Sync { timeout, filter, ..Sync::default() };
            computed.push(synapse.sync(&sync).await);
            again.push(synapse.sync(&sync).await);
        }
    }
    let took = |answers: &[Answer]| Times::of(answers.iter().map(|answer| answer.took));
    let share = |answer: &Answer| milliseconds(answer.first_byte) / milliseconds(answer.took);
    Shown {
        synapse: took(&computed),
        again: took(&again),
        proxy: took(&ours),
        first_byte: Times::of(ours.iter().map(|answer| answer.first_byte)),
        before_first_byte: median(ours.iter().map(share)),
        bytes: [computed[0].length, ours[0].length],
    }
}

async fn initial(wire: &mut Wire, filter: &str) -> Answer {
    let timeout = a_timeout_of_its_own();
    wire.sync(&Sync { timeout, filter, ..Sync::default() }).await
}

/// The homeserver keeps its answer for whoever asks the same again. An initial sync never waits, so that its timeout changes
/// nothing but that.
fn a_timeout_of_its_own() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

#[expect(clippy::cast_precision_loss, reason = "no body is that large")]
fn kibibytes(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}
