//! The two syncs: GET as the Matrix specification has it (v2), and POST (v3).
//!
//! Every reply to a v2 sync is held against the schemas in `tests/schemas`, every reply to a v3 sync against
//! `docs/openapi.json`, and so is every v3 request that is taken.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::Client;
use super::request::{Reply, Request, Shape};

/// The path of both syncs.
const SYNC: &str = "/_matrix/client/v3/sync";

/// A GET `/sync` in the making.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct SyncRequest(Request);

/// A POST `/v3/sync` in the making.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct V3Request(Request);

impl Client {
    /// A v2 sync that returns at once.
    pub fn sync(&self) -> SyncRequest {
        SyncRequest(self.get(SYNC).held_against(Shape::Sync))
    }

    /// A v2 sync that is computed anew. Synapse keeps an answer for two minutes and gives it to whoever asks the same
    /// again; a timeout of its own makes a question another one.
    pub fn fresh_sync(&self) -> SyncRequest {
        static COUNTER: AtomicU64 = AtomicU64::new(1);
        self.sync().timeout(COUNTER.fetch_add(1, Ordering::Relaxed))
    }

    /// A v2 sync under another prefix than `v3`.
    pub fn sync_at(&self, version: &str) -> SyncRequest {
        let path = format!("/_matrix/client/{version}/sync");
        SyncRequest(self.get(&path).held_against(Shape::Sync))
    }

    /// A v3 sync that returns at once.
    pub fn v3_sync(&self, body: &Value) -> V3Request {
        V3Request(self.post(SYNC).json(body).held_against(Shape::V3))
    }

    /// A v3 sync with a body that need not be JSON.
    pub fn v3_sync_bytes(&self, body: &[u8]) -> V3Request {
        let request = self.post(SYNC).header("Content-Type", "application/json");
        V3Request(request.bytes(body.to_vec().into()).held_against(Shape::V3))
    }
}

impl SyncRequest {
    /// Goes on from a `next_batch`.
    pub fn since(self, since: &str) -> Self {
        self.query("since", since)
    }

    /// Waits up to so many milliseconds.
    pub fn timeout(self, milliseconds: u64) -> Self {
        self.query("timeout", &milliseconds.to_string())
    }

    /// Uses an inline filter.
    pub fn filter(self, filter: &Value) -> Self {
        self.query("filter", &filter.to_string())
    }

    /// Uses an uploaded filter.
    pub fn filter_id(self, filter_id: &str) -> Self {
        self.query("filter", filter_id)
    }

    /// Any other parameter.
    pub fn query(self, name: &str, value: &str) -> Self {
        Self(self.0.query(name, value))
    }

    /// The request beneath, for changes to headers and token.
    pub fn request(self) -> Request {
        self.0
    }

    /// Does not hold the reply against the schemas: for replies that are odd on purpose. The reason is for the reader.
    pub fn of_any_shape(self, because: &str) -> Self {
        Self(self.0.of_any_shape(because))
    }

    /// Sends the request; a failure of the connection fails the test.
    pub async fn send(self) -> Reply {
        self.0.send().await
    }

    /// Sends the request; for tests in which connections may break.
    pub async fn try_send(self) -> Result<Reply, reqwest::Error> {
        self.0.try_send().await
    }
}

impl V3Request {
    /// Goes on from a `next`.
    pub fn since(self, since: &str) -> Self {
        self.query("since", since)
    }

    /// Waits up to so many milliseconds.
    pub fn timeout(self, milliseconds: u64) -> Self {
        self.query("timeout", &milliseconds.to_string())
    }

    /// Any other parameter.
    pub fn query(self, name: &str, value: &str) -> Self {
        Self(self.0.query(name, value))
    }

    /// The request beneath, for changes to headers and token.
    pub fn request(self) -> Request {
        self.0
    }

    /// Holds neither the request nor the reply against the description: for those that are odd on purpose. The reason
    /// is for the reader.
    pub fn of_any_shape(self, because: &str) -> Self {
        Self(self.0.of_any_shape(because))
    }

    /// Sends the request; a failure of the connection fails the test.
    pub async fn send(self) -> Reply {
        self.0.send().await
    }

    /// Sends the request; for tests in which connections may break.
    pub async fn try_send(self) -> Result<Reply, reqwest::Error> {
        self.0.try_send().await
    }
}
