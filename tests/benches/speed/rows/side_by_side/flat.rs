//! How the first reply of v3 grows with the account: not at all. A scripted homeserver has accounts of any size.

use tests::client::Client;
use tests::postgres::Postgres;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{LargeAccount, ScriptedHomeserver};

use super::first_reply::{ROOMS, SYNC, first_request, rooms_in};
use super::times::Times;
use super::wire::Wire;
use crate::options::Options;

/// One account with all that serves it.
struct World {
    rooms: usize,
    wire: Wire,
    _homeserver: ScriptedHomeserver,
    _proxy: Proxy,
}

/// The times at each size, the smallest first.
pub(crate) async fn measure(options: &Options) -> Vec<(usize, Times)> {
    let (sizes, runs): (&[usize], usize) =
        if options.smoke { (&[100, 1_000], 7) } else { (&[100, 1_000, 10_000], 30) };
    let postgres = Postgres::start().await;
    let mut worlds = Vec::new();
    for rooms in sizes {
        worlds.push(World::make(&postgres, *rooms).await);
    }
    let mut times = vec![Vec::new(); sizes.len()];
    for run in 0..runs {
        for turn in 0..sizes.len() {
            // Each goes first as often as the others.
            let which = (run + turn) % sizes.len();
            let answer = worlds[which].wire.post(SYNC, first_request()).await;
            times[which].push(answer.took);
        }
    }
    worlds.iter().map(|world| world.rooms).zip(times.into_iter().map(Times::of)).collect()
}

impl World {
    /// Waits until the account's first poll is stored, and its rooms are in order.
    async fn make(postgres: &Postgres, rooms: usize) -> Self {
        let homeserver = ScriptedHomeserver::start().await;
        let database = postgres.database().await;
        let flags = ["-log-level", "info"];
        let proxy = Proxy::prepare_single(&homeserver.url(), &database, &flags);
        proxy.start_again().await;
        let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
        LargeAccount::moves_in(&homeserver, &alice.user_id, rooms);
        first_poll(&alice).await;
        homeserver.is_polled_with("s0").await;
        database.connect().await.unwrap().batch_execute("VACUUM ANALYZE").await.unwrap();
        let mut wire = Wire::of(&alice, &proxy.url());
        let answer = wire.post(SYNC, first_request()).await;
        assert_eq!(rooms_in(&answer, "/room/rooms"), ROOMS);
        Self { rooms, wire, _homeserver: homeserver, _proxy: proxy }
    }
}

async fn first_poll(alice: &Client) {
    alice.v3().ask(serde_json::json!({"to_device": {}})).await;
}
