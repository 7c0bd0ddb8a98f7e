//! The faults of a storm: each is one small function that makes it, waits, and mends it.
//!
//! To add one, write the function and give it a row in [`FAULTS`], with what it falls upon: faults upon the same thing never
//! come together.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tests::random::Random;
use tests::scripted_homeserver::Fault as Weather;
use tests::witness::Version;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::world::{Homeserver, LARGEST_REPLY, World};

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// What a fault falls upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upon {
    /// The process under test is ended.
    Process,
    Postgres,
    Homeserver,
    Clients,
    Clock,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) upon: Upon,
    only: Only,
    run: fn(Arc<World>, Duration, u64) -> Running,
}

/// Which homeserver can have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Any,
    Scripted,
    Real,
}

impl Fault {
    /// Whether it can befall a world.
    pub(crate) fn can_befall(&self, world: &World) -> bool {
        match self.only {
            Only::Any => true,
            Only::Scripted => matches!(world.homeserver, Homeserver::Scripted { .. }),
            Only::Real => matches!(world.homeserver, Homeserver::Real(_)),
        }
    }

    /// Makes it, waits for about `lasting`, and mends it. `chance` decides what is left open.
    pub(crate) fn befall(&self, world: &Arc<World>, lasting: Duration, chance: u64) -> Running {
        (self.run)(Arc::clone(world), lasting, chance)
    }
}

