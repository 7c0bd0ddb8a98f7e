//! The time of day jumps, for the proxy and for its Postgres.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tests::matchers::numbers;
use tests::witness::Habits;

use crate::world::{Homeserver, World};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Nothing of what is done depends on the time of day, but for the expiry of what was long unused.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_no_session_and_no_message() {
    let mut world = World::begins("clock", Homeserver::scripted().await).await;
    world.is_witnessed(Habits { vanishes: 0, replays: 10 }, 1).await;
    let world = Arc::new(world);
    world.speaks(Duration::from_millis(100), 1);
    for jump in [HOUR, 0, -HOUR, 0, 20 * DAY, 0, -40 * DAY, 0] {
        let over = world.suffers(async { world.shim.shift_clock(jump) }).await;
        world.recovers(over, "a jump of the clock").await;
        // What is looked after at the start is looked after at this time as well.
        let over = world.suffers(async { world.proxy.crash_and_restart().await }).await;
        world.recovers(over, "a restart at another time").await;
    }
    world.falls_silent().await;
}

/// Forty days are longer than a session is kept unused: v3 begins anew, as it must be able to at any time, and v2 goes on.
/// No message goes for it that somebody has not had.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_beyond_the_expiry_ends_sessions_and_no_message_goes_for_it() {
    let world = World::begins("expiry", Homeserver::scripted().await).await;
    let Homeserver::Scripted { ledger, .. } = &world.homeserver else { unreachable!() };
    let client = &world.devices[0];
    let (mut chain, mut session) = (client.v2(), client.v3());
    chain.next().await;
    session.ask(json!({"to_device": {}})).await;
    ledger.send_to(&client.user_id, &client.device_id);
    let told = session.until("the message", |reply| numbers(&reply["to_device"]).pop()).await;
    assert_eq!(told, 0);

    world.shim.shift_clock(40 * DAY);
    world.proxy.crash_and_restart().await;

    session.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    let mut anew = client.on_new_connections().v3();
    let reply = anew.ask(json!({"to_device": {}})).await;
    assert_eq!(numbers(&reply["to_device"]), [0], "nobody has acknowledged it");
    assert_eq!(numbers(&chain.next().await["to_device"]), [0]);
    ledger.send_to(&client.user_id, &client.device_id);
    let told = chain.until("the next", |reply| numbers(&reply["to_device"]).pop()).await;
    assert_eq!(told, 1, "polling goes on");
}
