//! The storm: faults of every kind at random, one or several at a time, while clients check every message.
//!
//! Its short form runs with all tests. `tests/run soak --minutes 60` is the long one. The first half of its time may end the
//! process, too; in the second half one process lives through everything else, without ending once, and must be as small at
//! the end as it was when it had warmed up. The same seed brings the same faults in the same order.

mod report;
pub(crate) mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tests::random::Random;
use tests::witness::Habits;

use self::report::{Footprint, Report};
use self::table::{FAULTS, Fault, Upon};
use crate::world::{Homeserver, THE_PROXY, World};

/// How long the short form lasts, in each world.
const SHORT: Duration = Duration::from_secs(70);

/// Once in so many rounds of the long form faults last for so long, in milliseconds, that leases and retries are over before
/// them; else they last for so long.
const LONG_ROUNDS: u64 = 10;
const LONG: (u64, u64) = (20_000, 40_000);
const USUAL: (u64, u64) = (300, 6_000);

/// How much larger than after its warm-up the process may be: this, or a fifth.
const MORE_MEMORY_KIB: u64 = 16 * 1_024;

/// How much larger it may be at the end of the long form than in the middle, a quarter of its time before: what grows with
/// time, and not with what the process has met for the first time, shows there.
const MORE_SINCE_THE_MIDDLE_KIB: u64 = 8 * 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_all_faults_loses_nothing_doubles_nothing_and_passes() {
    let minutes = std::env::var_os("TEST_SOAK_MINUTES");
    let minutes = minutes.and_then(|text| text.to_str()?.parse().ok());
    let lasting = minutes.map_or(SHORT, Duration::from_mins);
    let seed = std::env::var_os("TEST_SEED").and_then(|text| text.to_str()?.parse().ok());
    let seed = seed.unwrap_or(5);
    let (scripted, real) = tokio::join!(Homeserver::scripted(), Homeserver::real());
    let (scripted, real) = tokio::join!(
        storm("scripted", scripted, lasting, seed),
        storm("real", real, lasting, seed + 1),
    );
    eprintln!("{scripted}\n{real}");
}

/// A storm in one world; gives its report.
async fn storm(name: &'static str, homeserver: Homeserver, lasting: Duration, seed: u64) -> String {
    let mut random = Random::seeded(seed);
    let mut world = World::begins(name, homeserver).await;
    world.is_witnessed(Habits { vanishes: 15, replays: 12 }, seed).await;
    let world = Arc::new(world);
    world.speaks(Duration::from_millis(300), seed);
    let ends = world.is_supervised();
    let mut report = Report { world: name.to_owned(), seed, ..Report::default() };

    let began = Instant::now();
    let patient = lasting > SHORT;
    rounds(&world, &mut random, began + lasting / 2, true, patient, &mut report).await;
    // The process that lives from here on is a fresh one, and is warm when it has met faults for a while.
    let over = world.suffers(async { world.proxy.crash_and_restart().await }).await;
    // One that starts may give up for want of a database; one that has answered everybody has started.
    world.recovers(over, "the last restart").await;
    let ended_before = ends.lock().unwrap().len();
    if patient {
        // What it meets for the first time after that is no growth either.
        for fault in FAULTS.iter().filter(|fault| can_befall(fault, &world, false)) {
            round(&world, &[*fault], &mut random, USUAL, &mut report).await;
        }
    }
    // At the first of these moments it is warm, and what it holds at the others is compared with that.
    for (moment, twentieths) in [("start", 11), ("middle", 15), ("late", 18), ("end", 20)] {
        let until = began + lasting * twentieths / 20;
        rounds(&world, &mut random, until, false, patient, &mut report).await;
        rest(patient).await;
        world.recovers(Instant::now(), "everything").await;
        report.footprints.push((moment, Footprint::of(&world).await));
    }
    report.lasted = began.elapsed();
    let ended: Vec<String> = std::mem::take(&mut *ends.lock().unwrap());
    for end in &ended {
        *report.ends.entry(end.clone()).or_default() += 1;
    }
    world.assert_no_violation();
    let told = format!("{}\n{}", report.json(&world), report.table(&world));
    world.falls_silent().await;
    assert_one_process(&report, &ended[ended_before..], &told);
    assert_small(&report, patient, &told);
    told
}

