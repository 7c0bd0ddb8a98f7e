//! What arrived, as it came over the wire.

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
pub(super) struct Log(Mutex<Vec<Seen>>);

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
    pub(super) fn add(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}
