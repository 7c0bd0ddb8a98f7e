//! Pages of a room's history:
//!
//! - `GET /_matrix/client/v3/rooms/{roomId}/messages`
//!   <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidmessages>
//! - `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/**`
//!   <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidrelationseventid>
//!
//! Forwarded, with tokens of ours in `from` and `to` replaced by the homeserver's.
//!
//! A position of ours may lie inside a batch for which the homeserver gave no token. Then the nearest token on the far
//! side is used (the newer one for `from` when paging back), more events are asked for, and those that lie on the wrong
//! side of the position are dropped from the answer by their IDs, wherever they stand: homeservers page in the order of
//! the room's graph, which is not the order in which events arrived. The answer's `end` is the homeserver's own and
//! goes to the client as it is, so the answer must end with the last event that the client gets.
//!
//! Neighbours: `dispatch`; `sync_token` knows positions; `page` edits the answer.

mod page;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use hyper::http::request::Parts;
use hyper::{Request, Response};
use tokio::time::Instant;

use self::page::Page;
use super::{buffer, query};
use crate::auth;
use crate::auth_header::access_token;
use crate::body::{self, Body};
use crate::error::Error;
use crate::patience::{DATABASE_GRACE, patiently};
use crate::peer::Peer;
use crate::state::State;
use crate::sync_token::locate;
use crate::token;

/// What is paged through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paged {
    /// `/messages`
    Messages,
    /// `/relations`
    Relations,
}

impl Paged {
    /// What a missing `limit` means: for messages by the specification, for relations to Synapse.
    fn default_limit(self) -> usize {
        match self {
            Self::Messages => 10,
            Self::Relations => 5,
        }
    }

    /// What a missing `dir` means.
    fn default_direction(self) -> Direction {
        match self {
            Self::Messages => Direction::Forth,
            Self::Relations => Direction::Back,
        }
    }

    /// The field of the answer that repeats `from`.
    fn start(self) -> &'static str {
        match self {
            Self::Messages => "start",
            Self::Relations => "prev_batch",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Back,
    Forth,
}

/// What a request asks for, if it asks with a token of ours.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    from: Option<String>,
    to: Option<String>,
    direction: Direction,
    limit: usize,
}

/// The same in the homeserver's terms.
#[derive(Debug, Default)]
struct Translated {
    /// The tokens of ours by the name of their parameter, and what they become; `None` leaves the
    /// parameter out: the beginning of the room.
    tokens: Vec<(&'static str, Option<String>)>,
    /// What the homeserver will return before it comes to the position that was asked for.
    skipped_first: usize,
    unwanted: HashSet<String>,
}

/// Forwards a request for a page of a room's history.
pub(crate) async fn messages(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    room_id: &str,
    paged: Paged,
) -> Result<Response<Body>, Error> {
    let Some(asked) = Asked::read(request.uri().query().unwrap_or_default(), paged) else {
        return state.forwarder.forward(request, peer).await;
    };
    let (mut parts, _empty) = request.into_parts();
    buffer::ask_for_plain(&mut parts);
    let give_up = Instant::now() + DATABASE_GRACE;
    let translated = patiently(give_up, || translate(state, &parts, room_id, &asked)).await?;

    let mut limit = asked.limit.saturating_add(translated.skipped_first);
    let mut may_ask_again = true;
    loop {
        let response = state.forwarder.forward(translated.request(&parts, limit)?, peer).await?;
        if !buffer::is_plain_success(&response) {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = buffer::read(body).await?;
        let text = std::str::from_utf8(&body).ok();
        let Some(page) = text.and_then(|text| Page::read(text, paged.start())) else {
            return Ok(buffer::with_body(head, body));
        };
        match page.limit_for(asked.limit, &translated.unwanted) {
            // Fewer were dropped than asked for: what is too much cannot be cut off, for `end` would then skip it.
            Some(exact) if may_ask_again => {
                limit = exact;
                may_ask_again = false;
            }
            _ => {
                return Ok(buffer::with_body(
                    head,
                    page.rewritten(&translated.unwanted, asked.from.as_deref()),
                ));
            }
        }
    }
}

async fn translate(
    state: &Arc<State>,
    parts: &Parts,
    room_id: &str,
    asked: &Asked,
) -> Result<Translated, Error> {
    let requester = auth::authenticate(state, access_token(parts, true)?).await?;
    let mut translated = Translated::default();
    for (name, token) in [("from", &asked.from), ("to", &asked.to)] {
        let Some(token) = token else { continue };
        let located = locate(state, &requester, room_id, token).await?;
        let located =
            located.ok_or_else(|| Error::UnknownPos(format!("'{name}' parameter is invalid")))?;
        let is_from = name == "from";
        // Both ends of the window are moved outwards, never inwards.
        let (theirs, between) = if is_from == (asked.direction == Direction::Back) {
            (Some(located.newer), located.after)
        } else {
            (located.older, located.before)
        };
        if is_from {
            translated.skipped_first = between.len();
        }
        translated.tokens.push((name, theirs));
        translated.unwanted.extend(between);
    }
    Ok(translated)
}

impl Asked {
    /// Reads a query. Without a token of ours, or with parameters that the homeserver will refuse, there is nothing to
    /// translate.
    fn read(text: &str, paged: Paged) -> Option<Self> {
        let ours = |name| {
            query::get(text, name).filter(|token| token::is_ours(token)).map(Cow::into_owned)
        };
        let (from, to) = (ours("from"), ours("to"));
        if from.is_none() && to.is_none() {
            return None;
        }
        let direction = match query::get(text, "dir").as_deref() {
            Some("b") => Direction::Back,
            Some("f") => Direction::Forth,
            None => paged.default_direction(),
            Some(_) => return None,
        };
        let limit = match query::get(text, "limit") {
            Some(limit) => limit.parse().ok()?,
            None => paged.default_limit(),
        };
        Some(Self { from, to, direction, limit })
    }
}

impl Translated {
    fn request(&self, parts: &Parts, limit: usize) -> Result<Request<Body>, Error> {
        let limit = limit.to_string();
        let mut parameters = vec![("limit", Some(limit.as_str()))];
        parameters.extend(self.tokens.iter().map(|(name, token)| (*name, token.as_deref())));
        let mut parts = parts.clone();
        parts.uri = query::replace(&parts.uri, &parameters)?;
        Ok(Request::from_parts(parts, body::empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_with_our_tokens_are_translated() {
        let check =
            |query: &str, expected: Option<(Option<&str>, Option<&str>, Direction, usize)>| {
                let expected = expected.map(|(from, to, direction, limit)| Asked {
                    from: from.map(str::to_owned),
                    to: to.map(str::to_owned),
                    direction,
                    limit,
                });
                assert_eq!(Asked::read(query, Paged::Messages), expected, "{query}");
            };
        check("from=v2_a&dir=b&limit=30", Some((Some("v2_a"), None, Direction::Back, 30)));
        check("from=v2_a", Some((Some("v2_a"), None, Direction::Forth, 10)));
        check("from=s1&to=v2%5Fa&dir=f", Some((None, Some("v2_a"), Direction::Forth, 10)));
        check("from=s1_2&dir=b", None);
        check("", None);
        check("from=v2_a&dir=x", None);
        check("from=v2_a&dir=b&limit=-1", None);
    }
}