/// Rounds of one to three faults at a time, until it is time.
async fn rounds(
    world: &Arc<World>,
    random: &mut Random,
    until: Instant,
    with_kills: bool,
    patient: bool,
    report: &mut Report,
) {
    while Instant::now() < until {
        let faults = choose(world, random, with_kills);
        let at_length = patient && random.one_in(LONG_ROUNDS);
        let lasting = if at_length { LONG } else { USUAL };
        report.long_rounds += u64::from(at_length);
        round(world, &faults, random, lasting, report).await;
        tokio::time::sleep(Duration::from_millis(random.between(0, 1_500))).await;
    }
}

/// These faults at once, each for as long as chance says, from the first to the second number of milliseconds; and all is well
/// again.
async fn round(
    world: &Arc<World>,
    faults: &[Fault],
    random: &mut Random,
    (shortest, longest): (u64, u64),
    report: &mut Report,
) {
    let names: Vec<&str> = faults.iter().map(|fault| fault.name).collect();
    let names = names.join(" + ");
    let lasting: Vec<u64> = faults.iter().map(|_| random.between(shortest, longest)).collect();
    let running: Vec<_> = faults
        .iter()
        .zip(&lasting)
        .map(|(fault, lasting)| {
            let lasting = Duration::from_millis(*lasting);
            fault.befall(world, lasting, random.between(0, u64::MAX - 1))
        })
        .collect();
    eprintln!("{}: {names}, {lasting:?} ms", world.name);
    let over = world.suffers(async { drop(join_all(running).await) }).await;
    let recovery = world.recovers(over, &names).await;
    report.rounds += 1;
    for fault in faults {
        let (times, longest) = report.faults.entry(fault.name).or_default();
        *times += 1;
        *longest = recovery.max(*longest);
    }
    if recovery > report.longest_recovery.0 {
        report.longest_recovery = (recovery, names);
    }
}

/// Mostly one, sometimes two or three; never two upon the same.
fn choose(world: &World, random: &mut Random, with_kills: bool) -> Vec<Fault> {
    let count = if random.one_in(3) { random.between(2, 3) } else { 1 };
    let mut chosen: Vec<Fault> = Vec::new();
    for _ in 0..count {
        let possible: Vec<Fault> = FAULTS
            .iter()
            .copied()
            .filter(|fault| can_befall(fault, world, with_kills))
            .filter(|fault| chosen.iter().all(|one| one.upon != fault.upon))
            .collect();
        chosen.push(*random.pick(&possible));
    }
    chosen
}

fn can_befall(fault: &Fault, world: &World, with_kills: bool) -> bool {
    fault.can_befall(world) && (with_kills || fault.upon != Upon::Process)
}

/// The long form lets a minute pass in which nothing goes wrong, so that what is only late is not taken for lost.
async fn rest(patient: bool) {
    if patient {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
}

/// What has been weighed is one process, and it has not ended: one that was started for it would be small again. `ended` is
/// what ended by itself since then; Postgres may, when its disk is full.
#[track_caller]
fn assert_one_process(report: &Report, ended: &[String], told: &str) {
    let crashed: Vec<&String> = ended.iter().filter(|end| end.starts_with(THE_PROXY)).collect();
    assert!(crashed.is_empty(), "nobody ended the process: {crashed:?}\n{told}");
    let processes = report.footprints.iter().map(|(_, one)| one.process);
    let processes: BTreeSet<u32> = processes.collect();
    assert_eq!(processes.len(), 1, "it is not the same process: {processes:?}\n{told}");
}

/// Nothing piles up while one process lives.
#[track_caller]
fn assert_small(report: &Report, patient: bool, told: &str) {
    let at = |moment| report.footprints.iter().find(|(when, _)| *when == moment).unwrap().1;
    let (start, middle, end) = (at("start"), at("middle"), at("end"));
    let most = start.memory_kib + MORE_MEMORY_KIB.max(start.memory_kib / 5);
    assert!(end.memory_kib <= most, "the process has grown\n{told}");
    if patient {
        let most = middle.memory_kib + MORE_SINCE_THE_MIDDLE_KIB;
        assert!(end.memory_kib <= most, "the process goes on growing\n{told}");
    }
    assert!(end.files <= start.files + 30, "files are left open\n{told}");
    // Those of the pool, and the one with which the process says that it lives.
    assert!(end.connections <= 16 + 1, "more connections than the pool has\n{told}");
    // Ghosts begin sessions, as many as a device may have.
    assert!(end.sessions <= 3 + 20, "sessions pile up\n{told}");
}
