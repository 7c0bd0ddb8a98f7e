//! The reference client of sync v3, held against Synapse: in random stories it keeps a room list and rooms, and nothing
//! but v3 tells it anything, while proxies end and die and replies are lost. At quiet points it must show what a v2 client
//! of the same account knows.
//!
//! `TEST_SEEDS` and `TEST_SEED` are as for the rest of this binary. People do what they do in the other stories, see
//! [`crate::actions`]; [`happenings`] adds what the proxy goes through, and [`story`] what the client does. [`truth`] is
//! what Synapse says, [`names`] names rooms, [`judge`] compares, and [`proof`] shows that it would find what is wrong.

mod happenings;
mod judge;
mod judge_inside;
mod names;
mod proof;
mod story;
mod truth;

use std::sync::Arc;

use tests::client::Client;
use tests::lab::Lab;

use self::story::Story;
use crate::play_side_by_side;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_client_of_v3_shows_what_a_v2_client_knows() {
    let wrong = play_side_by_side(Lab::with_own_proxy, play).await;
    assert!(wrong.is_empty(), "{} stories went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn play(seed: u64, lab: Arc<Lab>, others: Vec<Client>) -> Result<(), String> {
    let world = World::prepare(seed, &lab, &others, Some(Story::filter(seed))).await;
    let proxy = Arc::clone(&lab.proxy);
    Story::prepare(seed, proxy, world).await.play().await
}

/// One of each kind of thing happens, and the client hears it right. Then it gets each of them wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_of_the_reference_client_finds_every_fault() {
    let lab = Arc::new(Lab::shared().await);
    let others = vec![lab.user_on_synapse("bob").await, lab.user_on_synapse("carol").await];
    let world = World::prepare(0, &lab, &others, Some(Story::filter(0))).await;
    let mut story = Story::prepare(0, Arc::clone(&lab.proxy), world).await;
    let everything = proof::everything_happens(&mut story).await;
    proof::every_fault_is_found(&everything);
    proof::a_missed_reply_is_found(&mut story, &everything.room_id).await;
}
