//! Answers that tell a client where its homeserver is: they must name us, or the client goes past us from then on.
//!
//! - `POST /_matrix/client/v3/login`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3login>
//! - `POST /_matrix/client/v3/register`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3register>
//! - `GET /.well-known/matrix/client`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#getwell-knownmatrixclient>
//!
//! Neighbours: `dispatch`. The access token in a login's answer is not ours to use before its client does: the first
//! use of a refreshed token ends the old one. It is not even looked at.

use hyper::header::{CACHE_CONTROL, HOST, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Request, Response};

use super::buffer;
use super::headers::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::json_edit::Edits;
use crate::auth;
use crate::body::Body;
use crate::error::Error;
use crate::json::{self, Object};
use crate::peer::Peer;
use crate::state::State;

/// Where the discovery information stands in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Under `well_known`.
    WellKnown,
    /// It is the answer.
    Whole,
}

/// Forwards a request and has its answer, if it succeeds, name us as the homeserver's address.
pub(crate) async fn rewrite_base_url(
    state: &State,
    request: Request<Body>,
    peer: Peer,
    place: Place,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    buffer::ask_for_plain(&mut parts);
    let ours =
        state.config.public_base_url.clone().or_else(|| public_base_url(&parts.headers, peer));
    let response = state.forwarder.forward(Request::from_parts(parts, body), peer).await?;
    let Some(ours) = ours.filter(|_| buffer::is_plain_success(&response)) else {
        return Ok(response);
    };
    let mut response = response;
    if state.config.public_base_url.is_none() {
        // It says what this request's own headers said: a cache must not tell it to anybody else.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let (head, body) = response.into_parts();
    let body = buffer::read(body).await?;
    if place == Place::WellKnown {
        note_sign_in(state, &body).await;
    }
    let edited = std::str::from_utf8(&body).ok().and_then(|text| edit(text, &ours, place));
    Ok(match edited {
        Some(edited) => buffer::with_body(head, edited),
        None => buffer::with_body(head, body),
    })
}

/// Whoever signs in with a device ID that is in use takes the device over: its earlier tokens are likely dead.
/// The new one is not learnt from here: it is its client's to use first.
async fn note_sign_in(state: &State, answer: &[u8]) {
    #[derive(serde::Deserialize)]
    struct SignedIn {
        user_id: String,
        device_id: String,
    }
    if let Ok(SignedIn { user_id, device_id }) = serde_json::from_slice(answer) {
        auth::signed_in(state, &user_id, &device_id).await;
    }
}

/// The address under which the client reached us, as far as can be known.
fn public_base_url(headers: &HeaderMap, peer: Peer) -> Option<String> {
    let first = |name: HeaderName| {
        let value = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
        (!value.is_empty()).then_some(value)
    };
    let scheme = first(X_FORWARDED_PROTO).filter(|scheme| ["http", "https"].contains(scheme));
    let host = first(X_FORWARDED_HOST).or_else(|| first(HOST))?;
    // Not a path, nor a name and a password before the host.
    let host = host.parse::<Authority>().ok().filter(|host| !host.as_str().contains('@'))?;
    Some(format!("{}://{host}", scheme.unwrap_or(peer.scheme())))
}

/// The text with another base URL, or nothing if it has none.
fn edit(text: &str, base_url: &str, place: Place) -> Option<String> {
    let whole = Object::parse(text).ok()?;
    let discovery = match place {
        Place::WellKnown => whole.object("well_known")?,
        Place::Whole => whole,
    };
    let homeserver = discovery.object("m.homeserver")?;
    let mut edits = Edits::of(text);
    edits.replace(homeserver.get("base_url")?, json::string(base_url));
    Some(edits.apply())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_base_url_changes() {
        let check = |place, text: &str, expected: Option<&str>| {
            assert_eq!(edit(text, "https://us", place).as_deref(), expected, "{text}");
        };
        check(
            Place::WellKnown,
            r#"{"user_id":"@a:b", "n":1.10,"well_known":{"m.homeserver":{"base_url":"https:\/\/hs/","x":"\ud800"},"m.identity_server":{"base_url":"https://is"}}}"#,
            Some(
                r#"{"user_id":"@a:b", "n":1.10,"well_known":{"m.homeserver":{"base_url":"https://us","x":"\ud800"},"m.identity_server":{"base_url":"https://is"}}}"#,
            ),
        );
        check(Place::WellKnown, r#"{"user_id":"@a:b","base_url":"https://hs"}"#, None);
        check(Place::WellKnown, r#"{"well_known":null}"#, None);
        check(Place::WellKnown, "<html>", None);
        check(
            Place::Whole,
            r#"{"m.homeserver":{"base_url":"https://hs"},"org.x":{}}"#,
            Some(r#"{"m.homeserver":{"base_url":"https://us"},"org.x":{}}"#),
        );
    }

    #[test]
    fn our_address_is_the_one_that_the_client_used() {
        let check = |peer: Peer, pairs: &[(HeaderName, &'static str)], expected: Option<&str>| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(public_base_url(&headers, peer).as_deref(), expected, "{pairs:?}");
        };
        let plain = Peer::unix();
        check(plain, &[(HOST, "localhost:8008")], Some("http://localhost:8008"));
        check(
            Peer::tls(([127, 0, 0, 1], 1).into()),
            &[(HOST, "m.example")],
            Some("https://m.example"),
        );
        check(
            plain,
            &[(HOST, "m.example"), (X_FORWARDED_PROTO, "https")],
            Some("https://m.example"),
        );
        check(
            plain,
            &[
                (HOST, "10.0.0.1"),
                (X_FORWARDED_PROTO, "https, http"),
                (X_FORWARDED_HOST, "m.example, x"),
            ],
            Some("https://m.example"),
        );
        check(plain, &[], None);
        check(plain, &[(HOST, "me:pass@m.example")], None);
        check(plain, &[(HOST, "m.example/elsewhere")], None);
        check(
            plain,
            &[(HOST, "m.example"), (X_FORWARDED_PROTO, "javascript")],
            Some("http://m.example"),
        );
    }
}
