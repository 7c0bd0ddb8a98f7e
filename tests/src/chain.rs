//! A v2 sync loop: each request carries the `next_batch` of the reply before it.

use std::time::Instant;

use serde_json::Value;

use crate::client::{Client, SyncRequest};
use crate::wait::PATIENCE;

/// How long one poll of a waiting loop hangs, in milliseconds.
const LONG_POLL: u64 = 5_000;

/// One client's chain of `since`.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The client whose chain it is.
    pub client: Client,
    since: Option<String>,
    filter: Option<Value>,
    of_any_shape: Option<&'static str>,
}

impl Chain {
    /// The chain before its first request.
    pub const fn new(client: Client) -> Self {
        Self { client, since: None, filter: None, of_any_shape: None }
    }

    /// The same chain with an inline filter on every request.
    #[must_use]
    pub fn filtered(self, filter: Value) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// The same chain, with its replies not held against the schemas, for this reason.
    #[must_use]
    pub fn of_any_shape(self, because: &'static str) -> Self {
        Self { of_any_shape: Some(because), ..self }
    }

    /// The same chain, gone on with by another client: one at another server, say.
    #[must_use]
    pub fn moved_to(self, client: &Client) -> Self {
        Self { client: client.clone(), ..self }
    }

    /// The token that the next request will send.
    pub fn since(&self) -> &str {
        self.since.as_deref().expect("the chain has begun")
    }

    /// The next request, not yet sent; [`Chain::absorb`] takes its reply.
    pub fn request(&self) -> SyncRequest {
        let mut request = self.client.sync();
        if let Some(since) = &self.since {
            request = request.since(since);
        }
        if let Some(filter) = &self.filter {
            request = request.filter(filter);
        }
        if let Some(because) = self.of_any_shape {
            request = request.of_any_shape(because);
        }
        request
    }

    /// Moves the chain on behind a reply.
    pub fn absorb(&mut self, reply: &Value) {
        self.since =
            Some(reply["next_batch"].as_str().expect("every sync has a next_batch").to_owned());
    }

    /// One request that returns at once.
    pub async fn next(&mut self) -> Value {
        let reply = self.request().send().await.ok();
        self.absorb(&reply);
        reply
    }

    /// One request that waits.
    pub async fn poll(&mut self) -> Value {
        let reply = self.request().timeout(LONG_POLL).send().await.ok();
        self.absorb(&reply);
        reply
    }

    /// Polls until `find` finds something in a reply, and returns it.
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let reply = self.poll().await;
            if let Some(found) = find(&reply) {
                return found;
            }
            seen.push(reply);
            assert!(
                Instant::now() < deadline,
                "gave up waiting for {what}; the replies were {seen:#?}"
            );
        }
    }

    /// Polls until a reply fulfils the condition, and returns that reply.
    pub async fn until_reply(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.until(what, |reply| condition(reply).then(|| reply.clone())).await
    }
}
