//! What every request keeps to before anybody looks at what it asks for: the size of its head, and how many others its
//! access token has under way.
//!
//! Neighbours: `dispatch` lets requests in here. Whether a token is good is `auth`'s business, and for what passes through
//! the homeserver's own: a token is counted by its keyed hash, whosever it is.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use http_body_util::BodyExt;
use hyper::http::HeaderMap;
use hyper::{Request, Response};

use crate::auth_header;
use crate::body::{Body, With};
use crate::error::Error;
use crate::secret::TokenHash;
use crate::state::State;

/// The most headers of a request.
pub(crate) const MAX_HEADERS: usize = 100;

/// When somebody with too many requests under way should come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The requests under way, by access token.
#[derive(Default)]
pub(crate) struct InFlight(Arc<DashMap<TokenHash, usize>>);

/// One of them. It is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    token: TokenHash,
    all: Arc<DashMap<TokenHash, usize>>,
}

/// Lets a request in. Who names no token is not counted: such requests are the homeserver's to limit, and connections
/// are ours.
pub(crate) fn enter<B>(state: &State, request: &Request<B>) -> Result<Option<Slot>, Error> {
    let limits = &state.config.client_limits;
    let headers = request.headers();
    if headers.len() > MAX_HEADERS || head_bytes(request) > limits.max_head_bytes {
        return Err(Error::HeadTooLarge);
    }
    let Some(most) = limits.max_requests_per_token else { return Ok(None) };
    let query = request.uri().query().unwrap_or_default();
    let Ok(token) = auth_header::token_of(headers, query, true) else { return Ok(None) };
    let slot = state.in_flight.begin(state.sealer.hash(&token), most);
    slot.map(Some).ok_or(Error::LimitExceeded { retry_after: RETRY_AFTER })
}

/// A request is under way until its reply is sent, or nobody wants it any more.
pub(crate) fn until_sent(response: Response<Body>, slot: Option<Slot>) -> Response<Body> {
    match slot {
        Some(slot) => response.map(|body| With::new(body, slot).boxed_unsync()),
        None => response,
    }
}

impl InFlight {
    fn begin(&self, token: TokenHash, most: usize) -> Option<Slot> {
        match self.0.entry(token.clone()) {
            Entry::Occupied(mut count) if *count.get() < most => *count.get_mut() += 1,
            Entry::Occupied(_) => return None,
            Entry::Vacant(none) => drop(none.insert(1)),
        }
        Some(Slot { token, all: Arc::clone(&self.0) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.all.entry(self.token.clone()) {
            match *count.get() {
                0 | 1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

/// How long the head of a request is, as HTTP/1.1 spells it with one space where there may be more.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let line =
        request.method().as_str().len() + uri_bytes(request) + " ".len() + " HTTP/1.1\r\n".len();
    line + header_bytes(request.headers()) + "\r\n".len()
}

fn uri_bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    uri.path().len() + uri.query().map_or(0, |query| query.len() + "?".len())
}

fn header_bytes(headers: &HeaderMap) -> usize {
    let line = |name: &str, value: &[u8]| name.len() + ": ".len() + value.len() + "\r\n".len();
    headers.iter().map(|(name, value)| line(name.as_str(), value.as_bytes())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_token_until_they_end() {
        let in_flight = InFlight::default();
        let (one, other) = (TokenHash([1; 32]), TokenHash([2; 32]));
        let first = in_flight.begin(one.clone(), 2).expect("there is room");
        let second = in_flight.begin(one.clone(), 2).expect("there is room");
        assert!(in_flight.begin(one.clone(), 2).is_none());
        drop(in_flight.begin(other, 2).expect("another token has room of its own"));
        drop(first);
        let third = in_flight.begin(one, 2).expect("one has ended");
        drop((second, third));
        assert!(in_flight.0.is_empty(), "nothing is kept of tokens without requests");
    }

    #[test]
    fn a_head_is_as_long_as_it_was_sent() {
        let request = Request::get("/a?b=c").header("x", "yz").body(()).expect("it is a request");
        assert_eq!(head_bytes(&request), "GET /a?b=c HTTP/1.1\r\nx: yz\r\n\r\n".len());
    }
}
