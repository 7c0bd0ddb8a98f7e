//! A v3 session: each request carries the `next` of the reply before it.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Client, V3Request};
use crate::wait::{PATIENCE, eventually};

/// How long one request of a waiting session hangs, in milliseconds.
const LONG_POLL: u64 = 5_000;

/// One session of a device.
#[derive(Debug, Clone)]
pub struct Session {
    /// The client whose session it is.
    pub client: Client,
    next: Option<String>,
}

impl Session {
    /// The session before its first request.
    pub const fn new(client: Client) -> Self {
        Self { client, next: None }
    }

    /// The token that the next request will send.
    pub fn next(&self) -> &str {
        self.begun().expect("the session has begun")
    }

    /// The same, if the session has begun.
    pub fn begun(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The next request, not yet sent; [`Session::absorb`] takes its reply.
    pub fn request(&self, body: &Value) -> V3Request {
        let request = self.client.v3_sync(body);
        match &self.next {
            Some(next) => request.since(next),
            None => request,
        }
    }

    /// Moves the session on behind a reply.
    pub fn absorb(&mut self, reply: &Value) {
        self.next = Some(reply["next"].as_str().expect("every v3 reply has a next").to_owned());
    }

    /// One request that returns at once.
    pub async fn ask(&mut self, body: Value) -> Value {
        let reply = self.request(&body).send().await.ok();
        self.absorb(&reply);
        reply
    }

    /// The same request as the next one would be, without moving on: as if its reply were lost.
    pub async fn lose(&self, body: Value) -> Value {
        self.request(&body).send().await.ok()
    }

    /// One request, with nothing changed, that waits.
    pub async fn poll(&mut self) -> Value {
        let reply = self.request(&json!({})).timeout(LONG_POLL).send().await.ok();
        self.absorb(&reply);
        reply
    }

    /// Begins anew with the same first request until `find` finds something in the reply, and goes on from there.
    pub async fn until_asking<T>(
        &mut self,
        body: &Value,
        what: &str,
        mut find: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        eventually(what, async || {
            self.next = None;
            let reply = self.ask(body.clone()).await;
            find(&reply)
        })
        .await
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
}
