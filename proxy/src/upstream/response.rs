//! Reads the homeserver's answers: a success's body as bytes, anything else as an [`Error`].
//!
//! Neighbours: `client` alone. It must not parse a success: a body may be hundreds of megabytes, and its consumer reads
//! it anyway. How many it may be is the operator's to say.

use std::{path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::RETRY_AFTER;
use serde::Deserialize;
use tokio::time::timeout;

use super::Error;
use super::spool::{Arriving, Reply};

/// How long the body may stand still before the connection counts as dead.
const STALL: Duration = Duration::from_mins(1);

/// No server tells us to come back later than this; what says so is a broken header.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The longest body of a refusal that is read: an error object, or a page of a reverse proxy that nobody looks at.
const LARGEST_REFUSAL: usize = 1024 * 1024;

/// Reads the whole answer. Success is a JSON object of at most `largest` bytes, after decompression: what is longer is not
/// kept in memory for a moment longer than it takes to notice.
pub(super) async fn read(mut response: reqwest::Response, largest: usize) -> Result<Bytes, Error> {
    let status = response.status();
    let largest = if status.is_success() { largest } else { largest.min(LARGEST_REFUSAL) };
    let mut body = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut response).await? {
        if chunk.len() > largest.saturating_sub(body.len()) {
            if status.is_success() {
                return Err(Error::TooLarge { largest });
            }
            return Err(refusal(status.as_u16(), response.headers(), Bytes::new()));
        }
        body.extend_from_slice(&chunk);
    }
    let body = body.freeze();
    if !status.is_success() {
        return Err(refusal(status.as_u16(), response.headers(), body));
    }
    let mut ends = Ends::default();
    ends.see(&body);
    ends.judge()?;
    Ok(body)
}

/// Reads the whole answer like [`read`], into a file in the directory if it is large.
pub(super) async fn spool(
    mut response: reqwest::Response,
    largest: usize,
    directory: &Path,
) -> Result<Reply, Error> {
    if !response.status().is_success() {
        return read(response, largest).await.map(Reply::Small);
    }
    let mut arriving = Arriving::new(directory);
    let mut ends = Ends::default();
    while let Some(chunk) = next_chunk(&mut response).await? {
        if chunk.len() > largest.saturating_sub(arriving.len()) {
            return Err(Error::TooLarge { largest });
        }
        ends.see(&chunk);
        arriving.add(&chunk).await?;
    }
    ends.judge()?;
    arriving.finish().await
}

async fn next_chunk(response: &mut reqwest::Response) -> Result<Option<Bytes>, Error> {
    Ok(timeout(STALL, response.chunk()).await.map_err(|_| Error::Timeout)??)
}

/// What the body of a success begins and ends with, white space apart.
#[derive(Default)]
struct Ends {
    first: Option<u8>,
    last: Option<u8>,
}

impl Ends {
    /// The next bytes of the body.
    fn see(&mut self, bytes: &[u8]) {
        let bytes = bytes.trim_ascii();
        self.first = self.first.or(bytes.first().copied());
        self.last = bytes.last().copied().or(self.last);
    }

    /// A login page or an empty 200 of a reverse proxy must never be taken for an answer without news.
    fn judge(&self) -> Result<(), Error> {
        match (self.first, self.last) {
            (Some(b'{'), Some(b'}')) => Ok(()),
            // What begins as an object was meant to be one: somebody on the way has cut it off.
            (Some(b'{'), _) => Err(Error::BrokenBody),
            _ => Err(Error::InvalidBody),
        }
    }
}

#[derive(Deserialize)]
struct MatrixError {
    errcode: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    soft_logout: Option<bool>,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

fn refusal(status: u16, headers: &HeaderMap, body: Bytes) -> Error {
    let header = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse().ok())
        .map(Duration::from_secs);
    let Ok(matrix) = serde_json::from_slice::<MatrixError>(&body) else {
        return Error::Status { status, retry_after: header.map(cap) };
    };
    Error::Matrix {
        status,
        errcode: matrix.errcode,
        error: matrix.error.unwrap_or_default(),
        body,
        retry_after: header.or(matrix.retry_after_ms.map(Duration::from_millis)).map(cap),
        soft_logout: matrix.soft_logout.unwrap_or(false),
    }
}

fn cap(wanted: Duration) -> Duration {
    wanted.min(LONGEST_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&'static str>, body: &'static str) -> Error {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, hyper::header::HeaderValue::from_static(value));
        }
        refusal(status, &headers, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn only_the_homeserver_itself_refuses_a_token() {
        let check = |status, body, unknown, locked, soft| {
            let error = answer(status, None, body);
            let found = (error.is_unknown_token(), error.is_user_locked(), error.is_soft_logout());
            assert_eq!(found, (unknown, locked, soft), "{status} {body}");
        };
        check(401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"x"}"#, true, false, false);
        check(
            401,
            r#"{"errcode":"M_UNKNOWN_TOKEN","error":"x","soft_logout":true}"#,
            true,
            false,
            true,
        );
        check(401, r#"{"errcode":"M_USER_LOCKED","soft_logout":true}"#, true, true, true);
        check(401, "<html>please log in</html>", false, false, false);
        check(403, r#"{"errcode":"M_FORBIDDEN"}"#, false, false, false);
    }

    #[test]
    fn what_may_pass_is_retryable() {
        let check = |status, body, retryable| {
            assert_eq!(answer(status, None, body).is_retryable(), retryable, "{status} {body}");
        };
        check(404, "<html>nginx</html>", true);
        check(404, r#"{"errcode":"M_UNRECOGNIZED"}"#, true);
        check(404, r#"{"errcode":"M_NOT_FOUND"}"#, false);
        check(403, "forbidden by the firewall", true);
        check(403, r#"{"errcode":"M_FORBIDDEN"}"#, false);
        check(400, r#"{"errcode":"M_UNKNOWN"}"#, false);
        check(429, r#"{"errcode":"M_LIMIT_EXCEEDED"}"#, true);
        check(500, r#"{"errcode":"M_UNKNOWN"}"#, true);
        check(502, "", true);
        check(401, r#"{"errcode":"M_UNKNOWN_TOKEN"}"#, false);
    }

    #[test]
    fn retry_after_comes_from_header_or_body() {
        let check = |header, body, expected| {
            assert_eq!(answer(429, header, body).retry_after(), expected, "{header:?} {body}");
        };
        let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#;
        check(None, limited, Some(Duration::from_millis(1500)));
        check(Some("3"), limited, Some(Duration::from_secs(3)));
        check(Some("3"), "slow down", Some(Duration::from_secs(3)));
        check(Some("Wed, 21 Oct 2026 07:28:00 GMT"), "slow down", None);
        check(None, r#"{"errcode":"M_LIMIT_EXCEEDED"}"#, None);
        check(Some("99999999999"), "slow down", Some(LONGEST_RETRY_AFTER));
    }

    #[test]
    fn a_success_is_an_object() {
        for (body, expected) in [
            ("{}", "ok"),
            (" {\"a\":1}\n", "ok"),
            ("", "invalid"),
            (" \n", "invalid"),
            ("<html></html>", "invalid"),
            ("[]", "invalid"),
            ("{\"a\":", "broken"),
        ] {
            for piece in [1, 3, 100] {
                let mut ends = Ends::default();
                body.as_bytes().chunks(piece).for_each(|piece| ends.see(piece));
                let found = match ends.judge() {
                    Ok(()) => "ok",
                    Err(Error::BrokenBody) => "broken",
                    Err(_) => "invalid",
                };
                assert_eq!(found, expected, "{body}");
            }
        }
    }
}