/// One row; the function's body sees the world, how long, and a number of chance.
macro_rules! fault {
    ($name:literal, $upon:ident, $only:ident, |$world:ident, $lasting:ident, $chance:ident| $run:expr) => {
        Fault {
            name: $name,
            upon: Upon::$upon,
            only: Only::$only,
            run: |$world, $lasting, $chance| {
                Box::pin(async move {
                    let _ = ($lasting, $chance);
                    $run
                })
            },
        }
    };
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = &[
    fault!("kill -9", Process, Any, |world, lasting, _chance| {
        world.proxy.kill9();
        sleep(lasting / 4).await;
        world.proxy.start_blindly();
    }),
    fault!("kill -9 at a mark", Process, Any, |world, lasting, chance| {
        killed_at_a_mark(&world, lasting, chance).await;
    }),
    fault!("proxy restarted", Process, Any, |world, lasting, _chance| {
        world.proxy.stop().await;
        sleep(lasting / 4).await;
        world.proxy.start_blindly();
    }),
    fault!("Postgres restarted", Postgres, Any, |world, lasting, _chance| {
        let postgres = Arc::clone(&world.postgres);
        spawn_blocking(move || postgres.stop()).await.unwrap();
        sleep(lasting).await;
        world.postgres.start_again().await;
    }),
    fault!("Postgres crashed", Postgres, Any, |world, lasting, _chance| {
        let postgres = Arc::clone(&world.postgres);
        spawn_blocking(move || postgres.kill9()).await.unwrap();
        sleep(lasting / 4).await;
        world.postgres.start_again().await;
    }),
    fault!("Postgres unreachable", Postgres, Any, |world, lasting, _chance| {
        world.to_postgres.refuse();
        sleep(lasting).await;
        world.to_postgres.accept().await;
    }),
    fault!("Postgres' connections cut", Postgres, Any, |world, lasting, _chance| {
        for _ in 0..3 {
            world.to_postgres.cut();
            sleep(lasting / 3).await;
        }
    }),
    fault!("Postgres' connections terminated", Postgres, Any, |world, lasting, _chance| {
        for _ in 0..3 {
            terminate_connections(&world).await;
            sleep(lasting / 3).await;
        }
    }),
    fault!("Postgres hanging", Postgres, Any, |world, lasting, _chance| {
        world.to_postgres.stall(true);
        sleep(lasting).await;
        world.to_postgres.stall(false);
    }),
    fault!("Postgres slow", Postgres, Any, |world, lasting, chance| {
        world.to_postgres.delay(Duration::from_millis(5 + chance % 50));
        sleep(lasting).await;
        world.to_postgres.delay(Duration::ZERO);
    }),
    fault!("disk full", Postgres, Any, |world, lasting, _chance| {
        world.shim.fill_disk(true);
        // What grows fastest is the write-ahead log: it has to meet the end of the disk.
        fill_the_log(&world).await;
        sleep(lasting).await;
        world.shim.fill_disk(false);
    }),
    fault!("homeserver refusing", Homeserver, Any, |world, lasting, _chance| {
        world.to_homeserver.refuse();
        sleep(lasting).await;
        world.to_homeserver.accept().await;
    }),
    fault!("homeserver's connections cut", Homeserver, Any, |world, lasting, _chance| {
        for _ in 0..3 {
            world.to_homeserver.cut();
            sleep(lasting / 3).await;
        }
    }),
    fault!("homeserver hanging", Homeserver, Any, |world, lasting, _chance| {
        world.to_homeserver.stall(true);
        sleep(lasting).await;
        world.to_homeserver.stall(false);
    }),
    fault!("homeserver slow", Homeserver, Any, |world, lasting, chance| {
        world.to_homeserver.delay(Duration::from_millis(20 + chance % 200));
        sleep(lasting).await;
        world.to_homeserver.delay(Duration::ZERO);
    }),
    fault!("homeserver restarted", Homeserver, Real, |world, lasting, _chance| {
        restart_synapse(&world, lasting).await;
    }),
    fault!("homeserver answers nothing", Homeserver, Scripted, |world, lasting, _chance| {
        weather(&world, Weather::Hang, lasting).await;
    }),
    fault!("homeserver answers 500", Homeserver, Scripted, |world, lasting, _chance| {
        let words = json!({"errcode": "M_UNKNOWN", "error": "internal server error"});
        weather(&world, Weather::Status(500, words), lasting).await;
    }),
    fault!("homeserver answers 502", Homeserver, Scripted, |world, lasting, _chance| {
        weather(&world, Weather::Status(502, json!("bad gateway")), lasting).await;
    }),
    fault!("homeserver answers 429", Homeserver, Scripted, |world, lasting, chance| {
        weather(&world, Weather::TooMany(1 + chance % 4), lasting).await;
    }),
    fault!("homeserver answers HTML", Homeserver, Scripted, |world, lasting, _chance| {
        weather(&world, Weather::Html, lasting).await;
    }),
    fault!("homeserver's JSON truncated", Homeserver, Scripted, |world, lasting, _chance| {
        weather(&world, Weather::TruncatedJson, lasting).await;
    }),
    fault!("homeserver's replies cut short", Homeserver, Scripted, |world, lasting, _chance| {
        weather(&world, Weather::BreakOff, lasting).await;
    }),
    fault!("homeserver's replies huge", Homeserver, Scripted, |world, lasting, _chance| {
        weather(&world, Weather::Huge(4 * LARGEST_REPLY), lasting).await;
    }),
    fault!("homeserver restored from a backup", Homeserver, Scripted, |world, lasting, _chance| {
        if let Homeserver::Scripted { ledger, .. } = &world.homeserver {
            ledger.restore_backup();
        }
        sleep(lasting / 4).await;
    }),
    fault!("clients vanish", Clients, Any, |world, lasting, chance| {
        let over = tokio::time::Instant::now() + lasting;
        let mut random = Random::seeded(chance);
        while tokio::time::Instant::now() < over {
            vanish_in_mid_reply(&world, &mut random).await;
        }
    }),
    fault!("clock jumps", Clock, Any, |world, lasting, chance| {
        const HOUR: i64 = 3_600;
        let jumps = [HOUR, -HOUR, 10 * 24 * HOUR, -10 * 24 * HOUR];
        world.shim.shift_clock(jumps[usize::try_from(chance % 4).unwrap()]);
        sleep(lasting).await;
        world.shim.shift_clock(0);
    }),
];

/// Where a crash falls between two things that belong together.
pub(crate) const MARKS: &[&str] = &[
    "main/after_reply",
    "ingest::ingest/before_commit",
    "ingest::ingest/after_commit",
    "main/before_next_poll",
    "light/after_reply",
    "ingest::ingest_light/before_commit",
    "ingest::ingest_light/after_commit",
    "light/before_next_poll",
    "device_inbox::acknowledge_v2/before_commit",
    "device_inbox::acknowledge_v2/after_commit",
    "sessions::acknowledge_session/before_commit",
    "sessions::acknowledge_session/after_commit",
    "v2/before_answer",
    "v3/before_answer",
];

async fn weather(world: &World, weather: Weather, lasting: Duration) {
    if let Homeserver::Scripted { homeserver, .. } = &world.homeserver {
        homeserver.weather(Some(weather));
        sleep(lasting).await;
        homeserver.weather(None);
    }
}

/// Starts a process that kills itself at a mark before long; the supervisor starts the one after it.
async fn killed_at_a_mark(world: &World, lasting: Duration, chance: u64) {
    let mark = MARKS[usize::try_from(chance).unwrap_or(0) % MARKS.len()];
    world.proxy.kill9();
    world.proxy.kill_at(&format!("{mark}/{}", 1 + chance % 7));
    world.proxy.start_blindly();
    sleep(lasting).await;
    // One that has not come to its mark must not come to it when all is well.
    world.proxy.kill9();
    world.proxy.start_blindly();
}

pub(crate) async fn terminate_connections(world: &World) {
    const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    // In the middle of other faults there may be nobody to ask.
    if let Ok(database) = world.database.connect().await {
        database.execute(TERMINATE, &[]).await.ok();
    }
}

/// Writes to the log until the disk ends it, or Postgres is gone for it.
pub(crate) async fn fill_the_log(world: &World) {
    const LOG: &str = "SELECT pg_logical_emit_message(true, 'full', repeat('x', 300000))
        FROM generate_series(1, 10)";
    if let Ok(database) = world.database.connect().await {
        for _ in 0..10 {
            if database.execute(LOG, &[]).await.is_err() {
                return;
            }
        }
    }
}

async fn restart_synapse(world: &World, lasting: Duration) {
    let Homeserver::Real(real) = &world.homeserver else { return };
    let _nobody_sends = real.sending.write().await;
    real.synapse.stop().await;
    sleep(lasting / 4).await;
    real.synapse.start_again().await;
}

/// Clients that begin to sync, and are gone with a part of the answer or none.
pub(crate) async fn vanish_in_mid_reply(world: &World, random: &mut Random) {
    let version = if random.coin() { Version::V2 } else { Version::V3 };
    let patience = Duration::from_millis(random.between(0, 60));
    let ghost = world.ghost.on_new_connections();
    let asked = async {
        match version {
            Version::V2 => ghost.sync().try_send().await,
            Version::V3 => {
                let rooms = world.homeserver.rooms();
                ghost
                    .v3_sync(&json!({"to_device": {}, "room": {"room_id": rooms}}))
                    .try_send()
                    .await
            }
        }
    };
    let _gone = tokio::time::timeout(patience, asked).await;
}
