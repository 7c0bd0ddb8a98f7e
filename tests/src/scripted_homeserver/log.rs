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
    under_way: Mutex<HashMap<What, AtOnce>>,
}

/// What is counted while it is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// Syncs, for each token.
    Sync(String),
    /// Questions whose a token is, of all tokens.
    Whoami,
}

#[derive(Debug, Default)]
struct AtOnce {
    now: usize,
    most: usize,
}

/// A request, while it is under way.
pub(super) struct UnderWay<'a>(&'a Log, What);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.lock().unwrap().get_mut(&self.1).unwrap().now -= 1;
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
    /// A request is under way until what this gives is dropped.
    pub(super) fn begin(&self, what: What) -> UnderWay<'_> {
        let mut under_way = self.under_way.lock().unwrap();
        let count = under_way.entry(what.clone()).or_default();
        count.now += 1;
        count.most = count.most.max(count.now);
        UnderWay(self, what)
    }

    /// How many syncs of one token were ever under way at once.
    pub(super) fn most_syncs_at_once(&self) -> usize {
        let under_way = self.under_way.lock().unwrap();
        let syncs = under_way.iter().filter(|(what, _count)| **what != What::Whoami);
        syncs.map(|(_what, count)| count.most).max().unwrap_or(0)
    }

    /// How many questions whose a token is were ever under way at once.
    pub(super) fn most_whoamis_at_once(&self) -> usize {
        self.under_way.lock().unwrap().get(&What::Whoami).map_or(0, |count| count.most)
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
