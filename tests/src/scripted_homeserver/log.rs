//! What arrived, as it came over the wire.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::HeaderMap;

/// How much later than the next request a client's hanging up may be seen: the two come over different connections, and a
/// busy machine may bring them in either order.
const HANGING_UP: Duration = Duration::from_secs(2);

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
    begun: u64,
    now: HashMap<u64, Begun>,
    most: usize,
}

/// A request that is under way.
#[derive(Debug)]
struct Begun {
    /// When the next one began beside it, and how many there were then.
    joined: Option<(Instant, usize)>,
}

/// A request, while it is under way.
pub(super) struct UnderWay<'a> {
    log: &'a Log,
    what: What,
    number: u64,
    answered: bool,
}

impl UnderWay<'_> {
    /// It has been answered. Without this its client has hung up.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.log.under_way.lock().unwrap();
        let at_once = under_way.get_mut(&self.what).unwrap();
        let begun = at_once.now.remove(&self.number).unwrap();
        at_once.most = at_once.most.max(begun.most(self.answered));
    }
}

impl Begun {
    /// How many there were at once beside it, if it is over now. One that was hung up on for the next is over before that.
    fn most(&self, answered: bool) -> usize {
        match self.joined {
            Some((since, count)) if answered || since.elapsed() > HANGING_UP => count,
            _ => 1,
        }
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

impl AtOnce {
    fn most(&self) -> usize {
        let now = self.now.values().map(|begun| begun.most(false));
        now.chain([self.most]).max().unwrap_or(0)
    }
}

impl Log {
    /// A request is under way until what this gives is dropped.
    pub(super) fn begin(&self, what: What) -> UnderWay<'_> {
        let mut under_way = self.under_way.lock().unwrap();
        let at_once = under_way.entry(what.clone()).or_default();
        let count = at_once.now.len() + 1;
        for other in at_once.now.values_mut() {
            other.joined.get_or_insert((Instant::now(), count));
        }
        at_once.begun += 1;
        let number = at_once.begun;
        at_once.now.insert(number, Begun { joined: None });
        UnderWay { log: self, what, number, answered: false }
    }

    /// How many syncs of one token were ever under way at once.
    pub(super) fn most_syncs_at_once(&self) -> usize {
        let under_way = self.under_way.lock().unwrap();
        let syncs = under_way.iter().filter(|(what, _count)| **what != What::Whoami);
        syncs.map(|(_what, at_once)| at_once.most()).max().unwrap_or(0)
    }

    /// How many questions whose a token is were ever under way at once.
    pub(super) fn most_whoamis_at_once(&self) -> usize {
        self.under_way.lock().unwrap().get(&What::Whoami).map_or(0, AtOnce::most)
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
