//! Access tokens in headers and queries.

use ::tests::fuzz::{check, corpus, text};
use hyper::{Request, header::HeaderValue};

use super::*;

#[test]
fn authorization() {
    let seeds = corpus("authorization");
    check("authorization", |choices| {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair(choices.pick::<&str>(&["access_token", "since"]), &text(choices, &seeds))
            .finish();
        let mut request = Request::builder().uri(format!("/_matrix/client/v3/sync?{query}"));
        let mut told = query.clone();
        for _ in 0..choices.below(3) {
            let value = text(choices, &seeds);
            // The server refuses what is no header.
            let Ok(header) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
            request = request.header(AUTHORIZATION, header);
            told.push_str(&value);
        }
        choices.note("told", &told);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        for allow_query in [false, true] {
            match access_token(&parts, allow_query) {
                Ok(token) => {
                    let token = token.expose();
                    assert!(is_sendable(token) && HeaderValue::from_str(token).is_ok());
                    assert!(parts.headers.contains_key(AUTHORIZATION) || allow_query);
                }
                Err(error) => assert!(matches!(error, Error::MissingToken(_)), "{error}"),
            }
        }
    });
}
