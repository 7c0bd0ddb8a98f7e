//! Finds the access token of a request, and refuses with the homeserver's own words where there is none.
//!
//! Neighbours: `auth` (who the token belongs to), `passthrough` (whose session ended). It must not know whether a token
//! is good.
//!
//! Using access tokens: <https://spec.matrix.org/v1.16/client-server-api/#using-access-tokens>

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;

use crate::error::Error;
use crate::query;
use crate::upstream::AccessToken;

const MISSING: &str = "Missing access token";
const INVALID: &str = "Invalid Authorization header.";
const TOO_MANY: &str = "Too many Authorization headers.";
const MIXED: &str = "Mixing Authorization headers and access_token query parameters.";

/// Reads the token from the `Authorization` header or, where the endpoint allows that, from the query.
pub(crate) fn access_token(parts: &Parts, allow_query: bool) -> Result<AccessToken, Error> {
    token_of(&parts.headers, parts.uri.query().unwrap_or_default(), allow_query)
}

/// The same of a request that is not taken apart.
pub(crate) fn token_of(
    headers: &HeaderMap,
    query: &str,
    allow_query: bool,
) -> Result<AccessToken, Error> {
    let in_query = if allow_query { from_query(query) } else { None };
    let mut headers = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = headers.next() else {
        return match in_query {
            Some(token) if is_sendable(&token) => Ok(AccessToken::new(token)),
            _ => Err(Error::MissingToken(MISSING)),
        };
    };
    if in_query.is_some() {
        return Err(Error::MissingToken(MIXED));
    }
    if headers.next().is_some() {
        return Err(Error::MissingToken(TOO_MANY));
    }
    let value = header.to_str().map_err(|_| Error::MissingToken(INVALID))?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && is_sendable(token) => {
            Ok(AccessToken::new(token))
        }
        _ => Err(Error::MissingToken(INVALID)),
    }
}

fn from_query(query: &str) -> Option<String> {
    query::get(query, "access_token").map(Cow::into_owned)
}

/// We send tokens on in a header, so what cannot stand in one cannot be a token.
fn is_sendable(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn check(query: &str, headers: &[&str], allow_query: bool, expected: Result<&str, &str>) {
        let mut request = Request::builder().uri(format!("/_matrix/client/v3/sync{query}"));
        for value in headers {
            request = request.header(AUTHORIZATION, *value);
        }
        let (parts, ()) = request.body(()).expect("the test's request is good").into_parts();
        let found = match access_token(&parts, allow_query) {
            Ok(token) => Ok(token.expose().to_owned()),
            Err(Error::MissingToken(text)) => Err(text),
            Err(other) => panic!("unexpected {other}"),
        };
        assert_eq!(found.as_deref().map_err(|text| *text), expected, "{query} {headers:?}");
    }

    #[test]
    fn tokens_come_from_header_or_query() {
        check("", &["Bearer abc"], true, Ok("abc"));
        check("", &["bearer abc"], false, Ok("abc"));
        check("?access_token=a%2Bc&since=x", &[], true, Ok("a+c"));
        check("?access_token=abc", &["Bearer xyz"], false, Ok("xyz"));
    }

    #[test]
    fn refusals_have_the_homeservers_words() {
        check("", &[], true, Err(MISSING));
        check("?access_token=", &[], true, Err(MISSING));
        check("?access_token=abc", &[], false, Err(MISSING));
        check("?access_token=a%0D%0Ab", &[], true, Err(MISSING));
        check("", &["Basic abc"], true, Err(INVALID));
        check("", &["Bearer"], true, Err(INVALID));
        check("", &["Bearer "], true, Err(INVALID));
        check("", &["Bearer a b"], true, Err(INVALID));
        check("", &["Bearer a", "Bearer b"], true, Err(TOO_MANY));
        check("?access_token=abc", &["Bearer abc"], true, Err(MIXED));
    }
}
