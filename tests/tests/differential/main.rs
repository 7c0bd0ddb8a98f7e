//! The differential test: one user with two devices, one of which talks to Synapse and one to the proxy. In a random
//! story, told by its seed, users do what users do, while both devices sync with the same filter, at moments of their own,
//! lose replies and start anew. In the end both must know the same, and neither may have been lied to about timelines.
//!
//! `TEST_SEEDS=200` plays so many stories, `TEST_SEED=17` that one. With `TEST_DIRECT` both devices talk to Synapse: what
//! fails then is the test itself. What the stories leave out for now stands in [`scope`].
//!
//! [`reference`] holds the reference client of sync v3 against Synapse in stories of the same kind.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the right answer to anything unexpected"
)]

mod actions;
mod compare;
mod device;
mod filters;
mod folding;
mod model;
mod proof;
mod reference;
mod scope;
mod truth;
mod world;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tests::client::Client;
use tests::lab::Lab;
use tests::random::seeds;

use crate::world::World;

/// How many stories an ordinary run plays.
const SEEDS: u64 = 50;
/// How many are played side by side: while one waits, another goes on.
const SIDE_BY_SIDE: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_synapse_and_the_proxy_tell_a_client_the_same() {
    let wrong = play_side_by_side(Lab::shared, |seed, lab, others| async move {
        World::prepare(seed, &lab, &others, None).await.play().await
    });
    let wrong = wrong.await;
    assert!(wrong.is_empty(), "{} stories went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Plays the stories of all seeds, several at once, in places that `lab` makes. Returns what went wrong.
async fn play_side_by_side<L, P>(
    lab: impl Fn() -> L,
    play: impl Fn(u64, Arc<Lab>, Vec<Client>) -> P + Clone + Send + 'static,
) -> Vec<String>
where
    L: Future<Output = Lab>,
    P: Future<Output = Result<(), String>> + Send + 'static,
{
    let seeds = Arc::new(Mutex::new(seeds(SEEDS).collect()));
    let mut players = Vec::new();
    for _ in 0..SIDE_BY_SIDE {
        let lab = Arc::new(lab().await);
        players.push(tokio::spawn(play_all(lab, Arc::clone(&seeds), play.clone())));
    }
    let mut wrong = Vec::new();
    for player in players {
        wrong.extend(player.await.unwrap());
    }
    wrong
}

/// Plays stories until there are none left, with the same others in each. Returns what went wrong.
async fn play_all<P>(
    lab: Arc<Lab>,
    seeds: Arc<Mutex<VecDeque<u64>>>,
    play: impl Fn(u64, Arc<Lab>, Vec<Client>) -> P,
) -> Vec<String>
where
    P: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut others: Vec<Client> = Vec::new();
    for name in ["bob", "carol"] {
        others.push(lab.user_on_synapse(name).await);
    }
    let mut wrong = Vec::new();
    loop {
        let Some(seed) = seeds.lock().unwrap().pop_front() else { return wrong };
        let story = tokio::spawn(play(seed, Arc::clone(&lab), others.clone()));
        let began = Instant::now();
        let outcome =
            story.await.unwrap_or_else(|_| Err(format!("seed {seed}: a panic, see above")));
        // With `--nocapture`, what went wrong is shown at once: later stories may take a while.
        eprintln!(
            "seed {seed}, {} ms: {}",
            began.elapsed().as_millis(),
            outcome.as_ref().err().map_or("well", |what| what)
        );
        wrong.extend(outcome.err());
    }
}
