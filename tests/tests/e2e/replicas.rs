//! Three processes on one database: no client can tell them from one.

mod ending;
mod keys;
mod listening;
mod moving;
mod polling;
mod presence;
mod taken_over;
mod writes;

use tests::client::Client;
use tests::lab::{Lab, shared_postgres};
use tests::replicas::Replicas;
use tests::scripted_homeserver::ScriptedHomeserver;
use tests::wait::eventually;

/// How many there are.
const COUNT: usize = 3;

/// Three processes in front of Synapse.
async fn replicas(lab: &Lab) -> Replicas {
    Replicas::start(&lab.synapse.url(), &lab.postgres.database().await, COUNT).await
}

/// Three processes in front of a scripted homeserver, and Alice's phone.
async fn scripted() -> (ScriptedHomeserver, Replicas, Client) {
    let homeserver = ScriptedHomeserver::start().await;
    let database = shared_postgres().await.database().await;
    let replicas = Replicas::start(&homeserver.url(), &database, COUNT).await;
    let alice = homeserver.device(&replicas.proxy(0).url(), "@alice:scripted", "PHONE");
    (homeserver, replicas, alice)
}

/// Waits until the homeserver holds a poll for long: those that the first requests asked for are over then.
async fn in_a_long_poll(homeserver: &ScriptedHomeserver) {
    eventually("a long poll", async || {
        let last = homeserver.seen_at("/sync").last().cloned()?;
        (last.parameter("timeout")?.parse::<u64>().ok()? > 1_000).then_some(())
    })
    .await;
}
