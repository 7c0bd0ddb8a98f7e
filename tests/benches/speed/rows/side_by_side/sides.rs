//! The homeserver and the proxy before it. One Postgres server has a database for each, so that neither has another
//! version, other settings or another disk than the other.

use std::time::{Duration, Instant};

use tests::client::Client;
use tests::postgres::{Database, Postgres};
use tests::proxy::Proxy;
use tests::synapse::Synapse;
use tests::wait::eventually_within;

use super::first_reply::SYNC;
use super::statements::{self, Statements};
use super::town::Town;
use super::wire::{NO_ROOMS, Sync, Wire};
use crate::rows::LIKE_THE_PROXY;

/// How long the first poll of a large account may take on a busy machine.
const FIRST_POLL: Duration = Duration::from_mins(20);

/// Both, and who is asked for.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) synapse: Synapse,
    pub(crate) proxy: Proxy,
    pub(crate) statements: Statements,
    pub(crate) town: Town,
    /// From the warm account's first request until it was answered: the first poll, and storing it.
    pub(crate) first_poll: Duration,
    /// What a plain reader waits for what that poll asks for. The homeserver had computed as much before, for another device.
    pub(crate) plain_reader: Duration,
    /// The server ends with its fixture.
    _postgres: Postgres,
}

/// Which of the two is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Synapse,
    Proxy,
}

/// Each goes first as often as the other.
pub(crate) fn in_turn(run: usize) -> [Side; 2] {
    if run.is_multiple_of(2) { [Side::Synapse, Side::Proxy] } else { [Side::Proxy, Side::Synapse] }
}

impl Sides {
    /// Populates the homeserver, and waits until the proxy has stored what it polls for.
    pub(crate) async fn make(rooms: usize, devices: usize) -> Self {
        let postgres = Postgres::start_with(&[statements::SETTING]).await;
        let (theirs, ours) = (postgres.database().await, postgres.database().await);
        let synapse = Synapse::start_on(&theirs).await;
        let town = Town::populate(&synapse, rooms, devices).await;
        eprintln!("{rooms} rooms are there after {:.0} s", town.took.as_secs_f64());
        settle(&theirs).await;
        let mut plain_reader = Duration::ZERO;
        for device in &town.devices[..2] {
            let sync = Sync { filter: LIKE_THE_PROXY, ..Sync::default() };
            plain_reader = Wire::of(device, &synapse.url()).sync(&sync).await.took;
        }
        // What it would log at level `debug` is not what a user waits for.
        let proxy = Proxy::prepare_single(&synapse.url(), &ours, &["-log-level", "info"]);
        proxy.start_again().await;
        let begun = Instant::now();
        is_stored(&town.warm, &proxy).await;
        let first_poll = begun.elapsed();
        eprintln!(
            "the first poll is stored after {:.1} s, of which {:.1} s are the homeserver's",
            first_poll.as_secs_f64(),
            plain_reader.as_secs_f64()
        );
        is_stored(&town.warm_pair.friend, &proxy).await;
        for device in &town.devices {
            is_stored(device, &proxy).await;
        }
        let statements = Statements::of(&ours, &postgres).await;
        settle(&ours).await;
        Self { synapse, proxy, statements, town, first_poll, plain_reader, _postgres: postgres }
    }

    /// Ends the sessions of the warm account's other devices, through the proxy, which polls for them no longer.
    pub(crate) async fn log_devices_out(&self) {
        for device in &self.town.devices {
            device.at(&self.proxy.url()).logout().await.ok();
        }
    }

    /// The URL of one of them.
    pub(crate) fn url(&self, side: Side) -> String {
        match side {
            Side::Synapse => self.synapse.url(),
            Side::Proxy => self.proxy.url(),
        }
    }
}

/// Asks through the proxy until it is answered: the account's first poll is stored then.
async fn is_stored(client: &Client, proxy: &Proxy) {
    let client = client.at(&proxy.url());
    eventually_within(FIRST_POLL, "the first poll to be stored", async || {
        // What the proxy asks upstream for is everything, whatever the client wants.
        let request = client.get(SYNC).query("filter", NO_ROOMS);
        let reply = request.try_send().await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
}

/// Brings the planner's knowledge of the tables up to date, as the server does by itself from time to time.
async fn settle(database: &Database) {
    database.connect().await.unwrap().batch_execute("VACUUM ANALYZE").await.unwrap();
}
