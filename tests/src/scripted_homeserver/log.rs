//! What arrived, as it came over the wire.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use hyper::HeaderMap;

/// A request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path and query, undecoded.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The length of the body.
    pub body_length: u64,
    /// SHA-256 of the body.
    pub body_digest: Bytes,
}

/// Everything that arrived, in order.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Paths and queries of all heads, whether or not their bodies have ended.
    heads: Mutex<Vec<String>>,
    requests: Mutex<Vec<Seen>>,
    /// By their tokens.
    syncs: Mutex<HashMap<String, Syncs>>,
}

/// The syncs of one token.
#[derive(Debug, Default)]
struct Syncs {
    under_way: usize,
    most: usize,
}

/// A sync, while it is under way.
pub(super) struct UnderWay<'a>(&'a Log, String);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut syncs = self.0.syncs.lock().unwrap();
        syncs.get_mut(&self.1).unwrap().under_way -= 1;
    }
}

impl Seen {
    /// The values of a header, joined as HTTP allows.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The `since` in the query.
    pub fn since(&self) -> Option<String> {
        self.parameter("since")
    }

    /// A parameter in the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://scripted{}", self.target)).unwrap();
        url.query_pairs().find(|(key, _value)| key == name).map(|(_key, value)| value.into_owned())
    }
}

impl Log {
    /// A sync with this token is under way until what this gives is dropped.
    pub(super) fn begin_sync(&self, token: &str) -> UnderWay<'_> {
        let mut all = self.syncs.lock().unwrap();
        let syncs = all.entry(token.to_owned()).or_default();
        syncs.under_way += 1;
        syncs.most = syncs.most.max(syncs.under_way);
        UnderWay(self, token.to_owned())
    }

    /// How many syncs of one token were ever under way at once.
    pub(super) fn most_syncs_at_once(&self) -> usize {
        self.syncs.lock().unwrap().values().map(|syncs| syncs.most).max().unwrap_or(0)
    }

    pub(super) fn add_head(&self, target: String) {
        self.heads.lock().unwrap().push(target);
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(super) fn add(&self, seen: Seen) {
        self.requests.lock().unwrap().push(seen);
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }
}
