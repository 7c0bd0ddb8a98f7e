//! Any split of a stream of polls into requests, with any filter, folds to the same view.
//!
//! A scripted homeserver tells a random stream of polls of three rooms. Clients sync at moments of their own: some after each
//! poll, some seldom, some lose what they knew and go on from an old `since`, with wide and narrow timelines, lazily loaded
//! members, the state before and after the timeline, in sessions of v3, and two in each story with a filter of any kind. In
//! the end what each has folded together must be what was told: all of it, or the part that its filter lets through.
//!
//! `TEST_SEEDS` and `TEST_SEED` count here too.

mod listener;
mod script;

use tests::lab::shared_postgres;
use tests::proxy::Proxy;
use tests::random::{Random, seeds};
use tests::scripted_homeserver::ScriptedHomeserver;

use self::listener::Listener;
use self::script::Script;

/// How many stories an ordinary run plays, and how many polls each has.
const SEEDS: u64 = 3;
const POLLS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_split_of_the_polls_folds_to_the_same_view() {
    let mut wrong = Vec::new();
    for seed in seeds(SEEDS) {
        wrong.extend(play(seed, 0).await.into_iter().map(|what| format!("seed {seed}: {what}")));
    }
    assert!(wrong.is_empty(), "{} views are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The truth with one event that was never told: every client is found to know too little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_lacks_something_is_noticed() {
    let wrong = play(1, 1).await;
    assert!(wrong.len() >= 6, "{wrong:?}");
}

/// Plays a story; gives whose view is wrong. So many events at its end only the truth knows.
async fn play(seed: u64, untold: u64) -> Vec<String> {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let proxy = Proxy::start(&homeserver.url(), &postgres.database().await).await;
    let alice = homeserver.device(&proxy.url(), script::ME, "PHONE");
    let mut random = Random::seeded(seed);
    let mut script = Script::new(seed);
    homeserver.on_sync(None, &script.poll(0, false));
    let mut listeners = Listener::all(&alice);
    listeners.extend(Listener::filtered(&alice, &script, seed));
    // Nobody is polled for before they have asked.
    listeners[0].sync(0).await;
    for number in 1..=POLLS {
        let since = format!("s{}", number - 1);
        homeserver.on_sync(Some(&since), &script.poll(number, number == POLLS));
        if random.coin() {
            // Whoever asks now is told of it; otherwise they may ask in the middle of it.
            homeserver.is_polled_with(&format!("s{number}")).await;
        }
        for listener in &mut listeners {
            listener.syncs_sometimes(&mut random).await;
        }
    }
    for _ in 0..untold {
        script.something_untold_happens();
    }
    let mut wrong = Vec::new();
    for listener in &mut listeners {
        listener.syncs_to_the_end().await;
        wrong.extend(listener.agrees(&script).err());
    }
    wrong
}
