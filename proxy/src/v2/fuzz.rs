//! Queries of `GET /sync`.

use ::tests::fuzz::{check, corpus, text};

use super::request::SyncRequest;

#[test]
fn v2_query() {
    let seeds = corpus("v2_query");
    check("v2_query", |choices| {
        let query = text(choices, &seeds);
        choices.note("query", &query);
        match SyncRequest::parse(&query) {
            Ok(request) => {
                assert_ne!(request.since.as_deref(), Some(""));
                assert_eq!(SyncRequest::parse(&query).expect("the same query"), request);
                // What nobody knows is ignored, wherever it stands.
                let longer = format!("unknown=%ff&{query}&_=1");
                assert_eq!(SyncRequest::parse(&longer).expect("a good query"), request);
            }
            Err(error) => {
                let text = error.to_string();
                assert_eq!(error.into_response().status(), 400, "{text}");
            }
        }
    });
}
