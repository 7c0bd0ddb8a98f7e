//! `kill -9` at each marked point: whatever it falls between, every message comes once, in order, and clients go on within
//! fifteen seconds of the restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tests::postgres::Postgres;
use tests::shim::Shim;
use tests::witness::Habits;

use crate::storm::table::MARKS;
use crate::world::{Homeserver, World};

const QUIET: Habits = Habits { vanishes: 0, replays: 0 };

/// Where the first poll of an account can be cut, and the first answers of its clients.
const FIRST_MARKS: &[&str] = &[
    "accounts::claim_main_poll/before_commit",
    "accounts::claim_main_poll/after_commit",
    "main/after_reply",
    "ingest::ingest/before_commit",
    "ingest::ingest/after_commit",
    "main/before_next_poll",
    "light/after_reply",
    "ingest::ingest_light/before_commit",
    "ingest::ingest_light/after_commit",
    "v2/in_stream",
    "v2/before_answer",
    "sessions::create_session/before_commit",
    "sessions::create_session/after_commit",
    "v3/before_answer",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_mark_loses_nothing_and_doubles_nothing() {
    killed_at_each_mark("marks, scripted", Homeserver::scripted().await, &[1, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_mark_before_a_real_homeserver_loses_nothing_and_doubles_nothing() {
    killed_at_each_mark("marks, real", Homeserver::real().await, &[2]).await;
}

/// A process is killed at each mark, when it comes there for each of these times.
async fn killed_at_each_mark(name: &'static str, homeserver: Homeserver, times: &[u32]) {
    let mut world = World::begins(name, homeserver).await;
    world.is_witnessed(QUIET, 1).await;
    let world = Arc::new(world);
    world.speaks(Duration::from_millis(50), 1);
    for mark in MARKS {
        for times in times {
            let over = world
                .suffers(async {
                    world.proxy.kill9();
                    world.proxy.kill_at(&format!("{mark}/{times}"));
                    world.proxy.start_blindly();
                    // A mark that is not come to in a minute fails the test.
                    world.proxy.is_killed().await;
                    world.proxy.start_again().await;
                })
                .await;
            world.recovers(over, mark).await;
        }
    }
    world.falls_silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_first_poll_or_the_first_answer_loses_nothing_and_doubles_nothing() {
    let shim = Arc::new(Shim::new().await);
    let postgres = Arc::new(Postgres::start_under(&shim).await);
    for mark in FIRST_MARKS {
        let homeserver = Homeserver::scripted().await;
        let killed_at = format!("{mark}/1");
        let (postgres, shim) = (Arc::clone(&postgres), Arc::clone(&shim));
        let mut world = World::on("first", homeserver, postgres, shim, Some(&killed_at)).await;
        // The first polls bring messages.
        if let Homeserver::Scripted { ledger, .. } = &world.homeserver {
            for device in &world.devices {
                ledger.send_to(&device.user_id, &device.device_id);
            }
        }
        *world.calm.lock().unwrap() = None;
        world.proxy.start_blindly();
        let proxy = Arc::clone(&world.proxy);
        let restarted = async {
            proxy.is_killed().await;
            proxy.start_again().await;
        };
        tokio::join!(world.is_witnessed(QUIET, 1), restarted);
        let over = Instant::now();
        *world.calm.lock().unwrap() = Some(over);
        let world = Arc::new(world);
        world.speaks(Duration::from_millis(50), 1);
        world.recovers(over, mark).await;
        world.falls_silent().await;
    }
}
