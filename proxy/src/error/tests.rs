//! The mapping from errors to answers, case by case.

use super::*;

async fn answer(error: Error) -> (u16, String, Option<String>) {
    let response = error.into_response();
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let body = body::read_limited(response.into_body(), 10_000, None)
        .await
        .expect("error bodies are short");
    (status, String::from_utf8_lossy(&body).into_owned(), retry_after)
}

async fn check(error: Error, status: u16, errcode: &str) {
    let (found, body, _) = answer(error).await;
    let body: Value = serde_json::from_str(&body).expect("every error is JSON");
    assert_eq!((found, body["errcode"].as_str()), (status, Some(errcode)), "{body}");
    assert!(body["error"].is_string(), "{body}");
}

fn matrix(status: u16, errcode: &str, body: &'static str) -> Error {
    upstream::Error::Matrix {
        status,
        errcode: errcode.to_owned(),
        error: String::new(),
        body: Bytes::from_static(body.as_bytes()),
        retry_after: None,
        soft_logout: false,
    }
    .into()
}

#[tokio::test]
async fn errors_have_their_status_and_errcode() {
    check(Error::MissingToken("Missing access token"), 401, "M_MISSING_TOKEN").await;
    check(Error::UpstreamTimeout, 504, "M_UNKNOWN").await;
    check(Error::NotJson("x".into()), 400, "M_NOT_JSON").await;
    check(Error::BadJson("x".into()), 400, "M_BAD_JSON").await;
    check(Error::InvalidParam("x".into()), 400, "M_INVALID_PARAM").await;
    check(Error::UnknownPos("x".into()), 400, "M_UNKNOWN").await;
    check(Error::UnknownSyncSession, 400, "M_UNKNOWN_SYNC_SESSION").await;
    check(Error::Forbidden("x".into()), 403, "M_FORBIDDEN").await;
    check(Error::TooLarge, 413, "M_TOO_LARGE").await;
    check(Error::HeadTooLarge, 431, "M_TOO_LARGE").await;
    check(Error::RequestTimeout, 408, "M_UNKNOWN").await;
    check(Error::TooManyConnections, 503, "M_LIMIT_EXCEEDED").await;
    check(Error::ParamsTooLarge { most: 1 }, 413, "M_TOO_LARGE").await;
    check(Error::MethodNotAllowed("GET"), 405, "M_UNRECOGNIZED").await;
    check(Error::Unrecognized, 404, "M_UNRECOGNIZED").await;
    check(Error::LoopDetected, 508, "M_UNKNOWN").await;
    check(Error::Unavailable("down".into()), 503, "M_UNKNOWN").await;
    check(Error::internal("boom"), 500, "M_UNKNOWN").await;
    check(Error::LimitExceeded { retry_after: Duration::ZERO }, 429, "M_LIMIT_EXCEEDED").await;
}

#[tokio::test]
async fn only_a_matrix_servers_401_becomes_one() {
    check(upstream::Error::Status { status: 401, retry_after: None }.into(), 502, "M_UNKNOWN")
        .await;
    check(upstream::Error::InvalidBody.into(), 502, "M_UNKNOWN").await;
    check(upstream::Error::transport("refused").into(), 502, "M_UNKNOWN").await;
    check(matrix(500, "M_UNKNOWN_TOKEN", "{}"), 502, "M_UNKNOWN").await;
    let refusal = r#"{"errcode":"M_UNKNOWN_TOKEN","error":"x","soft_logout":true,"more":1.10}"#;
    let (status, body, _) = answer(matrix(401, "M_UNKNOWN_TOKEN", refusal)).await;
    assert_eq!((status, body.as_str()), (401, refusal));
}

#[tokio::test]
async fn the_homeservers_other_refusals_are_passed_on() {
    let refusal =
        r#"{"errcode":"M_CONSENT_NOT_GIVEN","error":"x","consent_uri":"https://example.org"}"#;
    let (status, body, _) = answer(matrix(403, "M_CONSENT_NOT_GIVEN", refusal)).await;
    assert_eq!((status, body.as_str()), (403, refusal));
}

#[tokio::test]
async fn a_rate_limit_says_how_long_in_both_ways() {
    let (status, body, header) =
        answer(Error::LimitExceeded { retry_after: Duration::from_millis(1500) }).await;
    assert_eq!((status, header.as_deref()), (429, Some("2")));
    assert!(body.contains(r#""retry_after_ms":1500"#), "{body}");
    let (status, _, header) =
        answer(upstream::Error::Status { status: 429, retry_after: None }.into()).await;
    assert_eq!((status, header.as_deref()), (429, Some("1")));
}

#[tokio::test]
async fn our_own_faults_do_not_show() {
    let (_, body, _) = answer(Error::internal("password of the database")).await;
    assert!(!body.contains("password"), "{body}");
}
