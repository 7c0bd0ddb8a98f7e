//! Silence in v3 sessions: waiting for it, and seeing that nothing but the token is said.

use std::time::Instant;

use serde_json::{Value, json};
use tests::client::Reply;
use tests::session::Session;
use tests::wait::PATIENCE;
use tokio::task::JoinHandle;

/// How long nothing must be said, in milliseconds.
const SILENCE: u64 = 700;

/// Goes on with the session until nothing is left to say.
pub(crate) async fn settled(session: &mut Session) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = session.request(&json!({})).timeout(SILENCE).send().await.ok();
        session.absorb(&reply);
        if says_nothing(&reply) {
            return;
        }
        assert!(Instant::now() < deadline, "the session does not fall silent: {reply:#}");
    }
}

/// The next request of the session, which waits.
pub(crate) fn waits(session: &Session) -> JoinHandle<Reply> {
    tokio::spawn(session.request(&json!({})).timeout(30_000).send())
}

/// Whether a reply is the next token alone.
pub(crate) fn says_nothing(reply: &Value) -> bool {
    reply.as_object().is_some_and(|reply| reply.len() == 1 && reply.contains_key("next"))
}
