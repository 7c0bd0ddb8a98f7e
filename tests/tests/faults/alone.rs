//! Each fault of the storm's table alone, once: so each is shown to pass, whatever the storm draws. Some of them at length.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tests::random::Random;
use tests::wait::eventually;
use tests::witness::Habits;

use crate::storm::table::{FAULTS, fill_the_log};
use crate::world::{Homeserver, THE_PROXY, World};

/// How long each lasts.
const LASTING: Duration = Duration::from_secs(2);

/// Longer than a process is taken for alive without a word (6 s), and than a request that needs the database is run again
/// (15 s beyond its own time).
const LASTING_LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_alone_passes_before_a_scripted_homeserver() {
    each_alone("scripted, alone", Homeserver::scripted().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_alone_passes_before_a_real_homeserver() {
    each_alone("real, alone", Homeserver::real().await).await;
}

async fn each_alone(name: &'static str, homeserver: Homeserver) {
    let mut world = World::begins(name, homeserver).await;
    world.is_witnessed(Habits { vanishes: 0, replays: 20 }, 1).await;
    let world = Arc::new(world);
    world.speaks(Duration::from_millis(200), 1);
    world.is_supervised();
    let mut random = Random::seeded(1);
    for fault in FAULTS.iter().filter(|fault| fault.can_befall(&world)) {
        let chance = random.between(0, u64::MAX - 1);
        let over = world.suffers(fault.befall(&world, LASTING, chance)).await;
        let recovery = world.recovers(over, fault.name).await;
        eprintln!("{name}: all is well {recovery:?} after {}", fault.name);
    }
    world.falls_silent().await;
}

/// What others take for a process' end, and what a request gives up for, has come and gone when the fault is over. Each has a
/// world of its own, so that together they take no longer than one.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_outlasts_leases_and_retries_passes() {
    let names = ["Postgres hanging", "Postgres unreachable", "homeserver hanging"];
    join_all(names.map(outlasts_leases_and_retries)).await;
}

async fn outlasts_leases_and_retries(name: &'static str) {
    let fault = FAULTS.iter().find(|fault| fault.name == name).expect("it is in the table");
    let mut world = World::begins(name, Homeserver::scripted().await).await;
    world.is_witnessed(Habits { vanishes: 0, replays: 20 }, 1).await;
    let world = Arc::new(world);
    world.speaks(Duration::from_millis(200), 1);
    let ends = world.is_supervised();
    let process = world.proxy.id();

    let over = world.suffers(fault.befall(&world, LASTING_LONG, 0)).await;

    let recovery = world.recovers(over, name).await;
    eprintln!("all is well {recovery:?} after {LASTING_LONG:?} of {name}");
    assert!(ends.lock().unwrap().is_empty(), "{name}: {ends:?}");
    assert_eq!(world.proxy.id(), process, "{name}: nobody has started it anew");
    world.falls_silent().await;
}

/// While nothing can be written, what is stored can be read, or the answer is a 503; and it is over when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_disk_full_a_client_gets_what_is_stored_or_a_503() {
    let mut world = World::begins("disk", Homeserver::scripted().await).await;
    world.is_witnessed(Habits { vanishes: 0, replays: 0 }, 1).await;
    let world = Arc::new(world);
    let client = world.devices[0].on_new_connections();
    let mut chain = client.v2();
    chain.next().await;
    world.speaks(Duration::from_millis(100), 1);
    let ends = world.is_supervised();

    let over = world
        .suffers(async {
            world.shim.fill_disk(true);
            fill_the_log(&world).await;
            let mut answered = 0;
            // Whatever Postgres does about it: PANIC, restart, refuse to start.
            while answered < 3 {
                let status = chain.request().send().await.status;
                assert!(status == 200 || status == 503, "{status}");
                answered += 1;
            }
            world.shim.fill_disk(false);
        })
        .await;

    world.recovers(over, "a full disk").await;
    // Its log is on that disk, too: what cannot be logged is not logged.
    let ends = ends.lock().unwrap().clone();
    assert!(!ends.iter().any(|end| end.starts_with(THE_PROXY)), "{ends:?}");
    world.falls_silent().await;
}

/// A process that starts while the database comes and goes waits for it, instead of giving up.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_outlives_a_database_that_comes_and_goes() {
    let world = World::begins("start", Homeserver::scripted().await).await;
    world.proxy.kill9();
    world.proxy.start_blindly();
    for _ in 0..20 {
        world.to_postgres.cut();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually("an answer", async || {
        let asked = world.devices[0].v3_sync(&json!({"to_device": {}})).try_send().await.ok()?;
        assert!(world.proxy.revive().is_none(), "the process ended\n{}", world.proxy.log_tail());
        (asked.status == 200).then_some(())
    })
    .await;
}
