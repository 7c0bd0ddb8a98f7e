//! Reads an answer of the homeserver into memory, for the few that are edited or looked into on the way.
//!
//! Neighbours: the files beside it that do so. Everything else stays a stream.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use hyper::http::request::Parts;
use tokio::time::timeout;

use crate::body::{self, Body};
use crate::error::Error;
use crate::upstream;

/// The largest answer that is edited: a thousand events of the largest size that Matrix allows.
const LIMIT: usize = 64 * 1024 * 1024;

const PATIENCE: Duration = Duration::from_mins(3);

/// Asks the homeserver for an answer that can be read.
pub(super) fn ask_for_plain(parts: &mut Parts) {
    parts.headers.remove(ACCEPT_ENCODING);
}

/// Whether an answer is a success that can be read.
pub(super) fn is_plain_success(response: &Response<Body>) -> bool {
    response.status() == hyper::StatusCode::OK && !response.headers().contains_key(CONTENT_ENCODING)
}

/// Looks into an answer that goes on as it is. Its body is given where it is a success that can be read.
pub(super) async fn peek(
    response: Response<Body>,
) -> Result<(Response<Body>, Option<Bytes>), Error> {
    if !is_plain_success(&response) {
        return Ok((response, None));
    }
    let (head, body) = response.into_parts();
    let body = read(body).await?;
    Ok((with_body(head, body.clone()), Some(body)))
}

/// Reads the body.
pub(super) async fn read(body: Body) -> Result<Bytes, Error> {
    timeout(PATIENCE, read_all(body)).await.map_err(|_| Error::UpstreamTimeout)?
}

async fn read_all(mut body: Body) -> Result<Bytes, Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Error::UpstreamUnreachable(upstream::Error::Transport(error)))?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        if read.len() + chunk.len() > LIMIT {
            return Err(Error::UpstreamUnreachable(upstream::Error::InvalidBody));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

/// An answer with another body under the same headers.
pub(super) fn with_body(
    mut head: hyper::http::response::Parts,
    body: impl Into<Bytes>,
) -> Response<Body> {
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, body::full(body))
}
