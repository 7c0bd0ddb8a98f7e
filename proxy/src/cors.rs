//! The headers that let web clients in, and the answer to their preflight requests.
//!
//! Neighbours: `dispatch` puts every response through [`apply`], ours and the homeserver's alike, so that each carries
//! exactly one set: browsers refuse a response that has two.
//!
//! Web browser clients: <https://spec.matrix.org/v1.16/client-server-api/#web-browser-clients>

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HeaderValue,
};
use hyper::{HeaderMap, Response, StatusCode};

use crate::body::{self, Body};

const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const HEADERS: HeaderValue =
    HeaderValue::from_static("X-Requested-With, Content-Type, Authorization, Date");

/// Sets the headers in place of whatever the homeserver sent. What it exposes to scripts stays exposed.
pub(crate) fn apply(headers: &mut HeaderMap) {
    // Credentials do not go with `*`, and the homeserver's max-age was for the homeserver's lists.
    headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.remove(ACCESS_CONTROL_MAX_AGE);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
}

/// The answer to an `OPTIONS` request. It needs no token and no homeserver.
pub(crate) fn preflight() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use hyper::header::{ACCESS_CONTROL_EXPOSE_HEADERS, HeaderName};

    use super::*;

    fn check(before: &[(HeaderName, &'static str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(name, HeaderValue::from_static(value));
        }
        let exposed = headers.get(ACCESS_CONTROL_EXPOSE_HEADERS).cloned();
        apply(&mut headers);
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
        ] {
            assert_eq!(headers.get_all(&name).iter().count(), 1, "{name} in {headers:?}");
        }
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers.get(ACCESS_CONTROL_ALLOW_CREDENTIALS), None);
        assert_eq!(headers.get(ACCESS_CONTROL_EXPOSE_HEADERS).cloned(), exposed);
    }

    #[test]
    fn there_is_exactly_one_set() {
        check(&[]);
        check(&[(ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")]);
        check(&[
            (ACCESS_CONTROL_ALLOW_ORIGIN, "https://a.example"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        ]);
        check(&[(ACCESS_CONTROL_ALLOW_METHODS, "GET"), (ACCESS_CONTROL_EXPOSE_HEADERS, "ETag")]);
    }
}
